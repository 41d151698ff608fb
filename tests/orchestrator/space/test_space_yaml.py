"""Text -> values: YAML 1.1's traps, malformed and hostile texts, overrides."""

import math
import re
from pathlib import Path

import pytest

from orchestrator.errors import SpaceError
from orchestrator.space import load_space, parse_space
from orchestrator.space.yaml_text import MAX_VALUES, TextError, read_yaml

MINIMAL = "dataset: {source: digits}\nsearch: {backbone: tiny, label_budget: 5}\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("3E2", 300.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1", -1),
        ("+2", 2),
        ("010", 10),
    ],
)
def test_numbers_are_decimal_with_or_without_an_exponent(text: str, number: float) -> None:
    value = read_yaml(text)
    assert value == number
    assert type(value) is type(number)


@pytest.mark.parametrize(
    "text",
    ["no", "yes", "on", "off", "n", "1:30", "2026-01-31", "0x1F", "0o17", "1_000", "inf", "nan"],
)
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(text: str) -> None:
    assert read_yaml(text) == text


def test_keys_are_always_text() -> None:
    assert read_yaml("{no: 1, 2: 3, true: 4, 1.5: 5, null: 6}") == {
        "no": 1,
        "2": 3,
        "true": 4,
        "1.5": 5,
        "null": 6,
    }


def test_only_true_and_false_are_bools() -> None:
    assert read_yaml("[true, False, 'true']") == [True, False, "true"]


def test_endless_numbers_are_read_and_left_to_the_rules() -> None:
    assert read_yaml("[.inf, -.INF]") == [math.inf, -math.inf]
    assert read_yaml("9" * 5000) == math.inf


def test_an_alias_repeats_the_value_of_its_anchor() -> None:
    assert read_yaml("a: &x {b: 1}\nc: [*x, *x]") == {"a": {"b": 1}, "c": [{"b": 1}, {"b": 1}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1,\nb: 2", "not valid YAML at line 2"),
        ("a: 'open", "not valid YAML at line 1, column 9"),
        ("a:\n\t- b", "not valid YAML at line 2, column 1: a tab; indent with spaces"),
        ("x: *_tiny", "line 1, column 4: put text that starts with * in quotes"),
        ("x: *", "put text that starts with * in quotes"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2, column 11: the key 'c' is given twice"),
        ("a: 1\n---\nb: 1", "not valid YAML at line 2, column 1: but found another document"),
        ("a: !!python/name:os.system x", "line 1, column 4: tags such as '!!python/name:os.sys"),
        ("a: !mine 1", "tags such as '!mine' are not allowed"),
        ("a: !!binary aGk=", "tags such as '!!binary' are not allowed"),
        ("a: !!set {b}", "tags such as '!!set' are not allowed"),
        ("a: !!int abc", "line 1, column 4: 'abc' is tagged as int, and is none"),
        ("? [a]\n: 1", "a key has to be text, not a list or a mapping"),
        ('"\\UFFFFFFFF"', "not valid YAML: an escape names no character"),
        ("a\x00b", "not valid YAML near line 1: character U+0000"),
        ("a: &x [*x]", "line 1, column 4: nested too deeply"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_malformed_and_hostile_texts_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(TextError, match=re.escape(message)):
        read_yaml(text)


def test_aliases_that_expand_hugely_are_refused() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(TextError, match=f"more than {MAX_VALUES} values once aliases"):
        read_yaml("\n".join(lines))


def test_texts_with_too_many_values_are_refused_early() -> None:
    with pytest.raises(TextError, match=f"more than {MAX_VALUES} values; no search space"):
        read_yaml("- 1\n" * 200_000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "the file is empty; it needs at least dataset and search"),
        ("# nothing\n", "the file is empty; it needs at least dataset and search"),
        ("- a\n- b\n", "got ['a', 'b']; allowed: a mapping of keys at the top level"),
        ("a: [", "not valid YAML at line 1"),
    ],
)
def test_a_text_that_is_no_mapping_is_one_clear_problem(text: str, line: str) -> None:
    with pytest.raises(SpaceError, match=rf"^my file.yaml: 1 problem\n  {re.escape(line)}") as e:
        parse_space(text, where="my file.yaml")
    assert str(e.value).endswith("\nCheck again with: sft-sweep validate 'my file.yaml'")


def test_a_missing_file_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "lowdata.yaml").write_text(MINIMAL)
    with pytest.raises(SpaceError, match=r"no such file; did you mean .*lowdata\.yaml\?"):
        load_space(tmp_path / "lowdat.yaml")
    with pytest.raises(SpaceError, match=r"1 problem\n  no such file\nCheck again"):
        load_space(tmp_path / "no" / "folder.yaml")


def test_a_folder_and_a_strange_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="is a folder; name the search-space file in it"):
        load_space(tmp_path)
    with pytest.raises(SpaceError, match="no file can have this name"):
        load_space(Path("a\x00b"))
    with pytest.raises(SpaceError, match=r"cannot be read: File name too long"):
        load_space(tmp_path / ("x" * 300))


def test_a_file_below_a_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(MINIMAL)
    with pytest.raises(SpaceError, match="cannot be read: Not a directory"):
        load_space(tmp_path / "file" / "space.yaml")


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: a\nnote: caf\xe9\n")
    with pytest.raises(SpaceError, match="not UTF-8: byte 0xe9 in line 2"):
        load_space(path)


def test_a_file_above_one_megabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(MINIMAL + "#" * 1_000_000)
    with pytest.raises(SpaceError, match="larger than 1000000 bytes"):
        load_space(path)
    with pytest.raises(SpaceError, match="larger than 1000000 bytes"):
        parse_space(path.read_text(), where="long.yaml")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_space(path).name == "bom"


def test_overrides_replace_what_the_file_says_and_add_what_it_lacks() -> None:
    space = parse_space(
        MINIMAL + "trials: 3\ntraining: {steps: 50}\n",
        where="a.yaml",
        overrides=[
            "trials=4",
            "search.lr=1e-3",
            "training.steps=20",
            "dataset.test=0.3",
            "search.label_budget=[2, all]",
            "limits.hours = 2",
        ],
    )
    assert space.trials == 4
    assert space.axes["lr"].resolve({}) == space.axes["lr"].cases[0].domain
    assert space.axes["lr"].to_json() == 1e-3
    assert space.training["steps"] == 20
    assert space.dataset.to_json()["test"] == 0.3
    assert [str(budget) for budget in space.label_budgets] == ["2", "all"]
    assert space.limits.hours == 2.0


def test_an_override_of_one_end_leaves_the_rest_of_a_range() -> None:
    text = MINIMAL.replace("tiny,", "tiny, lr: {low: 1e-4, high: 1e-1, log: true},")
    space = parse_space(text, where="a.yaml", overrides=["search.lr.high=1e-2"])
    assert space.axes["lr"].to_json() == {"low": 1e-4, "high": 1e-2, "log": True}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("trials", "got 'trials'; allowed: KEY=VALUE, such as search.lr=0.001"),
        ("=4", "got '=4'; allowed: KEY=VALUE"),
        ("search..lr=1", "got 'search..lr=1'; allowed: KEY=VALUE"),
        ("trials=[", "got 'trials=['; not valid YAML at line 1"),
        ("search.backbone.x=1", "search.backbone is no mapping in this file; set search.backbone"),
    ],
)
def test_a_bad_override_is_a_problem_like_those_of_the_file(override: str, line: str) -> None:
    with pytest.raises(SpaceError, match=re.escape(line)) as caught:
        parse_space(MINIMAL + "trials: 0\n", where="a.yaml", overrides=[override])
    assert "a.yaml: 2 problems\n  trials: got 0" in str(caught.value)
    assert "\n  --set: got " in str(caught.value)


def test_overrides_are_checked_like_the_file() -> None:
    with pytest.raises(SpaceError, match=r"lr: unknown key here; did you mean search\.lr\?"):
        parse_space(MINIMAL, where="a.yaml", overrides=["lr=0.1"])
