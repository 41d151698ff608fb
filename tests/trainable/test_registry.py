"""Entries that other installed packages add by entry points, and errors about invalid ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.builders.plugins import install
from trainable.errors import PluginError
from trainable.registry import Registry, named

Install = Callable[..., None]


def numbers() -> Registry[int]:
    return Registry(
        "sft_sweep.numbers",
        what="a number",
        own={"one": lambda: 1},
        problem=lambda _, found: None if isinstance(found, int) else f"{found!r} is no number",
    )


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    def added(points: Mapping[str, str], text: str = "", package: str = "more-parts") -> None:
        install(
            tmp_path / package,
            monkeypatch,
            adds={"numbers": points},
            modules={"more_numbers": text},
            package=package,
        )

    return added


def test_entries_are_ours_first_and_then_those_of_other_packages(add: Install) -> None:
    add({"three": "more_numbers:THREE", "five": "more_numbers:FIVE"}, "THREE, FIVE = 3, 5")
    assert dict(numbers()) == {"one": 1, "five": 5, "three": 3}


def test_a_package_that_cannot_be_imported_is_an_error_only_when_its_entry_is_asked_for(
    add: Install,
) -> None:
    add({"two": "more_numbers:TWO"}, "import not_there_at_all")
    assert numbers()["one"] == 1
    assert list(numbers()) == ["one", "two"]
    with pytest.raises(
        PluginError,
        match=r"^more-parts 1.0 adds a number by its entry point two = more_numbers:TWO of "
        "sft_sweep.numbers: it cannot be imported: ModuleNotFoundError: No module named 'not_ther",
    ):
        numbers()["two"]


def test_an_entry_that_is_missing_from_its_module_is_an_error(add: Install) -> None:
    add({"two": "more_numbers:TWO"})
    with pytest.raises(PluginError, match=r"cannot be imported: AttributeError: .* 'TWO'"):
        numbers()["two"]


def test_an_entry_of_the_wrong_kind_is_an_error(add: Install) -> None:
    add({"two": "more_numbers:TWO"}, "TWO = 'zwei'")
    with pytest.raises(PluginError, match=r"two = more_numbers:TWO .*: 'zwei' is no number$"):
        numbers()["two"]


def test_a_name_of_ours_cannot_be_taken(add: Install) -> None:
    add({"one": "more_numbers:ONE"}, "ONE = 1.0")
    with pytest.raises(PluginError, match=r"this name is taken by sft-sweep itself; rename it$"):
        numbers()["one"]


def test_a_name_that_two_packages_add_is_an_error_that_names_both(add: Install) -> None:
    add({"two": "more_numbers:TWO"})
    add({"two": "more_numbers:TWO"}, package="other-parts")
    with pytest.raises(
        PluginError, match=r"^other-parts 1.0 .* taken by more-parts 1.0, too; uninstall one of"
    ):
        numbers()["two"]


def test_an_unknown_name_is_an_error_that_says_what_to_install() -> None:
    with pytest.raises(
        PluginError, match=r"^a number called 'two' is not known on .* known here: one. .* install"
    ):
        numbers()["two"]


def test_our_own_entries_may_be_named_as_entry_points_are() -> None:
    assert named("pathlib:Path")() is Path
