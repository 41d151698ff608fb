"""Settings that no trial can run with are problems of the file, found before any trial starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import SpaceError
from orchestrator.planning.preparation import prepare_space, read_space
from orchestrator.planning.rehearsals import extreme_trials
from orchestrator.space import SearchSpace, parse_space
from trainable.spec.trial_spec import LabelBudget

BUDGET = LabelBudget(3)


def text_of(search: dict[str, Any], top: dict[str, Any]) -> str:
    base: dict[str, Any] = {"backbone": "tiny_strokes", "lr": [0.1, 0.2], "label_budget": [3]}
    if not {"frozen_blocks", "train_blocks"} & set(search):
        base["freeze_depth"] = 0.5
    values = {"dataset": {"source": "digits"}, "cache": "never", "search": base | search} | top
    return yaml.safe_dump(values, sort_keys=False)


def space_of(search: dict[str, Any], **top: Any) -> SearchSpace:
    return parse_space(text_of(search, top), where="pets.yaml")


def prepare(folder: Path, search: dict[str, Any], **top: Any) -> None:
    file = folder / "pets.yaml"
    file.write_text(text_of(search, top))
    prepare_space(read_space(file), path=file)


def problems(folder: Path, search: dict[str, Any], **top: Any) -> list[str]:
    with pytest.raises(SpaceError, match=r"pets\.yaml: \d+ problem") as caught:
        prepare(folder, search, **top)
    first, *lines, last = str(caught.value).splitlines()
    assert f"{len(lines)} problem" in first
    assert last.startswith("Check again with: sft-sweep validate")
    return [line.strip() for line in lines]


def test_a_batch_of_one_without_statistics_is_a_problem_of_the_key_that_gives_it(
    tmp_path: Path,
) -> None:
    training = {"batchnorm": "train", "image_size": 4}
    (problem,) = problems(tmp_path, {"batch_size": [1, 8]}, training=training)
    assert problem.startswith("search.batch_size: got 1; tiny_strokes cannot learn from one image")
    (problem,) = problems(tmp_path, {}, training=training | {"batch_size": 1})
    assert problem.startswith("training.batch_size: got 1; tiny_strokes cannot learn from one")


def test_settings_that_conditions_keep_apart_are_not_rehearsed_together(tmp_path: Path) -> None:
    apart = {
        "batch_size": [1, 8],
        "batchnorm": {"cases": [{"when": {"batch_size": 1}, "value": "eval"}, {"value": "train"}]},
    }
    prepare(tmp_path, apart, training={"image_size": 4})
    together = apart | {"batchnorm": {"cases": [{"when": {"batch_size": 8}, "value": "eval"}]}}
    with pytest.raises(SpaceError, match=r"search\.batch_size: got 1"):
        prepare(tmp_path, together, training={"image_size": 4, "batchnorm": "train"})


@pytest.mark.parametrize(
    ("search", "line"),
    [
        ({"frozen_blocks": {"low": 0, "high": 9}}, "frozen_blocks: got 9; this backbone has 7 bou"),
        ({"frozen_blocks": [2, 8, -1]}, "frozen_blocks: got 8; this backbone has 7 boundaries"),
        ({"train_blocks": ["1-2", "3-40"]}, "train_blocks: got 3-40; this backbone has 7 blocks"),
    ],
)
def test_more_blocks_than_a_backbone_has_are_a_problem(
    tmp_path: Path, search: dict[str, Any], line: str
) -> None:
    (problem,) = problems(tmp_path, search)
    assert problem.startswith(f"search.{line}")
    assert problem.endswith("(tiny_strokes). Ask less of it, in a case of its own")


def test_a_sweep_that_has_begun_is_resumed_without_a_rehearsal(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="frozen_blocks: got 9"):
        prepare(tmp_path, {"frozen_blocks": [2, 9]})
    file = tmp_path / "pets.yaml"
    assert prepare_space(read_space(file), path=file, begun=True).weights


def test_all_blocks_are_never_too_many(tmp_path: Path) -> None:
    prepare(tmp_path, {"frozen_blocks": {"low": -1, "high": 7}})


PATCHES = """
from torch import nn

def build(image_size=32):
    if image_size % 16:
        raise ValueError("no whole number of patches")
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 4, 16, 16), *pool, nn.Linear(4, 2))
"""


def test_a_range_of_image_sizes_is_tried_between_its_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network_of_patches.py").write_text(PATCHES)
    own = {"backbone": {"name": "patches", "module": "network_of_patches:build"}}
    sizes = {"low": 32, "high": 64}
    (problem,) = problems(tmp_path, own | {"image_size": sizes})
    assert problem.startswith("search.image_size: got a range with 33 in it; ")
    assert "no whole number of patches" in problem
    assert problem.endswith("Give a list, or a step from one size that it takes to the next")
    prepare(tmp_path, own | {"image_size": sizes | {"step": 16}})


def test_transforms_that_cannot_change_the_images_are_problems(tmp_path: Path) -> None:
    ops = [{"gaussian_blur": {"kernel_size": 51}}, "horizontal_flip", {"posterize": {"bits": 20}}]
    blur, posterize = problems(tmp_path, {}, augment={"ops": ops, "views": 2})
    assert blur.startswith("augment.ops: gaussian_blur: got {'kernel_size': 51}; it cannot change")
    assert "images of 8 x 8 pixels" in blur
    assert posterize.endswith("See torchvision.transforms.v2.RandomPosterize")
    large = {"image_size": 64}  # the blur fits larger images
    prepare(tmp_path, {}, augment={"ops": ops[:2], "views": 2}, training=large)


def test_extreme_trials_combine_few_axes_and_fix_the_others() -> None:
    space = space_of(
        {
            "backbone": ["vit_tiny", "resnet_tiny"],
            "freeze_depth": {"low": 0.0, "high": 0.75, "step": 0.25},
            "lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "batch_size": [4, 8, "auto", 16],
            "image_size": {"low": 32, "high": 320, "step": 32},
            "weight_decay": [0.1, 0.2, 0.3],
        }
    )
    found = extreme_trials(space, BUDGET)
    assert list(found) == ["vit_tiny", "resnet_tiny"]
    for trials in found.values():
        assert {spec.freeze_depth for spec in trials} == {0.0, 0.75}
        assert {spec.batch_size for spec in trials} == {4, "auto", 16}
        assert {spec.image_size for spec in trials} == {32, 64, 320}
        assert {(spec.lr, spec.weight_decay) for spec in trials} == {(1e-4, 0.1)}
        assert len(trials) == 2 * 3 * 3


def test_values_that_conditions_name_are_rehearsed_too() -> None:
    space = space_of(
        {
            "freeze_depth": {"low": 0.0, "high": 0.75, "step": 0.25},
            "batch_size": {"when": {"freeze_depth": 0.25}, "value": 1},
            "batchnorm": {"when": {"lr": 0.2}, "value": "train"},
        }
    )
    trials = extreme_trials(space, BUDGET)["tiny_strokes"]
    assert {(spec.freeze_depth, spec.batch_size, spec.batchnorm) for spec in trials} == {
        (depth, 1 if depth == 0.25 else "auto", batchnorm)
        for depth in (0.0, 0.25, 0.75)
        for batchnorm in ("auto", "train")
    }
