"""The description of an exported network, `model.json`: written, checked and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from trainable import backbones as registry
from trainable.backbones import Preprocessing, Weights
from trainable.backbones.cutting.split import new_head, split
from trainable.errors import BackboneError, ExportError
from trainable.modalities.image.decoding import ValueRange

ABOUT_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"

FORMAT = 1
"""Version of the file; raised whenever an older reader would misread a newer file."""

BARE_FORMAT = 2
"""Version with `bare_logits`: a reader of version 1 would build activations behind the head."""

RANGED_FORMAT = 3
"""Version with a `value_range`: an older reader would scale 16-bit images differently."""

_FORMATS = (FORMAT, BARE_FORMAT, RANGED_FORMAT)
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
        preprocessing: preprocessing from an image to the network's input.
        class_names: names of the outputs, in order.
        args: arguments that the source builds the architecture with.
        bare_logits: whether activations that the architecture has behind its head are removed.
        value_range: values that become black and white in 16-bit grey; None for all 16 bits.
    """

    backbone: str
    source: str
    architecture: str
    version: str
    head: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    args: Mapping[str, Any] = field(default_factory=dict)
    bare_logits: bool = False
    value_range: ValueRange | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that `from_json` reads, with the lowest format that holds them."""
        values = asdict(self)
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
        ranged = data["format"] == RANGED_FORMAT
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
        value_range = data.get("value_range") if ranged else None
        if ranged and not _is_range(value_range):
            problems.append(f"value_range: got {value_range!r}; allowed: two rising whole numbers")
        if not isinstance(args, dict):
            problems.append(f"args: got {args!r}; allowed: a mapping of keyword arguments")
        if problems:
            raise ExportError("; ".join(problems))
        return cls(
            **texts,
            preprocessing=_read_preprocessing(data.get("preprocessing")),
            class_names=tuple(names),
            args=args,
            bare_logits=data["format"] == BARE_FORMAT
            or (ranged and data.get("bare_logits") is True),
            value_range=None if value_range is None else (value_range[0], value_range[1]),
        )

    def network(self) -> nn.Module:
        """Build the network in eval mode with its new head, before any weights are loaded.

        Raises:
            BackboneError: the network cannot be built here.
        """
        weights = Weights(
            backbone=self.backbone,
            source=self.source,
            architecture=self.architecture,
            version=self.version,
            preprocessing=self.preprocessing,
            arrays={},
            digest="",
            args=self.args,
        )
        size = self.preprocessing.image_size
        if self.bare_logits:
            traced = registry.network_graph(weights, size=size)
            if traced.head.target != self.head:
                raise self._no_head()
            return split(traced, frozen=0, num_classes=len(self.class_names)).suffix.eval()
        network = registry.network(weights, size=size)
        try:
            old = network.get_submodule(self.head)
        except AttributeError:
            old = None
        if not isinstance(old, nn.Linear | nn.Conv2d):
            raise self._no_head()
        network.set_submodule(self.head, new_head(old, len(self.class_names)))
        return network.eval()

    def _no_head(self) -> BackboneError:
        return BackboneError(f"{self.backbone}: it has no classifier called {self.head!r}")


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


def _read_preprocessing(given: object) -> Preprocessing:
    """Return the preprocessing that `dataclasses.asdict` turned into JSON.

    Raises:
        ExportError: `given` is something else.
    """
    allowed = f"a mapping with {', '.join(Preprocessing.__dataclass_fields__)}"
    try:
        assert isinstance(given, dict)
        found = Preprocessing(**{**given, "mean": tuple(given["mean"]), "std": tuple(given["std"])})
    except (AssertionError, KeyError, TypeError):
        raise ExportError(f"preprocessing: got {given!r}; allowed: {allowed}") from None
    sizes, scales = (found.image_size, found.resize_size), (found.mean, found.std)
    if (
        not all(isinstance(size, int) and size >= 1 for size in sizes)
        or not all(_is_list_of(list(scale), float | int) and len(scale) == 3 for scale in scales)
        or str(found.interpolation).upper() not in Image.Resampling.__members__
        or not isinstance(found.squash, bool)
    ):
        raise ExportError(f"preprocessing: got {given!r}; allowed: {allowed}, as they were written")
    return found


def _is_range(value: Any) -> bool:
    return _is_list_of(value, int) and len(value) == 2 and value[0] < value[1]


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
