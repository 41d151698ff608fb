"""The commands `init` and `data` for folders of images and masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.cli.main import run
from orchestrator.datasets.contact_sheet import TILE
from orchestrator.space.template import WITHOUT_WEIGHTS
from tests.builders.mask_folders import save_mask, stripes, write_masks
from trainable.data.palette import colour_of


@pytest.fixture(autouse=True)
def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights that could be fetched or are here, so that files name a backbone that ships."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights"))
    monkeypatch.setattr("trainable.backbones.torchvision_files.reachable", lambda **_: False)


def written(folder: Path, target: Path) -> dict[str, Any]:
    """The content of the file that `init` writes."""
    assert run(["init", str(folder), "-o", str(target)]) == 0
    content: dict[str, Any] = yaml.safe_load(target.read_text())
    return content


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ((0, 1, 2), {}),
        ((0, 255), {"values": [0, 255]}),
        ((0, 1, 255), {"ignore": 255}),
    ],
)
def test_init_writes_a_file_for_images_and_masks_that_validate_accepts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: tuple[int, ...],
    keys: dict[str, Any],
) -> None:
    folder = write_masks(tmp_path / "my cells", *values)
    out = tmp_path / "cells.yaml"
    content = written(folder, out)
    given = {"source": "masks", "path": str(folder), "test": 0.2}
    assert content["dataset"] == given | keys
    assert content["name"] == "my-cells"
    assert content["search"]["backbone"] == [WITHOUT_WEIGHTS]
    assert content["baselines"] == ["majority", "pixels", "probe"]
    text = out.read_text()
    assert "# labelled images; one study each" in text
    assert "# 30 images; " in text
    assert "group:" not in text
    capsys.readouterr()
    small = ["training.image_size=24", "search.label_budget=[5]"]
    assert run(["validate", str(out), *(part for one in small for part in ("--set", one))]) == 0
    assert f"{out}: fine" in capsys.readouterr().out


def test_init_finds_usual_names_and_a_test_split(tmp_path: Path) -> None:
    for place, (split, number) in enumerate([("train", 14), ("test", 6)]):
        write_masks(tmp_path / "set" / split, number=number, start=20 * place)
        for kind, name in (("images", "imgs"), ("masks", "labels")):
            (tmp_path / "set" / split / kind).rename(tmp_path / "set" / split / name)
    content = written(tmp_path / "set", tmp_path / "set.yaml")
    assert content["dataset"] == {
        **{"source": "masks", "path": str(tmp_path / "set")},
        **{"images": "imgs", "masks": "labels"},
    }
    first, second, *_ = (tmp_path / "set.yaml").read_text().splitlines()
    assert first == '# 3 classes: "0", "1", "2"'
    assert second.startswith("# 14 images outside a test split of their own; the smallest class ")


def test_init_says_what_is_wrong_with_masks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_masks(tmp_path / "cells")
    (folder / "masks" / "03.png").unlink()
    out = tmp_path / "cells.yaml"
    assert run(["init", str(folder), "-o", str(out)]) == 2
    told = capsys.readouterr().err
    assert "dataset.path: 1 image without a mask of its name: 'images/03.png'" in told
    assert "sft-sweep init" in told
    assert not out.exists()


def test_init_refuses_too_few_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_masks(tmp_path / "few", number=2)
    assert run(["init", str(folder)]) == 2
    shown = capsys.readouterr()
    assert "2 images with masks; a label budget of " in shown.err
    assert shown.out == ""


def test_data_counts_the_images_that_hold_a_class_and_draws_masks_over_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_masks(tmp_path / "cells", 0, 1, 255)
    save_mask(folder / "masks" / "03.png", stripes(0, 255, number=3))
    space, sheet = tmp_path / "cells.yaml", tmp_path / "sheet.png"
    dataset = {"source": "masks", "path": str(folder), "ignore": 255, "classes": ["sky", "car"]}
    search = {"backbone": "tiny_strokes", "label_budget": "all"}
    space.write_text(yaml.safe_dump({"dataset": dataset, "search": search}))
    assert run(["data", str(space), "--sheet", str(sheet), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = {one["name"]: one["pool"] + one["test"] for one in found["classes"]}
    assert counts == {"sky": 30, "car": 29}
    with Image.open(sheet) as opened:
        assert opened.height == 2 * (TILE + 4)
        pixels = np.asarray(opened).astype(int)
    first = pixels[: TILE // 2, 160 : 160 + TILE]
    wanted = np.asarray(colour_of(1)) - 128
    shown = (first - 128) @ wanted
    assert shown.max() > 0.4 * float(wanted @ wanted)
    assert run(["data", str(space)]) == 0
    shown_text = capsys.readouterr().out
    assert "30 images in 2 classes" in shown_text
    assert "classes, by their share of the pixels" in shown_text
