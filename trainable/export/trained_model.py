"""Training of a configuration for use, with the trained weights in the whole network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from trainable import device as devices
from trainable.backbones import Backbone
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import FrozenPrefix, SplitBackbone, frozen_between, split
from trainable.backbones.graphs.graph import independent_copy
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.subsets import draw_subset
from trainable.errors import ExportError
from trainable.export.exchange_formats import Batch, check_logits
from trainable.export.model_config import ModelConfig
from trainable.export.network_kinds import TrainedHalves, network_kind
from trainable.features.activations import head_rows
from trainable.features.cache import FeatureCache
from trainable.features.head_maps import HeadMaps, features_of
from trainable.features.readers import FeatureReaders
from trainable.modalities import Modality, modality_of
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.tasks import task_called
from trainable.training.logistic import LINEAR, LinearClassifier, fit_path
from trainable.training.setup import reading_backbone, resolved_size
from trainable.training.trial import Trial

_COMPARED = 3
"""Number of examples of each batch that every form of the network is compared on; no text may be so
short, for torch.export takes equal sizes of an input for one."""

Watch = Callable[[int], object]
"""Called regularly with the number of updates made so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A network that was trained for use.

    Attributes:
        about: description of the network.
        network: its own code with all weights, or its graph; in eval mode, on the CPU.
        trained: what it was made of.
        indices: (M,) int64 indices of the training examples.
        batches: input that every form of the network is compared on.
        spec: the resolved recipe without any `auto`; None for a linear probe.
        lr_factor: factor of the trial's learning rate; see `WholeTraining`. None for a probe.
        inverse_penalty: C of a linear probe; None for a fine-tuned network.
        notes: what preparing the examples found, such as how many texts were cut off.
    """

    about: ModelConfig
    network: nn.Module = field(repr=False)
    trained: TrainedHalves = field(repr=False)
    indices: npt.NDArray[np.int64]
    batches: Sequence[Batch] = field(repr=False)
    spec: TrialSpec | None = None
    lr_factor: float | None = None
    inverse_penalty: float | None = None
    notes: tuple[str, ...] = ()


def train_configuration(
    spec: TrialSpec,
    examples: LabelledExamples,
    backbone: Backbone,
    *,
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
    watch: Watch | None = None,
) -> TrainedModel:
    """Train a configuration on the labels that its spec draws, as its finalist was trained.

    Args:
        spec: the configuration, with the repeat and the budget to draw.
        examples: the subset is drawn from their pool.
        backbone: the backbone that the spec names.
        device: see `Trial`.
        cache: see `Trial`.
        watch: called with the progress.

    Raises:
        SpecError, DataError, BackboneError: the configuration cannot be run.
        ExportError: the network cannot be written, or its own code gives other logits than the
            graph that was trained.
    """
    backbone = reading_backbone(spec, backbone)
    modality = modality_of(examples, backbone.weights)
    size = resolved_size(spec, backbone.weights)
    notes = modality.prepare(examples, backbone, size)
    network_kind(modality.name).check(backbone, size)
    fitted = Trial(spec, examples, backbone, device=device, cache=cache).fit(watch)
    suffix, prefix = fitted.suffix.cpu(), _on_processor(fitted.split.prefix)
    batches = _batches(modality, examples, fitted.indices, backbone, size=size)
    with torch.no_grad():
        expected = [suffix(prefix(*batch), *batch[1:]) for batch in batches]
    return _assemble(
        TrainedHalves(
            backbone=backbone, split=fitted.split, suffix=suffix, size=size, examples=examples
        ),
        indices=fitted.indices,
        batches=batches,
        expected=expected,
        notes=notes,
        spec=fitted.spec,
        lr_factor=fitted.lr_factor,
    )


def train_probe(
    examples: LabelledExamples,
    backbone: Backbone,
    *,
    budget: LabelBudget,
    inverse_penalty: float,
    repeat: int,
    seed: int,
    size: int | None = None,
    precision: str = "auto",
    device: torch.device | None = None,
    cache: FeatureCache | None = None,
) -> TrainedModel:
    """Fit a linear probe and make it the network's head; see `trainable.training.baselines`.

    Args:
        examples: the subset is drawn from their pool.
        backbone: the backbone; it is not trained.
        budget: label budget to fit on.
        inverse_penalty: C that the baseline chose on the draw.
        repeat: number of the draw.
        seed: seed of the sweep.
        size: size of the backbone's input; None for its default. See `Modality`.
        precision: precision of the features.
        device: the device to compute on; None for the visible GPU, else the CPU.
        cache: the feature cache; None computes the features here.

    Raises:
        ExportError: the network cannot be written, or the backbone's classifier is not a linear
            layer on one feature vector.
    """
    device = device or devices.default_device()
    modality = modality_of(examples, backbone.weights)
    size = modality.size(backbone.weights, size)
    notes = modality.prepare(examples, backbone, size)
    network_kind(modality.name).check(backbone, size)
    traced = backbone.traced(size)
    indices = draw_subset(examples, budget=budget, repeat=repeat, seed=seed)
    places = task_called(examples.task).places(examples, indices, drawn=len(indices), seed=seed)
    readers = FeatureReaders(
        examples,
        backbone,
        size=size,
        device=device,
        precision=devices.resolve_precision(precision, device),
        cache=cache,
    )
    if places is None:
        rows, labels = readers.head_inputs(indices), torch.from_numpy(examples.labels[indices])
    else:
        maps = HeadMaps(readers, backbone, size=size, device=device)
        rows, labels = features_of(maps.of(indices), places.points), places.labels
    (fitted,) = fit_path(
        rows.flatten(0, -2),
        labels.flatten().to(device),
        num_classes=examples.num_classes,
        inverse_penalties=[inverse_penalty],
        num_examples=len(indices),
    )
    halves = split(traced, frozen=len(boundaries(traced)), num_classes=examples.num_classes)
    classifier = fitted.to("cpu")
    suffix = _with_heads(halves, classifier, backbone=backbone.weights.backbone)
    batches = _batches(modality, examples, indices, backbone, size=size)
    prefix = _on_processor(frozen_between(traced, None, boundaries(traced)[-1]))
    with torch.no_grad():
        frozen = [prefix(*batch) for batch in batches]
        if places is None:
            expected = [classifier.logits(head_rows(values)).float() for values in frozen]
        else:
            expected = [suffix(values) for values in frozen]
    return _assemble(
        TrainedHalves(backbone=backbone, split=halves, suffix=suffix, size=size, examples=examples),
        indices=indices,
        batches=batches,
        expected=expected,
        notes=notes,
        inverse_penalty=inverse_penalty,
    )


def _with_heads(
    halves: SplitBackbone, classifier: LinearClassifier, *, backbone: str
) -> fx.GraphModule:
    """Return the suffix with the weights of a linear probe, in eval mode, on the CPU.

    Raises:
        ExportError: the heads of the suffix do not take them.
    """
    layers = [halves.suffix.get_submodule(head) for head in halves.heads]
    widths = [int(layer.weight.shape[1]) for layer in layers if isinstance(layer, LINEAR)]
    if len(widths) < len(layers) or sum(widths) != classifier.weight.shape[1]:
        raise ExportError(
            f"{backbone}: its classifier is no linear layer on the features of a linear probe, "
            "which cannot take its place. Export a fine-tuned trial"
        )
    classifier.copy_into(*layers)
    return halves.suffix.cpu().eval().requires_grad_(requires_grad=False)


def _assemble(
    trained: TrainedHalves,
    *,
    indices: npt.NDArray[np.int64],
    batches: Sequence[Batch],
    expected: Sequence[Tensor],
    notes: tuple[str, ...],
    spec: TrialSpec | None = None,
    lr_factor: float | None = None,
    inverse_penalty: float | None = None,
) -> TrainedModel:
    """Make the trained halves one network and compare its logits.

    Args:
        trained: the halves.
        indices: (M,) indices of the training examples.
        batches: input to compare on.
        expected: (B, C) logits of the trained halves for each batch.
        notes: see `TrainedModel`.
        spec: the resolved recipe; None for a linear probe.
        lr_factor: see `TrainedModel`.
        inverse_penalty: C of a linear probe.

    Raises:
        ExportError: a weight has no place in the network, or it gives other logits.
    """
    kind = network_kind(trained.backbone.weights.modality)
    about, network = kind.describe(trained), kind.network(trained)
    with torch.no_grad():
        for batch, logits in zip(batches, expected, strict=True):
            check_logits(
                network(*batch), logits, backbone=about.backbone, what="run by its own code"
            )
    return TrainedModel(
        about=about,
        network=network,
        trained=trained,
        indices=indices,
        batches=batches,
        spec=spec,
        lr_factor=lr_factor,
        inverse_penalty=inverse_penalty,
        notes=notes,
    )


def _on_processor(prefix: FrozenPrefix) -> FrozenPrefix:
    """Return a copy of the prefix on the CPU."""
    return FrozenPrefix(independent_copy(prefix.module).cpu())


def _batches(
    modality: Modality,
    examples: LabelledExamples,
    indices: npt.NDArray[np.int64],
    backbone: Backbone,
    *,
    size: int,
) -> list[Batch]:
    """Return input from the first few of the examples, at the padded sizes that there are.

    At the largest size are examples of all sizes, so that some are padded.
    """
    padded = modality.padded_sizes(examples, indices, backbone, size)
    found: list[Batch] = []
    for padded_size in sorted({int(padded.min()), int(padded.max()), size}):
        fitting = indices[padded <= padded_size]
        few = fitting[np.arange(_COMPARED) % len(fitting)]
        inputs = modality.inputs(
            examples, backbone, padded_size=padded_size, size=size, augmentation=None
        )
        content = inputs.content(torch.from_numpy(inputs.rows(few)))
        found.append((content, *inputs.side(few)))
    return found
