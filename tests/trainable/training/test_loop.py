"""Training that resumes from a checkpoint gives the same bits as uninterrupted training."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.builders.checkpoints import Keeper
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import CheckpointError
from trainable.spec.augmentation import Augmentation
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.checkpoint import Checkpoint
from trainable.training.learner import DivergedError
from trainable.training.loop import Clock, Segment, TrainingLoop
from trainable.training.probe import ProbeMemo
from trainable.training.results import Report
from trainable.training.suffix_learner import SuffixLearner
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

begin = partial(Trial, probes=ProbeMemo())
"""A trial; all of them here share the probes that their heads start from, which takes most time."""

SETTINGS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer": "sgd", "warmup": 0.4, "label_smoothing": 0.1},
    "layer decay": {"layer_decay": 0.6, "freeze_depth": 0.25},
    "batch statistics": {"batchnorm": "train"},
    "biases alone": {"trainable": "bitfit", "freeze_depth": 0.5},
    "heads alone": {"freeze_depth": 1.0, "lr": 0.03},
    "heads alone by sgd": {"freeze_depth": 1.0, "optimizer": "sgd", "head_init": "logistic"},
    "views": {"augment": Augmentation.parse({"ops": ["horizontal_flip"], "views": 2})},
    "dropout": {"backbone": "noisy", "freeze_depth": 0.5, "image_size": 32},
}


@pytest.fixture(scope="module")
def noisy() -> Backbone:
    """A transformer with dropout in every block."""
    torch.manual_seed(0)
    return Backbone(
        load_weights(CustomBackbone(name="noisy", module="tests.trainable.families:vit"))
    )


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
        "interpolation": 1.0,
    }
    return TrialSpec(**{**settings, **changed})


def numbers(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """All numbers of the reports except times."""
    return [{k: v for k, v in asdict(report).items() if k != "elapsed_s"} for report in reports]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_reports_after_any_update_are_those_of_an_undisturbed_trial(
    digit_images: LabelledExamples, strokes: Backbone, noisy: Backbone, settings: dict[str, Any]
) -> None:
    spec = spec_of(interpolation="auto", **settings)
    backbone = noisy if spec.backbone == "noisy" else strokes
    undisturbed = numbers(begin(spec, digit_images, backbone).reports())
    keeper = Keeper()
    watched = begin(spec, digit_images, backbone).reports(after_update=keeper)
    assert numbers(watched) == undisturbed
    # Each fold makes two updates up to report 1 and one up to report 2; heads advance together.
    being_trained = [1, 1, 2] if spec.freeze_depth == 1 else [1, 1, 1, 1, 2, 2]
    for checkpoint, first in zip(keeper.checkpoints(), being_trained, strict=True):
        torch.manual_seed(77)
        resumed = begin(spec, digit_images, backbone).reports(start=checkpoint)
        assert numbers(resumed) == undisturbed[first:]


@pytest.mark.parametrize("freeze_depth", [0.75, 1.0])
def test_reports_from_a_checkpoint_of_the_start_are_those_of_an_undisturbed_trial(
    digit_images: LabelledExamples,
    strokes: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    freeze_depth: float,
) -> None:
    spec = spec_of(freeze_depth=freeze_depth, interpolation="auto")
    courses: list[TrainingLoop] = []
    spans = TrainingLoop.spans

    def watched(self: TrainingLoop, number: int) -> Iterator[Segment]:
        courses.append(self)
        return spans(self, number)

    monkeypatch.setattr(TrainingLoop, "spans", watched)
    reports = begin(spec, digit_images, strokes).reports()
    start = next(reports)
    assert (start.report, start.step, start.train_loss) == (0, 0, None)
    checkpoint = Checkpoint.from_files(*courses[0].state().to_files())
    undisturbed = numbers([start, *reports])
    resumed = begin(spec, digit_images, strokes).reports(start=checkpoint)
    assert numbers(resumed) == undisturbed


@pytest.mark.parametrize("settings", ["adamw", "batch statistics", "heads alone", "dropout"])
def test_a_refit_after_any_update_predicts_as_an_undisturbed_one(
    digit_images: LabelledExamples, strokes: Backbone, noisy: Backbone, settings: str
) -> None:
    spec = spec_of(interpolation=0.5, **SETTINGS[settings])
    backbone = noisy if spec.backbone == "noisy" else strokes
    tested = digit_images.indices(Split.TEST)[:40]
    images = digit_images.at(np.concatenate([digit_images.indices(Split.POOL), tested]))
    keeper = Keeper()
    undisturbed = begin(spec, images, backbone).refit(after_update=keeper)
    assert len(keeper.files) == 3
    for checkpoint in keeper.checkpoints():
        found = begin(spec, images, backbone).refit(start=checkpoint)
        assert np.array_equal(
            found.arrays()["label_probability"], undisturbed.arrays()["label_probability"]
        )
        assert found.scores == undisturbed.scores


def test_a_resumed_trial_gives_the_checkpoints_of_an_undisturbed_one(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    spec = spec_of(steps=4)
    keeper, again = Keeper(), Keeper()
    list(begin(spec, digit_images, strokes).reports(after_update=keeper))
    start = keeper.checkpoints()[2]
    list(begin(spec, digit_images, strokes).reports(start=start, after_update=again))
    assert len(again.files) == 5
    for found, expected in zip(again.files, keeper.files[3:], strict=True):
        assert found[1] == expected[1]


def test_a_checkpoint_is_made_only_when_asked_for(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[None] = []
    init = Checkpoint.__init__
    monkeypatch.setattr(Checkpoint, "__init__", lambda self, *args: made.append(init(self, *args)))
    updates: list[object] = []
    list(begin(spec_of(), digit_images, strokes).reports(after_update=updates.append))
    assert (len(updates), len(made)) == (6, 0)


def test_time_spent_before_the_checkpoint_counts(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    spec = spec_of()
    keeper = Keeper()
    list(begin(spec, digit_images, strokes).reports(after_update=keeper))
    start = keeper.checkpoints()[-1]
    spent = {**start.values["time"], "elapsed_s": 1000.0, "train_s": 300.0, "features_s": 200.0}
    trial = begin(spec, digit_images, strokes)
    (report,) = trial.reports(start=replace(start, values={**start.values, "time": spent}))
    assert report.elapsed_s > 1000
    assert trial.timings["train_s"] > 300
    assert trial.timings["features_s"] > 200
    assert sum(trial.timings.values()) < report.elapsed_s


def test_a_trial_that_diverged_diverges_again_from_its_checkpoint(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    spec = spec_of(lr=1e30, warmup=0.0, steps=6, reports=1)
    keeper = Keeper()
    with pytest.raises(DivergedError, match="by step 6"):
        list(begin(spec, digit_images, strokes).reports(after_update=keeper))
    assert not math.isfinite(keeper.checkpoints()[-1].tensors["learners/fold0/loss"])
    with pytest.raises(DivergedError, match="by step 6"):
        list(begin(spec, digit_images, strokes).reports(start=keeper.checkpoints()[-1]))


def test_a_checkpoint_has_the_trained_tensors_their_moments_and_little_else(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    for settings, moments in (({}, 2), ({"optimizer": "sgd"}, 1), ({"trainable": "bitfit"}, 2)):
        spec = spec_of(freeze_depth=0.0, **settings)
        keeper = Keeper()
        trial = begin(spec, digit_images, strokes)
        list(trial.reports(after_update=keeper))
        text, content = keeper.files[-1]
        learning = 4 * trial.facts().trainable_params
        suffix = strokes.traced(8).module
        buffers = sum(value.nbytes for value in suffix.buffers())
        tensors = 2 * ((1 + moments) * learning + buffers)
        assert tensors <= len(content) < tensors + 80_000  # room for the names of the tensors
        assert len(text) < 3000


# Refusals


@pytest.fixture(scope="module")
def made(digit_images: LabelledExamples, strokes: Backbone) -> Checkpoint:
    """The checkpoint of a trial with two folds, after the second of three updates."""
    keeper = Keeper()
    list(begin(spec_of(), digit_images, strokes).reports(after_update=keeper))
    return keeper.checkpoints()[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 1e-3}, r"^spec\.lr: the checkpoint is of 0\.003; this training has 0\.001; start"),
        ({"freeze_depth": 0.5}, r"spec\.freeze_depth"),
        ({"repeat": 1}, r"spec\.repeat: the checkpoint is of 0; this training has 1"),
        ({"validation": Validation(3)}, r"spec\.validation\.folds: the checkpoint is of 2"),
        ({"label_budget": LabelBudget(4)}, r"spec\.label_budget"),
        (
            {"augment": SETTINGS["views"]["augment"]},
            r"spec\.augment: the checkpoint is of None; this training has {'ops",
        ),
    ],
)
def test_a_checkpoint_of_another_spec_is_refused(
    digit_images: LabelledExamples,
    strokes: Backbone,
    made: Checkpoint,
    settings: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(CheckpointError, match=message):
        next(begin(spec_of(**settings), digit_images, strokes).reports(start=made))


def test_a_checkpoint_of_other_images_labels_or_weights_is_refused(
    digit_images: LabelledExamples, strokes: Backbone, made: Checkpoint
) -> None:
    other = replace(digit_images, labels=(digit_images.labels + 1) % 10)
    fewer = digit_images.at(np.arange(100, 1797))
    for images in (other, fewer):
        with pytest.raises(CheckpointError, match="images: the checkpoint is of"):
            next(begin(spec_of(), images, strokes).reports(start=made))
    untrained = Backbone(load_weights("tiny_untrained"))
    with pytest.raises(CheckpointError, match="weights: the checkpoint is of"):
        next(begin(spec_of(), digit_images, untrained).reports(start=made))


def test_a_checkpoint_of_a_trial_is_refused_by_a_refit(
    digit_images: LabelledExamples, strokes: Backbone, made: Checkpoint
) -> None:
    message = r"learners: the checkpoint is of \['fold0', 'fold1'\]; this training has \['whole'\]"
    with pytest.raises(CheckpointError, match=message):
        begin(spec_of(), digit_images, strokes).refit(start=made)


def changed_values(made: Checkpoint, **values: Any) -> Checkpoint:
    return Checkpoint({**made.values, **values}, made.tensors)


def changed_fold(made: Checkpoint, **values: Any) -> Checkpoint:
    learners = made.values["learners"]
    fold = {**learners["fold0"], **values}
    return changed_values(made, learners={**learners, "fold0": fold})


def without(made: Checkpoint, start: str) -> Checkpoint:
    kept = {name: value for name, value in made.tensors.items() if not name.startswith(start)}
    assert len(kept) < len(made.tensors)
    return Checkpoint(made.values, kept)


def with_tensor(made: Checkpoint, name: str, value: torch.Tensor) -> Checkpoint:
    return Checkpoint(made.values, {**made.tensors, f"learners/fold0/{name}": value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: Checkpoint({}, made.tensors), "about: missing"),
        (lambda made: changed_values(made, about=3), "about: missing"),
        (lambda made: changed_values(made, learners={}), "fold0: missing"),
        (lambda made: changed_values(made, time=None), "time: missing"),
        (lambda made: changed_values(made, time={"elapsed_s": math.nan}), "elapsed_s: .* nan"),
        (lambda made: changed_values(made, time={"elapsed_s": 10**400}), "elapsed_s"),
        (lambda made: changed_values(made, rows=-1), r"rows: the checkpoint has -1; allowed: 0 to"),
        (lambda made: changed_values(made, rows=0.5), r"rows: the checkpoint has 0\.5"),
        (lambda made: changed_fold(made, step=4), "step: the checkpoint has 4; allowed: 0 to 3"),
        (lambda made: changed_fold(made, step=True), "step: the checkpoint has True"),
        (lambda made: changed_fold(made, step=0), "optimizer/.* has .*; this training has none"),
        (lambda made: changed_fold(made, first_loss="0.1"), "first_loss: .* no number"),
        (lambda made: changed_fold(made, each_once=None), "each_once"),
        (lambda made: without(made, "learners/fold0/loss"), r"loss: .* none; .* has \(\) torch"),
        (lambda made: without(made, "learners/fold0/parameters/head.bias"), "head.bias: .* none"),
        (lambda made: without(made, "learners/fold0/optimizer/"), "optimizer/.* none; this"),
        (lambda made: without(made, "learners/fold0/optimizer/exp_avg_sq"), "exp_avg_sq/.* none"),
        (lambda made: without(made, "learners/fold1"), "buffers/.*: the checkpoint has none"),
        (lambda made: with_tensor(made, "loss", torch.zeros(())), "loss: .*float32; .*float64"),
        (
            lambda made: with_tensor(made, "parameters/head.bias", torch.zeros(3)),
            r"head\.bias: the checkpoint has \(3,\) torch\.float32; this training has \(10,\)",
        ),
        (
            lambda made: with_tensor(made, "more", torch.zeros(3)),
            "more: .*; this training has none",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_changed(
    digit_images: LabelledExamples,
    strokes: Backbone,
    made: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Checkpoint], Checkpoint],
    message: str,
) -> None:
    for restoring in (SuffixLearner, Clock):
        monkeypatch.setattr(restoring, "restore", lambda *_: pytest.fail("something was changed"))
    trial = begin(spec_of(), digit_images, strokes)
    with pytest.raises(CheckpointError, match=f"{message}.*start from scratch$"):
        next(trial.reports(start=change(made)))
    assert trial.timings["train_s"] == 0
