"""The description of an exported network, `model.json`: written, checked and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from trainable.backbones import Preprocessing
from trainable.backbones.weights import TextPreprocessing
from trainable.errors import ExportError
from trainable.modalities.image.decoding import ValueRange
from trainable.spec.settings import POOLINGS, TRUNCATIONS

ABOUT_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"

FORMAT = 1
"""Version of the file; raised whenever an older reader would misread a newer file."""

BARE_FORMAT = 2
"""Version with `bare_logits`: a reader of version 1 would build activations behind the head."""

RANGED_FORMAT = 3
"""Version with a `value_range`: an older reader would scale 16-bit images differently."""

TEXT_FORMAT = 4
"""Version of networks for texts, which an older reader would take for networks for images."""

MASK_FORMAT = 5
"""Version of networks that predict masks, which an older reader would take for classifiers."""

_FORMATS = (FORMAT, BARE_FORMAT, RANGED_FORMAT, TEXT_FORMAT, MASK_FORMAT)
_TEXTS = ("backbone", "source", "architecture", "version", "head")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Content of `model.json`: everything needed to use the weights beside it.

    Attributes:
        backbone: name in the search-space file.
        source: source of backbones that builds the network.
        architecture: the source's name for the network.
        version: name of the pretrained weights.
        head: name of the classifier within the network.
        preprocessing: preprocessing from an example to the network's input.
        class_names: names of the outputs, in order.
        args: arguments that the source builds the architecture with.
        bare_logits: whether activations that the architecture has behind its head are removed.
        value_range: of images, values that become black and white in 16-bit grey; None for all 16
            bits.
        heads: of a network that predicts masks, names of all its heads; else empty.
        on_both_sides: of texts, names of parameters that the frozen and the trained part of the
            network both use, with values of their own.
    """

    backbone: str
    source: str
    architecture: str
    version: str
    head: str
    preprocessing: Preprocessing | TextPreprocessing
    class_names: tuple[str, ...]
    args: Mapping[str, Any] = field(default_factory=dict)
    bare_logits: bool = False
    value_range: ValueRange | None = None
    heads: tuple[str, ...] = ()
    on_both_sides: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """What the network does: `classification`, or `segmentation` if it predicts masks."""
        return "segmentation" if self.heads else "classification"

    @property
    def modality(self) -> str:
        """What the network takes: `image` or `text`."""
        return "text" if isinstance(self.preprocessing, TextPreprocessing) else "image"

    @property
    def image_preprocessing(self) -> Preprocessing:
        """Preprocessing of a network for images.

        Raises:
            ExportError: it takes texts.
        """
        if not isinstance(self.preprocessing, Preprocessing):
            raise ExportError(f"{self.backbone}: this network takes texts, not images")
        return self.preprocessing

    @property
    def text_preprocessing(self) -> TextPreprocessing:
        """Preprocessing of a network for texts.

        Raises:
            ExportError: it takes images.
        """
        if not isinstance(self.preprocessing, TextPreprocessing):
            raise ExportError(f"{self.backbone}: this network takes images, not texts")
        return self.preprocessing

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` reads, with the lowest format that holds them."""
        values = asdict(self)
        shared, heads = list(values.pop("on_both_sides")), list(values.pop("heads"))
        if heads:
            range_ = None if self.value_range is None else list(self.value_range)
            return {"format": MASK_FORMAT, **values, "value_range": range_, "heads": heads}
        if self.modality == "text":
            del values["bare_logits"], values["value_range"]
            return {"format": TEXT_FORMAT, "modality": "text", **values, "on_both_sides": shared}
        if self.value_range is not None:
            return {"format": RANGED_FORMAT, **values, "value_range": list(self.value_range)}
        del values["value_range"]
        return {"format": BARE_FORMAT if values.pop("bare_logits") else FORMAT, **values}

    @classmethod
    def from_json(cls, data: object) -> ModelConfig:
        """Return the description that `to_json` wrote.

        Raises:
            ExportError: `data` is something else; the message names no path.
        """
        if not isinstance(data, dict) or data.get("format") not in _FORMATS:
            given = data.get("format") if isinstance(data, dict) else data
            raise ExportError(
                f"format: got {given!r}; this version reads {', '.join(map(str, _FORMATS))}"
            )
        texts: dict[str, Any] = {name: data.get(name) for name in _TEXTS}
        names: Any = data.get("class_names")
        args = data.get("args", {})
        problems = [
            f"{name}: got {value!r}; allowed: text"
            for name, value in texts.items()
            if not isinstance(value, str)
        ]
        if not _is_list_of(names, str) or not names:
            problems.append(f"class_names: got {names!r}; allowed: a list of names")
        if not isinstance(args, dict):
            problems.append(f"args: got {args!r}; allowed: a mapping of keyword arguments")
        own = _of_texts if data["format"] == TEXT_FORMAT else _of_images
        rest = own(data, problems)
        if problems:
            raise ExportError("; ".join(problems))
        return cls(**texts, class_names=tuple(names), args=args, **rest)


def _of_images(data: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return what networks for images have beside; problems are added."""
    masks = data["format"] == MASK_FORMAT
    ranged = data["format"] == RANGED_FORMAT or (masks and data.get("value_range") is not None)
    value_range = data.get("value_range") if ranged else None
    if ranged and not _is_range(value_range):
        problems.append(f"value_range: got {value_range!r}; allowed: two rising whole numbers")
    bare = data["format"] == BARE_FORMAT or ((ranged or masks) and data.get("bare_logits") is True)
    heads = data.get("heads", [])
    if masks and not (heads and _is_list_of(heads, str)):
        problems.append(f"heads: got {heads!r}; allowed: a list of names")
        heads = []
    return {
        "heads": tuple(heads) if masks else (),
        "preprocessing": _read_preprocessing(data.get("preprocessing"), problems),
        "bare_logits": bare,
        "value_range": None if value_range is None else tuple(value_range),
    }


def _of_texts(data: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return what networks for texts have beside; problems are added."""
    shared = data.get("on_both_sides", [])
    if not _is_list_of(shared, str):
        problems.append(f"on_both_sides: got {shared!r}; allowed: a list of names")
    return {
        "preprocessing": _read_text_preprocessing(data.get("preprocessing"), problems),
        "on_both_sides": tuple(shared) if isinstance(shared, list) else (),
    }


def read_about(folder: Path) -> ModelConfig:
    """Read `model.json` in a folder.

    Raises:
        ExportError: the file is missing or damaged.
    """
    path = folder / ABOUT_FILE
    try:
        return ModelConfig.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise ExportError(
            f"{folder}: no exported network here ({ABOUT_FILE} is missing); make one with: "
            "sft-sweep export RUN -o DIR"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path}: cannot be read: {error}") from None
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from None


def _read_preprocessing(given: object, problems: list[str]) -> Preprocessing | None:
    """Return the preprocessing that `dataclasses.asdict` turned into JSON; None with a problem."""
    problem = _misfit(given, Preprocessing)
    try:
        assert isinstance(given, dict)
        found = Preprocessing(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})
    except (AssertionError, KeyError, TypeError):
        problems.append(problem)
        return None
    sizes, scales = (found.image_size, found.resize_size), (found.mean, found.std)
    if (
        not all(isinstance(size, int) and size >= 1 for size in sizes)
        or not all(_is_list_of(list(scale), float | int) and len(scale) == 3 for scale in scales)
        or str(found.interpolation).upper() not in Image.Resampling.__members__
        or not isinstance(found.squash, bool)
    ):
        problems.append(f"{problem}, as they were written")
        return None
    return found


def _read_text_preprocessing(given: object, problems: list[str]) -> TextPreprocessing | None:
    """Return the preprocessing that `dataclasses.asdict` turned into JSON; None with a problem."""
    problem = _misfit(given, TextPreprocessing)
    try:
        assert isinstance(given, dict)
        found = TextPreprocessing(**given)
    except (AssertionError, TypeError):
        problems.append(problem)
        return None
    if (
        not all(isinstance(number, int) for number in (found.max_length, found.pad_id))
        or found.max_length < 1
        or found.pad_id < 0
        or not all(isinstance(text, str) for text in (found.tokenizer, found.prompt))
        or not all(isinstance(flag, bool) for flag in (found.normalize, found.lowercase))
        or found.pooling not in POOLINGS
        or found.truncate not in TRUNCATIONS
    ):
        problems.append(f"{problem}, as they were written")
        return None
    return found


def _misfit(given: object, kind: type[Preprocessing | TextPreprocessing]) -> str:
    allowed = ", ".join(kind.__dataclass_fields__)
    return f"preprocessing: got {given!r}; allowed: a mapping with {allowed}"


def _is_range(value: Any) -> bool:
    return _is_list_of(value, int) and len(value) == 2 and value[0] < value[1]


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
