"""Augmented views: a fixed number of random variants of each training image, drawn once.

A view is a pure function of (seed, content of the image, number of the view): worker, order and
other images do not matter, and activations of views can be kept as those of images are.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.backbones import Preprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.subsets import derive_seed
from trainable.errors import SpecError
from trainable.modalities.image.preprocessing import resized_image
from trainable.spec.augmentation import OPS, Augmentation, Op

_TRIES = 16
"""Times that a transform is tried which may leave an image as it is."""


def check_ops(augmentation: Augmentation) -> None:
    """See whether every transform can be made with its arguments.

    Raises:
        SpecError: with every one that cannot.
    """
    problems = []
    for op in augmentation.ops:
        try:
            _transform(op, image_size=32)
        except SpecError as error:
            problems.append(str(error))
    if problems:
        raise SpecError("\n".join(problems))


def try_ops(augmentation: Augmentation, *, image_size: int) -> None:
    """See whether every transform can change images of a size.

    Args:
        augmentation: its transforms, each by itself, since one may hide what another cannot do.
        image_size: shorter side of the images, in pixels.

    Raises:
        SpecError: with every one that cannot.
    """
    problems = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pixels = torch.randint(256, (3, image_size, image_size), dtype=torch.uint8)
        for op in augmentation.ops:
            transform = _transform(op, image_size=image_size)
            try:
                for _ in range(_TRIES):
                    _square(transform(pixels), image_size)
            except Exception as error:
                reason = str(error).partition("\n")[0].rstrip(".")
                problems.append(
                    f"augment.ops: {op.name}: got {dict(op.args)}; it cannot change images of "
                    f"{image_size} x {image_size} pixels: {reason}. See {_documented(op)}"
                )
    if problems:
        raise SpecError("\n".join(problems))


def draw_views(
    images: LabelledExamples,
    indices: npt.NDArray[np.int64],
    *,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: int,
) -> Tensor:
    """The views of some images, for a backbone.

    An image is resized as without augmentation, changed, and cut to the centre square.

    Args:
        images: where the encoded bytes lie.
        indices: (M,) which of them.
        augmentation: what changes, and how many views are drawn.
        preprocessing: of the backbone.
        seed: of the sweep; global random state is untouched.

    Returns:
        (M, views, 3, image_size, image_size) uint8 on the CPU.

    Raises:
        DataError: an image cannot be decoded.
        SpecError: a transform cannot be made with its arguments.
    """
    size, number = preprocessing.image_size, augmentation.views
    transforms = [_transform(op, image_size=size) for op in augmentation.ops]
    views = torch.empty((len(indices), number, 3, size, size), dtype=torch.uint8)
    with torch.random.fork_rng(devices=[]):
        for row, index in enumerate(indices):
            picture = np.array(resized_image(images, int(index), preprocessing))
            pixels = torch.from_numpy(picture).permute(2, 0, 1)
            content = images.digests[index].tobytes().hex()
            for view in range(number):
                torch.manual_seed(derive_seed("view", seed, content, view))
                changed = pixels
                for transform in transforms:
                    changed = transform(changed)
                views[row, view] = _square(changed, size)
    return views


def _transform(op: Op, *, image_size: int) -> Any:
    from torchvision.transforms import v2  # takes two seconds, for trials with views alone

    known = OPS[op.name]
    kind = getattr(v2, known.transform)
    arguments = {**known.defaults, **dict(op.args)}
    if "size" in inspect.signature(kind).parameters:
        arguments.setdefault("size", (image_size, image_size))
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"augment.ops: {op.name}: got {dict(op.args)}; {error}. See {_documented(op)}"
        ) from error


def _documented(op: Op) -> str:
    """Name under which the arguments of a transform are documented."""
    return f"torchvision.transforms.v2.{OPS[op.name].transform}"


def _square(pixels: Tensor, size: int) -> Tensor:
    from torchvision.transforms import v2

    if min(pixels.shape[-2:]) < size:
        pixels = v2.functional.resize(pixels, [size], antialias=True)
    cut: Tensor = v2.functional.center_crop(pixels, [size, size])
    return cut
