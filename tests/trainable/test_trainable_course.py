"""Going on from a checkpoint: as if nothing had happened, to the bit."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch

from trainable.augmentation import Augmentation
from trainable.backbones import Backbone
from trainable.checkpoint import Checkpoint
from trainable.finetune import Trial
from trainable.images import LabelledImages
from trainable.results import Report
from trainable.spec import LabelBudget, TrialSpec, Validation

pytestmark = pytest.mark.usefixtures("one_thread")

Files = tuple[str, bytes]

KNOBS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd with all that moves": {"optimizer": "sgd", "warmup": 0.4, "label_smoothing": 0.1},
    "layer decay": {"layer_decay": 0.6, "freeze_depth": 0.25},
    "batch statistics": {"batchnorm": "train"},
    "biases alone": {"trainable": "bitfit", "freeze_depth": 0.5},
    "heads alone": {"freeze_depth": 1.0, "lr": 0.03},
    "heads alone by sgd": {"freeze_depth": 1.0, "optimizer": "sgd", "head_init": "logistic"},
    "views": {"augment": Augmentation.parse({"ops": ["horizontal_flip"], "views": 2})},
}


def spec_of(**changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": "tiny_strokes",
        "lr": 3e-3,
        "label_budget": LabelBudget(3),
        "freeze_depth": 0.75,
        "validation": Validation(2),
        "steps": 3,
        "reports": 2,
        "batch_size": 16,
    }
    return TrialSpec(**{**settings, **changed})


def numbers(report: Report) -> dict[str, Any]:
    return {key: value for key, value in asdict(report).items() if key != "elapsed_s"}


def kept(files: list[Files]) -> Callable[[Callable[[], Checkpoint]], None]:
    """Takes every state."""
    return lambda state: files.append(state().to_files())


@pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS)
def test_reports_after_any_update_are_those_of_an_undisturbed_trial(
    digit_images: LabelledImages, strokes: Backbone, knobs: dict[str, Any]
) -> None:
    spec = spec_of(**knobs)
    undisturbed = [numbers(report) for report in Trial(spec, digit_images, strokes).reports()]
    files: list[Files] = []
    watched = [
        numbers(report)
        for report in Trial(spec, digit_images, strokes).reports(after_update=kept(files))
    ]
    assert watched == undisturbed
    assert len(files) == (3 if spec.freeze_depth == 1 else 6)
    reported = [0, 0, 1] if spec.freeze_depth == 1 else [0, 0, 0, 0, 1, 1]
    for text_and_content, first in zip(files, reported, strict=True):
        torch.manual_seed(77)
        trial = Trial(spec, digit_images, strokes)
        rest = trial.reports(start=Checkpoint.from_files(*text_and_content))
        assert [numbers(report) for report in rest] == undisturbed[first:]
