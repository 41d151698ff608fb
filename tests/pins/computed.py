"""What is pinned of the fixtures: integers and hashes, worked out by the code as it is now.

A pin says that the same file, images and seed come to the same draws, folds, batches, plan and keys
of the feature store as when it was made. Floats are never pinned: they differ between processors.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from orchestrator.planning.plan import StudyPlan
from orchestrator.planning.preparation import Prepared
from orchestrator.planning.work import Work
from orchestrator.recording import user_attributes
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.projection import load_studies
from orchestrator.running.broker.broker import Broker
from orchestrator.space import SearchSpace, load_space
from orchestrator.space.build_space import build_space
from orchestrator.space.pruners import PRUNERS
from orchestrator.space.samplers import SAMPLERS
from tests.builders.prepared import prepare
from trainable.backbones import Backbone, Preprocessing
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset, validation_parts
from trainable.features.cache import FeatureCache
from trainable.features.cost_model import Speeds
from trainable.features.store import FeatureStore
from trainable.modalities.image.preprocessing import decode
from trainable.modalities.image.views import draw_views
from trainable.spec.augmentation import Augmentation, Op
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.learner import drawn_rows
from trainable.training.trial import Trial

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sweeps-0.2.0"
PINS = FIXTURES / "pins.json"
NAMES = ("finished", "killed", "totals", "views")

Pins = dict[str, Any]

_PACKAGES = frozenset({"torch", "torchvision", "pillow"})
"""Keys whose values are versions of packages."""
_GRAPH = "graph"
"""Key whose value depends on how PyTorch writes down a graph."""
_STEPS = 3
"""Updates whose batches are pinned."""
_MOST_VIEWED = 50
"""Images of a draw whose views are pinned."""
_CREATE_TRIAL = 4
"""Number of Optuna's record."""


@cache
def prepared(name: str) -> Prepared:
    """What the search-space file of a fixture comes to."""
    return prepare(FIXTURES / "spaces" / f"{name}.yaml")


def all_pins() -> Pins:
    """What the file of pins holds."""
    of_backbones: dict[str, str] = {}
    for name in NAMES:
        for backbone, found in graphs(name).items():
            (of_backbones[backbone],) = found
    return {
        "torch": torch_release(),
        "graphs": of_backbones,
        "defaults": defaults(),
        "rare_classes": rare_classes(),
        "fixtures": {name: {pin: of(name) for pin, of in OF_FIXTURE.items()} for name in NAMES},
    }


def defaults() -> dict[str, str]:
    """Hashes of the smallest search space as it is filled in, with each sampler and pruner."""
    smallest: dict[str, object] = {
        "name": "smallest",
        "dataset": {"source": "digits"},
        "search": {"backbone": "tiny_strokes", "label_budget": [2]},
    }
    asked: dict[str, dict[str, object]] = {
        "smallest": {},
        **{f"sampler {name}": {"sampler": {"name": name}} for name in SAMPLERS},
        **{f"pruner {name}": {"pruner": {"name": name}} for name in PRUNERS},
    }
    return {
        name: _hash_text(json.dumps(build_space(smallest | given).to_json(), sort_keys=True))
        for name, given in asked.items()
    }


def rare_classes() -> dict[str, dict[str, Any]]:
    """Draws and validation parts of made-up images, in groups or not, of classes that differ.

    The digits have about as many of each.
    """
    found: dict[str, dict[str, Any]] = {}
    sizes = (60, 25, 9, 6)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for grouped in (False, True):
        images = LabelledExamples.from_bytes(
            (f"image {number}".encode() for number in range(len(labels))),
            labels=labels,
            split=np.full(len(labels), Split.POOL),
            class_names=[f"class {label}" for label in range(len(sizes))],
            paths=[f"{number}.png" for number in range(len(labels))],
            groups=np.arange(len(labels)) // 3 if grouped else None,
        )
        for budget in (LabelBudget(per_class=8), LabelBudget(total=30), LabelBudget()):
            subset = draw_subset(images, budget=budget, repeat=0, seed=0)
            for way in (Validation(folds=3), Validation(folds=None, holdout=0.3)):
                _, folds = validation_parts(images, subset, validation=way)
                kind = f"{budget.study}, {way}{', groups' if grouped else ''}"
                found[kind] = {
                    "draw": _hash(subset),
                    "val": [_hash(fold.val) for fold in folds],
                }
    return found


def _space(name: str) -> str:
    return prepared(name).space.fingerprint()


def _data(name: str) -> str:
    return prepared(name).images.fingerprint()


def _plan(name: str) -> dict[str, Any]:
    """What each study may use and how much it does."""
    plan = prepared(name).plan
    return {
        "most_updates": plan.most_updates,
        "num_test": plan.num_test,
        "baselines": [baseline.trial_id for baseline in plan.baselines],
        "studies": {
            study.name: {
                "labels_used": study.labels_used,
                "folds": study.folds,
                "trials": study.trials,
            }
            for study in plan.studies
        },
    }


def _draws(name: str) -> dict[str, dict[str, str]]:
    """Which images are drawn, in which order, by study and repeat."""
    return {
        study.name: {
            str(repeat): _hash(_draw(name, study, repeat))
            for repeat in range(prepared(name).space.finalists.repeats)
        }
        for study in prepared(name).plan.studies
    }


def _folds(name: str) -> dict[str, list[dict[str, str]]]:
    """Which positions of the first draw train and validate, by study and fold."""
    found = {}
    for study in prepared(name).plan.studies:
        _, folds = validation_parts(
            prepared(name).images,
            _draw(name, study, 0),
            validation=prepared(name).space.validation,
        )
        found[study.name] = [{"train": _hash(f.train), "val": _hash(f.val)} for f in folds]
    return found


def _batches(name: str) -> dict[str, str]:
    """Which examples the first updates of the first trial of each study see, by learner."""
    found = {}
    for study in _begun(name):
        spec = resolved_spec(name, study)
        for learner in ("fold0", "fold1", "whole"):
            rows = [drawn_rows(spec, learner, step, num_examples=100) for step in range(_STEPS)]
            found[f"{study}/{learner}"] = _hash(torch.stack(rows).numpy())
    return found


def _flips(name: str) -> dict[str, str]:
    """Which views of the first draw of each study are mirrored, had the file asked for that."""
    images, found = prepared(name).images, {}
    as_they_are = Preprocessing(image_size=8, resize_size=8)  # no interpolation, no rounding
    for study in prepared(name).plan.studies:
        some = _draw(name, study, 0)[:_MOST_VIEWED]
        views = draw_views(
            images,
            some,
            augmentation=Augmentation((Op("horizontal_flip"),), views=4),
            preprocessing=as_they_are,
            seed=prepared(name).space.seed,
        )
        plain = decode(images, some, as_they_are)[:, None]
        found[study.name] = _hash((views != plain).flatten(2).any(dim=2).long().numpy())
    return found


def _features(name: str) -> dict[str, list[str]]:
    """Keys of what the first trial of each study keeps, without graphs and versions."""
    return {
        study: sorted(
            _hash_text(json.dumps(_without(key, _PACKAGES | {_GRAPH}), sort_keys=True))
            for key in feature_keys(name, study)
        )
        for study in _begun(name)
    }


OF_FIXTURE: Mapping[str, Callable[[str], Any]] = {
    "space": _space,
    "data": _data,
    "plan": _plan,
    "draws": _draws,
    "folds": _folds,
    "batches": _batches,
    "flips": _flips,
    "features": _features,
}
"""How each pin of a fixture is worked out."""


def _begun(name: str) -> list[str]:
    """Studies of a fixture with a trial."""
    return [key for key, study in load_studies(FIXTURES / name).items() if study.get_trials()]


def resolved_spec(name: str, study: str) -> TrialSpec:
    """The spec of the first trial of a study, without any `auto`, as the journal has it."""
    first = load_studies(FIXTURES / name)[study].get_trials()[0]
    return TrialSpec.from_json(first.user_attrs[user_attributes.FACTS]["spec"])


@cache
def feature_keys(name: str, study: str) -> list[dict[str, Any]]:
    """Keys under which the first trial of a study keeps rows.

    Raises:
        AssertionError: a collection's folder is not named after its key.
    """
    spec = replace(resolved_spec(name, study), steps=1, reports=1)
    with tempfile.TemporaryDirectory() as folder, _without_timm():
        # The graph's hash is worked out once for a network: this one is built here.
        backbone = Backbone(prepared(name).weights[spec.backbone])
        kept = FeatureCache(
            store=FeatureStore(Path(folder)),
            mode=CacheMode.ALWAYS,
            speeds=Speeds(flops=1e9, values=1e30, read_bytes=1e9, write_bytes=1e9),
            num_images=len(prepared(name).images.labels),
        )
        trial = Trial(spec, prepared(name).images, backbone, device=torch.device("cpu"), cache=kept)
        list(trial.reports())
        texts = {path.parent.name: path.read_text() for path in Path(folder).rglob("about.json")}
    assert all(key == _hash_text(text)[:32] for key, text in texts.items()), texts
    return [json.loads(text) for text in texts.values()]


def graphs(name: str) -> dict[str, set[str]]:
    """Hashes of the graphs in the keys of a fixture, by backbone."""
    found: dict[str, set[str]] = {}
    for study in _begun(name):
        for key in feature_keys(name, study):
            if _GRAPH in key:
                found.setdefault(key["backbone"], set()).add(key[_GRAPH])
    return found


def torch_release() -> str:
    """The version of PyTorch, without what it was built for."""
    return torch.__version__.partition("+")[0]


@contextmanager
def _without_timm() -> Iterator[None]:
    """As in a process that has not loaded timm, whose version is a part of a graph's hash."""
    loaded = sys.modules.pop("timm", None)
    try:
        yield
    finally:
        if loaded is not None:
            sys.modules["timm"] = loaded


def asked_again(name: str, folder: Path) -> Iterator[tuple[Work, dict[str, Any], dict[str, Any]]]:
    """Every ask of a fixture made again, from the journal as it was just before.

    Args:
        name: of the fixture, whose trials ran one at a time.
        folder: for the cut journals.

    Yields:
        The work that is handed out, its parameters, and those that the journal has.
    """
    lines = (FIXTURES / name / "journal.log").read_bytes().splitlines(keepends=True)
    recorded = {
        user_attributes.trial_id(study, trial.number): trial.user_attrs[user_attributes.PLAN][
            "params"
        ]
        for study, found in load_studies(FIXTURES / name).items()
        for trial in found.get_trials()
    }
    for number, line in enumerate(lines):
        if json.loads(line)["op_code"] != _CREATE_TRIAL:
            continue
        path = folder / f"{name}-{number}.log"
        path.write_bytes(b"".join(lines[:number]))
        journal = SweepJournal(path)
        try:
            ready = prepared(name)
            broker = Broker(ready.space, ready.plan, ready.images, journal, slots=1)
            work = broker.next_work()
            assert isinstance(work, Work), f"{name}, line {number + 1}: {work}"
            (trial,) = (
                one
                for one in broker.studies[work.study].get_trials()
                if user_attributes.trial_id(work.study, one.number) == work.trial_id
            )
            yield work, trial.user_attrs[user_attributes.PLAN]["params"], recorded[work.trial_id]
        finally:
            journal.close()


def space_of_sweep(name: str) -> SearchSpace:
    """The space as the sweep has written it down, every default filled in."""
    return load_space(FIXTURES / name / "space.yaml")


def _draw(name: str, study: StudyPlan, repeat: int) -> npt.NDArray[np.int64]:
    ready = prepared(name)
    return draw_subset(ready.images, budget=study.budget, repeat=repeat, seed=ready.space.seed)


def _without(key: Any, left_out: frozenset[str]) -> Any:
    """JSON values without some keys, however deep."""
    if isinstance(key, dict):
        return {k: _without(value, left_out) for k, value in key.items() if k not in left_out}
    return key


def _hash(indices: npt.NDArray[np.int64]) -> str:
    """Of integers in their order, whatever the machine's byte order."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
