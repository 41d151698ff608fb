"""Sweeps as jobs of a cluster: sent, followed and stopped through the API of Ray's dashboard."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ray
from packaging.requirements import Requirement
from ray.job_submission import JobStatus, JobSubmissionClient

from orchestrator.errors import StorageError, UsageError
from orchestrator.running.ray_tune.admission import admitted, check_answers, refused
from orchestrator.running.ray_tune.ray_internals import TALKATIVE_LOGGERS

STOP_WAIT_S = 30
"""How long a sweep may take for a clean end before Ray kills it, in seconds."""

LOST_S = 60.0
"""How long a lost connection is tried again while a job is followed, in seconds."""

POLL_S = 1.0

_PROGRAM = "python -c 'import sys; from orchestrator.cli import main; sys.exit(main())'"
_OVERRULING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray prefers these to what is given


@dataclass(frozen=True)
class JobState:
    """How a job is.

    Attributes:
        status: Ray's word: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        ended: whether it is over.
        exit_code: of the sweep, where it is known.
        message: what Ray says of it.
    """

    status: str
    ended: bool
    exit_code: int | None
    message: str


class Jobs:
    """The jobs of one cluster.

    Args:
        address: of its dashboard, `http://host:port`.

    Raises:
        UsageError: that is no such address, or the packages for it are not installed.
        StorageError: nothing answers there, or it does not let us in.
    """

    def __init__(self, address: str) -> None:
        host, port = _host_and_port(address)
        self._address = address
        check_answers(host, port, address=address)
        if find_spec("aiohttp") is None:
            raise UsageError("jobs need more of Ray: pip install 'sft-sweep[cluster]'")
        for name in TALKATIVE_LOGGERS:  # of every file that is sent
            logging.getLogger(name).setLevel(logging.WARNING)
        with self._telling(), _not_overruled(), admitted(address, door=address):
            self._client = JobSubmissionClient(address)

    def submit(self, *, job_id: str, entrypoint: str, folder: Path | None, ship_code: bool) -> None:
        """Send a job.

        Args:
            job_id: its name; no other job has it.
            entrypoint: a shell command that is run on the head.
            folder: its files; they are the current directory there. None for no files.
            ship_code: send this program too, and have its dependencies installed.

        Raises:
            StorageError: the cluster did not take it.
        """
        # The supervisor reads the first one, from its own environment, which is the job's.
        env_vars = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
        runtime_env: dict[str, Any] = {"env_vars": env_vars}
        if folder is not None:
            runtime_env["working_dir"] = str(folder)
        with tempfile.TemporaryDirectory(prefix="sft-sweep-") as scratch, self._telling():
            if ship_code:
                runtime_env["py_modules"] = [str(one) for one in program(Path(scratch))]
                runtime_env["pip"] = dependencies()
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env
            )

    def state(self, job_id: str) -> JobState:
        """How a job is.

        Raises:
            UsageError: the cluster has none of this name.
            StorageError: the cluster does not answer.
        """
        with self._telling(job_id):
            info = self._client.get_job_info(job_id)
        status = JobStatus(info.status)
        return JobState(
            status=status.value,
            ended=status.is_terminal(),
            exit_code=info.driver_exit_code,
            message=info.message or "",
        )

    def log(self, job_id: str) -> str:
        """All that a job has printed so far.

        Raises:
            UsageError: the cluster has none of this name.
            StorageError: the cluster does not answer.
        """
        with self._telling(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, *, lost_s: float = LOST_S) -> Iterator[str]:
        """What a job prints, as it comes, until it ends.

        Raises:
            UsageError: the cluster has none of this name.
            StorageError: the cluster has not answered for `lost_s` seconds; the job goes on.
        """
        seen = 0
        until = time.monotonic() + lost_s
        while True:
            try:
                ended = self.state(job_id).ended  # before the log: what it printed last is in it
                log = self.log(job_id)
            except StorageError as error:
                if time.monotonic() >= until:
                    raise StorageError(f"{error}\n{self.goes_on(job_id)}") from error
            else:
                until = time.monotonic() + lost_s
                if len(log) > seen:
                    yield log[seen:]
                    seen = len(log)
                if ended:
                    return
            time.sleep(POLL_S)

    def goes_on(self, job_id: str) -> str:
        """What to tell whoever follows a job no longer."""
        return (
            "The job goes on; follow it again with: "
            f"sft-sweep logs {job_id} --address {self._address} --follow"
        )

    def stop(self, job_id: str) -> JobState:
        """End a job cleanly, and wait for its end.

        Raises:
            UsageError: the cluster has none of this name.
            StorageError: the cluster does not answer, or the job does not end.
        """
        with self._telling(job_id):
            self._client.stop_job(job_id)
        until = time.monotonic() + 2 * STOP_WAIT_S
        while not (state := self.state(job_id)).ended:
            if time.monotonic() >= until:
                raise StorageError(f"{job_id}: asked to stop, and still {state.status}")
            time.sleep(POLL_S)
        return state

    @contextlib.contextmanager
    def _telling(self, job_id: str | None = None) -> Iterator[None]:
        """Turns what Ray's client raises into errors for people."""
        import requests  # with ray[default] alone

        try:
            yield
        except ray.exceptions.AuthenticationError as error:
            raise StorageError(refused(self._address)) from error
        except (requests.RequestException, ConnectionError) as error:
            raise StorageError(f"--address {self._address}: no answer: {error}") from error
        except RuntimeError as error:
            if job_id is not None and "404" in str(error):
                raise UsageError(
                    f"{job_id}: {self._address} has no job of this name; `ray job list` has all"
                ) from error
            raise StorageError(f"--address {self._address}: {error}") from error


def _host_and_port(address: str) -> tuple[str, int]:
    """Where a dashboard listens.

    Raises:
        UsageError: that is no address of one.
    """
    parts = urlsplit(address)
    with contextlib.suppress(ValueError):  # a port that is no number, or none that there can be
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname, port
    raise UsageError(
        f"--address {address}: not where jobs are taken; allowed: the address of the "
        "cluster's dashboard, such as http://10.0.0.1:8265"
    )


def new_job_id(name: str) -> str:
    """A name for a job that no other job has."""
    return f"{name}-{secrets.token_hex(4)}"


def entrypoint_of(arguments: Sequence[str], *, ship_code: bool = False) -> str:
    """The shell command that runs `sft-sweep` with these arguments within a cluster.

    It takes the shell's place, so that signals reach it.
    """
    program = _PROGRAM if ship_code else "sft-sweep"
    return f"exec {program} {shlex.join([*arguments, '--address', 'auto'])}"


def program(scratch: Path) -> list[Path]:
    """The folders that make this program where the one above each is on Python's path.

    Args:
        scratch: where the folder is made by which `importlib.metadata` knows its version.
    """
    installed = metadata.distribution("sft-sweep")
    about = scratch / f"sft_sweep-{installed.version}.dist-info"
    about.mkdir()
    text = installed.read_text("METADATA") or installed.read_text("PKG-INFO")  # of a source tree
    (about / "METADATA").write_text(text or "", encoding="utf-8")
    specs = [find_spec(package) for package in ("orchestrator", "trainable")]
    return [about, *(Path(str(spec.origin)).parent for spec in specs if spec is not None)]


def dependencies() -> list[str]:
    """What this program needs, with the versions that it has here, but for Ray itself."""
    needed = set()
    for requirement in _required("sft-sweep"):
        if requirement.name != "ray":
            needed.add(requirement.name)
        for extra in requirement.extras:  # of Ray, too: what is there may be without them
            needed |= {part.name for part in _required(requirement.name, extra=extra)}
    versions = {name: metadata.version(name).partition("+")[0] for name in needed}  # +cu130
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _required(package: str, *, extra: str = "") -> Iterator[Requirement]:
    """What a package asks for on this machine; with an extra, what that adds."""
    for text in metadata.requires(package) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        applies = {one: marker is None or marker.evaluate({"extra": one}) for one in ("", extra)}
        if applies[extra] and not (extra and applies[""]):
            yield requirement


@contextlib.contextmanager
def _not_overruled() -> Iterator[None]:
    hidden: Mapping[str, str] = {
        name: os.environ.pop(name) for name in _OVERRULING if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
