"""Drawings of points: turned, slanted and bent, fitted to a box, inked with a pen, reduced to 8x8.

Shared by the generators of images, which so differ in their shapes alone. A drawing is scaled to
fill its box and reduced by block averages to 17 grey levels, as the scans of the UCI digits were
(E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", 1998: bitmaps of 32x32,
counted in blocks of 4x4).

Coordinates are in units of half the box: -1 to 1, x to the right, y down. Every `generator` is
advanced by the call.
"""

import math

import torch
from torch import Generator, Tensor

_RASTER = 16
_OUTPUT = 8
_GREY_LEVELS = 16


def distort(points: Tensor, generator: Generator) -> Tensor:
    """Points (N, P, 2) after a smooth bend and a random turn, slant and change of proportions.

    Turns are in radians, slants in widths per height, proportions in log units.
    """
    num = len(points)
    wave = normal((num, 2, 2), generator) * 1.2
    phase = uniform((num, 1, 2), 0.0, 2 * math.pi, generator)
    height = normal((num, 1, 2), generator) * 0.08
    points = points + height * torch.sin(points @ wave + phase)
    turn = normal((num,), generator) * 0.15
    slant = normal((num,), generator) * 0.35
    stretch = torch.exp(normal((num,), generator) * 0.25)
    cos, sin = torch.cos(turn), torch.sin(turn)
    matrix = torch.stack(
        [
            torch.stack([stretch * cos, stretch * sin], dim=1),
            torch.stack([slant * cos - sin, slant * sin + cos], dim=1),
        ],
        dim=1,
    )
    return points @ matrix


def fit_to_box(points: Tensor, generator: Generator) -> Tensor:
    """Points (N, P, 2) near the centre of the box, their larger side nearly filling it."""
    low, high = points.amin(dim=1, keepdim=True), points.amax(dim=1, keepdim=True)
    num = len(points)
    size = (high - low).amax(dim=2, keepdim=True).clamp_min(0.05)
    scale = 2 / size * uniform((num, 1, 1), 0.78, 0.95, generator)
    shift = normal((num, 1, 2), generator) * 0.05
    return (points - (low + high) / 2) * scale + shift


def draw(points: Tensor, generator: Generator) -> Tensor:
    """Ink coverage (N, 1, 16, 16) in 0..1 of a round pen moved over points (N, P, 2)."""
    num = len(points)
    centres = (torch.arange(_RASTER) + 0.5) * (2 / _RASTER) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten()], dim=1)
    # |pixel - point|^2 = |pixel|^2 - 2 <pixel, point> + |point|^2, one matrix product for all.
    left = torch.cat([-2 * pixels, torch.ones(len(pixels), 1)], dim=1)
    right = torch.cat([points, points.square().sum(2, keepdim=True)], dim=2)
    squared = (right @ left.T).amin(dim=1) + pixels.square().sum(1)
    radius = uniform((num, 1), 0.09, 0.22, generator)
    softness = 2 / _RASTER
    coverage = ((radius - squared.clamp_min(0).sqrt()) / softness + 0.5).clamp(0, 1)
    return coverage.view(num, 1, _RASTER, _RASTER)


def reduce(drawing: Tensor, generator: Generator) -> Tensor:
    """Block averages (N, 1, 8, 8) of a drawing, with uneven ink, in steps of 1/16."""
    image = torch.nn.functional.avg_pool2d(drawing, _RASTER // _OUTPUT)
    num = len(image)
    image = image * uniform((num, 1, 1, 1), 0.85, 1.1, generator)
    image = image + normal(image.shape, generator) * 0.03 * (image > 0)
    return (image.clamp(0, 1) * _GREY_LEVELS).round() / _GREY_LEVELS


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Float32 numbers spread evenly over low..high."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Float32 numbers with mean 0 and standard deviation 1."""
    return torch.randn(shape, generator=generator)
