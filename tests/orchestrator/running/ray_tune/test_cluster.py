"""Joining and starting clusters; tests with several nodes are in tests/integration/cluster."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from orchestrator.errors import StorageError, UsageError
from orchestrator.running.cluster import LOCAL
from orchestrator.running.ray_tune import admission
from orchestrator.running.ray_tune import cluster as joining
from orchestrator.running.ray_tune.access_check import Access
from orchestrator.running.ray_tune.admission import mode_of
from orchestrator.running.ray_tune.authentication import MODE, Mode, _read_environment
from orchestrator.running.ray_tune.cluster import CLIENT_ATTEMPTS, cluster

ADDRESS = "ray://10.0.0.1:10001"
BEHIND = "10.0.0.1:6379"


@pytest.fixture(autouse=True)
def _as_the_environment_says() -> Iterator[None]:
    """Make Ray read the mode again after each test, because other tests share a cluster."""
    yield
    _read_environment()


class Head:
    """A fake head whose first processes for clients die."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.asked: list[str] = []

    def init(self, address: str, **_: Any) -> contextlib.AbstractContextManager[None]:
        """Stand in for `ray.init`."""
        self.asked.append(address)
        if len(self.asked) <= self.deaths:
            raise ConnectionAbortedError("Starting Ray client server failed")
        return contextlib.nullcontext()


def join(
    head: Head, monkeypatch: pytest.MonkeyPatch, *, within: Callable[[], None] = lambda: None
) -> None:
    """Join the fake head; nothing else of Ray is used."""
    monkeypatch.setattr(ray, "init", head.init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=BEHIND))
    for check in ("check_reachable", "_check_member"):
        monkeypatch.setattr(joining, check, lambda _: None)
    monkeypatch.setattr(admission, "check_access", lambda _: Access.OPEN)
    monkeypatch.delenv(MODE, raising=False)
    with cluster(ADDRESS):
        within()


@pytest.mark.parametrize("deaths", range(CLIENT_ATTEMPTS))
def test_a_client_connects_again_if_its_process_on_the_head_died(
    deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Head(deaths)
    join(head, monkeypatch)
    assert head.asked == [ADDRESS] * (deaths + 1) + [BEHIND]


@pytest.mark.parametrize("kind", [Exception, RuntimeError, ValueError, ConnectionError])
def test_a_private_cluster_that_does_not_start_is_a_storage_error_whatever_ray_raises(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise kind("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    told = "Ray does not start on this machine: The current node timed out during startup"
    with pytest.raises(StorageError, match=told), cluster(LOCAL):
        pass


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
@pytest.mark.parametrize(("given", "seen"), [("", None), ("/a/b", "/a/b"), ("b", "/a/b")])
def test_folders_for_sessions_are_absolute_and_empty_variables_none(
    name: str, given: str, seen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []
    monkeypatch.setenv(name, given)
    monkeypatch.setattr(Path, "absolute", lambda path: Path("/a") / path)
    monkeypatch.setattr(ray, "init", lambda **_: found.append(os.environ.get(name)))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with cluster(LOCAL):
        assert found == [seen]


def test_errors_of_our_own_while_a_cluster_starts_stay_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: Any) -> None:
        raise UsageError("of our own")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(UsageError, match="of our own"), cluster(LOCAL):
        pass


def test_a_client_whose_processes_always_die_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(CLIENT_ATTEMPTS)
    with pytest.raises(StorageError, match="no Ray cluster answers: Starting Ray client server"):
        join(head, monkeypatch)
    assert head.asked == [ADDRESS] * CLIENT_ATTEMPTS


@pytest.mark.parametrize(
    ("access", "chosen", "mode"),
    [
        (Access.OPEN, None, Mode.DISABLED),
        (Access.OPEN, "disabled", Mode.DISABLED),
        (Access.OPEN, "token", "asks for no token, and RAY_AUTH_MODE=token"),
        (Access.GRANTED, None, Mode.TOKEN),
        (Access.GRANTED, "TOKEN", Mode.TOKEN),
        (Access.REFUSED, None, "holds no token that the cluster takes"),
        (Access.REFUSED, "token", "holds no token that the cluster takes"),
        (Access.REFUSED, "disabled", "unset RAY_AUTH_MODE"),
        (None, None, "no Ray cluster of version"),
    ],
)
def test_the_mode_is_that_of_the_cluster_unless_the_user_chose_another(
    access: Access | None,
    chosen: str | None,
    mode: Mode | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(MODE, raising=False)
    if chosen is not None:
        monkeypatch.setenv(MODE, chosen)
    if isinstance(mode, Mode):
        assert mode_of("10.0.0.1:6379", access) is mode
    else:
        with pytest.raises(StorageError, match=mode):
            mode_of("10.0.0.1:6379", access)


def test_a_mode_that_ray_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "check_reachable", lambda _: None)
    monkeypatch.setenv(MODE, "tokens")
    with (
        pytest.raises(UsageError, match="got 'tokens'; allowed are disabled, token"),
        cluster("10.0.0.1:6379"),
    ):
        pass


def test_what_is_printed_while_a_cluster_is_there_goes_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    join(Head(0), monkeypatch, within=lambda: print("(raylet) a worker died", flush=True))
    print("the result")
    captured = capfd.readouterr()
    assert captured.out == "the result\n"
    assert "(raylet) a worker died" in captured.err


@pytest.mark.usefixtures("local_ray")
def test_processes_import_neither_from_the_working_directory_nor_from_beside_the_script() -> None:
    def import_path() -> list[str]:
        return sys.path

    found = ray.get(ray.remote(import_path).remote())
    beside = Path(sys.argv[0]).resolve().parent
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    assert not ({str(Path.cwd()), str(beside)} - {*inherited}) & {*found}


@pytest.mark.parametrize(
    "folder", ["/" + "long" * 30, "/dev/null", "/proc/nowhere"], ids=["too long", "a file", "none"]
)
def test_an_unusable_folder_for_sessions_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    def init(**_: Any) -> None:
        if len(folder) > 100:
            raise OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107")
        (Path(folder) / "ray").mkdir()

    monkeypatch.setenv("RAY_TMPDIR", folder)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # keeps the cluster that other tests share
    with (
        pytest.raises(StorageError, match=f"does not start on this .* {folder}; .* RAY_TMPDIR"),
        cluster("local"),
    ):
        pass
