from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from orchestrator.errors import SpaceError
from orchestrator.planning.inputs import backbones
from orchestrator.planning.plan import Plan, largest_value, make_plan
from orchestrator.space import SearchSpace, parse_space
from trainable.data.labelled_examples import LabelledExamples, Split

SEARCH = {"backbone": ["vit_tiny", "resnet_tiny"], "lr": [0.1, 0.2], "label_budget": [2]}


def _space(search: dict[str, Any] | None = None, **top: Any) -> SearchSpace:
    values = {"dataset": {"source": "digits"}, "search": SEARCH | (search or {})} | top
    return parse_space(yaml.safe_dump(values, sort_keys=False), where="pets.yaml")


def _images(*, pool: tuple[int, ...] = (6, 6), test: tuple[int, ...] = (3, 1)) -> LabelledExamples:
    """Images with the given number per class in pool and test split."""
    labels = np.concatenate([np.repeat(np.arange(len(sizes)), sizes) for sizes in (pool, test)])
    split = [Split.POOL] * sum(pool) + [Split.TEST] * sum(test)
    return LabelledExamples.from_bytes(
        (f"image {number}".encode() for number in range(len(labels))),
        labels=labels,
        split=split,
        class_names=["cat", "dog", "eel", "fox", "gnu"][: len(pool)],
        paths=[f"{number}.png" for number in range(len(labels))],
    )


def _plan(space: SearchSpace, images: LabelledExamples | None = None) -> Plan:
    return make_plan(space, images or _images(), where="pets.yaml")


def _problems(space: SearchSpace, images: LabelledExamples) -> list[str]:
    with pytest.raises(SpaceError, match=r"^pets\.yaml: \d+ problem") as caught:
        _plan(space, images)
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


def test_studies_are_in_ascending_order_of_labels_whatever_their_kind() -> None:
    plan = _plan(_space({"label_budget": ["all", 3, {"total": 5}, 2]}))
    assert [study.name for study in plan.studies] == ["b2", "t5", "b3", "all"]
    assert [study.labels_per_class for study in plan.studies] == [2, 2.5, 3, 6]
    assert [study.labels_used for study in plan.studies] == [4, 5, 6, 12]


def test_a_budget_per_class_keeps_its_name_where_a_class_has_less() -> None:
    (study,) = _plan(_space({"label_budget": [4]}), _images(pool=(6, 3))).studies
    assert (study.labels_per_class, study.labels_used) == (4, 7)


def test_repeats_of_a_budget_that_takes_the_whole_pool_draw_no_fresh_labels() -> None:
    plan = _plan(_space({"label_budget": [2, 6, "all"]}))
    assert [study.fresh for study in plan.studies] == [True, False, False]


def test_folds_are_as_many_as_the_smallest_class_has_labels() -> None:
    plan = _plan(_space({"label_budget": [2, 3, 6]}, validation={"folds": 3}))
    assert [study.folds for study in plan.studies] == [2, 3, 3]


def test_a_holdout_is_one_fold() -> None:
    assert _plan(_space(validation={"holdout": 0.5})).studies[0].folds == 1


def test_every_study_gets_all_trials() -> None:
    plan = _plan(_space({"label_budget": [2, 3]}, trials=7))
    assert [study.trials for study in plan.studies] == [7, 7]


@pytest.mark.parametrize(("asked", "planned"), [(3, 3), (4, 4), (9, 4)])
def test_a_grid_has_no_more_trials_than_points(asked: int, planned: int) -> None:
    plan = _plan(_space(sampler={"name": "grid"}, trials=asked))
    assert plan.studies[0].trials == planned


def test_baselines_are_pixels_once_and_a_probe_for_each_backbone_of_each_study() -> None:
    plan = _plan(_space({"label_budget": [3, 2]}, baselines=["pixels", "probe"]))
    assert [baseline.trial_id for baseline in plan.baselines] == [
        "b2-pixels",
        "b2-probe-vit_tiny",
        "b2-probe-resnet_tiny",
        "b3-pixels",
        "b3-probe-vit_tiny",
        "b3-probe-resnet_tiny",
    ]


def test_a_sweep_without_baselines_has_none() -> None:
    assert _plan(_space(baselines=[])).baselines == ()


def test_the_images_of_the_test_split_are_counted() -> None:
    assert _plan(_space(), _images(test=(1, 3))).num_test == 4


def test_most_updates_counts_folds_trials_and_finals_at_the_longest_training() -> None:
    plan = _plan(
        _space(
            {"label_budget": [2, 3], "steps": [50, 100]},
            trials=4,
            validation={"folds": 3},
            finalists={"count": 3, "repeats": 5},
        )
    )
    assert plan.most_updates == 100 * ((4 * 2 + 15) + (4 * 3 + 15))


def test_a_budget_above_the_largest_class_says_what_is_allowed() -> None:
    assert _problems(_space({"label_budget": [7]}), _images(pool=(6, 2))) == [
        "search.label_budget: got 7; the largest class has 6 images outside the test split: "
        "allowed are 2 to 6, or `all`"
    ]


def test_one_label_per_class_suffices_with_validation_outside_the_budget() -> None:
    space = _space({"label_budget": [7]}, validation={"split": "val", "outside_budget": True})
    assert _problems(space, _images(pool=(6, 2)))[0].endswith("allowed are 1 to 6, or `all`")


def test_a_class_too_small_for_any_budget_is_a_problem_that_says_so() -> None:
    (problem,) = _problems(_space({"label_budget": [7]}), _images(pool=(1, 1)))
    assert problem.endswith("too few for any budget, which takes 2")


def test_a_total_above_the_pool_says_how_many_there_are() -> None:
    (problem,) = _problems(_space({"label_budget": [{"total": 13}]}), _images())
    assert "got {total: 13}; there are 12 images outside the test split" in problem


def test_a_total_below_the_number_of_classes_is_refused() -> None:
    images = _images(pool=(6, 6, 6, 6, 6), test=(1, 1, 1, 1, 1))
    (problem,) = _problems(_space({"label_budget": [{"total": 4}]}), images)
    assert "got 4 in all; 5 classes need at least one label each" in problem


@pytest.mark.parametrize("budget", [2, "all", {"total": 4}])
def test_a_class_too_small_for_validation_is_a_problem_with_advice(budget: object) -> None:
    (problem,) = _problems(_space({"label_budget": [budget]}), _images(pool=(6, 1)))
    assert f"search.label_budget: got {budget}; " in problem
    assert "validation inside the label budget needs 2 or more labels of every class" in problem


def test_groups_limit_the_folds_and_a_class_of_one_group_is_named() -> None:
    images = _images()
    pairs = replace(images, groups=np.arange(len(images)) // 3)
    (study,) = _plan(_space({"label_budget": ["all"]}), pairs).studies
    assert study.folds == 2
    (problem,) = _problems(_space(), replace(images, groups=images.labels * 0))
    assert (
        "search.label_budget: got 2; validation inside the label budget needs 2 or more" in problem
    )
    assert "all images drawn are of one group for: cat, dog." in problem


def test_a_class_without_labelled_examples_is_named() -> None:
    (problem,) = _problems(_space(), _images(pool=(6, 0)))
    assert "no labelled image outside the test split for: dog" in problem


def test_a_sweep_without_test_images_is_refused() -> None:
    (problem,) = _problems(_space(), _images(test=(0, 0)))
    assert problem == "dataset: no image is in the test split; finalists need one"


def test_all_problems_are_listed_at_once() -> None:
    space = _space({"label_budget": [2, 99, {"total": 500}]})
    problems = _problems(space, _images(pool=(6, 1), test=(0, 0)))
    assert len(problems) == 4
    assert [text.partition(";")[0].rpartition(" got ")[2] for text in problems[:3]] == [
        "2",
        "99",
        "{total: 500}",
    ]


def test_backbones_are_those_of_all_cases_each_once() -> None:
    space = _space({"backbone": ["vit_tiny", "resnet_tiny"]})
    assert backbones(space) == ["vit_tiny", "resnet_tiny"]
    assert backbones(_space({"backbone": "vit_tiny"})) == ["vit_tiny"]


def test_the_largest_value_of_a_training_setting_may_be_fixed_chosen_or_in_a_range() -> None:
    assert largest_value(_space(training={"steps": 70}), "steps") == 70
    assert largest_value(_space({"steps": [30, 90, 60]}), "steps") == 90
    assert largest_value(_space({"steps": {"low": 30, "high": 120, "step": 30}}), "steps") == 120
    cases = [{"when": {"backbone": "vit_*"}, "value": 300}, {"values": [40, 80]}]
    assert largest_value(_space({"steps": {"cases": cases}}), "steps") == 300


def test_the_largest_value_may_be_the_fixed_one_if_the_axis_is_conditional() -> None:
    axis = {"reports": {"when": {"backbone": "vit_*"}, "values": [2, 3]}}
    assert largest_value(_space(axis, training={"reports": 8}), "reports") == 8
