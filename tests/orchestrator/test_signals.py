"""The first signal asks for the end, the second one makes it; imports are not torn by any."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.signals import (
    ENDING,
    first_signal_afterwards,
    interrupted_at_safe_places,
    stopping_on_signals,
)
from tests.builders.programs import printed_by

INTERRUPTED = """
import signal
signal.raise_signal(signal.SIGINT)
WHOLE = True
"""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leaves the handlers of this process as they were."""
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_first_signal_asks_and_the_second_one_ends() -> None:
    asked: list[bool] = []
    with stopping_on_signals(lambda: asked.append(True)):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == 128 + signal.SIGINT
    assert asked == [True]


def test_a_second_signal_amid_what_follows_ends_with_its_own_code() -> None:
    with stopping_on_signals(lambda: None) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught == [signal.SIGTERM]
    with pytest.raises(SystemExit) as ended:
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


def test_without_a_signal_everything_is_as_before() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with stopping_on_signals(lambda: None):
        assert [signal.getsignal(number) for number in ENDING] != before
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stopping_on_signals(lambda: None) as caught:
        os.kill(os.getpid(), signal.SIGHUP)
    assert caught == []


def test_an_interrupt_amid_an_import_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "interrupted_module.py").write_text(INTERRUPTED)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), interrupted_at_safe_places():  # noqa: PT012
        module = importlib.import_module("interrupted_module")
        assert module.WHOLE
        time.sleep(60)
    assert sys.modules.pop("interrupted_module").WHOLE


@pytest.mark.parametrize("place", ["after_in_parent", "before"])
def test_an_interrupt_amid_the_start_of_a_process_comes_after_it(place: str) -> None:
    program = (
        "import os, signal, subprocess, sys, time\n"
        "from orchestrator.signals import interrupted_at_safe_places\n"
        f"os.register_at_fork({place}=lambda: signal.raise_signal(signal.SIGINT))\n"
        "try:\n"
        "    with interrupted_at_safe_places():\n"
        # Python forks, and so runs these functions, where it has to run something in the child.
        "        process = subprocess.Popen([sys.executable, '-c', ''], preexec_fn=os.getpid)\n"
        "        print('started')\n"
        "        time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', process.wait())"
    )
    assert printed_by(program, timeout_s=50).split() == ["started", "interrupted", "0"]


def test_an_interrupt_amid_logging_comes_after_it() -> None:
    logged = []

    class Interrupted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            signal.raise_signal(signal.SIGINT)
            logged.append(record.getMessage())

    logger = logging.Logger("interrupted")
    logger.addHandler(Interrupted())
    with pytest.raises(KeyboardInterrupt), interrupted_at_safe_places():  # noqa: PT012
        logger.warning("whole")
        time.sleep(60)
    assert logged == ["whole"]


def test_an_interrupt_anywhere_else_comes_at_once() -> None:
    after = []
    with pytest.raises(KeyboardInterrupt), interrupted_at_safe_places():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        after.append("went on")
    assert not after


def test_the_handler_is_the_usual_one_afterwards() -> None:
    with interrupted_at_safe_places():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_of_the_callers_stays() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupted_at_safe_places():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def interrupted(times: int) -> list[int]:
    """Interrupt a block that holds signals back so many times; the times that it went on."""
    went_on: list[int] = []

    def block() -> None:
        with first_signal_afterwards():
            for number in range(times):
                os.kill(os.getpid(), signal.SIGINT)
                went_on.append(number)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return went_on


def test_a_signal_amid_a_block_that_holds_it_back_acts_after_it() -> None:
    assert interrupted(1) == [0]


def test_a_second_signal_amid_a_block_that_holds_one_back_acts_at_once() -> None:
    assert interrupted(2) == [0]


def test_what_is_held_back_reaches_the_handler_that_was_there_and_an_error_is_not_lost() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def block() -> None:
        with first_signal_afterwards():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            assert not seen
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        block()
    assert seen == [signal.SIGTERM]
