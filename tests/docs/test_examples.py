"""The examples of the documentation: search-space files, SQL, Python."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.reading.loading import LoadedRun
from orchestrator.reading.query import query
from orchestrator.space import SOURCES, SearchSpace, parse_space
from tests.builders.synthetic_sweeps import write_sweep
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, commands, name_of
from trainable import backbones

REQUIRED: dict[str, Any] = {
    "name": "example",
    "dataset": {"source": "digits"},
    "search": {"backbone": ["vit_b_16", "resnet18"], "label_budget": [5]},
}


def spaces(page: Path) -> Iterator[SearchSpace]:
    """The page's YAML blocks as files; parts are put where they belong in a small one."""
    for block in blocks(page, "yaml"):
        given = yaml.safe_load(block)
        inside = given if {"search", "dataset"} & set(given) else {"search": given}
        merged = {
            **REQUIRED,
            **inside,
            "search": {**REQUIRED["search"], **inside.get("search", {})},
        }
        yield parse_space(yaml.safe_dump(merged), where=name_of(page), registry=backbones)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_search_space_in_a_page_parses(page: Path) -> None:
    assert len(list(spaces(page))) == len(blocks(page, "yaml"))


def test_the_readme_and_the_reference_show_whole_files() -> None:
    for page in (ROOT / "README.md", DOCS / "search-space.md"):
        first = yaml.safe_load(blocks(page, "yaml")[0])
        assert set(first) >= set(REQUIRED)
        assert len(next(spaces(page)).varies) >= 3


def test_every_source_of_images_is_shown() -> None:
    shown = {space.dataset.source for space in spaces(DOCS / "datasets.md")}
    assert shown == set(SOURCES)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedRun:
    """A small sweep, the newest in `runs/` of the working directory."""
    write_sweep(tmp_path / "runs" / "made-up", budgets=(2,), trials=8)
    monkeypatch.chdir(tmp_path)
    return orchestrator.load_run()


def test_the_questions_to_the_tables_have_answers(sweep: LoadedRun) -> None:
    asked = [
        found[1]
        for line in commands("reading-results.md")
        if (found := re.fullmatch(r'sft-sweep query "(.*)"', line))
    ]
    assert len(asked) == 5
    for sql in asked:
        with query(sql, [sweep]) as result:
            assert sum(batch.num_rows for batch in result.batches), sql


def run_python(page: str, *, number: int = 0) -> None:
    """Run one of the page's blocks of Python."""
    exec(compile(blocks(page, "python")[number], page, "exec"), {})


def test_the_notebook_lines_run(sweep: LoadedRun) -> None:
    run_python("reading-results.md")


class Recorder(ModuleType):
    """Stands for another program's package, and notes what it is told.

    Attributes:
        told: a dict for each run: `params`, `summary`, and `curve`, pairs of step and scores.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: dict[str, dict[str, Any]] = {}

    def begin(self, name: str) -> dict[str, Any]:
        assert name not in self.told
        self.told[name] = {"params": {}, "summary": {}, "curve": []}
        return self.told[name]


class FakeMlflow(Recorder):
    """MLflow's fluent interface, as far as the page uses it."""

    def set_experiment(self, name: str) -> None:
        assert not self.told, name

    @contextmanager
    def start_run(self, *, run_name: str) -> Iterator[None]:
        self.current = self.begin(run_name)
        yield

    def set_tags(self, tags: dict[str, str]) -> None:
        assert all(isinstance(value, str) for value in tags.values())

    def log_params(self, params: dict[str, Any]) -> None:
        self.current["params"] = params

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        self.current["curve"].append((step, metrics))

    def log_metric(self, key: str, value: float) -> None:
        self.current["summary"][key] = value


class FakeWandb(Recorder):
    """Weights & Biases' `init`, as far as the page uses it."""

    @contextmanager
    def init(
        self, *, project: str, group: str, job_type: str, name: str, config: dict[str, Any]
    ) -> Iterator[FakeWandb]:
        assert project
        assert group.endswith("-b2")
        assert job_type in ("finetune", "probe", "pixels")
        self.current = self.begin(name)
        self.current["params"] = config
        self.summary: dict[str, Any] = self.current["summary"]
        yield self

    def log(self, metrics: dict[str, float], *, step: int) -> None:
        self.current["curve"].append((step, metrics))


class FakeTensorBoard(Recorder):
    """PyTorch's writer for TensorBoard, as far as the page uses it."""

    @contextmanager
    def SummaryWriter(self, folder: str) -> Iterator[FakeTensorBoard]:  # noqa: N802
        self.current = self.begin(Path(folder).name)
        yield self

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        curve = self.current["curve"]
        if not curve or curve[-1][0] != step:
            curve.append((step, {}))
        curve[-1][1][tag] = value

    def add_hparams(
        self, params: dict[str, Any], metrics: dict[str, float], *, run_name: str
    ) -> None:
        self.current["params"] = params
        self.current["summary"] = metrics


LOGGERS = [
    ("mlflow.md", "mlflow", FakeMlflow),
    ("wandb.md", "wandb", FakeWandb),
    ("tensorboard.md", "torch.utils.tensorboard", FakeTensorBoard),
]


@pytest.mark.parametrize(("page", "module", "fake"), LOGGERS, ids=[page for page, *_ in LOGGERS])
def test_a_sweep_is_logged_trial_by_trial_with_its_curves(
    page: str,
    module: str,
    fake: type[Recorder],
    sweep: LoadedRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = fake(module)
    monkeypatch.setitem(sys.modules, module, logger)
    run_python(page)
    trials = {row["trial_id"]: row for row in sweep.trials.to_pylist()}
    assert set(logger.told) == set(trials)
    curves = sweep.curves.to_pylist()
    assert curves
    for name, told in logger.told.items():
        expected = [(row["step"], row["val_accuracy"]) for row in curves if row["trial_id"] == name]
        assert [(step, scores["val_accuracy"]) for step, scores in told["curve"]] == expected
        assert all(None not in scores.values() for _, scores in told["curve"])
        if trials[name]["method"] == "finetune" and trials[name]["val_accuracy"] is not None:
            assert told["params"]["lr"] == trials[name]["lr"]
            assert told["params"]["label_budget"] == 2


@pytest.mark.parametrize(("page", "module", "fake"), LOGGERS[:2], ids=["mlflow.md", "wandb.md"])
def test_test_scores_are_logged_of_finalists_and_baselines_alone(
    page: str,
    module: str,
    fake: type[Recorder],
    sweep: LoadedRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logger = fake(module)
    monkeypatch.setitem(sys.modules, module, logger)
    run_python(page)
    scores = {
        name: told["summary"]["test_score"]
        for name, told in logger.told.items()
        if "test_score" in told["summary"]
    }
    assert scores == {
        row["trial_id"]: row["test_score"]
        for row in sweep.leaderboard.to_pylist()
        if row["test_score"] is not None
    }
    assert 0 < len(scores) < len(logger.told)


class FakeHub(Recorder):
    """The Hugging Face hub's client, as far as the page uses it."""

    def HfApi(self) -> FakeHub:  # noqa: N802
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> FakeHub:
        assert private
        assert exist_ok
        self.repo_id = name
        return self

    def upload_folder(self, *, repo_id: str, folder_path: str) -> None:
        assert repo_id == self.repo_id
        self.uploaded = Path(folder_path)

    def snapshot_download(self, name: str) -> str:
        assert name == self.repo_id
        return str(self.uploaded)


def test_an_export_is_uploaded_and_fetched_from_the_same_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = FakeHub("huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    run_python("sharing-models.md")
    assert hub.uploaded == Path("model")
    assert commands("sharing-models.md") == ["sft-sweep export -o model"]
    run_python("sharing-models.md", number=1)
    assert capsys.readouterr().out == "sft-sweep predict model photo.jpg\n"
