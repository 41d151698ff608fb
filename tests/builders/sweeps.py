"""Whole sweeps in this process: what a launch does, without a cluster and processes of its own.

For what is asked of a sweep's results. What is about processes, signals, Ray or the command line
launches one in earnest (`tests/integration/conftest.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import torch

from orchestrator.planning.work import Event, Work
from orchestrator.recording.projection import Projection
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.running.launch import begin
from orchestrator.running.worker.worker import perform
from tests.builders.prepared import prepare
from trainable.backbones import Backbone
from trainable.features.cache import open_cache
from trainable.training.probe import ProbeMemo


def sweep_in_process(space: Path, root: Path, *, slots: int = 1) -> Path:
    """Run a sweep in one thread; return its directory.

    Args:
        space: search-space file.
        root: folder in which the directory is made.
        slots: pieces of work that take turns, one report after the other.
    """
    prepared = prepare(space)
    images, threads, probes = prepared.images, torch.get_num_threads(), ProbeMemo()
    kept = open_cache(prepared.space.cache, num_images=int(images.is_read().sum()))

    @cache
    def backbone(name: str) -> Backbone:
        return Backbone(prepared.weights[name], prepared.graphs[name], prepared.tokens[name])

    def begun(work: Work) -> Iterator[Event]:
        return perform(
            work, images=lambda: images, backbone=backbone, cache=lambda: kept, probes=probes
        )

    run, journal = begin(root, prepared)
    torch.set_num_threads(1)
    try:
        with closing(journal):
            broker = Broker(prepared.space, prepared.plan, images, journal, slots=slots)
            out: deque[tuple[Work, Iterator[Event]]] = deque()
            while True:
                while len(out) < slots and isinstance(work := broker.next_work(), Work):
                    out.append((work, begun(work)))
                if not out:
                    break
                mine, events = out.popleft()
                event = next(events, None)
                # As with Tune, stopped work sends no further events.
                if event is None or broker.observe(mine.work_id, event):
                    broker.settle(mine.work_id)
                else:
                    out.append((mine, events))
            assert work == DONE
            Projection(run.sweep_id, broker.studies).write(run.path)
    finally:
        torch.set_num_threads(threads)
    return run.path
