"""Sweeps with and without the store of features, after each other and from several processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from orchestrator.cli.main import run as run_cli
from orchestrator.tables import read_table
from trainable.store import FOLDER_VARIABLE, FeatureStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.conftest import Launched

SPACE = (
    "search.backbone=[tiny_strokes, tiny_fractals]",
    "search.freeze_depth=[0.5, 1]",
    "search.label_budget=[4]",
    "trials=5",
    "training={steps: 6, reports: 2}",
    "finalists={count: 1, repeats: 2}",
    "sampler={name: random}",
    "augment={ops: [resized_crop], views: 2}",
    "resources.max_concurrent=2",
    "cache={mode}",
)
MEASURED = ["sweep_id", "host", "started_at", "finished_at", "peak_memory_bytes"]


def scores(launched: Launched) -> pd.DataFrame:
    """Everything in the trials table that the cache may not change."""
    table = read_table(launched.path, "trials").to_pandas().sort_values("trial_id")
    times = [column for column in table if column.endswith("_s") or column.startswith("cache_")]
    return table.drop(columns=[*times, *MEASURED]).reset_index(drop=True)


@pytest.fixture(scope="module")
def launched(
    launch_in: Callable[..., Launched], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Launched]:
    """The same sweep without a store, with an empty one, and with the one that it left."""
    before = os.environ[FOLDER_VARIABLE]
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("store"))
    try:
        return {
            name: launch_in(*(option.replace("{mode}", mode) for option in SPACE))
            for name, mode in (("never", "never"), ("cold", "always"), ("warm", "always"))
        }
    finally:
        os.environ[FOLDER_VARIABLE] = before


def test_the_store_changes_no_score(launched: dict[str, Launched]) -> None:
    for name in ("cold", "warm"):
        pd.testing.assert_frame_equal(
            scores(launched["never"]), scores(launched[name]), check_exact=True
        )


def test_a_second_sweep_computes_no_feature_again(launched: dict[str, Launched]) -> None:
    saved = {name: one.output["savings"] for name, one in launched.items()}
    assert saved["never"]["hits"] == 0
    assert saved["never"]["computed_flops"] == saved["never"]["asked_flops"] > 0
    assert 0 < saved["cold"]["computed_flops"] < 0.7 * saved["cold"]["asked_flops"]
    assert saved["cold"]["asked_flops"] == saved["never"]["asked_flops"]
    assert saved["warm"]["misses"] == 0
    assert saved["warm"]["computed_flops"] == 0
    trials = read_table(launched["warm"].path, "trials").to_pandas()
    networks = trials[trials.method != "pixels"]
    assert networks.cache_hits.gt(0).all()
    assert networks.cache_misses.eq(0).all()


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


def test_a_folder_that_is_none_is_told_and_the_sweep_goes_on(
    launch_in: Callable[..., Launched], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    done = launch_in("search.label_budget=[2]", "trials=2", "baselines=[]")
    assert done.code == 0
    assert done.output["savings"]["hits"] == 0
    assert "features are not kept: " in done.messages
    assert FOLDER_VARIABLE in done.messages
