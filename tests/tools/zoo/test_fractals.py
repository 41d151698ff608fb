import torch
from torch import Generator, Tensor

from tools.zoo.fractals import attractor, random_choices, random_maps


def systems(num_classes: int = 200) -> tuple[Tensor, Tensor]:
    generator = Generator().manual_seed(0)
    maps = random_maps(num_classes, generator)
    return maps, random_choices(maps, generator)


def test_every_map_contracts() -> None:
    maps, _ = systems()

    scales = torch.linalg.svdvals(maps[..., :2])

    assert scales.min() > 0
    assert scales.max() < 0.86


def test_attractors_are_of_two_to_four_maps() -> None:
    _, choices = systems()

    num_maps = {len(set(of_class.flatten().tolist())) for of_class in choices}

    assert num_maps == {2, 3, 4}
    assert choices.shape == (200, 64, 12)


def test_the_attractor_of_maps_to_one_point_each_is_those_points() -> None:
    maps = torch.zeros(1, 4, 2, 3)
    maps[0, :, :, 2] = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]])
    last_moves = torch.tensor([[3, 1, 0], [0, 0, 2]])[None]

    points = attractor(maps, last_moves)

    assert points.tolist() == [[[0.0, 1.0], [0.0, -1.0]]]


def test_points_come_near_the_attractor_wherever_they_start() -> None:
    maps, choices = systems()
    # The second time the same moves start from where the first time ended.
    before, after = choices, torch.cat([choices, choices], dim=2)

    moved = attractor(maps, after) - attractor(maps, before)

    assert moved.norm(dim=2).median() < 0.002
    assert moved.norm(dim=2).max() < 0.5


def test_halving_a_triangle_gives_the_sierpinski_gasket() -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    linear = (0.5 * torch.eye(2)).expand(4, 2, 2)
    maps = torch.cat([linear, corners[:, :, None] / 2], dim=2)[None]
    choices = torch.randint(3, (1, 500, 12), generator=Generator().manual_seed(0))

    x, y = (attractor(maps, choices)[0] * 2**12).long().unbind(dim=1)

    # Pascal's triangle modulo 2: no binary digit is 1 in both coordinates.
    assert (x & y).eq(0).all()
    assert len(set(zip(x.tolist(), y.tolist(), strict=True))) > 400
