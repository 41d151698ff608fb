"""Train a configuration once more for use, and put the trained weights into the whole network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import (
    FrozenPrefix,
    SplitBackbone,
    frozen_between,
    new_head,
    split,
)
from trainable.backbones.graphs.graph import independent_copy
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.subsets import draw_subset
from trainable.errors import ExportError
from trainable.export.exchange_formats import difference
from trainable.export.model_config import ModelConfig
from trainable.features.cache import FeatureCache
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.baselines import baseline_features
from trainable.training.logistic import fit_path
from trainable.training.trial import Trial

_COMPARED = 4
"""Number of images that every form of the network is compared on."""

Watch = Callable[[int], None]
"""Called regularly with the number of updates made so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A network that was trained for use.

    Attributes:
        about: description of the network.
        network: its own code with all weights, or its graph; in eval mode, on the CPU.
        indices: (M,) int64 indices of the training images.
        examples: (B, 3, S, S) float32 input that every form of the network is compared on.
        spec: the resolved recipe, nothing in it `auto`; None for a linear probe.
        inverse_penalty: C of a linear probe; None for a fine-tuned network.
    """

    about: ModelConfig
    network: nn.Module = field(repr=False)
    indices: npt.NDArray[np.int64]
    examples: Tensor = field(repr=False)
    spec: TrialSpec | None = None
    inverse_penalty: float | None = None


def train_configuration(
    spec: TrialSpec,
    images: LabelledExamples,
    backbone: Backbone,
    *,
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    watch: Watch | None = None,
) -> TrainedModel:
    """Train a configuration on the labels that its spec draws, as its finalist was trained.

    Args:
        spec: the configuration, with the repeat and the budget to draw.
        images: the subset is drawn from their pool.
        backbone: the backbone that the spec names.
        device: see `Trial`.
        cache: see `Trial`.
        watch: called with the progress.

    Raises:
        SpecError, DataError, BackboneError: the configuration cannot be run.
        DivergedError: the training diverged.
        ExportError: the network's own code gives other logits than the graph that was trained.
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
    images: LabelledExamples,
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
        budget: label budget to fit on.
        inverse_penalty: C that the baseline chose on the draw.
        repeat: number of the draw.
        seed: seed of the sweep.
        image_size: side of the backbone's input in pixels; None for its default.
        precision: precision of the features.
        device: the device to compute on; None for the visible GPU, else the CPU.
        cache: the feature cache; None computes the features here.

    Raises:
        ExportError: the backbone's classifier is not a linear layer on one feature vector.
    """
    device = device or devices.default_device()
    size = image_size or backbone.weights.preprocessing.size
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


def _assemble(
    backbone: Backbone,
    images: LabelledExamples,
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
    """Load the trained weights into the backbone's own code and compare its logits.

    A backbone whose code has activations behind its head becomes its graph without them.

    Args:
        backbone: the pretrained backbone.
        images: images that it was trained on.
        image_size: side of its input, in pixels.
        halves: the backbone as it was cut for training.
        trained: trained parameters and buffers by name; buffers that the code recreates are
            skipped.
        learnt: names in `trained` that the code must have.
        indices: (M,) indices of the training images.
        examples: (B, 3, S, S) input to compare on.
        expected: (B, C) logits of the trained graph for `examples`.
        spec: the resolved recipe; None for a linear probe.
        inverse_penalty: C of a linear probe.

    Raises:
        ExportError: a weight has no place in the code, or the code gives other logits.
    """
    weights = backbone.weights
    about = ModelConfig(
        backbone=weights.backbone,
        source=weights.source,
        architecture=weights.architecture,
        version=weights.version,
        head=halves.head,
        preprocessing=weights.image_preprocessing.resized(image_size),
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
        check_outputs(network(examples), expected, about, "run by its own code")
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
    """Return the network before training: pretrained, on the CPU, with a new head."""
    if halves.bare_logits:
        return split(halves.traced, frozen=0, num_classes=num_classes).suffix.cpu()
    network = backbone.model(image_size)
    old = network.get_submodule(halves.head)
    network.set_submodule(halves.head, new_head(old, num_classes))
    return network


def _on_processor(prefix: FrozenPrefix) -> FrozenPrefix:
    """Return a copy of the prefix on the CPU."""
    return FrozenPrefix(independent_copy(prefix.module).cpu())


def _examples(
    images: LabelledExamples,
    indices: npt.NDArray[np.int64],
    backbone: Backbone,
    *,
    image_size: int,
) -> Tensor:
    """Return (B, 3, S, S) float32 input from the first few of the images."""
    few = indices[np.arange(_COMPARED) % len(indices)]
    preprocessing = backbone.weights.image_preprocessing.resized(image_size)
    return normalize(decode(images, few, preprocessing), preprocessing)


def check_outputs(found: Tensor, expected: Tensor, about: ModelConfig, what: str) -> None:
    """Check that a form of the network gives the logits of the trained one.

    Args:
        found: (B, C) logits of that form.
        expected: (B, C) logits of the trained network.
        about: description of the network, for the message.
        what: the form, for the message.

    Raises:
        ExportError: they differ by more than rounding.
    """
    try:
        difference(found, expected)
    except ExportError as error:
        raise ExportError(
            f"{about.backbone}: the network {what} is not the one that was trained: {error}"
        ) from None
