from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.cli.main import run
from orchestrator.datasets import digits
from tests.orchestrator.datasets.conftest import encoded, write

CLASSES = ("cats", "dogs")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two classes: twelve digits each, one of them twice, another saved anew."""
    images = digits.load(test=None, seed=0)
    for label, name in enumerate(CLASSES):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(images.labels == label)[:12]):
            raw = np.frombuffer(images.encoded(int(index))[-64:], dtype=np.uint8).reshape(8, 8)
            picture = Image.fromarray(raw).resize((40, 32), Image.Resampling.BICUBIC)
            picture.save(folder / f"{number:02d}.png")
    first = tmp_path / "photos" / "cats" / "00.png"
    Image.open(first).resize((60, 48), Image.Resampling.BICUBIC).save(first.with_name("again.jpg"))
    (first.with_name("copy.png")).write_bytes(first.read_bytes())
    return tmp_path / "photos"


@pytest.fixture
def space(photos: Path) -> Path:
    path = photos.parent / "photos.yaml"
    path.write_text(
        f"dataset: {{source: folder, path: '{photos}', test: 0.3}}\n"
        "search: {backbone: tiny_strokes, label_budget: [2, all]}\n"
    )
    return path


def test_data_are_counted_measured_and_compared(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", str(space), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found["classes"]] == list(CLASSES)
    assert [one["pool"] + one["test"] for one in found["classes"]] == [14, 12]
    assert (found["num_images"], found["num_read"]) == (26, 26)
    assert (found["widths"], found["heights"]) == ([40, 40, 60], [32, 32, 48])
    pairs = {frozenset(Path(path).name for path in pair) for pair in found["near_duplicates"]}
    assert {frozenset({"00.png", "again.jpg"}), frozenset({"copy.png", "again.jpg"})} <= pairs
    assert frozenset({"00.png", "copy.png"}) not in pairs  # these are exact
    assert found["test"]["num_images"] == sum(one["test"] for one in found["classes"])
    assert 0.1 < found["test"]["smallest_difference"] < 1


def test_data_read_as_their_numbers_say(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    assert run(["data", str(space), "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert "26 images in 2 classes" in out
    assert "pixels, smallest / median / largest: 40 / 40 / 60 wide" in out
    assert "look the same" in out
    assert "exact copies" in out
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG"


def test_a_sheet_that_cannot_be_written_is_told(
    space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", str(space), "--sheet", str(tmp_path / "no" / "sheet.png")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_init_writes_a_file_that_validates(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("trainable.backbones.torchvision_files.reachable", lambda **_: False)
    path = tmp_path / "new.yaml"
    assert run(["init", str(photos), "-o", str(path)]) == 0
    assert "sft-sweep launch" in capsys.readouterr().err
    assert "tiny_strokes" in path.read_text()
    assert run(["validate", str(path)]) == 0
    assert run(["init", str(photos), "-o", str(path)]) == 2
    assert "exists" in capsys.readouterr().err


def test_init_of_what_is_no_folder_of_classes_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", str(tmp_path)]) == 2
    assert "one folder a class" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a/1.png,cat\na/2.png,dog\n", "begins with a row of an image, 'a/1.png', 'cat'; write"),
        ("when,where\n1,2\n", "no column 'path' in "),
        ("path,label\na.png,x\n", "1 of 1 are missing: 'a.png'"),
    ],
)
def test_init_of_a_table_that_cannot_serve_says_what_is_wrong_with_it(
    tmp_path: Path, content: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(content)
    assert run(["init", str(table)]) == 2
    assert reason in capsys.readouterr().err


def test_init_of_a_table_without_classes_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        write(tmp_path / f"{number}.png", encoded(number))
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n0.png,a\n1.png,b\n2.png,c\n")
    assert run(["init", str(table)]) == 2
    assert "labels.csv is a file (for a table" in capsys.readouterr().err


def test_init_writes_a_file_for_a_table_that_validates(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("trainable.backbones.torchvision_files.reachable", lambda **_: False)
    flat = tmp_path / "flat"
    (flat / "images").mkdir(parents=True)
    rows = ["file;species"]
    for number, photo in enumerate(sorted(photos.rglob("*.png"))):
        photo.rename(flat / "images" / f"{number}.png")
        rows.append(f"C:\\photos\\images\\{number}.png;{photo.parent.name}")
    (flat / "labels.csv").write_text("\n".join(rows))
    path = tmp_path / "flat.yaml"
    assert run(["init", str(flat), "-o", str(path)]) == 0, capsys.readouterr().err
    assert run(["validate", str(path)]) == 0


def test_data_of_a_folder_names_the_command_that_writes_its_file(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", str(photos)]) == 2
    assert f"write one for it with: sft-sweep init {photos}" in capsys.readouterr().err


def test_init_follows_links_where_a_folder_has_no_other_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("trainable.backbones.torchvision_files.reachable", lambda **_: False)
    linked = tmp_path / "linked"
    linked.mkdir()
    for folder in photos.iterdir():
        (linked / folder.name).symlink_to(folder)
    path = tmp_path / "linked.yaml"
    assert run(["init", str(linked), "-o", str(path)]) == 0
    assert '  links: "follow"\n' in path.read_text()
    assert run(["validate", str(path)]) == 0


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """A table of texts of two classes, thirty each, one of them twice, and one with both labels."""
    rows = [f"{'Why ' * (n % 5 + 1)}number {n}?\t{'ab'[n % 2]}" for n in range(60)]
    path = tmp_path / "questions.tsv"
    path.write_text("\n".join(["text\tlabel", *rows, rows[1], f"{rows[0][:-1]}b"]))
    return path


@pytest.fixture
def text_space(questions: Path) -> Path:
    path = questions.parent / "questions.yaml"
    path.write_text(
        f"dataset: {{source: table, path: '{questions}', text_column: text, test: 0.3}}\n"
        "search: {backbone: tiny_strokes, label_budget: [2, all]}\n"
    )
    return path


def test_texts_are_counted_and_measured(
    text_space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", str(text_space), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["modality"] == "text"
    assert [one["pool"] + one["test"] for one in found["classes"]] == [30, 32]
    assert found["words"] == [3, 4, 5, 6, 7]
    assert found["characters"][0] == len("Why number 0?")
    assert [len(of_class) for of_class in found["examples"]] == [3, 3]
    assert "near_duplicates" not in found


def test_texts_read_as_their_numbers_say(
    text_space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", str(text_space)]) == 0
    out = capsys.readouterr().out
    assert "62 texts in 2 classes" in out
    assert "3 / 4 / 5 / 6 / 7 words" in out
    assert "for example" in out
    assert "groups" in out
    assert "Why" in out
    assert "texts with copies in another class: 1" in out
    assert "one text in ten" in out


def test_a_sheet_of_texts_is_refused(
    text_space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    assert run(["data", str(text_space), "--sheet", str(sheet)]) == 2
    assert "draws images, and these are texts" in capsys.readouterr().err
    assert not sheet.exists()
