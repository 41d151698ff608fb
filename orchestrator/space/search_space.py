"""A search space, checked and resolved: what a sweep tries, and how it is judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import SpaceError
from orchestrator.methods import Method
from orchestrator.space.absolute_paths import absolute_axes, absolute_path
from orchestrator.space.axes import Axis, Fixed
from orchestrator.space.axis_values import FREEZING, canonical_axis_value
from orchestrator.space.datasets import WHEREABOUTS, DatasetSection
from orchestrator.space.grid import combinations, num_combinations
from orchestrator.space.pruners import PrunerSection
from orchestrator.space.samplers import SamplerSection
from orchestrator.space.sections import (
    FinalistsSection,
    LimitsSection,
    ResourcesSection,
)
from trainable.spec.augmentation import Augmentation
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.refusals import shown
from trainable.spec.settings import DEFAULT_FREEZE_DEPTH, DEFAULT_LR, Value, without_added_defaults
from trainable.spec.trial_spec import CacheMode, LabelBudget, Metric, TrialSpec
from trainable.spec.validation import Validation

CONDUCT = ("limits", "resources", "cache", "checkpoint_s")
"""Sections that say how a sweep is conducted; no result depends on them."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a search-space file says, with every default filled in.

    Attributes:
        name: of the sweeps; serves as a part of a directory's name.
        dataset: where the images are from.
        axes: by name, each after those that its conditions name; `backbone`, `lr` and one of
            `FREEZING` are always among them.
        custom: backbones among the axes' values that the user's own code builds, by name.
        label_budgets: distinct; one study each.
        training: a value for every training setting, used where no axis gives one.
        augment: random views of the training images, or None.
        validation: how the label budget pays for validation.
        objective: what trials are judged by.
        objective_open: whether the file leaves the objective to the images, so that `objective` is
            not decided yet; see `orchestrator.planning.objective`.
        trials: per label budget.
        sampler: what proposes trials.
        pruner: what ends poor trials early.
        finalists: how many configurations are scored on the test set, and how often.
        baselines: scored beside the finalists.
        limits: when the sweep, or a part of it, ends early.
        resources: what a trial gets of the cluster.
        cache: whether what frozen prefixes yield is kept.
        checkpoint_s: seconds between the checkpoints of a trial or final.
        seed: of every random draw.
    """

    name: str
    dataset: DatasetSection
    axes: Mapping[str, Axis]
    custom: Mapping[str, CustomBackbone]
    label_budgets: tuple[LabelBudget, ...]
    training: Mapping[str, Value]
    augment: Augmentation | None
    validation: Validation
    objective: Metric
    objective_open: bool
    trials: int
    sampler: SamplerSection
    pruner: PrunerSection
    finalists: FinalistsSection
    baselines: tuple[Method, ...]
    limits: LimitsSection
    resources: ResourcesSection
    cache: CacheMode
    checkpoint_s: float
    seed: int

    def absolute(self) -> SearchSpace:
        """The same with absolute paths, of images and weights, for use from every directory."""
        return replace(
            self,
            dataset=self.dataset.absolute(),
            axes=absolute_axes(self.axes),
            custom={
                name: backbone
                if backbone.weights is None
                else replace(backbone, weights=absolute_path(backbone.weights))
                for name, backbone in self.custom.items()
            },
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, every default written out, that `build_space` reads to an equal space.

        A training setting is left out where an axis always gives its value, and the objective while
        it is open.
        """
        axes: dict[str, Any] = {name: axis.to_json() for name, axis in self.axes.items()}
        axes["backbone"] = self._spelled(axes["backbone"])
        return {
            "name": self.name,
            "dataset": self.dataset.to_json(),
            "search": axes | {"label_budget": [budget.to_json() for budget in self.label_budgets]},
            "training": {
                name: value
                for name, value in self.training.items()
                if name not in self.axes or not self.axes[name].always_applies
            },
            **({"augment": self.augment.to_json()} if self.augment else {}),
            "validation": self.validation.to_json(),
            **({} if self.objective_open else {"objective": {"metric": self.objective.value}}),
            "trials": self.trials,
            "sampler": self.sampler.to_json(),
            "pruner": self.pruner.to_json(),
            "finalists": self.finalists.to_json(),
            "baselines": [method.value for method in self.baselines],
            "limits": self.limits.to_json(),
            "resources": self.resources.to_json(),
            "cache": self.cache.value,
            "checkpoint_s": self.checkpoint_s,
            "seed": self.seed,
        }

    def _spelled(self, backbones: Any) -> Any:
        """The values of the backbone axis with names of custom ones replaced by what they are."""
        if isinstance(backbones, Mapping):
            return {
                key: value if key == "when" else self._spelled(value)
                for key, value in backbones.items()
            }
        if isinstance(backbones, list):
            return [self._spelled(value) for value in backbones]
        return self.custom[backbones].to_json() if backbones in self.custom else backbones

    def meaning(self) -> dict[str, Any]:
        """The values of `to_json` that results depend on.

        What a sweep may use and how long it may take is not among them, nor where its images lie:
        they have a fingerprint of their own.
        """
        values = {key: value for key, value in self.to_json().items() if key not in CONDUCT}
        return values | {
            "dataset": {k: v for k, v in values["dataset"].items() if k not in WHEREABOUTS},
            "training": without_added_defaults(values["training"]),
        }

    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of `meaning`: the order of keys and `1.0` for `1` are one.

        The order of a list counts: label budgets and choices are tried in it.
        """
        text = json.dumps(self.meaning(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def varies(self) -> tuple[str, ...]:
        """Names of the axes that leave trials something to choose."""
        return tuple(
            name
            for name, axis in self.axes.items()
            if not all(isinstance(domain, Fixed) for domain in axis.domains)
        )

    def grid(self) -> Iterator[dict[str, Value]]:
        """Every distinct combination of the axes that apply, fixed ones included.

        The first axis changes slowest.

        Raises:
            SpaceError: an axis is continuous.
        """
        if self.grid_size() is None:
            raise SpaceError(f"{self.name}: no grid; a search axis is a continuous range")
        return combinations(tuple(self.axes.values()))

    def grid_size(self) -> int | None:
        """How many combinations `grid` yields; None where an axis is continuous."""
        return num_combinations(tuple(self.axes.values()))

    def spec(self, params: Mapping[str, Value], label_budget: LabelBudget) -> TrialSpec:
        """The trial with these values of the axes that apply, and defaults for all the rest.

        Args:
            params: by axis; fixed axes may be left out.
            label_budget: labelled images of the trial.

        Raises:
            SpaceError: a value is missing, not in its axis, or of an axis that does not apply.
        """
        chosen: dict[str, Value] = {}
        problems: list[str] = []
        stray = dict.fromkeys(params)
        for name, axis in self.axes.items():
            domain = axis.resolve(chosen)
            if domain is None:
                continue
            stray.pop(name, None)
            if name not in params and not isinstance(domain, Fixed):
                problems.append(f"{name}: no value")
            elif name not in params:
                chosen[name] = next(domain.each())
            elif domain.contains(params[name]):
                chosen[name] = canonical_axis_value(name, params[name])
            else:
                problems.append(f"{name}: got {shown(params[name])}, which its axis does not have")
        problems += [f"{name}: does not apply" for name in stray]
        if problems:
            raise SpaceError(f"{self.name}: {shown(dict(params))}: {'; '.join(problems)}")
        values: dict[str, Any] = {"lr": DEFAULT_LR, **self.training, **chosen}
        if not set(FREEZING) & set(chosen):
            values.setdefault("freeze_depth", DEFAULT_FREEZE_DEPTH)
        return TrialSpec(
            **values,
            label_budget=label_budget,
            augment=self.augment,
            validation=self.validation,
            objective=self.objective,
            seed=self.seed,
        )
