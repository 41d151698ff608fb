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
from orchestrator.space.dataset_sources import WHEREABOUTS, DatasetSection
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
from trainable.spec.metrics import Metric
from trainable.spec.refusals import shown
from trainable.spec.setting import Value
from trainable.spec.settings import (
    DEFAULT_FREEZE_DEPTH,
    DEFAULT_LR,
    DEFAULTS,
    FOR_TEXTS,
    without_added_defaults,
)
from trainable.spec.trial_spec import CacheMode, LabelBudget, TrialSpec
from trainable.spec.validation import Validation

CONDUCT = ("limits", "resources", "cache", "checkpoint_s")
"""Sections that control how a sweep runs; no result depends on them."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The content of a search-space file, with every default filled in.

    Attributes:
        name: name of the sweeps; part of the name of their directories.
        dataset: source of the images.
        axes: axes by name, each after those that its conditions name; always with `backbone`,
            `lr` and one of `FREEZING`.
        custom: backbones among the axes' values that the user's code builds, by name.
        label_budgets: distinct label budgets, one study each.
        training: value of every training setting, used if no axis gives one.
        augment: random views of the training images, or None.
        validation: how the label budget pays for validation.
        objective: metric that trials are ranked by.
        objective_open: whether the file sets no objective, so that `objective` is decided from the
            images later; see `orchestrator.planning.objective`.
        trials: number of trials per label budget.
        sampler: the sampler that proposes trials.
        pruner: the pruner that ends poor trials early.
        finalists: number of configurations scored on the test set, and of their repeats.
        baselines: baselines scored beside the finalists.
        limits: time limits of the sweep and its parts.
        resources: resources of each trial.
        cache: which activations of frozen prefixes are stored.
        checkpoint_s: seconds between the checkpoints of a trial or final.
        seed: seed of every random draw.
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

    @property
    def task(self) -> str:
        """What the labels are: `classification`, or `segmentation` for masks."""
        return self.dataset.task

    @property
    def modality(self) -> str:
        """The kind of example that the backbones take: `image` or `text`."""
        from trainable.backbones import modality_of_name  # slow, and most readers do not ask

        names = (str(name) for domain in self.axes["backbone"].domains for name in domain.each())
        return modality_of_name(next(names))

    def absolute(self) -> SearchSpace:
        """Return the space with absolute paths of images and weights."""
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
        """Return plain values, every default included; `build_space` reads an equal space.

        A training setting is left out if an axis always gives its value, or if it is for texts and
        at its default; and the objective while it is open.
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
                if (name not in self.axes or not self.axes[name].always_applies)
                and not (name in FOR_TEXTS and value == DEFAULTS[name])
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
        """Return the backbone axis with names of custom backbones expanded."""
        if isinstance(backbones, Mapping):
            return {
                key: value if key == "when" else self._spelled(value)
                for key, value in backbones.items()
            }
        if isinstance(backbones, list):
            return [self._spelled(value) for value in backbones]
        return self.custom[backbones].to_json() if backbones in self.custom else backbones

    def meaning(self) -> dict[str, Any]:
        """Return the values of `to_json` that results depend on.

        Resources, limits and the location of the images are left out; the images have a
        fingerprint of their own.
        """
        values = {key: value for key, value in self.to_json().items() if key not in CONDUCT}
        return values | {
            "dataset": {k: v for k, v in values["dataset"].items() if k not in WHEREABOUTS},
            "training": without_added_defaults(values["training"]),
        }

    def fingerprint(self) -> str:
        """Return the hexadecimal SHA-256 of `meaning`; key order, and `1.0` or `1`, do not matter.

        The order of a list does matter: label budgets and choices are tried in it.
        """
        text = json.dumps(self.meaning(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def varies(self) -> tuple[str, ...]:
        """Names of the axes with more than one value."""
        return tuple(
            name
            for name, axis in self.axes.items()
            if not all(isinstance(domain, Fixed) for domain in axis.domains)
        )

    def grid(self) -> Iterator[dict[str, Value]]:
        """Return every distinct combination of the axes that apply, fixed ones included.

        The first axis changes slowest.

        Raises:
            SpaceError: an axis is continuous.
        """
        if self.grid_size() is None:
            raise SpaceError(f"{self.name}: no grid; a search axis is a continuous range")
        return combinations(tuple(self.axes.values()))

    def grid_size(self) -> int | None:
        """Return the number of combinations of `grid`; None if an axis is continuous."""
        return num_combinations(tuple(self.axes.values()))

    def spec(self, params: Mapping[str, Value], label_budget: LabelBudget) -> TrialSpec:
        """Return the spec of a trial with these values of axes, and defaults for the rest.

        Args:
            params: value by axis; fixed axes can be left out.
            label_budget: labelled images of the trial.

        Raises:
            SpaceError: a value is missing, is not in its axis, or its axis does not apply.
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
