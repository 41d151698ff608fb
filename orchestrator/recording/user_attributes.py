"""Where the journal keeps what Optuna has no place for: names and forms of the user attributes.

A trial has `plan` (params and spec at its ask, the attempt whenever one begins), `facts` (resolved
at set-up), `report/<n>` and `run` (host, device, times, failure; before its tell). A study has
`about`, one attribute for each final and each baseline, one for each piece of work whose process
was lost, and `finished` once no work is left.
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
from trainable.spec.settings import ADDED_SETTINGS

ABOUT, FINISHED, PLAN, FACTS, RUN = "about", "finished", "plan", "facts", "run"
BACKBONE_NAMES = "backbone_names"
"""Of `about`: short names by backbone; not in journals of 0.1.0, which show backbones in full."""
_FINAL, _BASELINE, _LOSS = "final/", "baseline/", "loss/"


class Outcome(NamedTuple):
    """A finished final or baseline, as a study's attributes record it.

    Attributes:
        kind: `FINAL` or `BASELINE`.
        key: of the attribute.
        value: its `task`, its attempts (`run`), and its `result`, None where it failed.
    """

    kind: Kind
    key: str
    value: dict[str, Any]

    @property
    def final_id(self) -> tuple[str, int]:
        """Of a final: the id of its trial, and the number of its repeat."""
        trial, _, repeat = self.key.removeprefix(_FINAL).rpartition("/")
        return trial, int(repeat)


def outcomes(attributes: Mapping[str, Any]) -> Iterator[Outcome]:
    """The finished finals and baselines of a study, in the order in which they ended.

    Args:
        attributes: of the study.
    """
    for key, value in attributes.items():
        if key.startswith(_FINAL):
            yield Outcome(Kind.FINAL, key, value)
        elif key.startswith(_BASELINE):
            yield Outcome(Kind.BASELINE, key, value)


def losses(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The reason why the newest process of each lost piece of work ended, by the work's id.

    Args:
        attributes: of the study.
    """
    return {
        key.removeprefix(_LOSS): value for key, value in attributes.items() if key.startswith(_LOSS)
    }


def num_test(studies: Iterable[optuna.Study]) -> int:
    """Test images of a sweep with these studies."""
    return max(len(stored_attributes(study)[ABOUT]["test"]["label"]) for study in studies)


def trial_id(study: str, number: int) -> str:
    """The id that tables show: `<study>-<Optuna number, four digits>`."""
    return f"{study}-{number:04d}"


def report_key(number: int) -> str:
    """The trial's attribute that holds one report."""
    return f"report/{number}"


def last_report(trial: FrozenTrial) -> dict[str, Any]:
    """The report that is the trial's score: its last one."""
    report: dict[str, Any] = trial.user_attrs[report_key(trial.last_step or 0)]
    return report


def resolved_spec(trial: FrozenTrial) -> dict[str, Any]:
    """The spec of a trial that gave a report, in JSON values, without any `auto`.

    With the last report, validation settles how far on the way from its start a training is taken;
    reports of 0.1.0 do not say, for it was taken to its end.
    """
    report = last_report(trial)
    settled = {name: report[name] for name in ADDED_SETTINGS if name in report}
    return {**trial.user_attrs[FACTS]["spec"], **settled}


def final_key(trial: str, repeat: int) -> str:
    """The study's attribute that holds one final."""
    return f"{_FINAL}{trial}/{repeat}"


def baseline_key(method: str, backbone: str | None, variant: str | None = None) -> str:
    """The study's attribute that holds one baseline."""
    return _BASELINE + "/".join(filter(None, (method, backbone, variant)))


def loss_key(work_id: str) -> str:
    """The study's attribute that says how the newest process was lost that did this work."""
    return f"{_LOSS}{work_id}"


def why_failed(run: Mapping[str, Any]) -> str:
    """Why a trial, a final or a baseline failed, in one line.

    A word of `Failure` is followed by the last line of what was said of it.
    """
    failure = str(run["failure"])
    told = last_line(str(run.get("reason") or run.get("traceback") or ""))
    return f"{failure}: {told}" if told and failure in set(Failure) else failure


def result_key(work: Work) -> str:
    """The study's attribute that holds what a final or a baseline came to."""
    if work.kind is Kind.FINAL:
        return final_key(work.trial_id, work.repeat)
    return baseline_key(work.task["method"], work.task["backbone"], work.task.get("variant"))


def baseline_task(baseline: Baseline, plan: StudyPlan, space: SearchSpace) -> dict[str, Any]:
    """What a worker has to know of a baseline.

    There is a `variant` where its backbone has several probes. Version 0.1.0 had none, and no
    `precision`: it was fp32.
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
        "image_size": baseline.image_size,
        "precision": baseline.precision,
    }


def recorded_baseline(study: str, about: Mapping[str, Any], task: Mapping[str, Any]) -> Baseline:
    """The baseline that a recorded task was for.

    Args:
        study: its name.
        about: what is recorded of the study.
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
    """What tables call a backbone: its short name, where the study has one recorded."""
    names: Mapping[str | None, str] = about.get(BACKBONE_NAMES, {})
    return names.get(backbone, backbone)


def _selection(space: SearchSpace, images: LabelledExamples) -> str:
    """How configurations were chosen; labels outside the budget are counted."""
    if not space.validation.outside:
        return str(space.validation)
    return f"{space.validation}: {len(images.indices(Split.VAL))} labels"


def about_study(plan: StudyPlan, space: SearchSpace, images: LabelledExamples) -> dict[str, Any]:
    """What tables need to know of a study beside its trials."""
    test = images.indices(Split.TEST)
    ids = images.image_ids()
    return {
        "label_budget": plan.labels_per_class,
        "labels_used": plan.labels_used,
        "num_classes": images.num_classes,
        "objective": space.objective.value,
        "selection": _selection(space, images),
        "most_baselines": plan.most_baselines,
        "seed": space.seed,
        BACKBONE_NAMES: short_names(backbones(space)),
        "class_names": list(images.class_names),
        "test": {
            "image_id": [ids[i] for i in test],
            "path": [images.paths[i] for i in test],
            "label": [int(images.labels[i]) for i in test],
        },
    }
