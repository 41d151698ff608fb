"""Start of a private cluster's head, on loopback alone and without services of shared clusters."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.running.ray_tune.authentication import loopback_only
from orchestrator.running.ray_tune.ray_internals import Node, ray_utils

SHARED_ONLY = ("start_monitor", "start_log_monitor", "start_api_server")
"""Ray's methods that start the autoscaler, the log monitor and the API server for jobs."""

_STARTING = "start_head_processes"

_LOOKING = "get_dashboard_dependency_error"
"""Ray's function that imports all libraries of its dashboard to see whether they are installed."""

_DASHBOARD = (
    "aiohttp",
    "aiohttp_cors",
    "grpc",
    "opencensus",
    "opentelemetry.exporter.prometheus",
    "opentelemetry.proto",
    "prometheus_client",
    "pydantic",
)
"""Libraries that Ray's dashboard needs."""


@contextlib.contextmanager
def private_head() -> Iterator[None]:
    """Make a cluster that starts within the block private.

    It listens on loopback alone and runs none of the services in `SHARED_ONLY`, which a single node
    does not need: autoscaler, log monitor and API server. They take a sixth of the CPU time until
    the first trial, and Ray has no option to disable them. In a version of Ray without one of the
    replaced functions, the start is unchanged.

    If the block raises, for example because of Ctrl-C, the started processes are killed. Ray's own
    cleanup misses the children of the node manager, whose agents live on for over a minute.
    """
    started: list[Node] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(loopback_only())
        for name in SHARED_ONLY:
            stack.enter_context(_replacing(Node, name, lambda _: _start_nothing))
        stack.enter_context(_replacing(ray_utils, _LOOKING, _looking))
        stack.enter_context(_replacing(Node, _STARTING, lambda start: _recording(start, started)))
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


def _looking(importing: Callable[[], ImportError | None]) -> Callable[[], ImportError | None]:
    """A replacement of Ray's `_LOOKING`, which imports nothing if all libraries are installed.

    The driver does not use the imported libraries, and the imports take a tenth of its time until
    the first trial.

    Args:
        importing: Ray's function, which is called only if a library is missing.
    """

    def looking() -> ImportError | None:
        return None if all(map(_is_installed, _DASHBOARD)) else importing()

    return looking


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


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
