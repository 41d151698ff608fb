import pytest
import torch
from torch import Generator, Tensor

from tools.zoo.pretrain import GENERATORS, ImageClasses

pytestmark = pytest.mark.parametrize("name", GENERATORS)


def classes(name: str, *, num_classes: int, generator: Generator) -> ImageClasses:
    return GENERATORS[name](num_classes=num_classes, generator=generator)


def draw(name: str, *, seed: int, num_images: int = 64) -> Tensor:
    generator = Generator().manual_seed(seed)
    labels = torch.arange(num_images) % 16
    return classes(name, num_classes=16, generator=generator).sample(labels, generator=generator)


def test_images_are_grey_and_in_sixteenths_of_full_ink(name: str) -> None:
    images = draw(name, seed=0)

    assert images.shape == (64, 1, 8, 8)
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() <= 1
    assert torch.equal((images * 16).round(), images * 16)


def test_same_seed_gives_the_same_images_whatever_the_global_state(name: str) -> None:
    first = draw(name, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = draw(name, seed=3)

    assert torch.equal(first, second)
    assert not torch.equal(first, draw(name, seed=4))


def test_global_random_state_is_untouched(name: str) -> None:
    before = torch.get_rng_state()
    draw(name, seed=0)

    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("seed", range(3))
def test_every_image_has_ink_and_paper(name: str, seed: int) -> None:
    ink = draw(name, seed=seed, num_images=512).mean(dim=(1, 2, 3))

    assert ink.min() > 0.02
    assert ink.max() < 0.9


def test_images_of_one_class_differ(name: str) -> None:
    generator = Generator().manual_seed(0)
    made = classes(name, num_classes=8, generator=generator)
    images = made.sample(torch.full((50,), 5), generator=generator).flatten(1)

    assert len(set(map(tuple, images.tolist()))) == 50


def test_images_of_one_class_are_nearer_to_each_other_than_to_other_classes(name: str) -> None:
    generator = Generator().manual_seed(0)
    made = classes(name, num_classes=50, generator=generator)
    labels = torch.arange(50).repeat_interleave(20)
    images = made.sample(labels, generator=generator).flatten(1)

    distances = torch.cdist(images, images)
    same = labels[:, None] == labels

    assert distances[same].mean() < 0.8 * distances[~same].mean()
