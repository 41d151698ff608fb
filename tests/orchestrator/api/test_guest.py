"""A sweep in somebody else's process leaves it as it was, and its end ends nothing else."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from orchestrator.api.guest import as_usage_errors, guest_sweep, passing_on_signals
from orchestrator.errors import SweepError, UsageError
from orchestrator.signals import ENDING, stopping_on_signals
from trainable.errors import BackboneError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leaves the handlers of this process as they were."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_handlers_are_those_of_before_although_a_signal_ended_the_sweep() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with guest_sweep(), stopping_on_signals(lambda: None) as caught:
        os.kill(os.getpid(), signal.SIGINT)
    assert caught == [signal.SIGINT]
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_second_interrupt_comes_out_as_what_the_notebook_knows() -> None:
    with pytest.raises(KeyboardInterrupt), guest_sweep(), stopping_on_signals(lambda: None):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_signal_goes_to_whoever_handled_it_before() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    with pytest.raises(KeyboardInterrupt), guest_sweep(), stopping_on_signals(lambda: None):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_an_exit_that_no_signal_asked_for_is_left_alone() -> None:
    with pytest.raises(SystemExit, match="3"), passing_on_signals():
        raise SystemExit(3)


def test_the_variables_of_ray_and_its_hook_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_KEPT", "before")
    monkeypatch.setenv("TUNE_REMOVED", "before")
    hook = sys.excepthook
    with guest_sweep():
        os.environ |= {"RAY_KEPT": "after", "TUNE_NEW": "1", "MINE": "1"}
        del os.environ["TUNE_REMOVED"]
        sys.excepthook = lambda *_: None
    assert (os.environ["RAY_KEPT"], os.environ["TUNE_REMOVED"]) == ("before", "before")
    assert "TUNE_NEW" not in os.environ
    assert os.environ.pop("MINE") == "1"  # none of the names that a sweep uses
    assert sys.excepthook is hook


def test_what_trainable_refuses_is_a_sweep_error_with_the_same_message() -> None:
    with pytest.raises(UsageError, match=r"^no such network$"), as_usage_errors():
        raise BackboneError("no such network")


def test_a_second_sweep_in_one_process_is_refused_and_a_later_one_is_not() -> None:
    refused: list[SweepError] = []

    def second() -> None:
        try:
            with guest_sweep():
                raise AssertionError("two sweeps at once")
        except SweepError as error:
            refused.append(error)

    with guest_sweep():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert "a sweep runs in this process already" in str(refused[0])
    with guest_sweep():
        pass


def test_a_ray_of_the_users_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: True))
    with pytest.raises(UsageError, match=r"Ray runs in this process already.*ray\.shutdown\(\)"):
        guest_sweep().__enter__()
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False))
    with guest_sweep():
        pass
