"""Sweeps as Ray jobs: submitted, followed and stopped through the dashboard's API."""

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
"""Time for a clean end of a stopped sweep before Ray kills it, in seconds."""

LOST_S = 60.0
"""How long to retry a lost connection while a job is followed, in seconds."""

POLL_S = 1.0

_PROGRAM = "python -c 'import sys; from orchestrator.cli import main; sys.exit(main())'"
_OVERRIDING_VARIABLES = (
    "RAY_API_SERVER_ADDRESS",
    "RAY_ADDRESS",
)  # override the argument


@dataclass(frozen=True)
class JobState:
    """The state of a job.

    Attributes:
        status: Ray's status: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.
        ended: whether the job has ended.
        exit_code: exit code of the sweep; None if it is unknown.
        message: Ray's message about the job; may be empty.
    """

    status: str
    ended: bool
    exit_code: int | None
    message: str


class Jobs:
    """The jobs of one cluster.

    Args:
        address: address of its dashboard, `http://host:port`.

    Raises:
        UsageError: the address is invalid, or the packages for jobs are not installed.
        StorageError: nothing answers at the address, or the cluster refuses access.
    """

    def __init__(self, address: str) -> None:
        host, port = _host_and_port(address)
        self._address = address
        check_answers(host, port, address=address)
        if find_spec("aiohttp") is None:
            raise UsageError("jobs need more of Ray: pip install 'sft-sweep[cluster]'")
        for name in TALKATIVE_LOGGERS:  # they log every file that is sent
            logging.getLogger(name).setLevel(logging.WARNING)
        with (
            self._translating_errors(),
            _without_overrides(),
            admitted(address, access_address=address),
        ):
            self._client = JobSubmissionClient(address)

    def submit(self, *, job_id: str, entrypoint: str, folder: Path | None, ship_code: bool) -> None:
        """Submit a job.

        Args:
            job_id: unique id of the job.
            entrypoint: shell command to run on the head.
            folder: files of the job, which become its working directory; None for no files.
            ship_code: send this program as well, and have its dependencies installed.

        Raises:
            StorageError: the cluster did not accept the job.
        """
        # Ray's job supervisor reads the variable; it runs in the job's environment.
        env_vars = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
        runtime_env: dict[str, Any] = {"env_vars": env_vars}
        if folder is not None:
            runtime_env["working_dir"] = str(folder)
        with (
            tempfile.TemporaryDirectory(prefix="sft-sweep-") as scratch,
            self._translating_errors(),
        ):
            if ship_code:
                runtime_env["py_modules"] = [str(one) for one in program(Path(scratch))]
                runtime_env["pip"] = dependencies()
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job_id, runtime_env=runtime_env
            )

    def state(self, job_id: str) -> JobState:
        """The state of a job.

        Raises:
            UsageError: the cluster has no job of this id.
            StorageError: the cluster does not answer.
        """
        with self._translating_errors(job_id):
            info = self._client.get_job_info(job_id)
        status = JobStatus(info.status)
        return JobState(
            status=status.value,
            ended=status.is_terminal(),
            exit_code=info.driver_exit_code,
            message=info.message or "",
        )

    def log(self, job_id: str) -> str:
        """The output of a job so far.

        Raises:
            UsageError: the cluster has no job of this id.
            StorageError: the cluster does not answer.
        """
        with self._translating_errors(job_id):
            return str(self._client.get_job_logs(job_id))

    def follow(self, job_id: str, *, lost_s: float = LOST_S) -> Iterator[str]:
        """Yield the output of a job as it appears, until the job ends.

        Args:
            job_id: id of the job.
            lost_s: how long to retry a lost connection, in seconds.

        Raises:
            UsageError: the cluster has no job of this id.
            StorageError: the cluster has not answered for `lost_s` seconds; the job goes on.
        """
        seen = 0
        until = time.monotonic() + lost_s
        while True:
            try:
                ended = self.state(job_id).ended  # read first, so that the log is complete
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
        """The message for a user who stops following a running job."""
        return (
            "The job goes on; follow it again with: "
            f"sft-sweep logs {job_id} --address {self._address} --follow"
        )

    def stop(self, job_id: str) -> JobState:
        """Stop a job cleanly, wait for its end and return its state.

        Raises:
            UsageError: the cluster has no job of this id.
            StorageError: the cluster does not answer, or the job does not end.
        """
        with self._translating_errors(job_id):
            self._client.stop_job(job_id)
        until = time.monotonic() + 2 * STOP_WAIT_S
        while not (state := self.state(job_id)).ended:
            if time.monotonic() >= until:
                raise StorageError(f"{job_id}: asked to stop, and still {state.status}")
            time.sleep(POLL_S)
        return state

    @contextlib.contextmanager
    def _translating_errors(self, job_id: str | None = None) -> Iterator[None]:
        """Turn exceptions of Ray's job client into `UsageError`s and `StorageError`s.

        Args:
            job_id: id of the job, if the request is about one; an unknown id is a `UsageError`.
        """
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
    """Host and port of a dashboard's URL.

    Raises:
        UsageError: the URL is invalid.
    """
    parts = urlsplit(address)
    with contextlib.suppress(ValueError):  # the port is no number, or out of range
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts.hostname, port
    raise UsageError(
        f"--address {address}: not where jobs are taken; allowed: the address of the "
        "cluster's dashboard, such as http://10.0.0.1:8265"
    )


def new_job_id(name: str) -> str:
    """A unique job id that starts with `name`."""
    return f"{name}-{secrets.token_hex(4)}"


def entrypoint_of(arguments: Sequence[str], *, ship_code: bool = False) -> str:
    """The shell command that runs `sft-sweep` on the head of a cluster.

    It replaces the shell (`exec`), so that signals reach the program.

    Args:
        arguments: arguments of `sft-sweep`; `--address auto` is added.
        ship_code: whether the program is sent with the job and has no `sft-sweep` script.
    """
    program = _PROGRAM if ship_code else "sft-sweep"
    return f"exec {program} {shlex.join([*arguments, '--address', 'auto'])}"


def program(scratch: Path) -> list[Path]:
    """The folders to send as modules: both packages and their metadata.

    Args:
        scratch: folder in which the metadata is written, for `importlib.metadata`.
    """
    installed = metadata.distribution("sft-sweep")
    about = scratch / f"sft_sweep-{installed.version}.dist-info"
    about.mkdir()
    text = installed.read_text("METADATA") or installed.read_text(
        "PKG-INFO"
    )  # PKG-INFO in a source tree
    (about / "METADATA").write_text(text or "", encoding="utf-8")
    specs = [find_spec(package) for package in ("orchestrator", "trainable")]
    return [about, *(Path(str(spec.origin)).parent for spec in specs if spec is not None)]


def dependencies() -> list[str]:
    """This program's dependencies except Ray, pinned to the versions installed here."""
    needed = set()
    for requirement in _required("sft-sweep"):
        if requirement.name != "ray":
            needed.add(requirement.name)
        for extra in requirement.extras:  # Ray's too: the cluster's Ray may lack them
            needed |= {part.name for part in _required(requirement.name, extra=extra)}
    versions = {name: metadata.version(name).partition("+")[0] for name in needed}  # +cu130
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def _required(package: str, *, extra: str = "") -> Iterator[Requirement]:
    """Yield the requirements of a package on this machine; with an extra, only its additions."""
    for text in metadata.requires(package) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        applies = {one: marker is None or marker.evaluate({"extra": one}) for one in ("", extra)}
        if applies[extra] and not (extra and applies[""]):
            yield requirement


@contextlib.contextmanager
def _without_overrides() -> Iterator[None]:
    """Unset `_OVERRIDING_VARIABLES` within the block."""
    hidden: Mapping[str, str] = {
        name: os.environ.pop(name) for name in _OVERRIDING_VARIABLES if name in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
