"""The Slurm script, run for real between stand-ins for Slurm, Ray's command and the sweep."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

from tests.cluster.files import CLUSTER

SCRIPT = CLUSTER / "slurm" / "launch.sh"
JOB = "4711"
PATIENCE_S = 30.0

STANDINS = {
    "scontrol": """
        echo "scontrol $*" >>"$CALLS"
        case "$1 $2" in
            "show hostnames") printf '%s\\n' node7 node8 node9 ;;
            "show job") echo "JobId=4711 JobState=${JOB_STATE:-RUNNING} Reason=None" ;;
        esac""",
    "srun": """
        echo "srun $*" >>"$CALLS"
        while [[ $1 == --* ]]; do shift; done
        exec "$@" """,
    # As ray symmetric-run: a child, no handler for signals, and the child's exit code.
    "ray": """
        echo "ray $*" >>"$CALLS"
        while [[ $1 != -- ]]; do shift; done
        shift
        "$@" """,
    "sft-sweep": """
        echo "sft-sweep $*" >>"$CALLS"
        echo "$RAY_AUTH_MODE $(stat -c %a "$RAY_AUTH_TOKEN_PATH") $(<"$RAY_AUTH_TOKEN_PATH")" \\
            >>"$TOKENS"
        if [[ $1 == resume ]]; then exit 0; fi
        mkdir -p "$4/lowdata-1" && touch "$4/lowdata-1/manifest.json"
        trap 'echo "sft-sweep: TERM" >>"$CALLS"; [[ $ON_TERM == ignore ]] || exit "$ON_TERM"' TERM
        [[ -z $AT_ONCE ]] || exit "$AT_ONCE"
        touch "$STARTED"
        for _ in {1..100}; do sleep 0.1; done""",
}


@dataclass
class Slurm:
    """A job of three nodes, in a folder of its own."""

    folder: Path

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def called(self, what: str) -> list[str]:
        return [call for call in self.calls if call.startswith(what)]

    @property
    def out(self) -> Path:
        return self.folder / "runs" / f"slurm-{JOB}"

    def tokens(self) -> list[list[str]]:
        """Mode of authentication, mode of the file, and token, for every sweep that ran."""
        return [line.split() for line in (self.folder / "tokens").read_text().splitlines()]

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": "node[7-9]",
            "SLURM_JOB_NUM_NODES": "3",
            "CALLS": str(self.folder / "calls"),
            "TOKENS": str(self.folder / "tokens"),
            "STARTED": str(self.folder / "started"),
            "ON_TERM": "143",
            "AT_ONCE": "",
            **settings,
        }
        (self.folder / "started").unlink(missing_ok=True)
        with (self.folder / "log").open("a") as log:
            return subprocess.Popen(
                ["bash", str(SCRIPT), "lowdata.yaml"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def run(self, **settings: str) -> int:
        """The exit code of a job that is left alone."""
        with self.start(**settings) as job:
            job.wait(timeout=PATIENCE_S)
        return job.returncode

    def run_out_of_time(self, **settings: str) -> int:
        """The exit code of a job that Slurm signals before its end."""
        with self.start(**settings) as job:
            deadline = time.monotonic() + PATIENCE_S
            while not (self.folder / "started").exists():
                assert job.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "the sweep did not start"
                time.sleep(0.02)
            job.send_signal(signal.SIGTERM)
            job.wait(timeout=PATIENCE_S)
        return job.returncode


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    (tmp_path / "bin").mkdir()
    for name, body in STANDINS.items():
        tool = tmp_path / "bin" / name
        tool.write_text(f"#!/usr/bin/env bash\n{body}\n")
        tool.chmod(0o755)
    return Slurm(tmp_path)


def test_every_node_joins_one_cluster_headed_by_the_first(slurm: Slurm) -> None:
    assert slurm.run(AT_ONCE="0") == 0
    (srun,) = slurm.called("srun")
    assert srun.startswith("srun --nodes=3 --ntasks=3 ")
    (ray,) = slurm.called("ray")
    assert ray.startswith("ray symmetric-run --address node7:6379 --min-nodes 3 -- ")


def test_ray_accepts_the_options_that_its_command_gets(slurm: Slurm) -> None:
    slurm.run(AT_ONCE="0")
    words = slurm.called("ray")[0].split()
    options = curate_and_validate_ray_start_args(words[2 : words.index("--")])
    start.make_context("start", ["--head", *options])  # raises where ray start would
    assert {"--address", "--min-nodes"} <= set(words)


def test_the_sweep_is_launched_into_the_folder_of_its_job(slurm: Slurm) -> None:
    slurm.run(AT_ONCE="0")
    assert slurm.called("sft-sweep") == [
        f"sft-sweep launch lowdata.yaml --out {slurm.out} --address auto"
    ]


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_a_job_ends_as_its_sweep_did(slurm: Slurm, code: int) -> None:
    assert slurm.run(AT_ONCE=str(code)) == code
    assert not slurm.called("scontrol requeue")


def test_out_of_time_the_sweep_saves_and_the_job_goes_back_into_the_queue(slurm: Slurm) -> None:
    assert slurm.run_out_of_time() == 143
    assert slurm.called("sft-sweep: TERM") == ["sft-sweep: TERM"], "a second one would not save"
    assert slurm.called("scontrol requeue") == [f"scontrol requeue {JOB}"]


def test_back_from_the_queue_the_job_resumes_its_own_sweep(slurm: Slurm) -> None:
    slurm.run_out_of_time()
    assert slurm.run() == 0
    assert slurm.called("sft-sweep resume") == [
        f"sft-sweep resume {slurm.out / 'lowdata-1'} --address auto"
    ]
    assert len(slurm.called("sft-sweep launch")) == 1


def test_a_sweep_that_never_began_is_launched_again(slurm: Slurm) -> None:
    (slurm.out / "lowdata-0").mkdir(parents=True)  # death fell between folder and manifest
    assert slurm.run(AT_ONCE="0") == 0
    assert slurm.called("sft-sweep launch")


def test_a_sweep_that_saves_too_slowly_goes_back_into_the_queue(slurm: Slurm) -> None:
    assert slurm.run_out_of_time(ON_TERM="ignore", SFT_SWEEP_SAVING_S="1") == 143
    assert slurm.called("scontrol requeue")


@pytest.mark.parametrize("code", ["0", "3"])
def test_a_sweep_that_finished_in_time_does_not_go_back(slurm: Slurm, code: str) -> None:
    assert slurm.run_out_of_time(ON_TERM=code) == int(code)
    assert not slurm.called("scontrol requeue")


@pytest.mark.parametrize("state", ["CANCELLED", "PREEMPTED", "COMPLETING"])
def test_a_job_that_is_ended_from_outside_does_not_put_itself_back(
    slurm: Slurm, state: str
) -> None:
    assert slurm.run_out_of_time(JOB_STATE=state) == 143
    assert not slurm.called("scontrol requeue")


def test_nobody_else_can_read_the_token(slurm: Slurm) -> None:
    slurm.out.mkdir(parents=True)
    (slurm.out / ".ray-token").write_text("left by a run that was killed")
    (slurm.out / ".ray-token").chmod(0o644)
    slurm.run(AT_ONCE="0")
    ((mode, permissions, token),) = slurm.tokens()
    assert (mode, permissions) == ("token", "600")
    assert re.fullmatch("[0-9a-f]{64}", token)


def test_the_token_is_new_for_every_run_and_gone_after_it(slurm: Slurm) -> None:
    slurm.run(AT_ONCE="0")
    slurm.run()
    first, second = slurm.tokens()
    assert first[2] != second[2]
    assert sorted(path.name for path in slurm.out.iterdir()) == ["lowdata-1"]


def test_the_token_is_on_no_command_line(slurm: Slurm) -> None:
    slurm.run(AT_ONCE="0")
    ((_, _, token),) = slurm.tokens()
    assert token not in "".join(slurm.calls)


def test_the_signal_comes_early_enough_to_wait_for_the_sweep() -> None:
    text = SCRIPT.read_text()
    signalled = re.search(r"^#SBATCH --signal=B:TERM@(\d+)$", text, re.MULTILINE)
    waits = re.search(r"SFT_SWEEP_SAVING_S:-(\d+)", text)
    assert signalled
    assert waits
    assert int(waits[1]) <= int(signalled[1]) - 30
    assert "\n#SBATCH --requeue\n" in text


def test_outside_of_a_job_the_script_says_how_to_start_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), "lowdata.yaml"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "start this with sbatch" in done.stderr
