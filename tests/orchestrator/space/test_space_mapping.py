"""Search spaces given as mappings: read and refused as files are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from orchestrator.errors import SpaceError
from orchestrator.planning.preparation import read_space
from orchestrator.space import parse_space, read_mapping

GIVEN: dict[str, Any] = {
    "dataset": {"source": "folder", "path": "photos", "test": 0.25},
    "search": {
        "backbone": ["tiny_strokes", "tiny_fractals"],
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "label_budget": [2, 5, "all"],
    },
    "trials": 4,
}


def message_of(given: object, **options: Any) -> str:
    with pytest.raises(SpaceError, match="search space: ") as caught:
        read_mapping(given, **options)
    return str(caught.value)


def test_a_mapping_means_what_a_file_with_its_keys_means() -> None:
    of_file = parse_space(yaml.safe_dump(GIVEN), where="sweep.yaml")
    assert read_mapping(GIVEN) == of_file


def test_values_of_numpy_tuples_and_paths_are_read_as_plain_ones() -> None:
    given = GIVEN | {
        "dataset": {"source": "folder", "path": Path("photos"), "test": np.float32(0.25)},
        "search": GIVEN["search"]
        | {"backbone": ("tiny_strokes", "tiny_fractals"), "freeze_depth": np.array([0.5, 1.0])},
        "trials": np.int64(4),
    }
    space = read_mapping(given)
    assert space.dataset.to_json() == read_mapping(GIVEN).dataset.to_json()
    assert space.axes["backbone"].to_json() == ["tiny_strokes", "tiny_fractals"]
    assert space.axes["freeze_depth"].to_json() == [0.5, 1.0]
    assert space.trials == 4


def test_relative_paths_count_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_space(GIVEN).dataset.to_json()["path"] == str(tmp_path / "photos")


def test_every_problem_of_a_mapping_is_told_at_once_without_a_file_to_check_again() -> None:
    search = GIVEN["search"] | {"freez_depth": 0.5, "lr": {"low": 0, "high": 1, "log": True}}
    told = message_of(GIVEN | {"search": search, "trials": 0})
    assert told.startswith("search space: 3 problems\n")
    assert "search.freez_depth: unknown axis; did you mean freeze_depth?" in told
    assert "a log range needs low > 0" in told
    assert "trials: got 0" in told
    assert "Check again" not in told


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", 1j])
def test_what_no_file_could_hold_is_refused_with_what_is_allowed(value: object) -> None:
    told = message_of(GIVEN | {"seed": value})
    assert "  seed: got " in told
    assert "allowed: text, numbers, True, False, None, lists and mappings" in told


def test_a_mapping_that_holds_itself_is_refused() -> None:
    given = dict(GIVEN)
    given["training"] = {"more": given}
    assert "training.more: holds itself" in message_of(given)


@pytest.mark.parametrize("given", [None, 3, ["dataset"]])
def test_what_is_neither_path_nor_mapping_is_refused(given: object) -> None:
    assert "allowed: a mapping of keys, or the path of a file" in message_of(given)


def test_overrides_by_dotted_key_replace_and_add() -> None:
    overrides = {"trials": 2, "search.lr.high": 1e-3, "limits.hours": np.float64(1.5)}
    space = read_mapping(GIVEN, overrides)
    assert space.trials == 2
    assert space.axes["lr"].to_json() == {"low": 1e-4, "high": 1e-3, "log": True}
    assert space.limits.hours == 1.5
    assert GIVEN["search"]["lr"]["high"] == 1e-2


def test_overrides_by_dotted_key_serve_files_too() -> None:
    text = yaml.safe_dump(GIVEN)
    assert parse_space(text, where="a.yaml", overrides={"name": "no"}).name == "no"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"search..lr": 1}, "overrides: got 'search..lr'; allowed: dotted keys"),
        ({"trials.x": 1}, "overrides: got 'trials.x'; trials is no mapping"),
        ({"trials": {1}}, "overrides.trials: got {1}; allowed: text, numbers"),
        ({"trails": 1}, "trails: unknown key; did you mean trials?"),
    ],
)
def test_a_bad_override_is_a_problem_like_those_of_the_mapping(
    overrides: dict[str, object], line: str
) -> None:
    with pytest.raises(SpaceError, match=re.escape(line)):
        read_mapping(GIVEN, overrides)
