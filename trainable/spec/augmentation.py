"""The `augment:` section of a search space: random transforms and the number of views."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from trainable.errors import SpecError
from trainable.spec.setting import Setting
from trainable.spec.settings import AUTO

MAX_VIEWS = 64
LEAST_AUTO_VIEWS = 8
AUTO_VIEWS_IN_ALL = 1600
"""`views: auto` are as many of each image as come to this number in all, but at least
`LEAST_AUTO_VIEWS` and at most `MAX_VIEWS`; measured in docs/recipe.md."""

VIEWS = Setting(
    default=4,
    low=1,
    high=MAX_VIEWS,
    integer=True,
    words=(AUTO,),
    help="changed variants drawn of each image, once; training picks among them; auto: "
    f"{AUTO_VIEWS_IN_ALL:,} over the number of labelled images, at least {LEAST_AUTO_VIEWS} and at "
    f"most {MAX_VIEWS}",
)


@dataclass(frozen=True)
class KnownOp:
    """One random transform.

    Attributes:
        transform: name of the class in torchvision.transforms.v2.
        defaults: arguments that are used unless a file gives them.
    """

    transform: str
    defaults: Mapping[str, Any] = field(default_factory=dict)


OPS: Mapping[str, KnownOp] = MappingProxyType(
    {
        "horizontal_flip": KnownOp("RandomHorizontalFlip"),
        "vertical_flip": KnownOp("RandomVerticalFlip"),
        "rotation": KnownOp("RandomRotation", {"degrees": 15}),
        "affine": KnownOp(
            "RandomAffine", {"degrees": 10, "translate": [0.1, 0.1], "scale": [0.9, 1.1]}
        ),
        "perspective": KnownOp("RandomPerspective", {"distortion_scale": 0.2}),
        "resized_crop": KnownOp("RandomResizedCrop", {"scale": [0.5, 1.0]}),
        "color_jitter": KnownOp(
            "ColorJitter", {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
        ),
        "grayscale": KnownOp("RandomGrayscale"),
        "gaussian_blur": KnownOp("GaussianBlur", {"kernel_size": 5}),
        "sharpness": KnownOp("RandomAdjustSharpness", {"sharpness_factor": 2}),
        "autocontrast": KnownOp("RandomAutocontrast"),
        "equalize": KnownOp("RandomEqualize"),
        "invert": KnownOp("RandomInvert"),
        "posterize": KnownOp("RandomPosterize", {"bits": 4}),
        "solarize": KnownOp("RandomSolarize", {"threshold": 128}),
        "erasing": KnownOp("RandomErasing"),
        "trivial_augment": KnownOp("TrivialAugmentWide"),
        "rand_augment": KnownOp("RandAugment"),
        "auto_augment": KnownOp("AutoAugment"),
        "aug_mix": KnownOp("AugMix"),
    }
)
"""Random transforms that `ops` can name -> classes of torchvision.transforms.v2."""

WITHOUT_MASKS = frozenset({"trivial_augment", "rand_augment", "auto_augment", "aug_mix"})
"""Those of `OPS` that choose among other transforms, and cannot move masks with images."""


@dataclass(frozen=True)
class Op:
    """One random transform with its arguments.

    Attributes:
        name: a key of `OPS`.
        args: keyword arguments given, as sorted pairs.
    """

    name: str
    args: tuple[tuple[str, Any], ...] = ()

    def to_json(self) -> str | dict[str, dict[str, Any]]:
        """Return the form that `Augmentation.parse` reads."""
        return {self.name: dict(self.args)} if self.args else self.name


@dataclass(frozen=True)
class Augmentation:
    """Random transforms, and the number of views of each training image.

    Attributes:
        ops: transforms in the order in which they are applied.
        views: views of each image, 1 to `MAX_VIEWS`, among which training draws; or `auto`, see
            `resolved`.
    """

    ops: tuple[Op, ...]
    views: int | str

    @classmethod
    def parse(cls, given: object) -> Augmentation:
        """Parse `{ops: [horizontal_flip, {rotation: {degrees: 30}}], views: 4}`.

        Raises:
            SpecError: with every problem, one per line, each headed by its key.
        """
        if not isinstance(given, Mapping):
            raise SpecError(f"augment: got {given!r}; allowed: {{ops: [...], views: N}}")
        problems = [
            f"augment.{key}: unknown key; known: ops, views"
            for key in given
            if key not in ("ops", "views")
        ]
        listed, views = given.get("ops"), given.get("views", VIEWS.default)
        if not isinstance(listed, list | tuple) or not listed:
            problems.append(f"augment.ops: got {listed!r}; allowed: a list of {', '.join(OPS)}")
            listed = []
        if problem := VIEWS.problem(views):
            problems.append(f"augment.views: {problem}")
        ops = []
        for item in listed:
            try:
                ops.append(_op(item))
            except SpecError as error:
                problems.append(f"augment.ops: {error}")
        if problems:
            raise SpecError("\n".join(problems))
        return cls(tuple(ops), views if views == AUTO else int(views))

    @property
    def num_views(self) -> int:
        """Views of an image; while that is `auto`, the most that there can be."""
        return MAX_VIEWS if isinstance(self.views, str) else self.views

    def resolved(self, num_images: int) -> Augmentation:
        """The same without `auto`, which gives few images many views.

        Args:
            num_images: number of training images.
        """
        if not isinstance(self.views, str):
            return self
        enough = math.ceil(AUTO_VIEWS_IN_ALL / num_images)
        return replace(self, views=min(MAX_VIEWS, max(LEAST_AUTO_VIEWS, enough)))

    def to_json(self) -> dict[str, Any]:
        """Return the form that `parse` reads."""
        return {"ops": [op.to_json() for op in self.ops], "views": self.views}


def _op(item: object) -> Op:
    name: object = item
    args: object = {}
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, args),) = item.items()
    if not isinstance(name, str) or name not in OPS:
        near = difflib.get_close_matches(str(name), OPS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(OPS)}"
        raise SpecError(f"got {name!r}; unknown{hint}")
    if not isinstance(args, Mapping) or not all(isinstance(key, str) for key in args):
        raise SpecError(f"{name}: got {args!r}; allowed: a mapping of arguments")
    return Op(name, tuple(sorted((key, _frozen(value)) for key, value in args.items())))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
