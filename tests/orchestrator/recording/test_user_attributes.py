import json
from typing import Any

import pytest
import yaml

from orchestrator.planning.plan import Baseline, make_plan
from orchestrator.planning.work import Kind, Work
from orchestrator.recording import user_attributes
from orchestrator.space import parse_space
from trainable.data.labelled_examples import LabelledExamples, Split

TEXT = yaml.safe_dump(
    {
        "dataset": {"source": "digits"},
        "search": {"backbone": "tiny_strokes", "label_budget": [{"total": 6}]},
        "finalists": {"count": 1, "repeats": 4},
        "objective": {"metric": "log_loss"},
        "seed": 9,
    }
)
SPACE = parse_space(TEXT, where="pets.yaml")
IMAGES = LabelledExamples.from_bytes(
    (f"image {number}".encode() for number in range(10)),
    labels=[0, 1] * 5,
    split=[Split.POOL] * 6 + [Split.TEST] * 4,
    class_names=["no", "yes"],
    paths=[f"{number}.png" for number in range(10)],
)
(PLAN,) = make_plan(SPACE, IMAGES, where="pets.yaml").studies


def _work(kind: Kind, **given: Any) -> Work:
    return Work(kind=kind, study="t6", **({"trial_id": "t6-0003", "task": {}} | given))


def test_trial_ids_have_four_digits_or_more() -> None:
    assert [user_attributes.trial_id("b5", number) for number in (7, 12345)] == [
        "b5-0007",
        "b5-12345",
    ]


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ({"failure": "worker_lost"}, "worker_lost"),
        ({"failure": "worker_lost", "reason": ""}, "worker_lost"),
        ({"failure": "worker_lost", "reason": "gone"}, "worker_lost: gone"),
        ({"failure": "cuda_oom", "traceback": "first\n  no room \n"}, "cuda_oom: no room"),
        ({"failure": "ValueError: odd", "traceback": "a\nb"}, "ValueError: odd"),
    ],
)
def test_a_failure_is_told_with_the_last_line_of_its_reason(run: dict[str, str], why: str) -> None:
    assert user_attributes.why_failed(run) == why


def test_finals_and_baselines_have_the_keys_of_the_contract() -> None:
    assert user_attributes.result_key(_work(Kind.FINAL, repeat=2)) == "final/t6-0003/2"
    for method, backbone, key in [
        ("pixels", None, "baseline/pixels"),
        ("probe", "vit@none", "baseline/probe/vit@none"),
        ("probe", "vit@none", "baseline/probe/vit@none/64px"),
    ]:
        task = {"method": method, "backbone": backbone}
        if key.endswith("64px"):
            task["variant"] = "64px"
        assert user_attributes.result_key(_work(Kind.BASELINE, task=task)) == key


def test_finals_baselines_and_losses_are_found_by_their_keys_in_the_order_of_the_journal() -> None:
    final, probe = _work(Kind.FINAL, repeat=2), {"method": "probe", "backbone": "vit@none"}
    attributes = {
        "about": {},
        user_attributes.result_key(_work(Kind.BASELINE, task=probe)): {"result": None},
        user_attributes.loss_key("t6-0003/2"): "hung",
        user_attributes.result_key(final): {"result": {}},
        "finished": True,
    }
    baseline, found = user_attributes.outcomes(attributes)
    assert (baseline.kind, baseline.key) == (Kind.BASELINE, "baseline/probe/vit@none")
    assert (found.kind, found.final_id) == (Kind.FINAL, ("t6-0003", 2))
    assert [outcome.value for outcome in (baseline, found)] == [{"result": None}, {"result": {}}]
    assert user_attributes.losses(attributes) == {final.work_id: "hung"}


def test_a_baseline_is_told_all_it_needs() -> None:
    baseline = Baseline(study="t6", method="probe", backbone="tiny_strokes", precision="auto")
    assert user_attributes.baseline_task(baseline, PLAN, SPACE) == {
        "method": "probe",
        "backbone": "tiny_strokes",
        "label_budget": {"total": 6},
        "validation": {"folds": 3},
        "objective": "log_loss",
        "repeats": 4,
        "seed": 9,
        "image_size": None,
        "precision": "auto",
    }


def test_a_probe_among_several_is_told_what_it_sees_and_what_it_is_called() -> None:
    baseline = Baseline(
        study="t6",
        method="probe",
        backbone="tiny_strokes",
        size=64,
        precision="bf16",
        variant="64px-bf16",
    )
    task = user_attributes.baseline_task(baseline, PLAN, SPACE)
    assert (task["image_size"], task["precision"], task["variant"]) == (64, "bf16", "64px-bf16")
    assert baseline.trial_id == "t6-probe-tiny_strokes-64px-bf16"


def test_a_study_knows_its_test_images_in_the_order_of_predictions() -> None:
    about = user_attributes.about_study(PLAN, SPACE, IMAGES)
    assert json.loads(json.dumps(about)) == about
    assert about["label_budget"] == 3.0
    assert about["labels_used"] == 6
    assert about["most_baselines"] == 2
    assert about["selection"] == "folds=3"
    assert about["class_names"] == ["no", "yes"]
    assert about["test"]["path"] == [f"{number}.png" for number in range(6, 10)]
    assert about["test"]["label"] == [0, 1, 0, 1]
    assert about["test"]["image_id"] == IMAGES.image_ids()[6:]
