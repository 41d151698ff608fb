"""Which configurations are refitted and may see the test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.methods import Method
from orchestrator.recording import user_attributes
from orchestrator.recording.ranking import Standing
from trainable.spec.trial_spec import Metric


def standing(trial: FrozenTrial) -> Standing:
    """What decides the rank of a trial that ran to its end."""
    report, facts = user_attributes.last_report(trial), trial.user_attrs[user_attributes.FACTS]
    return Standing(
        objective=report["val_objective"],
        is_probe=False,
        loss=report["val_loss"],
        trainable_params=facts["trainable_params"],
        lr=facts["spec"]["lr"],
        trial_id=user_attributes.trial_id("", trial.number),
    )


def probe_standings(attributes: Mapping[str, Any], metric: Metric) -> list[Standing]:
    """What decides the ranks of the linear probes that are recorded with a study.

    Args:
        attributes: of the study.
        metric: of the sweep.
    """
    found = []
    for key, value in attributes.items():
        if (
            not key.startswith(user_attributes.BASELINE_PREFIX)
            or value["task"]["method"] != Method.PROBE
        ):
            continue
        result = value["result"]
        if result is not None:
            found.append(
                Standing(
                    objective=result["validation"][metric.value],
                    is_probe=True,
                    loss=result["validation"][Metric.LOG_LOSS.value],
                    trainable_params=None,
                    lr=None,
                    trial_id=key,
                )
            )
    return found


def choose_finalists(
    complete: Iterable[FrozenTrial],
    *,
    count: int,
    metric: Metric,
    probes: Iterable[Standing] = (),
) -> Sequence[FrozenTrial]:
    """The configurations whose test scores answer most, best first.

    The best of all is always one. Then come the best of those where the head alone learns and the
    best of those where the body learns too, so that what training the body gains is measured; the
    best of each further backbone; the best of each further depth of freezing; then whatever is
    next. A probe is a head alone, and is scored on the test set anyhow: where one ranks before
    every head alone that was fine-tuned, none of these is taken for being one.

    Args:
        complete: trials of one study that ran to their end.
        count: how many are wanted; fewer come back where there are fewer distinct ones.
        metric: of the sweep.
        probes: of the study.
    """
    ranked = _distinct(sorted(complete, key=lambda trial: standing(trial).key(metric)))
    heads = [trial for trial in ranked if _is_head_alone(trial)]
    bodies = [trial for trial in ranked if not _is_head_alone(trial)]
    best_probe = min((probe.key(metric) for probe in probes), default=None)
    if heads and best_probe is not None and best_probe < standing(heads[0]).key(metric):
        heads = []
    chosen: list[FrozenTrial] = []

    def take(trials: Iterable[FrozenTrial]) -> None:
        chosen.extend(t for t in trials if t not in chosen)
        del chosen[count:]

    take(ranked[:1])
    take(heads[:1])
    take(bodies[:1])
    for trait in (_backbone, _depth):
        take(_first_of_each(trait, ranked, taken={trait(trial) for trial in chosen}))
    take(ranked)
    return sorted(chosen, key=ranked.index)


def _distinct(ranked: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The first trial of each configuration."""
    kept: dict[str, FrozenTrial] = {}
    for trial in ranked:
        kept.setdefault(repr(sorted(user_attributes.resolved_spec(trial).items())), trial)
    return list(kept.values())


def _first_of_each(
    trait: Callable[[FrozenTrial], object], ranked: Iterable[FrozenTrial], *, taken: set[object]
) -> Iterable[FrozenTrial]:
    """The first trial with each trait that is not among those taken."""
    for trial in ranked:
        if trait(trial) not in taken:
            taken.add(trait(trial))
            yield trial


def _is_head_alone(trial: FrozenTrial) -> bool:
    """Whether nothing of the backbone learns."""
    facts = trial.user_attrs[user_attributes.FACTS]
    return bool(facts["frozen_boundaries"] == facts["num_boundaries"])


def _backbone(trial: FrozenTrial) -> object:
    return trial.user_attrs[user_attributes.FACTS]["spec"]["backbone"]


def _depth(trial: FrozenTrial) -> object:
    return _backbone(trial), trial.user_attrs[user_attributes.FACTS]["frozen_boundaries"]
