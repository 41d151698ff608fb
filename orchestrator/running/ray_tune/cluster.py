"""Join a Ray cluster, or start a private one on this machine."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.job_config import JobConfig

from orchestrator.errors import StorageError
from orchestrator.processors import usable_processors
from orchestrator.running.cluster import LOCAL, SESSIONS, sessions_folder
from orchestrator.running.ray_tune.access_check import CLIENT
from orchestrator.running.ray_tune.admission import (
    CONNECT_TIMEOUT_S,
    access_address_of,
    admitted,
    check_reachable,
    refused,
)
from orchestrator.running.ray_tune.authentication import authenticating_own_cluster, protect_token
from orchestrator.running.ray_tune.private_head import private_head
from orchestrator.running.ray_tune.ray_internals import (
    AUTHENTICATION_LOGGER,
    find_node_ids,
)
from orchestrator.text import last_line
from trainable.stdout import stdout_to_stderr

_log = logging.getLogger("sft_sweep")

CLIENT_ATTEMPTS = 3
"""Number of attempts to connect a client. The head starts a process for each client, and sometimes
that process dies at its start, because it is forked from a parent with threads."""


class _WithoutDriverPaths(JobConfig):
    """A job whose processes import only installed modules and modules that are sent to them.

    Ray puts the driver's working directory, and the folder of its script, first on the import path
    of every process: a file `random.py` there would replace Python's own.
    """

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path.clear()
        return super()._get_proto_job_config()


@contextlib.contextmanager
def cluster(
    address: str, *, num_cpus: int | None = None, modules: Sequence[ModuleType] = ()
) -> Iterator[bool]:
    """Start a private Ray cluster on this machine, or join the one at `address`.

    The private cluster listens on loopback only, requires this user's token, has none of the
    services of shared clusters, runs its processes at this program's priority, and ends with the
    context. An open cluster is logged as a warning. In both, the working directory is not on the
    import path of processes, and everything that Ray prints goes to stderr.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        num_cpus: processors of the private cluster; None for those that this process may use.
        modules: packages and modules that are sent to every node and can be imported there.

    Yields:
        Whether the cluster is known to accept everybody.

    Raises:
        StorageError: there is no cluster at that address, it refuses this user, or this machine is
            not one of its nodes.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's future default; without it, Ray warns of the change at every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = address == LOCAL
    if own:
        _mend_folders()
    check_reachable(address)
    options: dict[str, Any] = {}
    if own:
        processors = usable_processors() if num_cpus is None else num_cpus
        options = {"include_dashboard": False, "num_cpus": processors}
    if modules and not _in_a_job_with_files():
        options["runtime_env"] = {"py_modules": list(modules)}
    logging.getLogger(AUTHENTICATION_LOGGER).setLevel(logging.ERROR)
    warning = protect_token()
    if warning is not None:
        _log.warning("%s", warning)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stdout_to_stderr())
        with _translating_errors(address):
            if own:
                is_open, joined = False, address
                stack.enter_context(authenticating_own_cluster())
            else:
                access_address = access_address_of(address)
                is_open = stack.enter_context(admitted(address, access_address=access_address))
                joined = _head_behind(address) if address.startswith(CLIENT) else address
                _check_member(address)
            stack.callback(ray.shutdown)  # also after a Ctrl-C during the start
            with private_head() if own else contextlib.nullcontext():
                ray.init(
                    address=joined,
                    log_to_driver=False,
                    configure_logging=True,
                    logging_level=logging.ERROR,
                    job_config=_WithoutDriverPaths(),
                    **options,
                )
        yield is_open


def _mend_folders() -> None:
    """Make the session folders in the environment absolute, and drop empty ones.

    Ray takes an empty name for a folder, and passes relative ones to processes that run elsewhere.
    """
    for name in (SESSIONS, "TMPDIR"):
        given = os.environ.pop(name, "")
        if given:
            os.environ[name] = str(Path(given).absolute())


@contextlib.contextmanager
def _translating_errors(address: str) -> Iterator[None]:
    """Turn errors that Ray raises while it joins into a `StorageError` with advice."""
    try:
        yield
    except ray.exceptions.AuthenticationError as error:
        raise StorageError(refused(address)) from error
    except Exception as error:
        # If the machine is too busy to start it in time, Ray raises a plain `Exception`.
        is_known = isinstance(error, OSError | ImportError | RuntimeError | ValueError)
        if not is_known and type(error) is not Exception:
            raise
        if address == LOCAL:
            raise StorageError(
                f"Ray does not start on this machine: {last_line(str(error)).rstrip('.')}. Its "
                f"sessions lie in {sessions_folder()}; name another folder, with a short path, in "
                f"{SESSIONS}. Check for other causes with: sft-sweep doctor"
            ) from error
        # The head granted access before, so this machine's nodes belong to another cluster.
        if "No node info" in str(error.__cause__):
            raise StorageError(no_member(address)) from error
        raise StorageError(f"--address {address}: no Ray cluster answers: {error}") from error


def _head_behind(address: str) -> str:
    """Return the head's own address, read through the port of Ray's client.

    A sweep cannot run through the client server: Tune's loop would run on the head, where the
    journal is not.

    Raises:
        ConnectionError: the head accepts no client there.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            with ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR):
                return str(ray.get_runtime_context().gcs_address)
        except ConnectionAbortedError:
            if attempts == CLIENT_ATTEMPTS:
                raise
        finally:
            ray.shutdown()


def _check_member(address: str) -> None:
    """Check that a node runs on this machine, as a driver needs; Ray itself waits for a minute.

    Raises:
        StorageError: no node runs here.
    """
    until = time.monotonic() + CONNECT_TIMEOUT_S
    while not find_node_ids():
        if time.monotonic() >= until:
            raise StorageError(no_member(address))
        time.sleep(0.5)


def no_member(address: str) -> str:
    """Return the message for a machine that is not a node of the cluster."""
    host = address.removeprefix(CLIENT).rpartition(":")[0] or "HEAD"
    return (
        f"--address {address}: this machine is no node of that cluster, and a sweep's journal "
        "and tables are written where its driver runs. Send the sweep there: sft-sweep submit "
        f"SPACE --address http://{host}:8265 --out DIR"
    )


def _in_a_job_with_files() -> bool:
    """Return whether this process is a Ray job whose files are already sent to all nodes."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return "working_dir" in job.get("runtime_env", {})
