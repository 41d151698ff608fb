"""Start of a private cluster's head, on loopback alone and without services of shared clusters."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.running.ray_tune import private_agent
from orchestrator.running.ray_tune.authentication import loopback_only
from orchestrator.running.ray_tune.ray_internals import (
    Node,
    ray_constants,
    ray_services,
    ray_utils,
)

SHARED_ONLY = ("start_monitor", "start_log_monitor", "start_api_server")
"""Ray's methods that start the autoscaler, the log monitor and the API server for jobs."""

SETTINGS = {
    # At Ray's default of 15, trials get a thirtieth of a CPU beside any busy program.
    "RAY_worker_niceness": "0",
    # The node manager tries to reach its own object store before that listens, and again only after
    # this time, by default a second. The attempts last ten seconds in all, as by default.
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "200",
    # By default the C library hands each large tensor back to the system when it is freed, and gets
    # the next one as pages of 4 KiB that must be zeroed first: up to half of an update's processor
    # time. It now keeps up to 16 GiB of freed memory, in pages of 2 MiB where the system has them.
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1",
}
"""Environment variables of a private cluster's processes; those that the user has set win."""

REGISTERED_S = 10.0
POLL_S = 0.02
"""Longest wait for the node manager to register, and time between two looks, in seconds."""

_STARTING = "start_head_processes"
_STARTING_NODE = "start_ray_processes"
"""Ray's methods that start the head's store, and then its node manager."""

_MISSING = "get_dashboard_dependency_error"
"""Ray's function that imports the dashboard's libraries and returns the error if one is missing."""

_PYTHON = "_build_python_executable_command_memory_profileable"
"""Ray's function that returns the command of Python for one of its processes."""


@contextlib.contextmanager
def private_head() -> Iterator[None]:
    """Make a cluster that starts within the block private.

    It listens on loopback alone and runs none of the services in `SHARED_ONLY`, which a single node
    does not need: autoscaler, log monitor and API server. They take a sixth of the CPU time until
    the first trial, and Ray has no option to disable them. The node's agent serves no dashboard
    either; see `private_agent`. It starts a second sooner, because it is looked for as soon as its
    node manager has registered; Ray itself looks once a second. In a version of Ray without one of
    the replaced functions, the start is unchanged.

    If the block raises, for example because of Ctrl-C, the started processes are killed. Ray's own
    cleanup misses the children of the node manager, whose agents live on for over a minute.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    started: list[Node] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(loopback_only())
        for name in SHARED_ONLY:
            stack.enter_context(_replacing(Node, name, lambda _: _start_nothing))
        if hasattr(ray_services, _PYTHON):  # else the agent would find the libraries all the same
            stack.enter_context(_replacing(ray_services, _PYTHON, _with_private_agent))
            stack.enter_context(_replacing(ray_utils, _MISSING, lambda _: _none_wanted))
        stack.enter_context(_replacing(Node, _STARTING, lambda start: _recording(start, started)))
        stack.enter_context(_replacing(Node, _STARTING_NODE, _registering))
        try:
            yield
        except BaseException:
            for node in started:
                _end(node)
            raise


@contextlib.contextmanager
def _replacing(
    owner: object, name: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """Replace a function of Ray within the block, if it exists.

    Args:
        owner: class or module of the function.
        name: name of the function.
        by: takes the function; returns its replacement.
    """
    function = getattr(owner, name, None)
    if function is None:
        yield
        return
    setattr(owner, name, by(function))
    try:
        yield
    finally:
        setattr(owner, name, function)


def _start_nothing(node: Node, **_: Any) -> None:
    """Do nothing; replaces the methods of `SHARED_ONLY`."""


def _none_wanted() -> ImportError:
    """Return an error, as without the dashboard's libraries: the agent then runs without them."""
    return ImportError("a private cluster has no dashboard")


def _with_private_agent(python: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """A wrapper of Ray's `_PYTHON` that runs `private_agent` in place of the agent."""

    def command(component: str, *args: Any, **kwargs: Any) -> list[str]:
        found = python(component, *args, **kwargs)
        is_agent = component == ray_constants.PROCESS_TYPE_DASHBOARD_AGENT
        return [*found, private_agent.__file__] if is_agent else found

    return command


def _end(node: Node) -> None:
    """Kill the processes of a node and their descendants."""
    import psutil  # type: ignore[import-untyped]  # bundled with Ray, which adds it to the path

    descendants: list[psutil.Process] = []
    for _, process in node.live_processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            descendants += psutil.Process(process.pid).children(recursive=True)
    node.kill_all_processes(check_alive=False, allow_graceful=True)
    for process in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _recording(start: Callable[..., Any], started: list[Node]) -> Callable[..., Any]:
    """A wrapper of Ray's method that appends the node to `started` before the call."""

    def recording(node: Node, *args: Any, **kwargs: Any) -> Any:
        started.append(node)
        return start(node, *args, **kwargs)

    return recording


def _registering(start: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper of Ray's method that waits until the started node manager has registered.

    If that fails or takes too long, Ray's own wait follows, and has its messages.
    """

    def registering(node: Node, *args: Any, **kwargs: Any) -> Any:
        result = start(node, *args, **kwargs)
        until = time.monotonic() + REGISTERED_S
        with contextlib.suppress(Exception):
            while not node.get_gcs_client().get_all_node_info(timeout=REGISTERED_S):
                if node.dead_processes() or time.monotonic() >= until:
                    break
                time.sleep(POLL_S)
        return result

    return registering
