"""Rows of a journal that a fake worker filled: the same whichever way they were made."""

import json
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from orchestrator.errors import UsageError
from orchestrator.planning.plan import make_plan
from orchestrator.planning.work import Event, Failure, Kind, Loss, Work
from orchestrator.recording import table_rows, user_attributes
from orchestrator.recording.array_text import to_text
from orchestrator.recording.journal import SweepJournal
from orchestrator.recording.projection import Projection, load_studies, rebuild
from orchestrator.recording.table_schemas import KEYS, SCHEMAS
from orchestrator.recording.tables import read_table, write_table
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.space import parse_space
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.metrics import Metric

REPORTS, NUM_TEST, REPEATS = 3, 6, 2
SPACE = parse_space(
    yaml.safe_dump(
        {
            "dataset": {"source": "digits"},
            "search": {
                "backbone": ["tiny_strokes", "tiny_untrained"],
                "freeze_depth": [0.0, 0.5, 1.0],
                "lr": {"low": 1e-4, "high": 1e-1, "log": True},
                "label_budget": [{"total": 7}, 2],
            },
            "training": {"steps": 30, "reports": REPORTS},
            "trials": 8,
            "sampler": {"name": "random"},
            "pruner": {"name": "median", "n_startup_trials": 2},
            "finalists": {"count": 2, "repeats": REPEATS},
            "baselines": ["pixels", "probe"],
            "objective": {"metric": "balanced_accuracy"},
            "seed": 5,
        }
    ),
    where="pets.yaml",
)
IMAGES = LabelledExamples.from_bytes(
    (f"image {number}".encode() for number in range(24)),
    labels=[number % 3 for number in range(24)],
    split=[Split.POOL] * 18 + [Split.TEST] * NUM_TEST,
    class_names=["ant", "bee", "cat"],
    paths=[f"{number}.png" for number in range(24)],
)
NONFINITE, RAISED, LOST = "b2-0002", "b2-0003", "b2-0004"


@dataclass
class Sent:
    """What the fake worker sent: the reports of each trial, and the test results of each work."""

    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    tests: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)


def _run(number: int = 0) -> dict[str, Any]:
    return {
        "duration_s": 1.5 + number,
        "setup_s": 0.25,
        "features_s": 0.5,
        "train_s": 0.75,
        "cache_hits": 30,
        "cache_misses": 10,
        "micro_batches": 1,
        "lr_factor": 0.5,
        "prefix_flops_asked": 4e9,
        "prefix_flops_computed": 1e9,
        "cache_warning": None if number else "full",
        "peak_memory_bytes": 2**30,
        "device": "cpu",
        "host": "node-1",
        "started_at": "2026-01-31T12:00:00+00:00",
        "finished_at": "2026-01-31T13:00:01.500000+01:00",
    }


def _test_result(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "scores": {
            "accuracy": float(random.random()),
            "balanced_accuracy": 0.5,
            "log_loss": 1.25,
            "ece": 0.125,
            "count": NUM_TEST,
        },
        "predicted": random.integers(0, 3, NUM_TEST).astype(np.int32),
        "probability": random.random(NUM_TEST).astype(np.float32),
        "label_probability": random.random(NUM_TEST).astype(np.float32),
    }


def _as_text(result: dict[str, Any]) -> dict[str, Any]:
    return {
        key: to_text(value) if isinstance(value, np.ndarray) else value
        for key, value in result.items()
    }


def _do(broker: Broker, work: Work, sent: Sent) -> None:
    number = sum(work.work_id.encode())
    if work.kind is Kind.TRIAL:
        _do_trial(broker, work, sent)
        return
    if work.kind is Kind.FINAL:
        test = sent.tests[work.trial_id, work.repeat] = _test_result(number)
        result = _as_text(test)
    elif work.trial_id == "b2-probe-tiny_untrained":
        broker.observe(work.work_id, Event(run=_run(), failure="DataError: odd", done=True))
        broker.settle(work.work_id)
        return
    else:
        tests = [_test_result(number + repeat) for repeat in range(REPEATS)]
        sent.tests |= {(work.trial_id, repeat): test for repeat, test in enumerate(tests)}
        scores = {"accuracy": 0.5, "balanced_accuracy": 0.25, "log_loss": 2.0}
        result = {
            "weights": work.task["backbone"] and "zoo",
            "inverse_penalty": 0.1,
            "inverse_penalties": [0.1, 1.0],
            "num_features": 9,
            "image_size": 28,
            "precision": "bf16",
            "num_classes": 3,
            "labels_used": 6,
            "folds": 2,
            "validation": scores | {"ece": 0.1, "count": 6},
            "tests": [_as_text(test) for test in tests],
        }
    broker.observe(work.work_id, Event(run=_run(), result=result, done=True))
    broker.settle(work.work_id)


def _do_trial(broker: Broker, work: Work, sent: Sent) -> None:
    facts: dict[str, Any] | None = {
        "spec": work.task | {"batch_size": 16, "image_size": 8},
        "weights": "zoo",
        "boundary": "layer1",
        "frozen_boundaries": 2,
        "num_boundaries": 4,
        "prefix_params_fraction": 0.5,
        "prefix_flops_fraction": 0.25,
        "trainable_params": 10,
        "total_params": 20,
        "folds": 2,
        "num_val": 6,
    }
    if work.trial_id == LOST:
        broker.retry(work.work_id, reason="its process died")
        broker.settle(work.work_id, loss=Loss(failure=Failure.WORKER_LOST))
        return
    level = np.random.default_rng(list(work.trial_id.encode())).random()
    reports = sent.reports[work.trial_id] = []
    for number in range(REPORTS):
        if work.trial_id in {NONFINITE, RAISED} and number == 1:
            failure = Failure.NONFINITE if work.trial_id == NONFINITE else "ValueError: odd"
            broker.observe(work.work_id, Event(run=_run(1), failure=failure, done=True))
            break
        report = {
            "report": number,
            "step": 10 * number,
            "train_loss": 1.0 - number / 10 if number else None,
            "val_loss": 2.0 - number / 10,
            "val_accuracy": level + number / 100,
            "val_balanced_accuracy": level,
            "val_objective": level + number / 100,
            "elapsed_s": float(number),
        }
        reports.append(report)
        event = Event(run=_run(number), report=report, facts=facts, done=number == REPORTS - 1)
        facts = None
        if broker.observe(work.work_id, event):
            break
    broker.settle(work.work_id)


@dataclass(frozen=True)
class Swept:
    """A finished sweep of the fake worker."""

    path: Path
    sent: Sent
    rows: dict[str, list[dict[str, Any]]]

    def row(self, trial_id: str) -> dict[str, Any]:
        """The row of `trials`."""
        return next(row for row in self.rows["trials"] if row["trial_id"] == trial_id)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Tables are written after every piece of work, as if each took longer than the interval."""
    path = tmp_path_factory.mktemp("pets-1")
    sent = Sent()
    plan = make_plan(SPACE, IMAGES, where="pets.yaml")
    with closing(SweepJournal(path / "journal.log")) as journal:
        broker = Broker(SPACE, plan, IMAGES, journal, slots=1)
        projection = Projection("pets-1", broker.studies)
        projection.write(path)
        while isinstance(work := broker.next_work(), Work):
            _do(broker, work, sent)
            projection.write(path)
        assert work == DONE
    return Swept(path, sent, {name: read_table(path, name).to_pylist() for name in SCHEMAS})


def _optuna_studies(swept: Swept) -> dict[str, optuna.Study]:
    storage = JournalStorage(JournalFileBackend(str(swept.path / "journal.log")))
    return {name: optuna.load_study(study_name=name, storage=storage) for name in ("b2", "t7")}


@pytest.mark.parametrize("table", SCHEMAS)
def test_keys_are_unique(swept: Swept, table: str) -> None:
    keys = [tuple(row[column] for column in KEYS[table]) for row in swept.rows[table]]
    assert keys
    assert len(keys) == len(set(keys))


def test_tables_kept_up_to_date_equal_those_rebuilt_from_the_journal(
    swept: Swept, tmp_path: Path
) -> None:
    (tmp_path / "journal.log").write_bytes((swept.path / "journal.log").read_bytes())
    write_table(tmp_path, "trials", [{"sweep_id": "stale", "trial_id": "b2-0000"}])
    rebuild(tmp_path, "pets-1")
    for table in SCHEMAS:
        assert read_table(tmp_path, table).equals(read_table(swept.path, table)), table


def test_rebuilding_needs_a_journal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no sweep here \(journal\.log is missing\)"):
        rebuild(tmp_path, "pets-1")


def test_every_settled_trial_agrees_with_the_study_that_optuna_loads(swept: Swept) -> None:
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    seen = set()
    for study, loaded in _optuna_studies(swept).items():
        for trial in loaded.get_trials():
            row = swept.row(f"{study}-{trial.number:04d}")
            assert row["study"] == study
            assert row["state"] == names[trial.state.name]
            assert row["reports"] == len(trial.intermediate_values)
            if row["state"] != "failed":
                assert row["val_objective"] == trial.value
            assert json.loads(row["params"]).items() >= trial.params.items()
            seen.add(row["state"])
    assert seen == {"complete", "pruned", "failed"}


def test_trials_come_in_the_order_of_studies_and_numbers(swept: Swept) -> None:
    ids = [row["trial_id"] for row in swept.rows["trials"]]
    numbers = [f"{number:04d}" for number in range(8)]
    methods = ["pixels", "probe-tiny_strokes", "probe-tiny_untrained"]
    assert ids == [f"{study}-{name}" for study in ("b2", "t7") for name in [*numbers, *methods]]
    assert list(load_studies(swept.path)) == ["b2", "t7"]


def test_the_score_of_a_trial_is_its_last_report(swept: Swept) -> None:
    for trial_id, reports in swept.sent.reports.items():
        row, last = swept.row(trial_id), reports[-1]
        assert row["steps"] == last["step"]
        assert row["reports"] == len(reports)
        for column in ("val_objective", "val_accuracy", "val_balanced_accuracy", "val_loss"):
            assert row[column] == last[column]
        assert row["train_loss"] == last["train_loss"]


def test_the_gain_over_the_start_is_the_last_report_less_the_first(swept: Swept) -> None:
    for trial_id, reports in swept.sent.reports.items():
        gain = swept.row(trial_id)["gain_over_start"]
        if len(reports) == 1:
            assert gain is None  # of training nothing is known
        else:
            expected = reports[-1]["val_objective"] - reports[0]["val_objective"]
            assert gain == expected > 0
    assert {len(reports) for reports in swept.sent.reports.values()} >= {1, REPORTS}
    board = {row["trial_id"]: row for row in swept.rows["leaderboard"]}
    for row in swept.rows["trials"]:
        if row["method"] != "finetune":
            assert row["gain_over_start"] is None
        if row["trial_id"] in board:
            assert board[row["trial_id"]]["gain_over_start"] == row["gain_over_start"]


@pytest.mark.parametrize(
    ("metric", "values", "gain"),
    [
        (Metric.ACCURACY, {0: (0, 0.5), 1: (10, 0.875)}, 0.375),
        (Metric.ACCURACY, {0: (0, 0.5), 1: (10, 0.9), 2: (20, 0.25)}, -0.25),
        (Metric.LOG_LOSS, {0: (0, 0.5), 1: (10, 0.25)}, 0.25),
        (Metric.LOG_LOSS, {0: (0, 0.5), 1: (10, 0.75)}, -0.25),
        (Metric.ACCURACY, {0: (0, 0.5)}, None),
        (Metric.ACCURACY, {}, None),
        (Metric.ACCURACY, {0: (10, 0.5), 1: (20, 0.75)}, None),  # as version 0.1.0 reported
    ],
)
def test_a_gain_is_positive_where_the_end_is_better_and_needs_a_report_of_the_start(
    metric: Metric, values: dict[int, tuple[int, float]], gain: float | None
) -> None:
    trial = optuna.trial.create_trial(
        state=TrialState.PRUNED,
        intermediate_values={number: value for number, (_, value) in values.items()},
        user_attrs={
            user_attributes.report_key(number): {"step": step, "val_objective": value}
            for number, (step, value) in values.items()
        },
    )
    assert table_rows.gain_over_start(trial, metric) == gain


def test_a_row_takes_what_is_recorded_under_its_columns_but_the_device_of_facts() -> None:
    about = {
        **{"label_budget": 2.0, "labels_used": 6, "num_classes": 3, "seed": 5},
        **{"selection": "folds=3", "objective": "accuracy"},
    }
    facts = {
        **{"spec": {"backbone": "tiny_strokes"}, "weights": "zoo", "device": "cuda"},
        **{"frozen_boundaries": 1, "num_boundaries": 4, "not_a_column": 1},
    }
    lost = {"attempt": 1, "failure": "worker_lost", "reason": "node died"}
    trial = optuna.trial.create_trial(
        state=TrialState.FAIL,
        user_attrs={user_attributes.FACTS: facts, user_attributes.RUN: lost},
    )
    row = table_rows.StudyRows("sweep", "b2", about).trial(trial)
    assert set(row) <= set(SCHEMAS["trials"].names)
    assert (row["weights"], row["num_boundaries"], row["attempt"]) == ("zoo", 4, 1)
    assert (row["spec"], row["device"]) == ('{"backbone": "tiny_strokes"}', None)


def test_a_complete_trial_has_every_column_of_the_contract(swept: Swept) -> None:
    complete = [
        row
        for row in swept.rows["trials"]
        if row["state"] == "complete" and row["method"] == "finetune"
    ]
    assert complete
    for row in complete:
        missing = {column for column, value in row.items() if value is None}
        assert missing == {"failure", "max_length", "truncate", "prompt", "pooling"}  # of images
        spec = json.loads(row["spec"])
        assert spec["batch_size"] == 16  # resolved, not `auto`
        assert (row["backbone"], row["lr"]) == (spec["backbone"], spec["lr"])
        assert row["freeze_depth"] == spec["freeze_depth"]
        assert row["image_size"] == spec["image_size"] == 8
        assert row["started_at"].isoformat() == "2026-01-31T12:00:00+00:00"
        assert (row["finished_at"] - row["started_at"]).total_seconds() == 1.5
        assert (row["seed"], row["schema_version"], row["num_classes"]) == (5, 4, 3)


def test_budgets_that_are_totals_are_shown_in_labels_per_class(swept: Swept) -> None:
    by_study = {row["study"]: row for row in swept.rows["trials"]}
    assert (by_study["b2"]["label_budget"], by_study["b2"]["labels_used"]) == (2.0, 6)
    assert by_study["t7"]["label_budget"] == pytest.approx(7 / 3)
    assert by_study["t7"]["labels_used"] == 7


@pytest.mark.parametrize(
    ("trial_id", "state", "failure", "attempt", "reports"),
    [
        (NONFINITE, "pruned", "nonfinite", 0, 1),
        (RAISED, "failed", "ValueError: odd", 0, 1),
        (LOST, "failed", "worker_lost", 1, 0),
    ],
)
def test_failures_are_told_in_their_own_column(
    swept: Swept, trial_id: str, state: str, failure: str, attempt: int, reports: int
) -> None:
    row = swept.row(trial_id)
    assert (row["state"], row["failure"]) == (state, failure)
    assert (row["attempt"], row["reports"]) == (attempt, reports)
    assert row["backbone"] in {"tiny_strokes", "tiny_untrained"}
    assert row["lr"] is not None


def test_curves_hold_every_report_that_was_sent(swept: Swept) -> None:
    expected = {
        (trial_id, report["report"]): report
        for trial_id, reports in swept.sent.reports.items()
        for report in reports
    }
    found = {(row["trial_id"], row["report"]): row for row in swept.rows["curves"]}
    assert set(found) == set(expected)
    for key, report in expected.items():
        del report["val_balanced_accuracy"]
        assert {column: found[key][column] for column in report} == report


def test_baselines_are_rows_of_their_own(swept: Swept) -> None:
    pixels, probe = swept.row("b2-pixels"), swept.row("t7-probe-tiny_strokes")
    assert (pixels["method"], pixels["backbone"], pixels["freeze_depth"]) == ("pixels", None, None)
    assert (probe["method"], probe["backbone"], probe["freeze_depth"]) == (
        "probe",
        "tiny_strokes",
        1.0,
    )
    assert (probe["state"], probe["weights"], probe["folds"]) == ("complete", "zoo", 2)
    assert (probe["val_objective"], probe["val_loss"], probe["num_val"]) == (0.25, 2.0, 6)
    assert probe["trainable_params"] == 30
    assert json.loads(probe["params"]) == {"inverse_penalty": 0.1}
    assert json.loads(probe["spec"]) == {
        "method": "probe",
        "backbone": "tiny_strokes",
        "label_budget": {"total": 7},
        "validation": {"folds": 3},
        "objective": "balanced_accuracy",
        "repeats": REPEATS,
        "seed": 5,
        "image_size": 28,
        "precision": "bf16",
        "inverse_penalties": [0.1, 1.0],
    }
    failed = swept.row("b2-probe-tiny_untrained")
    assert (failed["state"], failed["failure"]) == ("failed", "DataError: odd")
    assert failed["val_objective"] is None


def test_finals_and_predictions_equal_the_arrays_that_were_sent(swept: Swept) -> None:
    finals = {(row["trial_id"], row["repeat"]): row for row in swept.rows["finals"]}
    assert set(finals) == set(swept.sent.tests)
    ids, names = IMAGES.image_ids()[-NUM_TEST:], np.asarray(IMAGES.class_names)
    for key, sent in swept.sent.tests.items():
        assert finals[key]["metric"] == "balanced_accuracy"  # one of the budgets is a total
        assert finals[key]["test_score"] == sent["scores"]["balanced_accuracy"]
        assert finals[key]["test_accuracy"] == sent["scores"]["accuracy"]
        assert finals[key]["num_test"] == NUM_TEST
        baseline = "p" in key[0]
        assert finals[key]["duration_s"] == (1.5 / REPEATS if baseline else 1.5)
        assert finals[key]["lr_factor"] == 0.5
        rows = [r for r in swept.rows["predictions"] if (r["trial_id"], r["repeat"]) == key]
        assert [row["image_id"] for row in rows] == ids
        assert [row["path"] for row in rows] == list(IMAGES.paths[-NUM_TEST:])
        assert [row["label"] for row in rows] == list(names[IMAGES.labels[-NUM_TEST:]])
        assert [row["predicted"] for row in rows] == list(names[sent["predicted"]])
        for column in ("probability", "label_probability"):
            assert [row[column] for row in rows] == list(sent[column].astype(np.float64))


def test_no_final_is_lost_whatever_order_they_settle_in(tmp_path: Path) -> None:
    sent = Sent()
    plan = make_plan(SPACE, IMAGES, where="pets.yaml")
    with closing(SweepJournal(tmp_path / "journal.log")) as journal:
        broker = Broker(SPACE, plan, IMAGES, journal, slots=100)
        projection = Projection("pets-1", broker.studies)
        while (work := broker.next_work()) != DONE:
            out = []
            while isinstance(work, Work):
                out.append(work)
                work = broker.next_work()
            for one in reversed(out):
                _do(broker, one, sent)
                projection.tables()
        kept = projection.tables()["finals"].select(["trial_id", "repeat"]).to_pylist()
    found = sorted((row["trial_id"], row["repeat"]) for row in kept)
    assert found == sorted(sent.tests)


def test_only_complete_trials_rank_and_every_finalist_is_tested(swept: Swept) -> None:
    ranked = {row["trial_id"] for row in swept.rows["leaderboard"]}
    complete = {row["trial_id"] for row in swept.rows["trials"] if row["state"] == "complete"}
    assert ranked == complete
    tested = {row["trial_id"] for row in swept.rows["leaderboard"] if row["test_accuracy"]}
    assert tested == {trial_id for trial_id, _ in swept.sent.tests}


def test_a_sweep_without_settled_work_has_empty_tables(tmp_path: Path) -> None:
    plan = make_plan(SPACE, IMAGES, where="pets.yaml")
    with closing(SweepJournal(tmp_path / "journal.log")) as journal:
        broker = Broker(SPACE, plan, IMAGES, journal, slots=2)
        broker.next_work()
        Projection("pets-1", broker.studies).write(tmp_path)
    for table in SCHEMAS:
        assert read_table(tmp_path, table).num_rows == 0


def test_baselines_of_version_0_1_keep_their_ids_and_what_is_known_of_them(tmp_path: Path) -> None:
    plan = make_plan(SPACE, IMAGES, where="pets.yaml")
    with closing(SweepJournal(tmp_path / "journal.log")) as journal:
        broker = Broker(SPACE, plan, IMAGES, journal, slots=1)
        task = {
            "method": "probe",
            "backbone": "tiny_strokes",
            "label_budget": 2,
            "validation": {"folds": 3},
            "objective": "balanced_accuracy",
            "repeats": REPEATS,
            "seed": 5,
            "image_size": None,
        }
        value = {"run": _run(), "task": task, "result": None}
        broker.studies["b2"].set_user_attr("baseline/probe/tiny_strokes", value)
        (row,) = Projection("pets-1", broker.studies).tables()["trials"].to_pylist()
    assert row["trial_id"] == "b2-probe-tiny_strokes"
    assert json.loads(row["spec"]) == task
