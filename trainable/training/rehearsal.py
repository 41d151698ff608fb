"""Rehearsal of a configuration before any trial runs: one update and one prediction."""

from __future__ import annotations

from dataclasses import replace

import torch

from trainable.backbones import Backbone
from trainable.backbones.graphs.facts import cheapest_device
from trainable.device import one_thread
from trainable.errors import BackboneError, SpecError, TrainableError
from trainable.features.activations import Activations
from trainable.micro_batches import Memory
from trainable.modalities import modality_called
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks import task_called
from trainable.training.learner import Examples
from trainable.training.setup import TrialSetup, reading_backbone, resolved_size
from trainable.training.suffix_learner import SuffixLearners

MOST_IMAGES = 2
"""Most images of a rehearsed batch. Two suffice: a layer that accepts two images accepts more."""


@one_thread()
@torch.random.fork_rng(devices=[])
def rehearse(
    spec: TrialSpec,
    backbone: Backbone,
    *,
    num_train: int,
    num_classes: int,
    task: str = "classification",
) -> None:
    """Make sure that a configuration can make an update and predict one image.

    No images are read. If an update on the CPU would take long, it is tried on the meta device,
    where nothing is computed, and repeated on the CPU only if it fails there.

    Args:
        spec: the configuration; it is rehearsed in fp32, whatever its precision.
        backbone: the backbone that `spec.backbone` names.
        num_train: number of training images, by which `auto` is resolved.
        num_classes: number of outputs of the head.
        task: name of the task.

    Raises:
        SpecError: the backbone cannot be trained with a setting; the message begins with its key.
        BackboneError: the backbone cannot be trained at this image size, whatever the settings.
    """
    rehearsal = _Rehearsal(spec, backbone, task, num_train=num_train, num_classes=num_classes)
    resolved = rehearsal.resolved
    reason = rehearsal.failure(resolved)
    if reason is None:
        return
    size = rehearsal.size_text
    if resolved.batch_size == 1 and rehearsal.failure(replace(resolved, batch_size=2)) is None:
        remedy = ", or batchnorm: eval" if resolved.batchnorm == "train" else ""
        raise SpecError(
            f"batch_size: got 1; {spec.backbone} cannot learn from one image of {size} at a time "
            f"with batchnorm: {spec.batchnorm}: {reason}. Allowed: a whole number from 2{remedy}"
        )
    if (
        resolved.batchnorm == "train"
        and rehearsal.failure(replace(resolved, batchnorm="eval")) is None
    ):
        raise SpecError(
            f"batchnorm: got {spec.batchnorm}; {spec.backbone} cannot learn from images of {size} "
            f"with statistics of the batch: {reason}. Allowed: eval"
        )
    raise BackboneError(
        f"{spec.backbone}: cannot be trained on images of {size}: {reason}. Try another "
        "image_size, or freeze all of it with freeze_depth: 1"
    )


class _Rehearsal:
    """Tries updates of one backbone that is cut at one boundary.

    Args: see `rehearse`.

    Attributes:
        resolved: the configuration; no setting is `auto`.
        size_text: size of the inputs, with its unit.
    """

    def __init__(
        self, spec: TrialSpec, backbone: Backbone, task: str, *, num_train: int, num_classes: int
    ) -> None:
        self._backbone = backbone = reading_backbone(spec, backbone)
        self._num_classes = num_classes
        self._task = task_called(task)
        size = resolved_size(spec, backbone.weights)
        self.size_text = modality_called(backbone.weights.modality).size_text(size)
        self._size = size
        traced = backbone.traced(size)
        self._device = cheapest_device(traced.module, traced.inputs)
        self._spec = replace(spec, precision="fp32", interpolation=1.0)
        self._configuration = self._configured(self._device)
        self.resolved = self._configuration.resolve(num_train)

    def failure(self, resolved: TrialSpec) -> str | None:
        """Reason why an update or a prediction fails with these settings; None if both succeed.

        Args:
            resolved: settings to try; they cut the backbone where the attribute `resolved` does.
        """
        reason = self._tried(self._configuration, resolved, self._device)
        if reason is None or self._device.type == "cpu":
            return reason
        # Layers that read values fail on the meta device, which has none, and may be fine on a CPU.
        processor = torch.device("cpu")
        return self._tried(self._configured(processor), resolved, processor)

    def _configured(self, device: torch.device) -> TrialSetup:
        backbone = self._backbone
        if device.type == "meta":
            backbone = backbone.on_meta(self._size)
        return TrialSetup(self._spec, backbone, num_classes=self._num_classes, device=device)

    def _tried(
        self, configuration: TrialSetup, resolved: TrialSpec, device: torch.device
    ) -> str | None:
        """Reason why a copy of the suffix cannot be trained on a device; None if it can be."""
        boundary = configuration.split.boundary
        count = min(int(resolved.batch_size), MOST_IMAGES)
        content, *side = configuration.split.traced.inputs.make(count, device=device)
        activations = (
            content if boundary is None else torch.zeros((count, *boundary.shape), device=device)
        )
        targets = self._task.placeholders(
            count, num_classes=self._num_classes, size=self._size, device=device
        )
        try:
            learners = configuration.learners(
                [Examples(Activations([(activations, *side)]), targets)],
                names=["rehearsal"],
                spec=resolved,
                initial_heads=None,
                memory=Memory(device),
            )
            if isinstance(learners, SuffixLearners):  # a linear head takes batches of any size
                learners.rehearse()
        except TrainableError:
            raise
        except Exception as error:
            return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        return None
