"""Joining or starting a Ray cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
from ray.job_config import JobConfig

from orchestrator.errors import StorageError, UsageError
from orchestrator.processors import usable_processors
from orchestrator.running.cluster import SESSIONS, TOKEN_PATH, sessions_folder, token_file
from orchestrator.running.ray_tune.access_check import CLIENT, Access, check_access
from orchestrator.running.ray_tune.authentication import (
    MODE,
    TOKEN,
    Mode,
    authenticating,
    authenticating_own_cluster,
    protect_token,
)
from orchestrator.running.ray_tune.private_head import private_head
from orchestrator.running.ray_tune.ray_internals import (
    AUTHENTICATION_LOGGER,
    canonicalize_bootstrap_address,
    find_node_ids,
)
from orchestrator.text import last_line
from trainable.stdout import stdout_to_stderr

LOCAL = "local"

OPEN = (
    "this cluster is open: whoever reaches it can run code on it. Start it with "
    "RAY_AUTH_MODE=token on every node; see docs/security.md"
)

_log = logging.getLogger("sft_sweep")

CLIENT_ATTEMPTS = 3
"""How often a client asks to be let in. A process of the head's serves it alone, and now and then
one of them dies as it starts, forked amid the threads of its parent."""

CONNECT_TIMEOUT_S = 10.0
"""How long a cluster's address may take to answer, in seconds."""


class _WithoutDriverPaths(JobConfig):
    """A job whose processes import what is installed and what is sent to them, and nothing else.

    Ray puts the driver's working directory, and the folder of its script, before all others on the
    import path of every process: a file `random.py` that lies there would stand for Python's own.
    """

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path.clear()
        return super()._get_proto_job_config()


@contextlib.contextmanager
def cluster(
    address: str, *, num_cpus: int | None = None, modules: Sequence[ModuleType] = ()
) -> Iterator[bool]:
    """A Ray cluster to run on: a private one on this machine, or the one at `address`.

    The private one listens on loopback alone, asks for this user's token, has none of the services
    of shared clusters, runs its processes at this program's own priority, and ends with the
    context. One that is open to everybody is warned of. In neither is the working directory on the
    import path of processes, and whatever Ray prints goes to stderr.

    Args:
        address: `local`, `auto`, `host:port` or `ray://host:port`.
        num_cpus: processors of the private cluster; None for those that this process may use.
        modules: packages and modules that are sent to every node, to be imported there.

    Yields:
        Whether it is open to everybody, as far as that is known.

    Raises:
        StorageError: there is no cluster at that address, it does not let us in, or this machine
            is no node of it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's coming default, asked for now: it warns of the change on every start otherwise.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = address == LOCAL
    if own:
        # Ray's 15 leaves trials a thirtieth of a processor beside any program that computes.
        os.environ.setdefault("RAY_worker_niceness", "0")
        _mend_folders()
    _check_reachable(address)
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
        with _telling(address):
            if own:
                is_open, joined = False, address
                stack.enter_context(authenticating_own_cluster())
            else:
                is_open = stack.enter_context(admitted(address, door=_door(address)))
                joined = _head_behind(address) if address.startswith(CLIENT) else address
                _check_member(address)
            stack.callback(ray.shutdown)  # of what a Ctrl-C left half started, too
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
    """Make the folders that the environment names for sessions such that Ray can start there.

    It takes an empty name for a folder, and hands relative ones to processes that run elsewhere.
    """
    for name in (SESSIONS, "TMPDIR"):
        given = os.environ.pop(name, "")
        if given:
            os.environ[name] = str(Path(given).absolute())


@contextlib.contextmanager
def admitted(address: str, *, door: str) -> Iterator[bool]:
    """Speak to a cluster as it asks for it: with this user's token, or without where it is open.

    An open one is warned of, and the token is not shown to it.

    Args:
        address: of the cluster, as the user gave it.
        door: where it is asked; see `check_access`.

    Yields:
        Whether it is open to everybody.

    Raises:
        UsageError: `RAY_AUTH_MODE` is none of Ray's.
        StorageError: no cluster answers, it does not let us in, or the user chose another mode than
            the cluster's.
    """
    Mode.chosen()  # what is no mode is told before anything is asked
    mode = mode_of(address, check_access(door))
    is_open = mode is Mode.DISABLED
    if is_open:
        _log.warning("--address %s: %s", address, OPEN)
    with authenticating(mode):
        yield is_open


def mode_of(address: str, access: Access | None) -> Mode:
    """The mode in which to speak to a cluster that receives us in this way.

    Raises:
        StorageError: no cluster answers, it does not let us in, or the user chose another mode than
            the cluster's.
    """
    match access:
        case None:
            raise StorageError(
                f"--address {address}: what listens there is no Ray cluster of version "
                f"{ray.__version__}, or it does not answer"
            )
        case Access.REFUSED:
            raise StorageError(refused(address))
        case Access.GRANTED:
            return Mode.TOKEN
        case Access.OPEN if Mode.chosen() is Mode.TOKEN:
            raise StorageError(
                f"--address {address}: the cluster asks for no token, and {MODE}=token has this "
                f"program ask its nodes for one. Unset {MODE}, or start the cluster with "
                f"{MODE}=token on every node"
            )
        case Access.OPEN:
            return Mode.DISABLED


def _door(address: str) -> str:
    """Where a cluster is asked how it receives us."""
    if address.startswith(CLIENT):
        if find_spec("grpc") is None:
            raise UsageError(f"{CLIENT} needs more of Ray: pip install 'sft-sweep[cluster]'")
        return address
    return canonicalize_bootstrap_address(address) or address


@contextlib.contextmanager
def _telling(address: str) -> Iterator[None]:
    """Turns what Ray raises while it joins into an error for people."""
    try:
        yield
    except ray.exceptions.AuthenticationError as error:
        raise StorageError(refused(address)) from error
    except Exception as error:
        # Of a machine that is too busy to start it in time, Ray tells by an `Exception` as such.
        is_known = isinstance(error, OSError | ImportError | RuntimeError | ValueError)
        if not is_known and type(error) is not Exception:
            raise
        if address == LOCAL:
            raise StorageError(
                f"Ray does not start on this machine: {last_line(str(error)).rstrip('.')}. Its "
                f"sessions lie in {sessions_folder()}; name another folder, with a short path, in "
                f"{SESSIONS}. What else may stand in the way says: sft-sweep doctor"
            ) from error
        # What is left of a head that let us in: the nodes of this machine are another cluster's.
        if "No node info" in str(error.__cause__):
            raise StorageError(no_member(address)) from error
        raise StorageError(f"--address {address}: no Ray cluster answers: {error}") from error


def _head_behind(address: str) -> str:
    """The head's own address, asked for through a port of Ray's client.

    A sweep cannot run through that port: its loop would run on the head, without its journal.

    Raises:
        ConnectionError: no client is let in there.
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
    """Make sure that a node runs on this machine, as a driver needs; Ray looks for a minute.

    Raises:
        StorageError: none does.
    """
    until = time.monotonic() + CONNECT_TIMEOUT_S
    while not find_node_ids():
        if time.monotonic() >= until:
            raise StorageError(no_member(address))
        time.sleep(0.5)


def no_member(address: str) -> str:
    """What to do where this machine is no node of a cluster."""
    host = address.removeprefix(CLIENT).rpartition(":")[0] or "HEAD"
    return (
        f"--address {address}: this machine is no node of that cluster, and a sweep's journal "
        "and tables are written where its driver runs. Send the sweep there: sft-sweep submit "
        f"SPACE --address http://{host}:8265 --out DIR"
    )


def refused(address: str) -> str:
    """What to do where a cluster does not let us in."""
    if Mode.chosen() is Mode.DISABLED:
        return (
            f"--address {address}: the cluster asks for a token, and {MODE}=disabled keeps yours "
            f"back; unset {MODE}"
        )
    tried = f"${TOKEN}" if os.environ.get(TOKEN) else str(token_file())
    return (
        f"--address {address}: {tried} holds no token that the cluster takes. Copy the cluster's "
        f"to ~/.ray/auth_token (mode 0600), or name its file in {TOKEN_PATH}"
    )


def _check_reachable(address: str) -> None:
    """Knock at `host:port` first: Ray itself goes on knocking for eight minutes."""
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if colon:
        check_answers(host, port, address=address)


def check_answers(host: str, port: str | int, *, address: str) -> None:
    """Make sure that something listens at a port.

    Raises:
        StorageError: nothing does.
    """
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise StorageError(
            f"--address {address}: nothing answers there ({error}); allowed: auto, host:port or "
            "ray://host:port of a running Ray cluster, or nothing for this machine; for jobs "
            "http://host:port of its dashboard"
        ) from error


def _in_a_job_with_files() -> bool:
    """Whether this process runs as a job of Ray whose files are sent to all nodes as they are."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    return "working_dir" in job.get("runtime_env", {})
