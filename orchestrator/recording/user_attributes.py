"""Names and formats of the user attributes in the journal, for all that Optuna has no field for.

A trial has `plan` (params and spec, set at its ask; the attempt, set when one begins), `facts`
(resolved at set-up), `report/<n>` and `run` (host, device, times, failure; set before its tell). A
study has `about`, one attribute per final and baseline, one per piece of work whose process was
lost, and `finished` once no work is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial

from orchestrator.planning.inputs import backbones
from orchestrator.planning.plan import Baseline, StudyPlan
from orchestrator.planning.work import Failure, Kind, Work
from orchestrator.recording.optuna_internals import stored_attributes
from orchestrator.space import SearchSpace, short_names
from orchestrator.text import last_line
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.spec.settings import ADDED_SETTINGS, SIZES, without_added_defaults

ABOUT, FINISHED, PLAN, FACTS, RUN = "about", "finished", "plan", "facts", "run"
BACKBONE_NAMES = "backbone_names"
"""Key of `about`: short names by backbone. Journals of 0.1.0 lack it and show backbones in full."""
LABELS_PER_CLASS = "labels per class"
"""What label budgets count where an example has one class."""

EXAMPLES = "examples"
"""What label budgets count where an example has no class of its own."""

_FINAL, _BASELINE, _LOSS = "final/", "baseline/", "loss/"


def budget_unit_of(examples: LabelledExamples) -> str:
    """Return what label budgets of some examples count, as tables have it."""
    return LABELS_PER_CLASS if examples.masks is None else EXAMPLES


def budget_unit(values: Mapping[str, Any]) -> str:
    """Return what label budgets count, such as `labels per class` or `labelled images`.

    Args:
        values: those of `about`, or of a row of a table.
    """
    if values.get("budget_unit") == EXAMPLES:
        return f"labelled {values.get('modality') or 'image'}s"
    return LABELS_PER_CLASS


class Outcome(NamedTuple):
    """A finished final or baseline, as a study's attributes record it.

    Attributes:
        kind: `FINAL` or `BASELINE`.
        key: name of the attribute.
        value: its `task`, its attempts (`run`), and its `result`, None if it failed.
    """

    kind: Kind
    key: str
    value: dict[str, Any]

    @property
    def final_id(self) -> tuple[str, int]:
        """For a final: the id of its trial, and the number of its repeat."""
        trial, _, repeat = self.key.removeprefix(_FINAL).rpartition("/")
        return trial, int(repeat)


def outcomes(attributes: Mapping[str, Any]) -> Iterator[Outcome]:
    """Yield the finished finals and baselines of a study, in the order in which they ended.

    Args:
        attributes: attributes of the study.
    """
    for key, value in attributes.items():
        if key.startswith(_FINAL):
            yield Outcome(Kind.FINAL, key, value)
        elif key.startswith(_BASELINE):
            yield Outcome(Kind.BASELINE, key, value)


def losses(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return why the newest process of each lost piece of work ended, by the work's id.

    Args:
        attributes: attributes of the study.
    """
    return {
        key.removeprefix(_LOSS): value for key, value in attributes.items() if key.startswith(_LOSS)
    }


def num_test(studies: Iterable[optuna.Study]) -> int:
    """Return the number of test images of a sweep with these studies."""
    return max(len(stored_attributes(study)[ABOUT]["test"]["image_id"]) for study in studies)


def trial_id(study: str, number: int) -> str:
    """Return the id in tables: `<study>-<Optuna number, four digits>`."""
    return f"{study}-{number:04d}"


def report_key(number: int) -> str:
    """Return the name of a trial's attribute with one report."""
    return f"report/{number}"


def last_report(trial: FrozenTrial) -> dict[str, Any]:
    """Return the last report of a trial, which is its score."""
    report: dict[str, Any] = trial.user_attrs[report_key(trial.last_step or 0)]
    return report


def resolved_spec(trial: FrozenTrial) -> dict[str, Any]:
    """Return the spec of a trial with a report, as JSON values without any `auto`.

    Validation chooses with the last report how far to interpolate from the start to the trained
    weights; reports of 0.1.0 lack this, since they used the trained weights.
    """
    report = last_report(trial)
    settled = {name: report[name] for name in ADDED_SETTINGS if name in report}
    return {**trial.user_attrs[FACTS]["spec"], **settled}


def final_key(trial: str, repeat: int) -> str:
    """Return the name of the study's attribute with one final."""
    return f"{_FINAL}{trial}/{repeat}"


def baseline_key(method: str, backbone: str | None, variant: str | None = None) -> str:
    """Return the name of the study's attribute with one baseline."""
    return _BASELINE + "/".join(filter(None, (method, backbone, variant)))


def loss_key(work_id: str) -> str:
    """Return the name of the study's attribute with the reason why this work's process was lost."""
    return f"{_LOSS}{work_id}"


def why_failed(run: Mapping[str, Any]) -> str:
    """Return why a trial, a final or a baseline failed, in one line.

    A value of `Failure` is followed by the last line of its reason or traceback.
    """
    failure = str(run["failure"])
    told = last_line(str(run.get("reason") or run.get("traceback") or ""))
    return f"{failure}: {told}" if told and failure in set(Failure) else failure


def result_key(work: Work) -> str:
    """Return the name of the study's attribute with the result of a final or a baseline."""
    if work.kind is Kind.FINAL:
        return final_key(work.trial_id, work.repeat)
    return baseline_key(work.task["method"], work.task["backbone"], work.task.get("variant"))


def baseline_task(baseline: Baseline, plan: StudyPlan, space: SearchSpace) -> dict[str, Any]:
    """Return the task of a baseline, as its worker gets it.

    It has a `variant` if its backbone has several probes, and how the backbone reads its input as
    far as that is not as usual. Version 0.1.0 had no `variant` and no `precision`, which was fp32.
    """
    return {
        "method": baseline.method,
        "backbone": baseline.backbone,
        **({"variant": baseline.variant} if baseline.variant else {}),
        "label_budget": plan.budget.to_json(),
        "validation": space.validation.to_json(),
        "objective": space.objective.value,
        "repeats": space.finalists.repeats,
        "seed": space.seed,
        SIZES[space.modality]: baseline.size,
        "precision": baseline.precision,
        **without_added_defaults(dict(baseline.reading)),
    }


def recorded_baseline(study: str, about: Mapping[str, Any], task: Mapping[str, Any]) -> Baseline:
    """Return the baseline of a recorded task.

    Args:
        study: name of the study.
        about: attribute `about` of the study.
        task: see `baseline_task`.
    """
    return Baseline(
        study=study,
        method=task["method"],
        backbone=task["backbone"],
        short_name=about.get(BACKBONE_NAMES, {}).get(task["backbone"]),
        variant=task.get("variant"),
    )


def shown_backbone(about: Mapping[str, Any], backbone: str | None) -> str | None:
    """Return a backbone's name in tables: its short name if the study has one recorded."""
    names: Mapping[str | None, str] = about.get(BACKBONE_NAMES, {})
    return names.get(backbone, backbone)


def _selection(space: SearchSpace, images: LabelledExamples) -> str:
    """Return how configurations were selected, with the number of labels outside the budget."""
    if not space.validation.outside:
        return str(space.validation)
    return f"{space.validation}: {len(images.indices(Split.VAL))} labels"


def about_study(plan: StudyPlan, space: SearchSpace, images: LabelledExamples) -> dict[str, Any]:
    """Return the facts about a study that tables need beside its trials."""
    test = images.indices(Split.TEST)
    ids = images.image_ids()
    return {
        "label_budget": plan.labels_per_class,
        "labels_used": plan.labels_used,
        "num_classes": images.num_classes,
        "modality": images.modality,
        "task": images.task,
        "budget_unit": budget_unit_of(images),
        "objective": space.objective.value,
        "selection": _selection(space, images),
        "most_baselines": plan.most_baselines,
        "seed": space.seed,
        BACKBONE_NAMES: short_names(backbones(space)),
        "class_names": list(images.class_names),
        "test": {
            "image_id": [ids[i] for i in test],
            "path": [images.paths[i] for i in test],
            **({"label": [int(images.labels[i]) for i in test]} if images.masks is None else {}),
        },
    }
