"""Every section but `search:`: defaults, limits, kinds, and how problems are told."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.datasets.sections import DigitsSection, TableSection
from orchestrator.errors import SpaceError
from orchestrator.running.broker.pruner_kinds import HyperbandSection, MedianSection
from orchestrator.running.broker.sampler_kinds import TpeSection
from orchestrator.space import SearchSpace, load_space, parse_space
from orchestrator.space.build_space import build_space
from trainable.spec.metrics import Metric
from trainable.spec.settings import SETTINGS
from trainable.spec.validation import Validation

Read = Callable[..., SearchSpace]
ProblemsOf = Callable[..., list[str]]
SPACES = Path(__file__).parents[3] / "search_spaces"


def test_a_silent_file_takes_every_default(read: Read) -> None:
    space = read()
    assert space.name == "pets"
    assert space.dataset == DigitsSection(source="digits", test=None)
    assert space.training == {name: setting.default for name, setting in SETTINGS.items()}
    assert space.validation == Validation(folds=3)
    assert space.objective is Metric.ACCURACY
    assert (space.trials, space.seed) == (24, 0)
    assert space.sampler == TpeSection(n_startup_trials=None)
    assert space.pruner == MedianSection(n_startup_trials=5, n_warmup_steps=None)
    assert (space.finalists.count, space.finalists.repeats) == (3, 5)
    assert space.baselines == ("pixels", "probe")
    assert space.limits.hours is None
    assert space.limits.trial_minutes is None
    assert space.limits.silent_minutes == 30
    assert space.checkpoint_s == 60
    assert space.resources.cpus_per_trial == 1
    assert space.resources.gpus_per_trial == "auto"
    assert space.resources.max_concurrent is None


def test_sections_left_empty_take_their_defaults(read: Read) -> None:
    sections = ("training", "validation", "objective", "sampler", "pruner", "finalists", "limits")
    empty = dict.fromkeys((*sections, "resources", "baselines", "trials", "seed", "name"))
    assert read(**empty) == read()


def test_what_the_file_says_is_what_comes_back(read: Read) -> None:
    space = read(
        name="My.space-1_b",
        dataset={"source": "digits", "test": 0.25},
        training={"steps": 100.0, "batch_size": 16, "warmup": 0},
        validation={"holdout": 0.25},
        objective={"metric": "log_loss"},
        sampler={"name": "tpe", "n_startup_trials": 4},
        pruner={"name": "hyperband", "reduction_factor": 2},
        baselines=["probe", "pixels"],
        resources={"gpus_per_trial": 0.5, "cpus_per_trial": 2, "max_concurrent": 8},
        limits={"hours": 2, "trial_minutes": 0.5, "silent_minutes": 5},
        checkpoint_s=10,
    )
    assert space.name == "My.space-1_b"
    assert space.dataset.to_json()["test"] == 0.25
    assert space.training["steps"] == 100
    assert type(space.training["steps"]) is int
    assert type(space.training["warmup"]) is float
    assert space.validation == Validation(folds=None, holdout=0.25)
    assert space.objective is Metric.LOG_LOSS
    assert space.sampler == TpeSection(n_startup_trials=4)
    assert space.pruner == HyperbandSection(reduction_factor=2, min_resource=None)
    assert space.baselines == ("pixels", "probe")
    assert space.resources.gpus_per_trial == 0.5
    assert space.limits.hours == 2.0
    assert (space.limits.trial_minutes, space.limits.silent_minutes) == (0.5, 5.0)
    assert space.checkpoint_s == 10


def test_paths_and_columns_are_text_as_the_file_has_them(read: Read) -> None:
    given = {"source": "table", "path": "no", "label_column": "1", "root": "~/x: y"}
    space = read(dataset=given)
    assert space.dataset == TableSection(path="no", label_column="1", root="~/x: y")
    assert given.items() <= space.dataset.to_json().items()


def test_a_dataset_with_absolute_paths_means_the_same_from_every_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    section = TableSection(path="a/b.csv", root="~/photos").absolute()
    assert section.path == str(tmp_path / "a" / "b.csv")
    assert section.root == "/home/ada/photos"
    assert (section.path_column, section.split_column) == ("path", None)
    assert TableSection(path="/x.csv").absolute() == TableSection(path="/x.csv")
    assert section.absolute() == section
    assert DigitsSection().absolute() == DigitsSection()


def test_where_images_lie_and_how_they_are_found_is_no_part_of_the_meaning(read: Read) -> None:
    given = {"source": "table", "path": "a.csv"}
    plain = read(dataset=given)
    for keys in ({"path": "b.csv"}, {"root": "x"}, {"match": "ending"}, {"links": "follow"}):
        space = read(dataset={**given, **keys})
        assert space.fingerprint() == plain.fingerprint()
        assert space.dataset.to_json() == {**plain.dataset.to_json(), **keys}
    assert not {"match", "links", "root"} & set(plain.dataset.to_json())
    assert read(dataset={**given, "label_column": "x"}).fingerprint() != plain.fingerprint()


def test_no_baseline_is_an_answer(read: Read) -> None:
    assert read(baselines=[]).baselines == ()


@pytest.mark.parametrize(
    ("top", "line"),
    [
        ({"trails": 3}, "trails: unknown key; did you mean trials?"),
        ({"lr": 3}, "lr: unknown key here; did you mean search.lr?"),
        ({"steps": 3}, "steps: unknown key here; did you mean training.steps?"),
        ({"hours": 3}, "hours: unknown key here; did you mean limits.hours?"),
        ({"label_column": "x"}, "label_column: unknown key here; did you mean dataset.label_col"),
        (
            {"dataset": None},
            "dataset.source: missing; allowed: one of digits, banking, folder, table, ",
        ),
        ({"dataset": "digits"}, "dataset: got 'digits'; allowed: a mapping such as {source:"),
        (
            {"dataset": {"source": "digit"}},
            "dataset.source: got 'digit'; allowed: one of digits, banking, folder, table, parquet, "
            "torchvision, masks, canvases; did you mean digits?",
        ),
        (
            {"dataset": {"source": "digits", "path": "x"}},
            "dataset.path: belongs to folder, table, parquet, masks; keys here: source, test",
        ),
        ({"dataset": {"source": "folder"}}, "dataset.path: missing; allowed: a path"),
        (
            {"dataset": {"source": "folder", "path": 2024}},
            "dataset.path: got 2024; allowed: a path; text that looks like a number needs quotes",
        ),
        ({"dataset": {"source": "folder", "path": ""}}, "dataset.path: got ''; allowed: a path"),
        (
            {"dataset": {"source": "folder", "path": "x", "group": "("}},
            "dataset.group: got '('; allowed: a regular expression",
        ),
        (
            {"dataset": {"source": "folder", "path": "x", "gruop": "x"}},
            "dataset.gruop: unknown key; did you mean group?",
        ),
        (
            {"dataset": {"source": "folder", "path": "x", "root": "y"}},
            "dataset.root: belongs to table, torchvision; keys here: source, path, test, layout, ",
        ),
        (
            {"dataset": {"source": "folder", "path": "x", "max_bad_fraction": 2}},
            "dataset.max_bad_fraction: got 2; allowed: a number from 0 to 1",
        ),
        (
            {"dataset": {"source": "torchvision", "name": "MNIST", "root": "x", "download": 1}},
            "dataset.download: got 1; allowed: true or false",
        ),
        (
            {"dataset": {"source": "torchvision", "name": "MNIST"}},
            "dataset.root: missing; allowed: a path",
        ),
        (
            {"dataset": {"source": "digits", "test": 1}},
            "dataset.test: got 1; allowed: a number above 0 and below 1",
        ),
        ({"trials": True}, "trials: got true; allowed: a whole number from 1"),
        ({"trials": 1.5}, "trials: got 1.5; allowed: a whole number from 1"),
        ({"trials": "4"}, "trials: got '4'; allowed: a whole number from 1"),
        ({"trials": [4]}, "trials: got [4]; allowed: a whole number from 1"),
        ({"seed": -1}, "seed: got -1; allowed: a whole number from 0"),
        ({"seed": 10**30}, "seed: got 1000000000000000000000000000000; allowed: a whole number"),
        ({"name": "a/b"}, "name: got 'a/b'; allowed: letters, digits, . _ and -"),
        ({"name": ".."}, "name: got '..'; allowed: letters"),
        ({"name": 2024}, "name: got 2024; allowed: letters"),
        ({"training": {"step": 5}}, "training.step: unknown key; did you mean steps?"),
        (
            {"training": {"lr": 1}},
            "training.lr: unknown key here; did you mean search.lr?",
        ),
        (
            {"training": {"steps": [5, 10]}},
            "training.steps: got [5, 10]; one value here; to vary it, use search.steps",
        ),
        (
            {"training": {"optimizer": "adam"}},
            "training.optimizer: got 'adam'; allowed: one of adamw, sgd; did you mean adamw?",
        ),
        ({"training": {"steps": None}}, "training.steps: got nothing; allowed: a whole number"),
        (
            {"training": {"steps": 4}},
            "training.reports: got 5; allowed: at most training.steps, which can be 4",
        ),
        ({"training": 7}, "training: got 7; allowed: a mapping such as {steps: 100}"),
        ({"validation": {"folds": 1}}, "validation.folds: got 1; allowed: a whole number from 2"),
        ({"validation": {"a.b: c": 1}}, "validation: 'a.b: c': unknown key; known: folds, "),
        (
            {"validation": {"holdout": 0.0}},
            "validation.holdout: got 0.0; allowed: a number above 0 and below 1",
        ),
        (
            {"validation": {"folds": 3, "holdout": 0.5}},
            "validation: got folds and holdout; allowed: one of them",
        ),
        ({"objective": "accuracy"}, "objective: got 'accuracy'; allowed: a mapping such as {met"),
        (
            {"objective": {"metric": "acuracy"}},
            "objective.metric: got 'acuracy'; allowed: one of accuracy, balanced_accuracy, "
            "macro_f1, auroc, miou, pixel_accuracy, log_loss; did you mean accuracy?",
        ),
        (
            {"sampler": {"name": "tpee"}},
            "sampler.name: got 'tpee'; allowed: one of tpe, random, grid; did you mean tpe?",
        ),
        (
            {"sampler": {"name": "random", "n_startup_trials": 4}},
            "sampler.n_startup_trials: belongs to tpe; keys here: name",
        ),
        (
            {"pruner": {"name": "hyperband", "n_startup_trials": 4}},
            "pruner.n_startup_trials: belongs to median, percentile; keys here: name, "
            "reduction_factor, min_resource",
        ),
        ({"pruner": {"percentile": 10}}, "pruner.percentile: belongs to percentile; keys here:"),
        (
            {"pruner": {"name": "percentile", "percentile": 101}},
            "pruner.percentile: got 101; allowed: a number from 0 to 100",
        ),
        ({"pruner": {"nmae": "none"}}, "pruner.nmae: unknown key; did you mean name?"),
        ({"finalists": {"repeats": 1}}, "finalists.repeats: got 1; allowed: a whole number from 2"),
        ({"finalists": {"count": None}}, "finalists.count: got nothing; allowed: a whole number"),
        (
            {"baselines": ["probes"]},
            "baselines: got 'probes'; allowed: a list of pixels, majority, tfidf, probe",
        ),
        ({"baselines": ["probe", "probe"]}, "baselines: got 'probe' twice; allowed: distinct"),
        ({"baselines": "probe"}, "baselines: got 'probe'; allowed: a list of pixels"),
        ({"baselines": [["probe"]]}, "baselines: got ['probe']; allowed: a list of pixels"),
        ({"limits": {"hours": 0}}, "limits.hours: got 0; allowed: a number above 0"),
        ({"limits": {"hours": "inf"}}, "limits.hours: got 'inf'; allowed: a number above 0"),
        ({"limits": {"hours": float("inf")}}, "limits.hours: got inf; allowed: a number above 0"),
        ({"limits": {"hours": float("nan")}}, "limits.hours: got nan; allowed: a number above 0"),
        (
            {"resources": {"gpus_per_trial": "automatic"}},
            "resources.gpus_per_trial: got 'automatic'; allowed: a number from 0 or auto",
        ),
        *(
            (
                {"resources": {"gpus_per_trial": gpus}},
                f"resources.gpus_per_trial: got {gpus}; allowed: auto, a whole number, or a share",
            )
            for gpus in (1.5, 0.00005)
        ),
        (
            {"resources": {"cpus_per_trial": 0.00005}},
            "resources.cpus_per_trial: got 5e-05; allowed: a number from 0.0001",
        ),
        ({"resources": {"max_concurrent": 0}}, "resources.max_concurrent: got 0; allowed: a whole"),
    ],
)
def test_a_problem_says_where_what_was_given_and_what_is_allowed(
    problems: ProblemsOf, top: dict[str, Any], line: str
) -> None:
    (found,) = problems(**top)
    assert found.startswith(line)


def test_every_problem_is_told_at_once_in_the_order_of_the_file(problems: ProblemsOf) -> None:
    found = problems(
        {"lr": 0, "bakbone": 1},
        trials=0,
        seed="x",
        finalists={"repeats": 1, "count": 0},
        objective={"metric": 3},
        what=1,
    )
    assert [line.split(":")[0] for line in found] == [
        "search.lr",
        "search.bakbone",
        "trials",
        "seed",
        "finalists.repeats",
        "finalists.count",
        "objective.metric",
        "what",
    ]


def test_a_problem_stays_on_one_line_whatever_the_key_or_value(problems: ProblemsOf) -> None:
    (key_line, value_line) = problems(**{"a\nb.c": 1, "trials": "x\ny" * 100})
    assert key_line.startswith("'a\\nb.c': unknown key")
    assert len(value_line) < 120


def test_a_file_name_that_cannot_be_a_name_asks_for_one() -> None:
    text = "dataset: {source: digits}\nsearch: {backbone: tiny, label_budget: 5}\n"
    with pytest.raises(SpaceError, match="name: missing; the file's own, 'my pets', cannot serve"):
        parse_space(text, where="my pets.yaml")
    assert parse_space("name: pets\n" + text, where="my pets.yaml").name == "pets"


def test_space_errors_survive_pickling() -> None:
    with pytest.raises(SpaceError, match="empty") as caught:
        parse_space("", where="a.yaml")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_every_shipped_search_space_is_valid() -> None:
    paths = sorted(SPACES.rglob("*.y*ml"))
    assert paths
    for path in paths:
        assert load_space(path).label_budgets


def test_the_low_data_space_is_what_its_file_says() -> None:
    space = load_space(SPACES / "lowdata.yaml")
    assert space.name == "lowdata"
    assert space.varies == ("backbone", "freeze_depth", "lr")
    assert space.pruner == MedianSection(n_startup_trials=6, n_warmup_steps=None)
    assert [budget.study for budget in space.label_budgets] == ["b2", "b5", "b10", "b20"]


@pytest.mark.parametrize("views", [2, "auto"])
def test_views_are_read_and_written_out(read: Callable[..., SearchSpace], views: int | str) -> None:
    assert read().augment is None
    assert "augment" not in read().to_json()
    given = {"ops": ["horizontal_flip", {"rotation": {"degrees": 30}}], "views": views}
    space = read(augment=given)
    assert space.to_json()["augment"] == given
    assert build_space(space.to_json()) == space
    assert space.spec({"backbone": "vit_tiny"}, space.label_budgets[0]).augment == space.augment


def test_what_is_wrong_with_views_is_told_by_key(problems: Callable[..., list[str]]) -> None:
    lines = problems(augment={"ops": ["horizontal_flop"], "views": 0, "view": 1})
    assert sorted(line.split(": ")[0] for line in lines) == [
        "augment.ops",
        "augment.view",
        "augment.views",
    ]
    (line,) = problems(views=3)
    assert line == "views: unknown key here; did you mean augment.views?"


OUTSIDE = {"split": "val", "outside_budget": True}


def test_a_budget_of_one_label_is_allowed_where_validation_lies_outside(
    read: Callable[..., SearchSpace],
) -> None:
    space = read({"label_budget": [1, {"total": 3}]}, validation=OUTSIDE)
    assert space.validation == Validation(folds=None, outside=True)
    assert space.to_json()["validation"] == OUTSIDE
    assert build_space(space.to_json()) == space


@pytest.mark.parametrize(
    ("validation", "line"),
    [
        ({"split": "val"}, "validation.outside_budget: the labels of a validation split lie"),
        ({**OUTSIDE, "outside_budget": False}, "validation.outside_budget: the labels of a"),
        ({"outside_budget": True}, "validation.outside_budget: folds and a holdout lie inside"),
        ({**OUTSIDE, "folds": 3}, "validation: got folds and split; allowed: one of them"),
        ({"split": "dev"}, "validation.split: got 'dev'; allowed: val"),
        ({**OUTSIDE, "outside_budget": "yes"}, "validation.outside_budget: got 'yes'; allowed: "),
    ],
)
def test_validation_outside_the_budget_has_to_be_said_in_so_many_words(
    problems: Callable[..., list[str]], validation: dict[str, object], line: str
) -> None:
    (found,) = problems(validation=validation)
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("top", "search", "line"),
    [
        ({"validation": {"split": "val"}}, {"label_budget": [1]}, "validation.outside_budget: "),
        ({"validation": {"folds": 1}}, {"label_budget": [1]}, "validation.folds: got 1"),
        ({"validation": {"fold": 2}}, {"label_budget": [1]}, "validation.fold: unknown key"),
        ({"training": {"steps": 0, "reports": 500}}, {}, "training.steps: got 0"),
        ({"training": {"steps": 3, "reports": 0}}, {}, "training.reports: got 0"),
        ({"training": {"reports": 500}}, {"steps": [900, 0]}, "search.steps: got 0"),
    ],
)
def test_what_follows_from_a_problem_is_no_problem_of_its_own(
    problems: Callable[..., list[str]], top: dict[str, Any], search: dict[str, Any], line: str
) -> None:
    (found,) = problems(search, **top)
    assert found.startswith(line)
