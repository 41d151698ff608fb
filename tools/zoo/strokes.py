"""Images of random pen strokes: invented characters, each written many times.

A class is a glyph of two or three Bezier strokes, cubic or quadratic. One image of it is one act of
writing: control points wander, strokes end early or late, the whole is distorted and drawn.
Coordinates are those of `drawing`.
"""

import torch
from torch import Generator, Tensor

from tools.zoo.drawing import distort, draw, fit_to_box, normal, reduce, uniform

_MIN_STROKES = 2
_MAX_STROKES = 3
_POINTS_PER_STROKE = 20


class StrokeGlyphs:
    """A fixed alphabet of random glyphs from which images are drawn.

    Args:
        num_classes: number of glyphs.
        generator: decides the shapes; advanced by the call.
    """

    def __init__(self, *, num_classes: int, generator: Generator) -> None:
        self.num_classes = num_classes
        self._control_points, self._stroke_index = _random_glyphs(num_classes, generator)
        self._basis = _bernstein_basis(_POINTS_PER_STROKE)

    def sample(self, labels: Tensor, *, generator: Generator) -> Tensor:
        """Images of the glyphs named by `labels`, each written anew.

        Args:
            labels: (N,) int64 class ids below `num_classes`.
            generator: decides every variation; advanced by the call.

        Returns:
            (N, 1, 8, 8) float32 in 0..1, multiples of 1/16; ink is 1.
        """
        control = self._control_points[labels]
        control = control + normal(control.shape, generator) * uniform(
            (len(labels), 1, 1, 1), 0.02, 0.14, generator
        )
        rows = torch.arange(len(labels))[:, None]
        control = control[rows, self._stroke_index[labels]]
        points = torch.einsum("tk,nskd->nstd", self._basis, _trim(control, generator))
        points = fit_to_box(distort(points.flatten(1, 2), generator), generator)
        return reduce(draw(points, generator), generator)


def _random_glyphs(num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Control points (C, 3, 4, 2) of cubic strokes, and the one shown in each slot (C, 3).

    A glyph of fewer strokes shows its first stroke again, which leaves the drawing as it is and
    every tensor rectangular.
    """
    shape = (num_classes, _MAX_STROKES)
    control = uniform((*shape, 4, 2), -1.0, 1.0, generator)
    # A quadratic stroke is the cubic whose inner points lie two thirds of the way to its middle.
    middle = control[:, :, 1:2]
    ends = control[:, :, [0, 3]]
    is_quadratic = uniform((*shape, 1, 1), 0.0, 1.0, generator) < 0.5
    control[:, :, 1:3] = torch.where(
        is_quadratic, ends + (middle - ends) * 2 / 3, control[:, :, 1:3]
    )
    for stroke in range(_MAX_STROKES):
        kind = uniform((num_classes, 1), 0.0, 1.0, generator)
        if stroke > 0:
            # Pens rarely jump: most strokes start where the last one ended, going on in its
            # direction or turning, or branch off from its middle.
            before = control[:, stroke - 1]
            smooth, corner, branch = kind < 0.35, (kind >= 0.35) & (kind < 0.6), kind >= 0.8
            middle_before = (before[:, 0] + 3 * before[:, 1] + 3 * before[:, 2] + before[:, 3]) / 8
            start = torch.where(smooth | corner, before[:, 3], control[:, stroke, 0])
            control[:, stroke, 0] = torch.where(branch, middle_before, start)
            onward = 2 * before[:, 3] - before[:, 2]
            control[:, stroke, 1] = torch.where(smooth, onward, control[:, stroke, 1])
        closed = uniform((num_classes, 1), 0.0, 1.0, generator) < 0.15
        control[:, stroke, 3] = torch.where(closed, control[:, stroke, 0], control[:, stroke, 3])
    num_strokes = torch.randint(
        _MIN_STROKES, _MAX_STROKES + 1, (num_classes, 1), generator=generator
    )
    slots = torch.arange(_MAX_STROKES)
    return control, torch.where(slots < num_strokes, slots, 0)


def _trim(control: Tensor, generator: Generator) -> Tensor:
    """Control points (N, S, 4, 2) with the free ends moved along the end tangents."""
    amount = normal((len(control), 1, 2, 1), generator) * 0.08
    inner_to_end = control[:, :, [0, 3]] - control[:, :, [1, 2]]
    moved = control.clone()
    moved[:, :, [0, 3]] += amount * inner_to_end
    return moved


def _bernstein_basis(num_points: int) -> Tensor:
    """Weights (T, 4) of the four control points at T evenly spaced parameters of a cubic."""
    t = torch.linspace(0, 1, num_points)[:, None]
    s = 1 - t
    return torch.cat([s**3, 3 * s**2 * t, 3 * s * t**2, t**3], dim=1)
