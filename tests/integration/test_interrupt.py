from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.projection import load_studies
from orchestrator.tables import read_table
from tests.integration.conftest import LOWDATA, SMALL, TIMEOUT_S, command


def settled(path: Path) -> int:
    return sum(
        trial.state.is_finished()
        for study in load_studies(path).values()
        for trial in study.get_trials(deepcopy=False)
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_says_how_to_go_on_and_resume_finishes_it(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    overrides = [*SMALL, "training.steps=60", "trials=5"]
    options = [part for override in overrides for part in ("--set", override)]
    process = subprocess.Popen(
        command("launch", str(LOWDATA), "--out", str(tmp_path), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    until = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        runs = [path for path in tmp_path.iterdir() if (path / "journal.log").is_file()]
        if runs and settled(runs[0]) >= 3:
            break
        time.sleep(0.2)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    (run,) = tmp_path.iterdir()
    assert process.returncode == code, messages
    assert f"sft-sweep resume {run}" in messages
    kept = read_table(run, "trials").to_pandas().set_index("trial_id")

    done = subprocess.run(
        command("resume", str(run), "--json"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(run)
    trials = read_table(run, "trials").to_pandas().set_index("trial_id")
    assert (trials.method == "finetune").sum() == 2 * 5
    assert trials.index.is_unique
    assert set(trials.state) <= {"complete", "pruned"}
    again = trials.loc[kept.index]
    assert (again.finished_at == kept.finished_at).all()  # not run a second time
    assert all(
        trial.state.is_finished()
        for study in load_studies(run).values()
        for trial in study.get_trials(deepcopy=False)
    )
