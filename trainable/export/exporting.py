"""A configuration trained once more, to be used: the whole network with its new head, in a folder.

The weights are written under the names that the network's own code gives them, so that this code
reads them back without anything of sft-sweep. Whatever is written is read and compared first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from safetensors.torch import load_file, save
from torch import Tensor, nn

from trainable import device as devices
from trainable.backbones import Backbone, torchvision_models
from trainable.backbones.graphs.graph import independent_copy
from trainable.backbones.weights import RANDOM
from trainable.cutting.boundaries import boundaries
from trainable.cutting.split import FrozenPrefix, SplitBackbone, frozen_between, new_head, split
from trainable.data.labelled_images import LabelledImages
from trainable.data.subsets import draw_subset
from trainable.errors import ExportError
from trainable.export.exchange_formats import ExchangeForms, difference, onnx_notes, write_portable
from trainable.export.exported_model import ABOUT_FILE, WEIGHTS_FILE, ModelConfig
from trainable.features.cache import FeatureCache
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.baselines import baseline_features
from trainable.training.logistic import fit_path
from trainable.training.trial import Trial

_COMPARED = 4
"""Images that every form of the network is compared on."""

Watch = Callable[[int], None]
"""Called now and then with the updates made so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A network that was trained to be used.

    Attributes:
        about: what it is.
        network: its own code with all weights, or its graph; in eval mode, on the CPU.
        indices: (M,) int64 of the images that it learnt from.
        examples: (B, 3, S, S) float32 input that every form of it is compared on.
        spec: the recipe, nothing in it `auto`; None of a linear probe.
        inverse_penalty: C of a linear probe; else None.
    """

    about: ModelConfig
    network: nn.Module = field(repr=False)
    indices: npt.NDArray[np.int64]
    examples: Tensor = field(repr=False)
    spec: TrialSpec | None = None
    inverse_penalty: float | None = None


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written, and how it can be read back.

    Attributes:
        torchvision_options: keyword arguments of `torchvision.models.get_model` that give a network
            which takes the weights and yields the same; None where there are none.
        portable: the files that need no code.
    """

    torchvision_options: dict[str, Any] | None
    portable: tuple[ExchangeForms, ...]

    def has(self, file: str) -> bool:
        """Whether a portable file was written."""
        return any(one.file == file and one.problem is None for one in self.portable)


def train_configuration(
    spec: TrialSpec,
    images: LabelledImages,
    backbone: Backbone,
    *,
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    watch: Watch | None = None,
) -> TrainedModel:
    """Train a configuration on the labels that its spec draws, as its finalist was.

    Args:
        spec: with the repeat and the budget to draw.
        images: the subset is drawn from their pool.
        backbone: the one that the spec names.
        device: see `Trial`.
        cache: see `Trial`.
        watch: told how far it is.

    Raises:
        SpecError, DataError, BackboneError: it cannot be run.
        DivergedError: it did not train.
        ExportError: its network computes something else outside the graph that was trained.
    """
    trial = Trial(spec, images, backbone, device=device, cache=cache)
    fitted = trial.fit(watch)
    suffix, prefix = fitted.suffix.cpu(), _on_processor(fitted.split.prefix)
    size = int(fitted.spec.image_size)
    examples = _examples(images, fitted.indices, backbone, image_size=size)
    with torch.no_grad():
        expected = suffix(prefix(examples))
    return _assemble(
        backbone,
        images,
        image_size=size,
        halves=fitted.split,
        trained=suffix.state_dict(),
        learnt={name for name, _ in suffix.named_parameters()},
        indices=fitted.indices,
        examples=examples,
        expected=expected,
        spec=fitted.spec,
    )


def train_probe(
    images: LabelledImages,
    backbone: Backbone,
    *,
    budget: LabelBudget,
    inverse_penalty: float,
    repeat: int,
    seed: int,
    image_size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
) -> TrainedModel:
    """Fit a linear probe and make it the network's head; see `trainable.training.baselines`.

    Args:
        images: the subset is drawn from their pool.
        backbone: nothing of it is trained.
        budget: labels to fit on.
        inverse_penalty: the C that the baseline chose on the draw.
        repeat: which draw.
        seed: of the sweep.
        image_size: side of its input in pixels; None for its own.
        precision: of the features that it is fitted to.
        device: to compute on.
        cache: where features are kept.

    Raises:
        ExportError: the backbone's classifier is no linear layer on one feature vector.
    """
    device = device or devices.default_device()
    size = image_size or backbone.weights.preprocessing.image_size
    traced = backbone.traced(size)
    indices = draw_subset(images, budget=budget, repeat=repeat, seed=seed)
    features = baseline_features(
        images,
        indices,
        backbone,
        image_size=size,
        precision=precision,
        device=device,
        cache=cache,
    )
    (classifier,) = fit_path(
        features,
        torch.from_numpy(images.labels[indices]).to(device),
        num_classes=images.num_classes,
        inverse_penalties=[inverse_penalty],
    )
    halves = split(traced, frozen=len(boundaries(traced)), num_classes=images.num_classes)
    layer = halves.suffix.get_submodule(halves.head)
    if not isinstance(layer, nn.Linear) or layer.weight.shape != classifier.weight.shape:
        raise ExportError(
            f"{backbone.weights.backbone}: its classifier is no linear layer on one feature "
            "vector, so that a linear probe cannot take its place. Export a fine-tuned trial"
        )
    examples = _examples(images, indices, backbone, image_size=size)
    weight, bias = classifier.weight.float().cpu(), classifier.bias.float().cpu()
    learnt = {f"{halves.head}.weight": weight, f"{halves.head}.bias": bias}
    prefix = _on_processor(frozen_between(traced, None, boundaries(traced)[-1]))
    with torch.no_grad():
        expected = nn.functional.linear(prefix(examples).flatten(1), weight, bias)
    return _assemble(
        backbone,
        images,
        image_size=size,
        halves=halves,
        trained=learnt,
        learnt=learnt.keys(),
        indices=indices,
        examples=examples,
        expected=expected,
        inverse_penalty=inverse_penalty,
    )


def write_model(model: TrainedModel, folder: Path) -> Written:
    """Write the network into an empty folder, and see that it can be read back.

    Raises:
        ExportError: what was written is not what was trained.
        OSError: the folder cannot be written.
    """
    about, network = model.about, model.network
    text = json.dumps(about.to_json(), indent=2, ensure_ascii=False)
    (folder / ABOUT_FILE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    state = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    (folder / WEIGHTS_FILE).write_bytes(save(state, metadata={"format": "pt"}))
    with torch.no_grad():
        expected = network(model.examples)
        again = about.network()
        again.load_state_dict(load_file(folder / WEIGHTS_FILE))
        _check(again(model.examples), expected, about, "read back")
    preprocessing = asdict(about.preprocessing)
    if about.value_range is not None:
        preprocessing["value_range"] = about.value_range
    notes = onnx_notes(class_names=list(about.class_names), preprocessing=preprocessing)
    return Written(
        torchvision_options=_torchvision_options(model, folder / WEIGHTS_FILE, expected),
        portable=tuple(write_portable(network, model.examples, folder, about=notes)),
    )


def _assemble(
    backbone: Backbone,
    images: LabelledImages,
    *,
    image_size: int,
    halves: SplitBackbone,
    trained: Mapping[str, Tensor],
    learnt: Set[str],
    indices: npt.NDArray[np.int64],
    examples: Tensor,
    expected: Tensor,
    spec: TrialSpec | None = None,
    inverse_penalty: float | None = None,
) -> TrainedModel:
    """The backbone's own code with everything that was trained in its place.

    Where that code has activations behind its head, it is the graph of it without them. Of
    `trained`, parameters and buffers by name, those in `learnt` have to find their place;
    buffers that the code makes anew are left out. `expected` is what the graph that was trained
    makes of `examples`.
    """
    weights = backbone.weights
    about = ModelConfig(
        backbone=weights.backbone,
        source=weights.source,
        architecture=weights.architecture,
        version=weights.version,
        head=halves.head,
        preprocessing=weights.preprocessing.resized(image_size),
        class_names=images.class_names,
        args=weights.args,
        bare_logits=halves.bare_logits,
        value_range=images.value_range,
    )
    network = _untrained(backbone, halves, image_size=image_size, num_classes=images.num_classes)
    state = network.state_dict()
    lost = sorted(learnt - state.keys())
    if lost:
        raise ExportError(f"{about.backbone}: its own code has no place for {', '.join(lost[:3])}")
    state.update({name: value for name, value in trained.items() if name in state})
    network.load_state_dict(state)
    network.eval()
    with torch.no_grad():
        _check(network(examples), expected, about, "run by its own code")
    return TrainedModel(
        about=about,
        network=network,
        indices=indices,
        examples=examples,
        spec=spec,
        inverse_penalty=inverse_penalty,
    )


def _untrained(
    backbone: Backbone, halves: SplitBackbone, *, image_size: int, num_classes: int
) -> nn.Module:
    """The network as it began: pretrained, on the CPU, with a new head."""
    if halves.bare_logits:
        return split(halves.traced, frozen=0, num_classes=num_classes).suffix.cpu()
    network = backbone.model(image_size)
    old = network.get_submodule(halves.head)
    network.set_submodule(halves.head, new_head(old, num_classes))
    return network


def _on_processor(prefix: FrozenPrefix) -> FrozenPrefix:
    """A copy where files are written from; the prefix itself may lie on a GPU."""
    return FrozenPrefix(independent_copy(prefix.module).cpu())


def _examples(
    images: LabelledImages,
    indices: npt.NDArray[np.int64],
    backbone: Backbone,
    *,
    image_size: int,
) -> Tensor:
    """(B, 3, S, S) float32 input made of a few of the images."""
    few = indices[np.arange(_COMPARED) % len(indices)]
    preprocessing = backbone.weights.preprocessing.resized(image_size)
    return normalize(decode(images, few, preprocessing), preprocessing)


def _check(found: Tensor, expected: Tensor, about: ModelConfig, what: str) -> None:
    try:
        difference(found, expected)
    except ExportError as error:
        raise ExportError(
            f"{about.backbone}: the network {what} is not the one that was trained: {error}"
        ) from None


def _torchvision_options(
    model: TrainedModel, weights: Path, expected: Tensor
) -> dict[str, Any] | None:
    """What `get_model` needs beside the name and `weights=None`; None where it yields another."""
    about = model.about
    if about.source != torchvision_models.NAME:
        return None
    options = {
        "num_classes": len(about.class_names),
        **torchvision_models.builder_options(
            about.architecture,
            image_size=about.preprocessing.image_size,
            pretrained=about.version != RANDOM,
        ),
    }
    try:
        network = torchvision.models.get_model(about.architecture, weights=None, **options)
        network.load_state_dict(load_file(weights))
        with torch.no_grad():
            difference(network.eval()(model.examples), expected)
    except (RuntimeError, TypeError, ValueError, ExportError):  # a head of another form
        return None
    return options
