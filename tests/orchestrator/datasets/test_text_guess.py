import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.cli.main import run
from orchestrator.datasets.sections import FolderSection, TableSection
from orchestrator.datasets.table_guess import guess_table, guess_texts
from orchestrator.space import parse_space
from tests.orchestrator.datasets.conftest import write

ROWS = [("7", f"Why does it take {n} days?", ["fast", "slow", "odd"][n % 3]) for n in range(60)]


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("names", [("id", "Text", "category"), ("n", "what", "y")])
def test_the_columns_of_texts_and_classes_are_told_by_names_and_values(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    path = write_rows(tmp_path / "t.csv", names)
    found = guess_texts(tmp_path)
    assert found is not None
    assert found == guess_texts(path)
    assert found.section == TableSection(
        path=str(path), text_column=names[1], label_column=names[2]
    )


def test_tables_of_splits_are_taken_together(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_rows(tmp_path / f"{name}.csv", ("id", "text", "label"))
    found = guess_texts(tmp_path)
    assert found is not None
    assert found.section.path == str(tmp_path)


def test_a_column_that_repeats_itself_is_none_of_paths(tmp_path: Path) -> None:
    write(tmp_path / "7.png", b"x")
    assert guess_table(write_rows(tmp_path / "t.csv", ("id", "text", "label"))) is None


def test_a_table_without_texts_is_none_of_texts(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", ("a", "b"), [(str(n), "xy"[n % 2]) for n in range(20)])
    assert guess_texts(tmp_path) is None


def written(place: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["init", str(place)]) == 0
    return capsys.readouterr().out


def test_init_writes_a_file_for_a_table_of_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "t.csv", ("id", "text", "label"))
    space = parse_space(written(path, capsys), where="t.yaml")
    assert isinstance(space.dataset, TableSection)
    assert (space.dataset.text_column, space.dataset.test) == ("text", 0.2)


def test_init_writes_a_file_for_a_folder_of_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(20):
        write(tmp_path / "ab"[number % 2] / f"{number}.txt", f"text {number}".encode())
    text = written(tmp_path, capsys)
    space = parse_space(text, where="t.yaml")
    assert isinstance(space.dataset, FolderSection)
    assert "# 20 texts; the smallest class has 10" in text
