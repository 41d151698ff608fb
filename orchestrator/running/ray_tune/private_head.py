"""How the head of a private cluster starts: for this machine alone, and with little beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from orchestrator.running.ray_tune.authentication import loopback_only
from orchestrator.running.ray_tune.ray_internals import Node

SHARED_ONLY = ("start_monitor", "start_log_monitor", "start_api_server")
"""Ray's methods that start the autoscaler, what collects logs, and what takes jobs."""

_STARTING = "start_head_processes"


@contextlib.contextmanager
def private_head() -> Iterator[None]:
    """Let a cluster that starts within the block be a private one.

    It listens on loopback alone, and does without what only shared clusters need: it has one node
    that never grows, leaves its logs where they are written and takes no jobs. Those three services
    cost a sixth of the processor time until the first trial, and Ray has no option to leave them
    out. A version of Ray without one of the methods starts as it would.

    Where the block is left by an exception, such as a Ctrl-C, the processes that were started are
    ended. Ray leaves that to its reaper, which does not reach what the node's manager has started:
    its agents stay for over a minute.
    """
    begun: list[Node] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(loopback_only())
        for name in SHARED_ONLY:
            stack.enter_context(_replacing(name, lambda _: _start_nothing))
        stack.enter_context(_replacing(_STARTING, lambda start: _noting(start, begun)))
        try:
            yield
        except BaseException:
            for node in begun:
                _end(node)
            raise


@contextlib.contextmanager
def _replacing(name: str, by: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Give a method of Ray's Node another body within the block, where it has such a method."""
    method = getattr(Node, name, None)
    if method is None:
        yield
        return
    setattr(Node, name, by(method))
    try:
        yield
    finally:
        setattr(Node, name, method)


def _start_nothing(node: Node, **_: Any) -> None:
    """Stand for one of Node's methods."""


def _end(node: Node) -> None:
    """End the processes of a node, and those that they have started."""
    import psutil  # type: ignore[import-untyped]  # Ray brings it along, and adds its folder

    later: list[psutil.Process] = []
    for _, process in node.live_processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            later += psutil.Process(process.pid).children(recursive=True)
    node.kill_all_processes(check_alive=False, allow_graceful=True)
    for process in later:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _noting(start: Callable[..., Any], begun: list[Node]) -> Callable[..., Any]:
    """The method, that first notes whose it is."""

    def noting(node: Node, *args: Any, **kwargs: Any) -> Any:
        begun.append(node)
        return start(node, *args, **kwargs)

    return noting
