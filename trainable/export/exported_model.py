"""A trained network in a folder, as `exporting` writes it: read, and asked for classes.

It needs torch, torchvision, Pillow and safetensors, and nothing of a sweep.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from trainable import backbones as registry
from trainable import device as devices
from trainable.backbones import Preprocessing, Weights
from trainable.cutting.split import new_head, split
from trainable.errors import BackboneError, DataError, ExportError
from trainable.modalities.image.decoding import ValueRange
from trainable.modalities.image.preprocessing import decode_one, normalize

ABOUT_FILE = "model.json"
WEIGHTS_FILE = "model.safetensors"

FORMAT = 1
"""Raised whenever a reader of the old form would misread the new one."""

BARE_FORMAT = 2
"""Of networks with `bare_logits`, which a reader of the first form would build with activations."""

RANGED_FORMAT = 3
"""Of networks with a `value_range`, without which 16-bit pictures would be other ones."""

CUSTOM = "custom"
"""The source of backbones that the user's own code builds."""

_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What `model.json` says: all that it takes to use the weights beside it.

    Attributes:
        backbone: as the search-space file names it.
        source: which source of backbones builds it.
        architecture: the name by which the source knows it.
        version: which weights it began with.
        head: name of the classifier within the network.
        preprocessing: from a picture to the network's input.
        class_names: of the outputs, in order.
        args: what the source builds the architecture with.
        bare_logits: whether activations that the architecture has behind its head are left out.
        value_range: what becomes black and white in 16-bit grey; None for all 16 bits.
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
        """A dict of JSON values that `from_json` reads; its format says what is unusual."""
        values = asdict(self)
        if self.value_range is not None:
            return {"format": RANGED_FORMAT, **values, "value_range": list(self.value_range)}
        del values["value_range"]
        return {"format": BARE_FORMAT if values.pop("bare_logits") else FORMAT, **values}

    @classmethod
    def from_json(cls, data: object) -> ModelConfig:
        """What `to_json` wrote.

        Raises:
            ExportError: this is something else; the message knows no path.
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
        """The network in eval mode, its new head in place; what it holds means nothing.

        Raises:
            BackboneError: it cannot be built here.
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
            traced = registry.network_graph(weights, image_size=size)
            if traced.head.target != self.head:
                raise self._no_head()
            return split(traced, frozen=0, num_classes=len(self.class_names)).suffix.eval()
        network = registry.network(weights, image_size=size)
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


@dataclass(frozen=True)
class Prediction:
    """What the network makes of one file.

    Attributes:
        path: of the file.
        probabilities: one a class, in the order of the class names; None where it has none.
        problem: why there are none, or None.
    """

    path: Path
    probabilities: tuple[float, ...] | None
    problem: str | None = None

    def ranked(self) -> list[tuple[int, float]]:
        """Class ids with their probabilities, the most probable first; empty without any."""
        pairs = enumerate(self.probabilities or ())
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


class ExportedModel:
    """A trained network with its class names and preprocessing.

    Args:
        about: what it is.
        network: (N, 3, S, S) -> logits (N, classes); in eval mode.
        device: to compute on; the default is the visible GPU, else the CPU.
    """

    def __init__(
        self, about: ModelConfig, network: nn.Module, *, device: torch.device | None = None
    ) -> None:
        self.about = about
        self._device = device or devices.default_device()
        self._network = network.to(self._device)

    @classmethod
    def load(
        cls, folder: Path, *, trust_code: bool = False, device: torch.device | None = None
    ) -> ExportedModel:
        """The network that lies in a folder.

        Args:
            folder: as `sft-sweep export` wrote it.
            trust_code: whether to import and call the function that a backbone of somebody's own
                is built by; the folder says which.
            device: see the class.

        Raises:
            ExportError: there is no such network, or it cannot be read.
            BackboneError: its architecture cannot be built here.
        """
        about = read_about(folder)
        if about.source == CUSTOM and not trust_code:
            raise ExportError(
                f"{folder}: its network is built by code that is not part of sft-sweep: "
                f"{about.architecture!r}. Where you trust that code, say so (--trust-code of "
                "sft-sweep predict, trust_code=True in Python)"
            )
        network = about.network()
        path = folder / WEIGHTS_FILE
        try:
            network.load_state_dict(load_file(path))
        except FileNotFoundError:
            raise ExportError(f"{path}: no such file; export the network again") from None
        except (OSError, SafetensorError) as error:
            raise ExportError(f"{path}: damaged: {_first_line(error)}") from None
        except RuntimeError as error:
            raise ExportError(
                f"{path}: does not fit {about.backbone}: {' '.join(str(error).split())[:300]}"
            ) from None
        return cls(about, network, device=device)

    def logits(self, pixels: Tensor) -> Tensor:
        """(N, classes) float32 on the CPU of (N, 3, S, S) uint8 pixels."""
        images = normalize(pixels.to(self._device), self.about.preprocessing)
        with torch.inference_mode():
            logits: Tensor = self._network(images)
        return logits.float().cpu()

    def predict(self, paths: Sequence[Path]) -> Iterator[Prediction]:
        """One prediction a file, in order; a file that is no picture has a problem instead."""
        for start in range(0, len(paths), _BATCH):
            yield from self._predict_batch(paths[start : start + _BATCH])

    def _predict_batch(self, paths: Sequence[Path]) -> list[Prediction]:
        pixels: dict[int, Tensor] = {}
        problems: dict[int, str] = {}
        for place, path in enumerate(paths):
            try:
                pixels[place] = decode_one(
                    path.read_bytes(),
                    self.about.preprocessing,
                    value_range=self.about.value_range,
                )
            except DataError as error:
                problems[place] = str(error)
            except IsADirectoryError:
                problems[place] = "is a folder; name the files in it"
            except OSError as error:
                problems[place] = f"cannot be read: {error.strerror or error}"
            except ValueError as error:  # a path that no file can have
                problems[place] = f"cannot be read: {error}"
        found: dict[int, tuple[float, ...]] = {}
        if pixels:
            shares = self.logits(torch.stack(list(pixels.values()))).double().softmax(dim=1)
            found = dict(zip(pixels, (tuple(row) for row in shares.tolist()), strict=True))
        return [
            Prediction(path, found.get(place), problems.get(place))
            for place, path in enumerate(paths)
        ]


def read_about(folder: Path) -> ModelConfig:
    """What `model.json` in a folder says.

    Raises:
        ExportError: it is missing or damaged.
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


_FORMATS = (FORMAT, BARE_FORMAT, RANGED_FORMAT)
_TEXTS = ("backbone", "source", "architecture", "version", "head")


def _read_preprocessing(given: object) -> Preprocessing:
    """The preprocessing that `dataclasses.asdict` turned into JSON.

    Raises:
        ExportError: it is something else.
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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
