"""Every path of a search space is absolute once the space is what a sweep keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.planning.preparation import read_space, read_written_space
from orchestrator.space import SearchSpace
from orchestrator.space.absolute_paths import absolute_path

SEARCH = {
    "backbone": [
        "resnet18@w/a.pth",
        "resnet18@~/b.safetensors",
        "resnet18@../c.pt",
        "resnet18@/x/d.pth",
        "resnet18@f.ckpt#state_dict_ema",
        "resnet18@none",
        "resnet18@IMAGENET1K_V1",
        "tiny_strokes",
        {"name": "mine", "module": "models:build", "weights": "w/e.pth"},
    ],
    "label_budget": 5,
}


def read(folder: Path, *, written: bool = False, **given: Any) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({"dataset": {"source": "digits"}, **given}))
    return read_written_space(path) if written else read_space(path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory `tmp_path/here [1]`, beside the home folder."""
    here = tmp_path / "here [1]"
    here.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(here)
    return here


def test_weights_by_path_are_absolute_and_names_of_weights_stay(home: Path) -> None:
    space = read(home, search=SEARCH)
    assert space.axes["backbone"].domains[0].grid() == (
        f"resnet18@{home}/w/a.pth",
        f"resnet18@{home.parent}/home/b.safetensors",
        f"resnet18@{home}/../c.pt",
        "resnet18@/x/d.pth",
        f"resnet18@{home}/f.ckpt#state_dict_ema",
        "resnet18@none",
        "resnet18@IMAGENET1K_V1",
        "tiny_strokes",
        "mine",
    )
    assert space.custom["mine"].weights == f"{home}/w/e.pth"
    kept = read(home, written=True, **space.to_json())
    assert kept.to_json() == space.to_json()
    assert space.absolute() == space


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ({"source": "folder", "path": "~/photos"}, {"path": "home/photos"}),
        ({"source": "table", "path": "t.csv", "root": "."}, {"path": "h/t.csv", "root": "h"}),
        ({"source": "parquet", "path": "../p"}, {"path": "h/../p"}),
        ({"source": "torchvision", "name": "CIFAR10", "root": "d"}, {"root": "h/d"}),
    ],
)
def test_paths_of_every_source_are_absolute(
    section: dict[str, str], keys: dict[str, str], home: Path
) -> None:
    space = read(home, dataset=section, search={**SEARCH, "backbone": "tiny_strokes"})
    for key, expected in keys.items():
        first, _, rest = expected.partition("/")
        root = home if first == "h" else home.parent / "home"
        assert getattr(space.dataset, key) == str(root / rest)


@pytest.mark.parametrize(
    "pattern",
    ["resnet18@w/a.pth", "resnet18@w/*", "resnet18@w*", "resnet18@?/a.pth", "*a.pth", "*/a*"],
)
def test_conditions_hold_for_the_backbones_that_they_held_for(pattern: str, home: Path) -> None:
    backbones = ["resnet18@w/a.pth", "resnet18@v.pth", "resnet18@none", "tiny_strokes"]
    when = {"cases": [{"when": {"backbone": pattern}, "value": 0.5}, {"value": 0.25}]}
    search = {"backbone": backbones, "label_budget": 5, "lr": when}
    rates = [
        [trial["lr"] for trial in read(home, search=search, written=written).grid()]
        for written in (True, False)
    ]
    assert rates[0] == rates[1] == [0.5, 0.25, 0.25, 0.25]


def test_two_spellings_of_one_file_are_one_backbone(home: Path) -> None:
    search = {**SEARCH, "backbone": ["resnet18@a.pth", "resnet18@./a.pth"]}
    assert read(home, search=search).axes["backbone"].domains[0].grid() == (
        f"resnet18@{home}/a.pth",
    )


def test_what_a_sweep_has_kept_is_read_as_it_stands(home: Path) -> None:
    space = read(home, search=SEARCH, written=True)
    assert space.spec({"backbone": "resnet18@w/a.pth"}, space.label_budgets[0]).backbone == (
        "resnet18@w/a.pth"
    )


@pytest.mark.parametrize("path", ["~nobody-of-this-name/photos", "~"])
def test_a_home_that_there_is_not_is_a_name_like_any_other(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getpwuid(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", getpwuid)
    monkeypatch.delenv("HOME")
    monkeypatch.chdir(tmp_path)
    assert absolute_path(path) == f"{tmp_path}/{path}"
