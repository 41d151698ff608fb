"""Images of iterated-function systems: random fractals, each drawn many times.

After H. Kataoka et al., "Pre-training without natural images" (ACCV 2020): a class is a random set
of contracting affine maps, an image of it the attractor that the chaos game finds when every map is
changed a little. Theirs are pictures of dots; these are distorted and drawn with a pen, as strokes
are. Coordinates are those of `drawing`.
"""

import math

import torch
from torch import Generator, Tensor

from tools.zoo.drawing import distort, draw, fit_to_box, normal, reduce, uniform

_MIN_MAPS = 2
_MAX_MAPS = 4
_NUM_POINTS = 64
# Brings a point typically to a thousandth of its first distance from the attractor.
_NUM_MOVES = 12


class Fractals:
    """A fixed collection of random iterated-function systems from which images are drawn.

    Which map each point takes at each move is decided once for a class, so that the points of its
    images correspond, and sampling is cheap.

    Args:
        num_classes: number of systems.
        generator: decides the maps; advanced by the call.
    """

    def __init__(self, *, num_classes: int, generator: Generator) -> None:
        self.num_classes = num_classes
        self._maps = random_maps(num_classes, generator)
        self._choices = random_choices(self._maps, generator)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:
        """Images of the systems named by `labels`, each with maps of its own.

        Args:
            labels: (N,) int64 class ids below `num_classes`.
            generator: decides every variation; advanced by the call.

        Returns:
            (N, 1, 8, 8) float32 in 0..1, multiples of 1/16; ink is 1.
        """
        maps = self._maps[labels]
        maps = maps + normal(maps.shape, generator) * uniform(
            (len(labels), 1, 1, 1), 0.01, 0.08, generator
        )
        points = attractor(maps, self._choices[labels])
        points = fit_to_box(distort(points, generator), generator)
        return reduce(draw(points, generator), generator)


def random_maps(num_classes: int, generator: Generator) -> Tensor:
    """Maps (C, 4, 2, 3): linear part, then offset.

    The linear part is made from its singular values and two turns, and half of them are mirrored.
    """
    shape = (num_classes, _MAX_MAPS)
    larger = uniform(shape, 0.35, 0.85, generator)
    smaller = larger * uniform(shape, 0.1, 0.9, generator)
    is_mirrored = uniform(shape, 0.0, 1.0, generator) < 0.5
    smaller = torch.where(is_mirrored, -smaller, smaller)
    first = _turn(uniform(shape, 0.0, 2 * math.pi, generator))
    last = _turn(uniform(shape, 0.0, 2 * math.pi, generator))
    linear = last @ torch.diag_embed(torch.stack([larger, smaller], dim=2)) @ first
    offset = uniform((*shape, 2, 1), -1.0, 1.0, generator)
    return torch.cat([linear, offset], dim=3)


def random_choices(maps: Tensor, generator: Generator) -> Tensor:
    """Which of maps (C, 4, 2, 3) each point takes at each move: (C, P, T) int64.

    A class uses its first two, three or four maps, each in proportion to the area it leaves, so
    that points lie evenly.
    """
    num_classes = len(maps)
    num_maps = torch.randint(_MIN_MAPS, _MAX_MAPS + 1, (num_classes, 1), generator=generator)
    # The small constant gives points to maps that flatten what they are given, too.
    areas = torch.linalg.det(maps[..., :2]).abs() + 0.02
    weights = areas * (torch.arange(_MAX_MAPS) < num_maps)
    choices = torch.multinomial(
        weights, _NUM_POINTS * _NUM_MOVES, replacement=True, generator=generator
    )
    return choices.view(num_classes, _NUM_POINTS, _NUM_MOVES)


def attractor(maps: Tensor, choices: Tensor) -> Tensor:
    """Points (N, P, 2) on the attractors of maps (N, 4, 2, 3), by the moves `choices` (N, P, T)."""
    rows = torch.arange(len(maps))[:, None]
    points = torch.zeros(*choices.shape[:2], 2)
    for move in range(choices.shape[2]):
        chosen = maps[rows, choices[:, :, move]]
        points = (chosen[..., :2] * points[:, :, None]).sum(dim=3) + chosen[..., 2]
    return points


def _turn(angles: Tensor) -> Tensor:
    """Rotation matrices (..., 2, 2) of angles (...) in radians."""
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)
