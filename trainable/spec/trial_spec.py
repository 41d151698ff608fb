"""The resolved configuration of one trial: immutable, validated, serializable as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from trainable.errors import SpecError
from trainable.spec.augmentation import Augmentation
from trainable.spec.metrics import Metric
from trainable.spec.setting import Setting
from trainable.spec.settings import (
    CHOICES,
    DEFAULTS,
    SEED,
    SETTINGS,
    block_range,
    without_added_defaults,
)
from trainable.spec.validation import Validation


class CacheMode(StrEnum):
    """Which activations of frozen prefixes are cached: those that pay, all that fit, or none."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class LabelBudget:
    """Labelled images that a trial can use, for training and validation together.

    Attributes:
        per_class: images of each class, or None.
        total: images in all, in natural proportions, or None. Both None: every labelled image.
    """

    per_class: int | None = None
    total: int | None = None

    @classmethod
    def parse(cls, value: object) -> LabelBudget:
        """Parse `5`, `"all"` or `{"total": 500}`.

        Raises:
            SpecError: any other value; the message has it and what is allowed.
        """

        def positive(number: object) -> bool:
            return isinstance(number, int) and not isinstance(number, bool) and number >= 1

        if positive(value):
            assert isinstance(value, int)
            return cls(per_class=value)
        if value == "all":
            return cls()
        if isinstance(value, Mapping) and set(value) == {"total"} and positive(value["total"]):
            return cls(total=value["total"])
        raise SpecError(
            f"got {value!r}; a label budget is a whole number of labels per class from 1, "
            "`all`, or {total: N}"
        )

    @property
    def study(self) -> str:
        """Name of the study of this budget: `b5`, `t500` or `all`."""
        if self.per_class is not None:
            return f"b{self.per_class}"
        return "all" if self.total is None else f"t{self.total}"

    def to_json(self) -> int | str | dict[str, int]:
        """Return the form that `parse` reads."""
        if self.per_class is not None:
            return self.per_class
        return "all" if self.total is None else {"total": self.total}

    def __str__(self) -> str:
        if self.per_class is not None:
            return str(self.per_class)
        return "all" if self.total is None else f"{self.total} in all"


_CHECKED: Mapping[str, Setting] = {
    **SETTINGS,
    **CHOICES,
    "repeat": Setting(low=0, integer=True, help="which draw of the labels"),
    "seed": SEED,
}
_EXCLUSIVE = ("freeze_depth", "frozen_blocks", "train_blocks")


def _setting(name: str) -> Any:
    return field(default=DEFAULTS[name])


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """All that determines the outcome of one trial, apart from the images themselves.

    Attributes:
        backbone: `NAME[@WEIGHTS]`.
        lr: peak learning rate, above 0.
        label_budget: labelled images for training and validation together.
        freeze_depth: share of the boundaries in the frozen prefix, 0..1; or None.
        frozen_blocks: number of boundaries in the prefix, -1 for all; or None.
        train_blocks: first and last block that is trained, `"3-5"`, beside the head; or None.
            Exactly one of the three is given.
        validation: how the budget pays for validation.
        objective: the metric reported as `val_objective`.
        augment: random views of the training images; None for the images as they are.
        repeat: number of the draw of the labelled subset.
        seed: seed of the sweep.
        steps, ...: the keys of `SETTINGS`.

    Raises:
        SpecError: with every problem found, one per line.
    """

    backbone: str
    lr: float
    label_budget: LabelBudget
    freeze_depth: float | None = None
    frozen_blocks: int | None = None
    train_blocks: str | None = None
    validation: Validation = field(default_factory=Validation)
    objective: Metric = Metric.ACCURACY
    augment: Augmentation | None = None
    repeat: int = 0
    seed: int = 0
    steps: int = _setting("steps")
    reports: int = _setting("reports")
    batch_size: int | str = _setting("batch_size")
    optimizer: str = _setting("optimizer")
    weight_decay: float = _setting("weight_decay")
    layer_decay: float = _setting("layer_decay")
    warmup: float = _setting("warmup")
    label_smoothing: float = _setting("label_smoothing")
    head_init: str = _setting("head_init")
    interpolation: float | str = _setting("interpolation")
    batchnorm: str = _setting("batchnorm")
    trainable: str = _setting("trainable")
    image_size: int | str = _setting("image_size")
    max_length: int | str = _setting("max_length")
    truncate: str = _setting("truncate")
    prompt: str = _setting("prompt")
    pooling: str = _setting("pooling")
    dropout: float | str = _setting("dropout")
    precision: str = _setting("precision")

    def __post_init__(self) -> None:
        problems, accepted = [], set[str]()
        backbone: object = self.backbone
        if not isinstance(backbone, str):
            problems.append(f"backbone: got {backbone!r}; allowed: text NAME[@WEIGHTS]")
        for name, setting in _CHECKED.items():
            value = getattr(self, name)
            if value is None and name in _EXCLUSIVE:
                continue
            problem = setting.problem(value)
            if problem is not None:
                problems.append(f"{name}: {problem}")
                continue
            accepted.add(name)
            object.__setattr__(self, name, setting.canonical(value))
        if {"steps", "reports"} <= accepted and self.reports > self.steps:
            problems.append(f"reports: got {self.reports}; allowed: at most steps ({self.steps})")
        if self.train_blocks is not None and block_range(self.train_blocks) is None:
            problems.append(
                f"train_blocks: got {self.train_blocks!r}; allowed: text FIRST-LAST, from 1"
            )
        if sum(getattr(self, name) is not None for name in _EXCLUSIVE) != 1:
            problems.append(f"{', '.join(_EXCLUSIVE)}: give exactly one of the three")
        if problems:
            raise SpecError("\n".join(problems))

    def to_json(self) -> dict[str, Any]:
        """Return a dict of JSON values that `from_json` reads to an equal spec.

        Settings that 0.1.0 did not have are left out at their default values.
        """
        data = without_added_defaults(asdict(self))
        data["label_budget"] = self.label_budget.to_json()
        data["validation"] = self.validation.to_json()
        data["objective"] = self.objective.value
        data["augment"] = self.augment and self.augment.to_json()
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrialSpec:
        """Read what `to_json` wrote; missing settings take their defaults.

        Raises:
            SpecError: an unknown or missing key, or a value that is not allowed.
        """
        known = {f.name for f in fields(cls)}
        problems = [
            f"{key}: unknown; known keys: {', '.join(sorted(known))}"
            for key in sorted(set(data) - known)
        ]
        # Placeholders for missing or invalid values, so that the rest is still checked.
        values: dict[str, Any] = {"backbone": "", "lr": 1.0, "label_budget": LabelBudget()}
        problems += [f"{key}: missing" for key in sorted(set(values) - set(data))]
        readers: dict[str, Callable[[Any], Any]] = {
            "label_budget": _read_budget,
            "validation": Validation.parse,
            "objective": _read_metric,
            "augment": _read_augment,
        }
        for key in sorted(known & set(data)):
            try:
                values[key] = readers[key](data[key]) if key in readers else data[key]
            except SpecError as error:
                problems.append(str(error))
        try:
            spec = cls(**values)
        except SpecError as error:
            problems.append(str(error))
        if problems:
            raise SpecError("\n".join(problems))
        return spec


def _read_budget(value: object) -> LabelBudget:
    try:
        return LabelBudget.parse(value)
    except SpecError as error:
        raise SpecError(f"label_budget: {error}") from None


def _read_augment(value: object) -> Augmentation | None:
    return None if value is None else Augmentation.parse(value)


def _read_metric(value: Any) -> Metric:
    try:
        return Metric(value)
    except ValueError:
        raise SpecError(f"objective: got {value!r}; allowed: {', '.join(Metric)}") from None
