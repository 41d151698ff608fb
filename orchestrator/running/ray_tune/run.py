"""One Tune run: from a broker with work left to a broker without."""

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
    piece: TrialResources,
    control: SweepStopper,
    tick: Callable[[], None],
) -> None:
    """Do all the work of a broker, in reused actors of a running cluster.

    Args:
        broker: hands out work and records its results.
        actor: what does it.
        parameters: keyword arguments of its `setup`; travel through the object store.
        attempts: follows the work through its attempts.
        piece: what each piece of work takes of a node.
        control: to stop early.
        tick: called by the driver every now and then.

    Raises:
        BaseException: what a hook of ours raised.
    """
    os.environ |= {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",
        # Without this a custom searcher has one pending trial and a freed actor takes it before
        # a second actor has started: everything runs in one process. The broker's slots, which
        # may become more, are the limit.
        "TUNE_MAX_PENDING_TRIALS_PG": str(10**6),
        # Snapshots of the experiment are not used: the journal is the only state.
        "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the sweep's log has them, in its own words
    }
    _keep_environment_here()
    trainable = tune.with_parameters(actor, **parameters) if parameters else actor
    with tempfile.TemporaryDirectory(prefix="sft-sweep-") as scratch:
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": piece.cpus, "gpu": piece.gpus}),
            tune_config=TuneConfig(
                search_alg=BrokerSearcher(broker, attempts, control),
                scheduler=BrokerScheduler(broker, attempts, control),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=str,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                stop=control,
                callbacks=[_Ticker(tick, attempts, control)],
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                failure_config=FailureConfig(max_failures=MAX_RETRIES),
            ),
        ).fit()
    if control.fault is not None:
        raise control.fault


def _keep_environment_here() -> None:
    """Keep Tune from sending variables of this process along with trials.

    It sends AWS credentials, which Ray then writes to its logs. And a trial that asks for variables
    of its own cannot have a process that was started ahead without them.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = frozenset()
    class_cache.DEFAULT_ENV_VARS = {}


class _Ticker(NotPickled, Callback):
    """Calls back from Tune's loop: when a process takes up work, and every now and then."""

    def __init__(self, tick: Callable[[], None], attempts: Attempts, control: SweepStopper) -> None:
        self._tick = tick
        self._attempts = attempts
        self._control = control
        self._next = 0.0

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Note that a process has taken up work."""
        del iteration, trials, info
        with self._control.guard():
            self._attempts.begin(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Call `tick`, and keep work to its limits, where it is time to."""
        del iteration, trials, info
        now = time.monotonic()
        if now >= self._next:
            with self._control.guard():
                self._attempts.enforce()
                self._tick()
            self._next = time.monotonic() + TICK_S
