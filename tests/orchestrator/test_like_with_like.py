"""What reaches a trial of the head alone and the probe beside it is the same to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from orchestrator.datasets.sections import DigitsSection
from orchestrator.planning.plan import Baseline, baselines_of, make_plan, probe_beside
from orchestrator.planning.work import Kind, Work
from orchestrator.recording import user_attributes
from orchestrator.running.worker.worker import perform
from orchestrator.space import SearchSpace, parse_space
from tests.builders.class_examples import labels_of
from tests.builders.prepared import load_images
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.features.cache import open_cache
from trainable.features.store import FOLDER_VARIABLE
from trainable.spec.trial_spec import CacheMode, TrialSpec
from trainable.training import probe
from trainable.training.head_learner import HeadLearners
from trainable.training.logistic import LinearClassifier, fit_path
from trainable.training.setup import TrialSetup

pytestmark = pytest.mark.usefixtures("one_thread", "few_penalties")

REPEATS = 2
VIEWS = {"ops": ["horizontal_flip", {"rotation": {"degrees": 20}}], "views": 2}


@cache
def images() -> LabelledExamples:
    """The digits, some of which are a validation split of their own, and few for the test."""
    found = load_images(DigitsSection(), seed=0)
    split = found.split.copy()
    split[found.indices(Split.POOL)[::7]] = Split.VAL
    keep = np.flatnonzero((split != Split.TEST) | (np.cumsum(split == Split.TEST) <= 60))
    return LabelledExamples.from_bytes(
        (found.encoded(int(index)) for index in keep),
        labels=found.labels[keep],
        split=split[keep],
        class_names=found.class_names,
        paths=[found.paths[index] for index in keep],
    )


@cache
def backbone(name: str) -> Backbone:
    return Backbone(load_weights(name))


def space_of(search: dict[str, Any] | None = None, **top: Any) -> SearchSpace:
    axes = {"backbone": "tiny_strokes", "freeze_depth": 1.0, "label_budget": [4]}
    values = {
        "dataset": {"source": "digits"},
        "search": axes | (search or {}),
        "finalists": {"count": 1, "repeats": REPEATS},
        "objective": {"metric": "accuracy"},
    }
    training = {"steps": 2, "reports": 1, "interpolation": 1.0} | top.pop("training", {})
    return parse_space(yaml.safe_dump(values | {"training": training} | top), where="pets.yaml")


@dataclass
class Seen:
    """(features, labels) that heads learn from and probes are fitted to, and what both predict."""

    learnt: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    fitted: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    by_heads: list[Tensor] = field(default_factory=list)
    by_probe: list[Tensor] = field(default_factory=list)


@contextmanager
def watching() -> Iterator[Seen]:
    """What heads and probes are given within the block."""
    seen = Seen()
    learners, path = TrialSetup.learners, fit_path
    by_heads, by_probe = HeadLearners.outcomes, LinearClassifier.logits

    def watched_learners(self: TrialSetup, parts: Any, **given: Any) -> Any:
        seen.learnt += [(part.activations.dense, labels_of(part)) for part in parts]
        return learners(self, parts, **given)

    def watched_path(features: Tensor, labels: Tensor, **given: Any) -> Any:
        seen.fitted.append((features, labels))
        return path(features, labels, **given)

    def watched_heads(self: HeadLearners, parts: Any, **given: Any) -> Any:
        seen.by_heads += [part.activations.dense for part in parts]
        return by_heads(self, parts, **given)

    def watched_probe(self: LinearClassifier, features: Tensor) -> Tensor:
        seen.by_probe.append(features)
        return by_probe(self, features)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialSetup, "learners", watched_learners)
        patch.setattr(probe, "fit_path", watched_path)
        patch.setattr(HeadLearners, "outcomes", watched_heads)
        patch.setattr(LinearClassifier, "logits", watched_probe)
        yield seen


def cached_rows(kind: Kind, task: dict[str, Any]) -> tuple[int, int]:
    """Prefix rows that a piece of work found in the cache, and those it had to compute."""
    work = Work(kind=kind, study="b4", trial_id="b4-0000", task=task)
    keep = open_cache(CacheMode.ALWAYS, num_images=len(images()))
    *_, last = perform(work, images=images, backbone=backbone, cache=lambda: keep)
    return last.run["cache_hits"], last.run["cache_misses"]


def given_to(kind: Kind, task: dict[str, Any]) -> Seen:
    """What reaches the classifiers of a piece of work; one that is the same is done once."""
    return _given_to(kind, json.dumps(task, sort_keys=True))


@cache
def _given_to(kind: Kind, task: str) -> Seen:
    work = Work(kind=kind, study="b4", trial_id="b4-0000", task=json.loads(task))
    with watching() as seen:
        *_, last = perform(work, images=images, backbone=backbone)
    assert last.failure is None
    return seen


def trials_of(space: SearchSpace) -> list[TrialSpec]:
    return [space.spec(params, space.label_budgets[0]) for params in space.grid()]


def task_of(baseline: Baseline, space: SearchSpace) -> dict[str, Any]:
    (plan,) = make_plan(space, images(), where="pets.yaml").studies
    return user_attributes.baseline_task(baseline, plan, space)


def equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def same_rows(some: list[tuple[Tensor, Tensor]], others: list[tuple[Tensor, Tensor]]) -> bool:
    return len(some) == len(others) and all(
        equal(one[0], other[0]) and equal(one[1], other[1])
        for one, other in zip(some, others, strict=True)
    )


SPACES: dict[str, Callable[[], SearchSpace]] = {
    "the weights' own size": space_of,
    "size and precision fixed": lambda: space_of(training={"image_size": 16, "precision": "bf16"}),
    "an axis of sizes": lambda: space_of({"image_size": [8, 12]}),
    "an axis of one size": lambda: space_of({"image_size": 12}),
    "an axis of precisions": lambda: space_of({"precision": ["fp32", "bf16"]}),
    "both": lambda: space_of({"image_size": ["auto", 12], "precision": ["auto", "bf16"]}),
    "backbones of different sizes": lambda: space_of(
        {
            "backbone": ["tiny_strokes", "tiny_fractals"],
            "image_size": {"when": {"backbone": "*_fractals"}, "value": 12},
        }
    ),
    "a holdout": lambda: space_of(validation={"holdout": 0.5}),
    "validation outside": lambda: space_of(validation={"split": "val", "outside_budget": True}),
    "a total": lambda: space_of({"label_budget": [{"total": 35}]}),
    "another seed": lambda: space_of(seed=7),
    "augmentation": lambda: space_of(augment=VIEWS),
    "augmentation at another size": lambda: space_of({"image_size": [12]}, augment=VIEWS),
    "another objective": lambda: space_of(objective={"metric": "log_loss"}),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_probe_is_given_what_the_head_of_the_trial_beside_it_is_given(
    name: str, few_penalties: tuple[float, ...]
) -> None:
    space = SPACES[name]()
    planned = baselines_of(space, space.label_budgets[0].study)
    trials = trials_of(space)
    assert len(trials) == sum(baseline.method == "probe" for baseline in planned)
    for spec in trials:
        beside = probe_beside(space, space.label_budgets[0].study, spec)
        assert beside is not None
        assert beside in planned
        baseline = given_to(Kind.BASELINE, task_of(beside, space))
        trial = given_to(Kind.TRIAL, spec.to_json())
        folds = len(trial.learnt)
        # The heads start from the probe of the first draw, fitted to its folds and to all of it.
        assert same_rows(trial.fitted, baseline.fitted[: folds + 1])
        assert len(baseline.fitted) == REPEATS * (folds + 1)
        # They learn from what it was fitted to, but for views, and are validated on the same rows.
        plain = given_to(Kind.TRIAL, replace(spec, augment=None).to_json())
        assert same_rows(plain.learnt, baseline.fitted[:folds])
        for rows, _ in plain.learnt:
            assert len(np.unique(rows, axis=0)) == len(rows)  # equal rows are equal images
        assert len(trial.by_heads) == 2 * folds  # at the start, and at the one report after it
        held_out = baseline.by_probe[: folds * len(few_penalties)]
        for number, rows in enumerate(held_out):
            assert equal(rows, trial.by_heads[number % folds])
            assert equal(rows, trial.by_heads[folds + number % folds])
        # Whole draws, and the test images.
        tested = baseline.by_probe[-REPEATS:]
        for repeat in range(REPEATS):
            final = given_to(Kind.FINAL, replace(spec, repeat=repeat).to_json())
            fitted = baseline.fitted[repeat * (folds + 1) :][: folds + 1]
            assert same_rows(final.fitted, fitted)
            task = replace(spec, repeat=repeat, augment=None).to_json()
            assert same_rows(given_to(Kind.FINAL, task).learnt, fitted[-1:])
            assert equal(tested[repeat], torch.cat(final.by_heads))


def test_with_augmentation_a_trial_trains_on_views_and_nothing_else_differs() -> None:
    (spec,) = trials_of(space_of(augment=VIEWS))
    with_views = given_to(Kind.TRIAL, spec.to_json())
    plain = given_to(Kind.TRIAL, replace(spec, augment=None).to_json())
    for (views, _), (rows, _) in zip(with_views.learnt, plain.learnt, strict=True):
        assert len(views) == 2 * len(rows)
    assert same_rows(with_views.fitted, plain.fitted)
    assert all(map(equal, with_views.by_heads, plain.by_heads))


@pytest.mark.parametrize("change", [{"image_size": 12}, {"precision": "bf16"}])
def test_another_size_or_precision_gives_other_rows(change: dict[str, Any]) -> None:
    space = space_of()
    (baseline,) = (b for b in baselines_of(space, "b4") if b.method == "probe")
    task = task_of(baseline, space)
    own, other = given_to(Kind.BASELINE, task), given_to(Kind.BASELINE, task | change)
    assert own.fitted[0][0].shape == other.fitted[0][0].shape
    assert not torch.equal(own.fitted[0][0], other.fitted[0][0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trial_finds_the_rows_that_the_probe_beside_it_has_kept(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    space = space_of({"image_size": 12}, training={"precision": precision})
    (spec,) = trials_of(space)
    (baseline,) = (b for b in baselines_of(space, "b4") if b.method == "probe")
    hits, misses = cached_rows(Kind.BASELINE, task_of(baseline, space))
    assert (hits, misses > 0) == (0, True)
    for kind in (Kind.TRIAL, Kind.FINAL):
        hits, misses = cached_rows(kind, spec.to_json())
        assert (hits > 0, misses) == (True, 0)
