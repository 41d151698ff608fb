"""Sweeps with and without the store of features, after each other and from several processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from orchestrator.cli.main import run as run_cli
from orchestrator.recording.tables import read_table
from tests.builders.sweeps import sweep_in_process
from trainable.features.store import FOLDER_VARIABLE, FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Launched

pytestmark = pytest.mark.faults

SPACE = (
    "search.backbone=[tiny_strokes, tiny_fractals]",
    "search.freeze_depth=[0.5, 1]",
    "search.label_budget=[4]",
    "trials=5",
    "training={steps: 6, reports: 2}",
    "finalists={count: 1, repeats: 2}",
    "sampler={name: random}",
    "pruner={name: none}",  # of two trials at a time it would matter which reports first
    "augment={ops: [resized_crop], views: 2}",
    "resources.max_concurrent=2",
    "cache=always",
)
MEASURED = ["sweep_id", "host", "started_at", "finished_at", "peak_memory_bytes"]


def scores(path: Path) -> pd.DataFrame:
    """Everything in the trials table that the cache may not change."""
    table = read_table(path, "trials").to_pandas().sort_values("trial_id")
    times = [column for column in table if column.endswith("_s") or column.startswith("cache_")]
    return table.drop(columns=[*times, *MEASURED]).reset_index(drop=True)


@pytest.fixture(scope="module")
def launched(
    launch_in: Callable[..., Launched], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Launched]:
    """The same sweep with an empty folder to keep features in, and once more."""
    before = os.environ[FOLDER_VARIABLE]
    try:
        os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("store"))
        return {name: launch_in(*SPACE) for name in ("cold", "warm")}
    finally:
        os.environ[FOLDER_VARIABLE] = before


def test_the_store_changes_no_score(launched: dict[str, Launched], tmp_path: Path) -> None:
    """Nor do processes: the sweep without a store runs in this one."""
    space = (launched["cold"].path / "space.yaml").read_text()
    assert "cache: always" in space
    (tmp_path / "space.yaml").write_text(space.replace("cache: always", "cache: never"))
    without = scores(sweep_in_process(tmp_path / "space.yaml", tmp_path / "runs"))
    for name in ("cold", "warm"):
        pd.testing.assert_frame_equal(without, scores(launched[name].path), check_exact=True)


def test_a_second_sweep_computes_no_feature_again(launched: dict[str, Launched]) -> None:
    saved = {name: one.output["savings"] for name, one in launched.items()}
    assert 0 < saved["cold"]["computed_flops"] < saved["cold"]["asked_flops"]
    assert saved["cold"]["hits"] > 0
    assert saved["warm"]["misses"] == 0
    assert saved["warm"]["computed_flops"] == 0
    # A process fits the probe of a draw once, and how many processes do is a matter of chance.
    assert saved["warm"]["asked_flops"] == pytest.approx(saved["cold"]["asked_flops"], rel=0.1)
    trials = read_table(launched["warm"].path, "trials").to_pandas()
    networks = trials[trials.method != "pixels"]
    assert networks.cache_hits.gt(0).all()
    assert networks.cache_misses.eq(0).all()


@pytest.mark.faults
def test_a_folder_that_is_none_is_told_and_the_sweep_goes_on(
    launch_in: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    one = launch_in(*SPACE, "trials=1", "search.backbone=[tiny_strokes]", "baselines=[]")
    assert one.code == 0
    assert one.messages.count("features are not kept: ") == 1
    assert FOLDER_VARIABLE in one.messages
    saved = one.output["savings"]
    assert saved["hits"] == 0
    assert saved["computed_flops"] == saved["asked_flops"] > 0


def test_cache_info_tells_what_is_there_and_clear_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(os.environ[FOLDER_VARIABLE], tmp_path / "copy")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "copy"))
    info = FeatureStore().info()
    assert run_cli(["cache", "info"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{tmp_path / 'copy'}: {info.bytes / 2**20:,.1f} MiB of at most ")
    assert run_cli(["cache", "clear"]) == 0
    assert f"{info.bytes / 2**20:,.1f} MiB removed" in capsys.readouterr().out
    assert run_cli(["cache", "info", "--json"]) == 0
    assert '"bytes": 0' in capsys.readouterr().out
