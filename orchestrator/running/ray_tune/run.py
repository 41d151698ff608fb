"""One Tune run that does all the work of a broker."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial

from orchestrator.running.broker.broker import Broker
from orchestrator.running.ray_tune.actor import SweepActor
from orchestrator.running.ray_tune.algorithms import BrokerScheduler, BrokerSearcher
from orchestrator.running.ray_tune.attempts import MAX_RETRIES, Attempts
from orchestrator.running.ray_tune.capacity import TrialResources
from orchestrator.running.ray_tune.stopper import NotPickled, SweepStopper

TICK_S = 0.5
"""Shortest time between two calls of `tick`, in seconds."""


def run_work(
    broker: Broker,
    actor: type[SweepActor],
    *,
    parameters: dict[str, Any],
    attempts: Attempts,
    resources: TrialResources,
    stopper: SweepStopper,
    tick: Callable[[], None],
) -> None:
    """Do all the work of a broker, in reused actors of a running cluster.

    Args:
        broker: hands out work and records its results.
        actor: class of the actors that do the work.
        parameters: keyword arguments of its `setup`, passed through the object store.
        attempts: tracks the attempts of the work.
        resources: resources of each piece of work.
        stopper: stops the run early.
        tick: called in the driver, at most every `TICK_S` seconds.

    Raises:
        BaseException: the first exception of a hook; see `SweepStopper`.
    """
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # By default a custom searcher has one pending trial, and a freed actor takes it before a
        # second actor has started, so everything runs in one process. The broker's slots, which
        # may increase, are the limit instead.
        "TUNE_MAX_PENDING_TRIALS_PG": str(10**6),
        # Tune's snapshots are not used: the journal is the only state.
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the sweep's log has them
    }
    _propagate_no_environment()
    trainable = tune.with_parameters(actor, **parameters) if parameters else actor
    with tempfile.TemporaryDirectory(prefix="sft-sweep-") as scratch:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": resources.cpus, "gpu": resources.gpus}),
            tune_config=TuneConfig(
                search_alg=BrokerSearcher(broker, attempts, stopper),
                scheduler=BrokerScheduler(broker, attempts, stopper),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=str,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                stop=stopper,
                callbacks=[_Ticker(tick, attempts, stopper)],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                failure_config=FailureConfig(max_failures=MAX_RETRIES),
            ),
        ).fit()
    if stopper.fault is not None:
        raise stopper.fault


def _propagate_no_environment() -> None:
    """Keep Tune from sending environment variables of this process to its actors.

    Tune sends AWS credentials, which Ray then writes to its logs. An actor with variables of its
    own also cannot use one of the worker processes that Ray starts in advance.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = frozenset()
    class_cache.DEFAULT_ENV_VARS = {}


class _Ticker(NotPickled, Callback):
    """Hooks into Tune's loop: notes the start of work, enforces limits and calls `tick`.

    It is not `Throttled`: limits are enforced on time even after a slow call.
    """

    def __init__(self, tick: Callable[[], None], attempts: Attempts, stopper: SweepStopper) -> None:
        self._tick = tick
        self._attempts = attempts
        self._stopper = stopper
        self._next = 0.0

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note that a process has started work."""
        del iteration, trials, info
        with self._stopper.guard():
            self._attempts.begin(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Enforce the limits of work and call `tick`, at most every `TICK_S` seconds."""
        del iteration, trials, info
        now = time.monotonic()
        if now >= self._next:
            with self._stopper.guard():
                self._attempts.enforce()
                self._tick()
            self._next = time.monotonic() + TICK_S
