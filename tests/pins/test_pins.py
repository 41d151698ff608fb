"""Results of today that later versions have to come to again; see CONTRIBUTING.md on pins."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from orchestrator.datasets import checks
from orchestrator.planning import objective
from orchestrator.recording import user_attributes
from orchestrator.recording.leaderboard import build_leaderboard
from orchestrator.recording.projection import load_studies, rebuild
from orchestrator.recording.statistics import intervals
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.table_schemas import KEYS
from orchestrator.recording.tables import read_table
from orchestrator.running.broker import sampler_kinds
from orchestrator.running.worker.checkpoints import CheckpointFolder
from orchestrator.space import dataset_sources
from tests.pins import computed
from tests.pins.computed import FIXTURES, NAMES, OF_FIXTURE, PINS
from trainable.backbones import Backbone
from trainable.features import reader as features
from trainable.modalities.image import inputs
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks.classification import scores
from trainable.training import baseline_features, optimizers, probe, recipe
from trainable.training.checkpoint import Checkpoint
from trainable.training.trial import Trial

ENDED = ("finished", "totals", "views")
RECORDED = ("trials", "curves", "finals", "predictions")
"""Tables that hold what was recorded; the leaderboard is worked out from them."""
ROUNDING = 1e-9
"""Relative; what processors make of the last digits of the same computation."""

Row = dict[str, Any]

pins: dict[str, Any] = json.loads(PINS.read_text(encoding="utf-8"))


def committed(name: str, table: str) -> list[Row]:
    """The rows of a fixture, without this version's reader, and without the version they are of."""
    rows: list[Row] = pq.read_table(FIXTURES / name / f"{table}.parquet").to_pylist()
    return [without_version(row) for row in rows]


def without_version(row: Row) -> Row:
    return {column: value for column, value in row.items() if column != "schema_version"}


def made_again(name: str, table: str, folder: Path) -> list[Row]:
    """The rows of a fixture from its journal alone, in the columns that the fixture has."""
    path = folder / name
    path.mkdir()
    for file in ("journal.log", "manifest.json"):
        shutil.copy(FIXTURES / name / file, path)
    rebuild(path, Run(path).sweep_id)
    columns = pq.read_schema(FIXTURES / name / f"{table}.parquet").names
    rows: list[Row] = read_table(path, table).select(columns).to_pylist()
    return [without_version(row) for row in rows]


def by_key(table: str, rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    return {tuple(row[column] for column in KEYS[table]): row for row in rows}


def nearly_equal(found: object, expected: object) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return found == expected


def floats_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [found for inner in value.values() for found in floats_in(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in floats_in(inner)]
    return [value] if isinstance(value, float) else []


def test_every_fixture_has_every_pin_and_none_is_a_float() -> None:
    assert {path.name for path in FIXTURES.iterdir() if path.is_dir()} == {*NAMES, "spaces"}
    assert pins["fixtures"].keys() == set(NAMES)
    assert all(found.keys() == OF_FIXTURE.keys() for found in pins["fixtures"].values())
    assert floats_in(pins) == []


def test_fixtures_were_made_by_0_2_0_on_a_machine_without_a_name() -> None:
    for name in NAMES:
        manifest = json.loads((FIXTURES / name / "manifest.json").read_text())
        assert (manifest["tool_version"], manifest["hosts"]) == ("0.2.0", ["host"])
        assert {row["host"] for row in committed(name, "trials")} == {"host"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pin", OF_FIXTURE)
def test_pin_holds(pin: str, name: str) -> None:
    assert OF_FIXTURE[pin](name) == pins["fixtures"][name][pin]


def test_defaults_of_a_search_space_are_the_pinned_ones() -> None:
    assert computed.defaults() == pins["defaults"]


def test_what_no_search_space_can_say_is_decided_as_before() -> None:
    assert {
        "confidence": intervals.CONFIDENCE,
        "most skew": objective.MOST_SKEW,
        "settled trials before TPE models them": sampler_kinds.TPE_STARTUP_TRIALS,
        "share of the images that tests": dataset_sources.DEFAULT_TEST_SHARE,
        "most leaked": checks.MAX_LEAKED_FRACTION,
        "penalties of a baseline": probe.INVERSE_PENALTIES,
        "most pixels of a baseline": baseline_features.MAX_PIXELS,
        "images per pass": (inputs.BATCH, features.GPU_BATCH),
        "largest gradient": recipe.CLIP_NORM,
        "momentum of sgd": optimizers.SGD_MOMENTUM,
        "images for batch statistics": recipe.BATCHNORM_TRAIN_FROM,
        "bins of a calibration error": scores.ECE_BINS,
    } == {
        "confidence": 0.95,
        "most skew": 1.5,
        "settled trials before TPE models them": 10,
        "share of the images that tests": 0.2,
        "most leaked": 0.01,
        "penalties of a baseline": (0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        "most pixels of a baseline": 32,
        "images per pass": (16, 256),
        "largest gradient": 1.0,
        "momentum of sgd": 0.9,
        "images for batch statistics": 5000,
        "bins of a calibration error": 15,
    }


def test_draws_and_parts_of_rare_classes_and_groups_are_the_pinned_ones() -> None:
    assert computed.rare_classes() == pins["rare_classes"]


@pytest.mark.parametrize("name", NAMES)
def test_space_of_a_sweep_means_what_its_file_does(name: str) -> None:
    manifest = json.loads((FIXTURES / name / "manifest.json").read_text())
    assert computed.space_of_sweep(name).fingerprint() == pins["fixtures"][name]["space"]
    assert manifest["space_hash"] == pins["fixtures"][name]["space"]
    assert manifest["space"] == computed.prepared(name).space.meaning()


@pytest.mark.parametrize("name", NAMES)
def test_images_and_weights_are_those_of_the_sweep(name: str) -> None:
    manifest = json.loads((FIXTURES / name / "manifest.json").read_text())
    ready = computed.prepared(name)
    assert manifest["dataset_fingerprint"] == ready.images.fingerprint()
    assert manifest["weights"] == {key: one.digest for key, one in ready.weights.items()}


@pytest.mark.parametrize("name", NAMES)
def test_graphs_of_backbones_have_the_same_hash(name: str) -> None:
    if computed.torch_release() != pins["torch"]:
        pytest.skip(f"how graphs are written down is PyTorch's: pinned with {pins['torch']}")
    for backbone, found in computed.graphs(name).items():
        assert found == {pins["graphs"][backbone]}


@pytest.mark.parametrize("name", NAMES)
def test_asks_made_again_give_the_recorded_parameters(name: str, tmp_path: Path) -> None:
    asked = list(computed.asked_again(name, tmp_path))
    expected = [
        user_attributes.trial_id(study, trial.number)
        for study, found in load_studies(FIXTURES / name).items()
        for trial in found.get_trials()
    ]
    assert [work.trial_id for work, _, _ in asked] == expected
    for work, found, recorded in asked:
        assert found.keys() == recorded.keys(), work.trial_id
        for parameter, value in recorded.items():
            assert nearly_equal(found[parameter], value), (work.trial_id, parameter, found)


@pytest.mark.parametrize("name", ENDED)
@pytest.mark.parametrize("table", RECORDED)
def test_tables_made_again_from_the_journal_are_the_committed_ones(
    table: str, name: str, tmp_path: Path
) -> None:
    assert made_again(name, table, tmp_path) == committed(name, table)


@pytest.mark.parametrize("table", RECORDED)
def test_tables_of_a_killed_sweep_are_a_part_of_those_made_again(
    table: str, tmp_path: Path
) -> None:
    expected = by_key(table, committed("killed", table))
    found = by_key(table, made_again("killed", table, tmp_path))
    assert expected
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize("name", ENDED)
def test_leaderboard_made_again_from_the_tables_is_the_committed_one(name: str) -> None:
    tables = [read_table(FIXTURES / name, table) for table in ("trials", "finals", "predictions")]
    found, expected = build_leaderboard(*tables), committed(name, "leaderboard")
    assert [row["trial_id"] for row in found] == [row["trial_id"] for row in expected]
    for row, known in zip(found, expected, strict=True):
        for column, value in known.items():
            assert nearly_equal(row[column], value), (row["trial_id"], column, row[column], value)


def test_checkpoint_of_a_killed_trial_is_gone_on_from() -> None:
    (file,) = (FIXTURES / "killed" / "checkpoints").iterdir()
    study, _, number = file.stem.rpartition("-")
    frozen = load_studies(FIXTURES / "killed")[study].get_trials()[int(number)]
    saved = CheckpointFolder(file.parent).load(file.stem)
    assert saved is not None
    start = Checkpoint.from_files(saved.values, saved.tensors)
    start.values["about"]["torch"] = torch.__version__  # whose change is no change of this program
    ready = computed.prepared("killed")
    spec = TrialSpec.from_json(frozen.user_attrs[user_attributes.PLAN]["spec"])
    trial = Trial(
        spec,
        ready.images,
        Backbone(ready.weights[spec.backbone]),
        device=torch.device("cpu"),
    )
    first = next(trial.reports(start=start))
    assert first.report in {len(frozen.intermediate_values) - 1, len(frozen.intermediate_values)}
