"""Images of random pen strokes: invented characters, each written many times.

A class is a glyph of two or three Bezier strokes, cubic or quadratic. One image of it is one act of
writing: control points wander, strokes end early or late, the whole is slanted, turned and bent,
then drawn with a pen of some width. The drawing is scaled to fill its box and reduced by block
averages to 17 grey levels, as the scans of the UCI digits were (E. Alpaydin and C. Kaynak, "Optical
Recognition of Handwritten Digits", 1998: bitmaps of 32x32, counted in blocks of 4x4).

Coordinates are in units of half the box: -1 to 1, x to the right, y down.
"""

import math

import torch
from torch import Generator, Tensor

_MIN_STROKES = 2
_MAX_STROKES = 3
_POINTS_PER_STROKE = 20
_RASTER = 16
_OUTPUT = 8
_GREY_LEVELS = 16


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
        control = control + _normal(control.shape, generator) * _uniform(
            (len(labels), 1, 1, 1), 0.02, 0.14, generator
        )
        rows = torch.arange(len(labels))[:, None]
        control = control[rows, self._stroke_index[labels]]
        points = torch.einsum("tk,nskd->nstd", self._basis, _trim(control, generator))
        points = _fit_to_box(_distort(points.flatten(1, 2), generator), generator)
        return _reduce(_draw(points, generator), generator)


def _random_glyphs(num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Control points (C, 3, 4, 2) of cubic strokes, and the one shown in each slot (C, 3).

    A glyph of fewer strokes shows its first stroke again, which leaves the drawing as it is and
    every tensor rectangular.
    """
    shape = (num_classes, _MAX_STROKES)
    control = _uniform((*shape, 4, 2), -1.0, 1.0, generator)
    # A quadratic stroke is the cubic whose inner points lie two thirds of the way to its middle.
    middle = control[:, :, 1:2]
    ends = control[:, :, [0, 3]]
    is_quadratic = _uniform((*shape, 1, 1), 0.0, 1.0, generator) < 0.5
    control[:, :, 1:3] = torch.where(
        is_quadratic, ends + (middle - ends) * 2 / 3, control[:, :, 1:3]
    )
    for stroke in range(_MAX_STROKES):
        kind = _uniform((num_classes, 1), 0.0, 1.0, generator)
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
        closed = _uniform((num_classes, 1), 0.0, 1.0, generator) < 0.15
        control[:, stroke, 3] = torch.where(closed, control[:, stroke, 0], control[:, stroke, 3])
    num_strokes = torch.randint(
        _MIN_STROKES, _MAX_STROKES + 1, (num_classes, 1), generator=generator
    )
    slots = torch.arange(_MAX_STROKES)
    return control, torch.where(slots < num_strokes, slots, 0)


def _trim(control: Tensor, generator: Generator) -> Tensor:
    """Control points (N, S, 4, 2) with the free ends moved along the end tangents."""
    amount = _normal((len(control), 1, 2, 1), generator) * 0.08
    inner_to_end = control[:, :, [0, 3]] - control[:, :, [1, 2]]
    moved = control.clone()
    moved[:, :, [0, 3]] += amount * inner_to_end
    return moved


def _distort(points: Tensor, generator: Generator) -> Tensor:
    """Points (N, P, 2) after a smooth bend and a random turn, slant and change of proportions.

    Turns are in radians, slants in widths per height, proportions in log units.
    """
    num = len(points)
    wave = _normal((num, 2, 2), generator) * 1.2
    phase = _uniform((num, 1, 2), 0.0, 2 * math.pi, generator)
    height = _normal((num, 1, 2), generator) * 0.08
    points = points + height * torch.sin(points @ wave + phase)
    turn = _normal((num,), generator) * 0.15
    slant = _normal((num,), generator) * 0.35
    stretch = torch.exp(_normal((num,), generator) * 0.25)
    cos, sin = torch.cos(turn), torch.sin(turn)
    matrix = torch.stack(
        [
            torch.stack([stretch * cos, stretch * sin], dim=1),
            torch.stack([slant * cos - sin, slant * sin + cos], dim=1),
        ],
        dim=1,
    )
    return points @ matrix


def _fit_to_box(points: Tensor, generator: Generator) -> Tensor:
    """Points (N, P, 2) near the centre of the box, their larger side nearly filling it."""
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    num = len(points)
    size = (high - low).amax(dim=2, keepdim=True).clamp_min(0.05)
    scale = 2 / size * _uniform((num, 1, 1), 0.78, 0.95, generator)
    shift = _normal((num, 1, 2), generator) * 0.05
    return (points - (low + high) / 2) * scale + shift


def _draw(points: Tensor, generator: Generator) -> Tensor:
    """Ink coverage (N, 1, 16, 16) in 0..1 of a round pen moved over points (N, P, 2)."""
    num = len(points)
    centres = (torch.arange(_RASTER) + 0.5) * (2 / _RASTER) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten()], dim=1)
    # |pixel - point|^2 = |pixel|^2 - 2 <pixel, point> + |point|^2, one matrix product for all.
    left = torch.cat([-2 * pixels, torch.ones(len(pixels), 1)], dim=1)
    right = torch.cat([points, points.square().sum(2, keepdim=True)], dim=2)
    squared = (right @ left.T).amin(dim=1) + pixels.square().sum(1)
    radius = _uniform((num, 1), 0.09, 0.22, generator)
    softness = 2 / _RASTER
    coverage = ((radius - squared.clamp_min(0).sqrt()) / softness + 0.5).clamp(0, 1)
    return coverage.view(num, 1, _RASTER, _RASTER)


def _reduce(drawing: Tensor, generator: Generator) -> Tensor:
    """Block averages (N, 1, 8, 8) of a drawing, with uneven ink, in steps of 1/16."""
    image = torch.nn.functional.avg_pool2d(drawing, _RASTER // _OUTPUT)
    num = len(image)
    image = image * _uniform((num, 1, 1, 1), 0.85, 1.1, generator)
    image = image + _normal(image.shape, generator) * 0.03 * (image > 0)
    return (image.clamp(0, 1) * _GREY_LEVELS).round() / _GREY_LEVELS


def _bernstein_basis(num_points: int) -> Tensor:
    """Weights (T, 4) of the four control points at T evenly spaced parameters of a cubic."""
    t = torch.linspace(0, 1, num_points)[:, None]
    s = 1 - t
    return torch.cat([s**3, 3 * s**2 * t, 3 * s * t**2, t**3], dim=1)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator)
