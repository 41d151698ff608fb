"""How following a job ends, when the job ends and when its follower has seen enough."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.cli.commands.jobs import follow, run_to_resume
from orchestrator.running.ray_tune.jobs import Jobs, JobState


class Told(Jobs):
    """A job that has said one line and is as given."""

    def __init__(self, status: str, exit_code: int | None, *, interrupted: bool = False) -> None:
        self._address = "http://10.0.0.1:8265"
        self._state = JobState(status=status, ended=True, exit_code=exit_code, message="")
        self._interrupted = interrupted

    def follow(self, job_id: str, *, lost_s: float = 0) -> Iterator[str]:
        yield "Report: there\n"
        if self._interrupted:
            raise KeyboardInterrupt

    def state(self, job_id: str) -> JobState:
        return self._state


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 3, 3),
        ("FAILED", None, 1),
        ("STOPPED", None, 143),  # Ray keeps no exit code of what it was told to stop
    ],
)
def test_who_follows_ends_as_the_sweep_ended(status: str, told: int | None, code: int) -> None:
    assert follow(Told(status, told), "pets-1") == code


def test_who_stops_following_hears_that_the_job_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert follow(Told("RUNNING", None, interrupted=True), "pets-1") == 130
    out, err = capsys.readouterr()
    assert out == "Report: there\n"
    again = "sft-sweep logs pets-1 --address http://10.0.0.1:8265 --follow"
    assert err == f"The job goes on; follow it again with: {again}\n"


def test_who_has_stopped_a_job_hears_which_run_to_go_on_with() -> None:
    first, second = "runs/pets-20260131-142530", "'runs/my pets-20260131-142530'"
    log = f"Stopped early. Go on with: sft-sweep resume {first}\nGo on with: sft-sweep resume "
    assert run_to_resume(log + second + "\n") == second
    assert run_to_resume("Report: there\n") is None
