"""Augmented views: a fixed number of random variants of each training image, drawn once.

A view is a pure function of (seed, content of the image, number of the view). It does not depend on
the worker, on the order or on other images, so that activations of views can be cached.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainable.backbones import Preprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import IGNORED, Mask
from trainable.data.subsets import derive_seed
from trainable.errors import SpecError
from trainable.modalities.image.preprocessing import resized_image
from trainable.spec.augmentation import OPS, Augmentation, Op

_PIXELS_ALONE = frozenset({"trivial_augment", "rand_augment", "auto_augment", "aug_mix"})
"""Transforms that torchvision has for pixels alone, though they move them."""

_TRIES = 16
"""Number of times that `try_ops` applies a transform, because a random one may do nothing."""


def check_ops(augmentation: Augmentation) -> None:
    """Make sure that every transform can be constructed with its arguments.

    Raises:
        SpecError: some cannot; the message names all of them.
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
    """Make sure that every transform can be applied to images of a size.

    Args:
        augmentation: the augmentation. Each of its transforms is tried alone, because a transform
            may change the size for the next one.
        image_size: shorter side of the images, in pixels.

    Raises:
        SpecError: some cannot; the message names all of them.
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
    """Return the views of some images, for one backbone.

    An image is resized as without augmentation, transformed, and cropped to the centre square.

    Args:
        images: the images, with their encoded bytes.
        indices: (M,) indices of the images.
        augmentation: the transforms, and the number of views.
        preprocessing: preprocessing of the backbone.
        seed: seed of the sweep; global random state is untouched.

    Returns:
        (M, views, 3, image_size, image_size) uint8 RGB pixels on the CPU.

    Raises:
        DataError: an image cannot be decoded; the message names its path.
        SpecError: a transform cannot be constructed with its arguments.
    """
    size, number = preprocessing.image_size, augmentation.num_views
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


def draw_mask_views(
    images: LabelledExamples,
    *,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    seed: int,
) -> Iterator[Mask]:
    """Yield the masks of all views of all images, moved as `draw_views` moves the pixels.

    What a transform brings in from outside the image is `IGNORED`.

    Args:
        images: the images, with their masks.
        augmentation: the transforms, and the number of views.
        preprocessing: preprocessing of the backbone; both sides of an image become `resize_size`.
        seed: seed of the sweep; global random state is untouched.

    Yields:
        (image_size, image_size) uint8 class ids.

    Raises:
        DataError: an image cannot be decoded; the message names its path.
        SpecError: a transform cannot be constructed with its arguments, or cannot move masks.
    """
    from torchvision.tv_tensors import Mask as MaskTensor

    assert images.masks is not None
    size = preprocessing.image_size
    transforms = [_transform(op, image_size=size, masks=True) for op in augmentation.ops]
    for index, whole in enumerate(images.masks.resized(preprocessing.resize_size)):
        picture = np.array(resized_image(images, index, preprocessing))
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        content = images.digests[index].tobytes().hex()
        for view in range(augmentation.num_views):
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                # What is erased keeps its classes, which torchvision warns of.
                warnings.filterwarnings("ignore", message=r"RandomErasing\(\) is currently passing")
                torch.manual_seed(derive_seed("view", seed, content, view))
                changed = pixels, MaskTensor(whole[None])
                for transform in transforms:
                    changed = transform(changed)
            yield _square(changed[1], size)[0].numpy()


def _transform(op: Op, *, image_size: int, masks: bool = False) -> Any:
    from torchvision.transforms import v2  # takes two seconds, which trials without views save
    from torchvision.tv_tensors import Mask as MaskTensor

    if masks and op.name in _PIXELS_ALONE:
        raise SpecError(
            f"augment.ops: {op.name}: moves the pixels of an image but not those of its mask; "
            f"allowed with masks: {', '.join(name for name in OPS if name not in _PIXELS_ALONE)}"
        )
    known = OPS[op.name]
    kind = getattr(v2, known.transform)
    arguments = {**known.defaults, **dict(op.args)}
    parameters = inspect.signature(kind).parameters
    if "size" in parameters:
        arguments.setdefault("size", (image_size, image_size))
    if masks and "fill" in parameters:
        fill = arguments.get("fill", parameters["fill"].default)
        arguments["fill"] = {MaskTensor: IGNORED, "others": fill}
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
