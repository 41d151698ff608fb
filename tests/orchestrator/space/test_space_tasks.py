"""What a search space says of masks, and what of it belongs to another task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

import trainable.backbones
from orchestrator.datasets.mask_sections import CanvasesSection, MasksSection
from orchestrator.errors import SpaceError
from orchestrator.methods import Method
from orchestrator.space import SearchSpace, parse_space
from orchestrator.space.build_space import build_space
from trainable.spec.augmentation import WITHOUT_MASKS
from trainable.spec.metrics import METRICS, Metric
from trainable.spec.setting import Setting, Text

Read = Callable[..., SearchSpace]
ProblemsOf = Callable[..., list[str]]
MASKS = {"source": "masks", "path": "cells"}
CANVASES = {"source": "canvases"}
SEGMENTER = "lraspp_mobilenet_v3_large@none"


def test_the_task_follows_from_the_source(read: Read) -> None:
    for dataset in (MASKS, CANVASES):
        space = read(dataset=dataset)
        assert space.task == "segmentation"
        assert space.objective is Metric.MIOU
        assert read(dataset=dataset, task="segmentation").task == "segmentation"
    assert read(task="classification") == read()


def test_masks_have_baselines_of_their_own(read: Read) -> None:
    assert read(dataset=CANVASES).baselines == (Method.PIXELS, Method.MAJORITY, Method.PROBE)
    space = read(dataset=CANVASES, baselines=["probe", "majority"])
    assert space.baselines == (Method.MAJORITY, Method.PROBE)
    assert read(baselines=None).baselines == (Method.PIXELS, Method.PROBE)


@pytest.mark.parametrize("dataset", [CANVASES, {"source": "digits"}])
def test_a_written_space_means_what_was_read(read: Read, dataset: dict[str, str]) -> None:
    space = read(dataset=dataset)
    assert build_space(space.to_json()).fingerprint() == space.fingerprint()


@pytest.mark.parametrize(
    ("dataset", "given"),
    [(CANVASES, "classification"), ({"source": "digits"}, "segmentation"), (MASKS, "segment")],
)
def test_a_task_that_contradicts_the_source_is_refused(
    problems: ProblemsOf, dataset: dict[str, str], given: str
) -> None:
    (line,) = problems(dataset=dataset, task=given)
    wanted = "classification" if dataset["source"] == "digits" else "segmentation"
    assert line == f"task: got '{given}'; the data source is for {wanted}: leave it out"


@pytest.mark.parametrize(
    ("dataset", "task"), [(CANVASES, "segmentation"), ({"source": "digits"}, "classification")]
)
@pytest.mark.parametrize("metric", Metric)
def test_a_metric_is_one_of_its_task(
    read: Read, problems: ProblemsOf, dataset: dict[str, str], task: str, metric: Metric
) -> None:
    objective = {"metric": metric.value}
    if metric in METRICS[task]:
        assert read(dataset=dataset, objective=objective).objective is metric
        return
    (line,) = problems(dataset=dataset, objective=objective)
    allowed = ", ".join(METRICS[task])
    assert line == f"objective.metric: got '{metric}'; allowed: for {task} {allowed}"


@pytest.mark.parametrize("name", sorted(WITHOUT_MASKS))
def test_transforms_that_cannot_move_masks_are_refused_with_them(
    read: Read, problems: ProblemsOf, name: str
) -> None:
    both: list[str | dict[str, Any]] = [name, {name: {}}]
    for op in both:
        ops = ["horizontal_flip", op]
        (line,) = problems(dataset=CANVASES, augment={"ops": ops})
        assert line == (
            f"augment.ops: got {name}, which cannot move masks; allowed for segmentation: others, "
            "such as horizontal_flip, affine, color_jitter"
        )
    assert read(augment={"ops": [name]}).augment is not None
    assert read(dataset=CANVASES, augment={"ops": ["affine", "erasing"]}).augment is not None


def parsed(dataset: dict[str, Any], backbones: list[str]) -> SearchSpace:
    """A space whose backbones are looked up."""
    search = {"backbone": backbones, "label_budget": 5}
    text = yaml.safe_dump({"name": "x", "dataset": dataset, "search": search})
    return parse_space(text, where="pets.yaml", registry=trainable.backbones)


def test_networks_for_masks_are_refused_where_labels_are_classes() -> None:
    message = rf"search.backbone: got {SEGMENTER}, which is for segmentation; the data are for clas"
    with pytest.raises(SpaceError, match=message):
        parsed({"source": "digits"}, ["tiny_strokes", SEGMENTER])
    space = parsed(CANVASES, ["tiny_strokes", SEGMENTER])
    assert space.task == "segmentation"


def test_all_that_belongs_to_another_task_is_told_at_once(problems: ProblemsOf) -> None:
    found = problems(
        dataset={**MASKS, "ignore": -1, "values": [1, 1], "classes": [], "exif": "turned"},
        task="classification",
        objective={"metric": "auroc"},
        augment={"ops": ["aug_mix"]},
    )
    assert [line.split(":")[0] for line in found] == [
        *("dataset.ignore", "dataset.values", "dataset.classes", "dataset.exif"),
        *("task", "objective.metric", "augment.ops"),
    ]


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"classes": "a"}, "dataset.classes: got 'a'; allowed: a list, each text"),
        ({"classes": ["a", "a"]}, "dataset.classes: got ['a', 'a']; allowed: a list, each text"),
        ({"classes": ["a", 1]}, "dataset.classes: got ['a', 1]; allowed: a list, each text"),
        ({"classes": ["a", ""]}, "dataset.classes: got ['a', '']; allowed: a list, each text"),
        ({"values": []}, "dataset.values: got []; allowed: a list, each a whole number from 0"),
        ({"values": 255}, "dataset.values: got 255; allowed: a list, each a whole number"),
        ({"values": [0, 65536]}, "dataset.values: got [0, 65536]; allowed: a list, each"),
        ({"values": [0, 1.5]}, "dataset.values: got [0, 1.5]; allowed: a list, each a whole"),
        ({"values": [0, True]}, "dataset.values: got [0, true]; allowed: a list, each a whole"),
        ({"values": [1, 1]}, "dataset.values: got [1, 1]; allowed: a list, each a whole number"),
        ({"values": [[0], 1]}, "dataset.values: got [[0], 1]; allowed: a list, each a whole"),
        ({"ignore": [255]}, "dataset.ignore: got [255]; allowed: a whole number from 0 to 65535"),
        ({"ignore": -1}, "dataset.ignore: got -1; allowed: a whole number from 0 to 65535"),
        ({"exif": "turned"}, "dataset.exif: got 'turned'; allowed: one of stored, upright"),
        ({"images": ""}, "dataset.images: got ''; allowed: text"),
        ({"layout": "classes"}, "dataset.layout: belongs to folder; keys here: source, path"),
        ({"clases": ["a"]}, "dataset.clases: unknown key; did you mean classes?"),
    ],
)
def test_keys_of_masks_say_what_they_may_be(
    problems: ProblemsOf, keys: dict[str, Any], line: str
) -> None:
    (found,) = problems(dataset=MASKS | keys)
    assert found.startswith(line)


def test_a_section_of_masks_comes_back_from_its_written_form(read: Read) -> None:
    given = {
        **MASKS,
        "images": "photos",
        "masks": "truth",
        "classes": ["sky", "a car", "no"],
        "values": [0, 7, 65535],
        "ignore": 3,
        "exif": "stored",
        "links": "follow",
        "test": 0.3,
    }
    space = read(dataset=given)
    assert isinstance(space.dataset, MasksSection)
    assert space.dataset.classes == ("sky", "a car", "no")
    assert space.dataset.values == (0, 7, 65535)
    assert given.items() <= yaml.safe_load(yaml.safe_dump(space.to_json()))["dataset"].items()
    assert build_space(yaml.safe_load(yaml.safe_dump(space.to_json()))) == space
    for section in (space.dataset, MasksSection(path="cells"), CanvasesSection()):
        assert type(section).model_validate(section.to_json()) == section


def test_what_masks_mean_is_part_of_the_meaning(read: Read) -> None:
    plain = read(dataset=MASKS)
    assert read(dataset=MASKS | {"path": "elsewhere"}).fingerprint() == plain.fingerprint()
    prints = {
        read(dataset=MASKS | keys).fingerprint()
        for keys in ({}, {"values": [0, 255]}, {"ignore": 255}, {"classes": ["a", "b"]})
    }
    assert len(prints) == 4


def test_a_setting_of_several_takes_lists_of_distinct_values_alone() -> None:
    names = Setting(help="names", text=Text.NAME, several=True)
    assert names.allowed == "a list, each text"
    for value in (["a"], ("a", "b"), ["a", "A"]):
        assert names.accepts(value)
        assert names.problem(value) is None
    for wrong in ([], "a", ["a", "a"], [["a"]], {"a": 1}, None, ["a", None]):
        assert not names.accepts(wrong)
    numbers = Setting(help="numbers", low=0, high=9, integer=True, several=True)
    assert numbers.accepts([3, 0, 9])
    for no_numbers in ([3, 10], [3, 3], [True], ["3"], [float("nan")], [2.5], 3):
        assert not numbers.accepts(no_numbers)
        assert numbers.problem(no_numbers) is not None
