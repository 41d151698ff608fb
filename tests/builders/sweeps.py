"""Whole sweeps in this process: what a launch does, without a cluster or other processes.

Tests of a sweep's results use them. Tests of processes, signals, Ray or the command line launch a
real sweep (`tests/integration/conftest.py`).
"""

from __future__ import annotations

from contextlib import closing
from functools import cache
from pathlib import Path

import torch

from orchestrator.planning.work import Work
from orchestrator.recording.projection import Projection
from orchestrator.running.broker.broker import DONE, Broker
from orchestrator.running.launch import begin
from orchestrator.running.worker.worker import perform
from tests.builders.prepared import prepare
from trainable.backbones import Backbone
from trainable.features.cache import open_cache
from trainable.training.probe import ProbeMemo


def sweep_in_process(space: Path, root: Path) -> Path:
    """Run a sweep, one piece of work at a time in one thread; return its directory.

    Args:
        space: search-space file.
        root: folder in which the directory is made.
    """
    prepared = prepare(space)
    images, threads, probes = prepared.images, torch.get_num_threads(), ProbeMemo()
    kept = open_cache(prepared.space.cache, num_images=int(images.is_read().sum()))

    @cache
    def backbone(name: str) -> Backbone:
        return Backbone(prepared.weights[name], prepared.graphs[name], prepared.tokens[name])

    run, journal = begin(root, prepared)
    torch.set_num_threads(1)
    try:
        with closing(journal):
            broker = Broker(prepared.space, prepared.plan, images, journal, slots=1)
            while isinstance(work := broker.next_work(), Work):
                events = perform(
                    work,
                    images=lambda: images,
                    backbone=backbone,
                    cache=lambda: kept,
                    probes=probes,
                )
                # As with Tune, stopped work sends no further events.
                any(broker.observe(work.work_id, event) for event in events)
                broker.settle(work.work_id)
            assert work == DONE
            Projection(run.sweep_id, broker.studies).write(run.path)
    finally:
        torch.set_num_threads(threads)
    return run.path
