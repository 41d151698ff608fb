"""Choice of the finalists: configurations that are refitted and scored on the test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from orchestrator.methods import Method
from orchestrator.planning.work import Kind
from orchestrator.recording import user_attributes
from orchestrator.recording.ranking import Standing
from trainable.spec.metrics import Metric


def standing(trial: FrozenTrial) -> Standing:
    """The ranking criteria of a complete trial, from its last report."""
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
    """The ranking criteria of the linear probes among a study's recorded baselines.

    Args:
        attributes: user attributes of the study; probes that failed are skipped.
        metric: objective of the sweep.
    """
    found = []
    for kind, key, value in user_attributes.outcomes(attributes):
        if kind is not Kind.BASELINE or value["task"]["method"] != Method.PROBE:
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
    """The distinct configurations whose test scores are most informative, best first.

    They are chosen in this order until there are `count`:

    1. the best trial;
    2. the best trial that trains the head alone, and the best that trains some of the backbone, so
       that the gain of training the backbone is measured;
    3. the best trial of each further backbone;
    4. the best trial of each further freeze depth of a backbone;
    5. the remaining trials by rank.

    A linear probe trains the head alone, too, and is scored on the test set anyway. If a probe
    ranks before every head-only trial, no trial is chosen for being head-only.

    Args:
        complete: complete trials of one study.
        count: number of finalists; fewer are returned if there are fewer distinct configurations.
        metric: objective of the sweep.
        probes: ranking criteria of the study's probes.
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
    """The first trial of each distinct resolved configuration."""
    kept: dict[str, FrozenTrial] = {}
    for trial in ranked:
        kept.setdefault(repr(sorted(user_attributes.resolved_spec(trial).items())), trial)
    return list(kept.values())


def _first_of_each(
    trait: Callable[[FrozenTrial], object], ranked: Iterable[FrozenTrial], *, taken: set[object]
) -> Iterable[FrozenTrial]:
    """Yield the first trial of each trait that is not in `taken`; adds the trait to `taken`."""
    for trial in ranked:
        if trait(trial) not in taken:
            taken.add(trait(trial))
            yield trial


def _is_head_alone(trial: FrozenTrial) -> bool:
    """Whether the whole backbone is frozen."""
    facts = trial.user_attrs[user_attributes.FACTS]
    return bool(facts["frozen_boundaries"] == facts["num_boundaries"])


def _backbone(trial: FrozenTrial) -> object:
    return trial.user_attrs[user_attributes.FACTS]["spec"]["backbone"]


def _depth(trial: FrozenTrial) -> object:
    return _backbone(trial), trial.user_attrs[user_attributes.FACTS]["frozen_boundaries"]
