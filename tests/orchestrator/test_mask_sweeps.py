"""A whole sweep over the built-in masks: from a file to tables, answer, report, export, masks."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional

from orchestrator.cli.main import run as command
from orchestrator.datasets.canvases import CLASSES, NUM_TEST, SIDE
from orchestrator.planning.preparation import read_data
from orchestrator.reading.outcome import conclude
from orchestrator.reading.report.mask_winner import MaskWinner, mask_winner
from orchestrator.reading.report.overlays import overlays
from orchestrator.recording.projection import rebuild
from orchestrator.recording.sweep_directory import Run
from orchestrator.recording.tables import read_table
from tests.builders.prepared import prepare
from tests.builders.sweeps import sweep_in_process
from tests.orchestrator.reading.export.test_export_use import BLOCKER
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import Mask, decode_mask
from trainable.data.palette import colour_of
from trainable.errors import ExportError
from trainable.export import written_model
from trainable.export.exported_model import ExportedModel
from trainable.export.model_config import FORMAT, ModelConfig
from trainable.export.trained_model import train_configuration
from trainable.spec.trial_spec import TrialSpec
from trainable.tasks.segmentation.results import MOST_SHOWN

SPACE: dict[str, Any] = {
    "name": "canvases",
    "dataset": {"source": "canvases"},
    "search": {"backbone": ["tiny_strokes"], "freeze_depth": [0.5], "lr": [0.003, 0.01]}
    | {"label_budget": [5]},
    "training": {"steps": 4, "reports": 1, "image_size": 24},
    "validation": {"folds": 2},
    "trials": 2,
    "sampler": {"name": "grid"},
    "pruner": {"name": "none"},
    "finalists": {"count": 1, "repeats": 2},
    "baselines": ["majority", "probe"],
}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return path


@pytest.fixture(scope="module")
def swept(space: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep_in_process(space, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def examples(space: Path) -> LabelledExamples:
    return read_data(space).images


def rows_of(run: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_table(run, name).to_pylist()
    return rows


def test_tables_say_what_is_learnt_and_what_budgets_count(swept: Path) -> None:
    trials = rows_of(swept, "trials")
    assert sorted(row["method"] for row in trials) == ["finetune"] * 2 + ["majority", "probe"]
    for row in (*trials, *rows_of(swept, "leaderboard")):
        assert (row["task"], row["budget_unit"]) == ("segmentation", "examples")
        assert row["label_budget"] == 5
    for row in trials:
        assert (row["state"], row["objective"]) == ("complete", "miou")
        assert (row["labels_used"], row["num_classes"]) == (5, len(CLASSES))
        assert row["val_score"] == row["val_objective"]
        assert row["val_accuracy"] is None
        assert 0 <= row["val_score"] <= 1
    for row in rows_of(swept, "finals"):
        assert row["metric"] == "miou"
        assert (row["test_accuracy"], row["num_test"]) == (None, NUM_TEST)
    for row in rows_of(swept, "leaderboard"):
        assert row["metric"] == "miou"
        assert (row["test_score"] is None) == (row["trial_id"] not in scored_in(swept))


def scored_in(run: Path) -> set[str]:
    return {row["trial_id"] for row in rows_of(run, "finals")}


def test_predictions_count_pixels_by_class(swept: Path, examples: LabelledExamples) -> None:
    assert examples.masks is not None
    rows = rows_of(swept, "predictions")
    assert len(rows) == 3 * 2 * NUM_TEST
    index_of = {one: index for index, one in enumerate(examples.image_ids())}
    for row in rows:
        mask = examples.masks.mask(index_of[row["image_id"]])
        counts = {part["class"]: part["labelled"] for part in row["pixels"]}
        true = {CLASSES[number]: int((mask == number).sum()) for number in np.unique(mask)}
        assert {name: number for name, number in counts.items() if number} == true
        assert sum(part["predicted"] for part in row["pixels"]) == SIDE * SIDE
        assert row["label"] is row["predicted"] is row["probability"] is None
        assert row["log_loss"] > 0
    shown = [row for row in rows if row["mask"] is not None]
    assert len(shown) == 3 * 2 * MOST_SHOWN


def test_final_scores_follow_from_predictions(swept: Path) -> None:
    predictions = rows_of(swept, "predictions")
    for final in rows_of(swept, "finals"):
        key = (final["trial_id"], final["repeat"])
        totals = dict.fromkeys(CLASSES, np.zeros(3))
        for row in predictions:
            if (row["trial_id"], row["repeat"]) == key:
                for part in row["pixels"]:
                    counts = [part[name] for name in ("found", "labelled", "predicted")]
                    totals[part["class"]] = totals[part["class"]] + counts
        iou = [found / (true + given - found) for found, true, given in totals.values()]
        assert final["test_score"] == pytest.approx(np.mean(iou), abs=1e-6)


def test_the_commonest_class_everywhere_is_a_baseline_without_a_rank(swept: Path) -> None:
    (row,) = (row for row in rows_of(swept, "leaderboard") if row["method"] == "majority")
    assert (row["trial_id"], row["rank"], row["backbone"]) == ("b5-majority", None, None)
    for one in rows_of(swept, "predictions"):
        if one["trial_id"] == row["trial_id"]:
            assert [part["class"] for part in one["pixels"] if part["predicted"]] == ["background"]


@pytest.mark.parametrize("name", ["trials", "curves", "finals", "predictions", "leaderboard"])
def test_tables_made_again_from_the_journal_are_the_same(
    swept: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "journal").symlink_to(swept / "journal")
    for path in swept.iterdir():
        if path.suffix != ".parquet" and not (tmp_path / path.name).exists():
            (tmp_path / path.name).symlink_to(path)
    rebuild(tmp_path, swept.name)
    assert read_table(tmp_path, name).equals(read_table(swept, name))


@pytest.fixture(scope="module")
def answered(swept: Path, examples: LabelledExamples) -> list[str]:
    outcome = conclude(Run(swept), images=examples, interrupted=False)
    assert outcome.report_problem is None
    return outcome.answer


def test_the_answer_speaks_of_labelled_images_and_mean_iou(answered: list[str]) -> None:
    first = answered[0]
    assert first.startswith("At 5 labelled images use ")
    assert f"{NUM_TEST} test images" in first
    assert "mean IoU" in first
    assert "accuracy" not in "\n".join(answered)
    assert "labels per class" not in "\n".join(answered)


def test_the_report_shows_iou_by_class_and_the_worst_masks(
    swept: Path, answered: list[str]
) -> None:
    assert "report.html" in answered[3]
    text = Run(swept).report.read_text()
    assert 'id="class-scores"' in text
    assert "Intersection over union of each class on the test set, the worst first." in text
    (listed,) = text.split('<ul class="mistakes masks">')[1:]
    assert listed.split("</ul>")[0].count('<img src="data:image/') >= MOST_SHOWN
    assert "<h3>Worst masks</h3>" in text
    assert "Test mean IoU with 95 % intervals by labelled images" in text
    assert "Surest mistakes" not in text


@pytest.fixture(scope="module")
def winner(swept: Path) -> MaskWinner:
    rows = (row for row in rows_of(swept, "leaderboard") if row["method"] == "finetune")
    row = next(row for row in rows if row["test_score"] is not None)
    found = mask_winner(row, read_table(swept, "predictions"))
    assert found is not None
    return found


def test_the_iou_of_a_class_counts_pixels_of_all_repeats(
    swept: Path, examples: LabelledExamples, winner: MaskWinner
) -> None:
    assert examples.masks is not None
    rows = [
        row for row in rows_of(swept, "predictions") if row["trial_id"] == winner.row["trial_id"]
    ]
    labelled = np.zeros(len(CLASSES), dtype=int)
    for index in examples.indices(Split.TEST):
        labelled += np.bincount(examples.masks.mask(index).ravel(), minlength=len(CLASSES))
    pixels = {name: number for name, _, number in winner.class_iou}
    assert pixels == dict(zip(CLASSES, labelled.tolist(), strict=True))
    for name, iou, number in winner.class_iou:
        parts = [part for row in rows for part in row["pixels"] if part["class"] == name]
        found, given = (sum(part[key] for part in parts) for key in ("found", "predicted"))
        assert iou == pytest.approx(found / (2 * number + given - found))
    assert [iou for _, iou, _ in winner.class_iou] == sorted(iou for _, iou, _ in winner.class_iou)
    assert [one.iou for one in winner.worst] == sorted(one.iou for one in winner.worst)


def test_an_overlay_is_the_image_its_true_mask_and_the_predicted_one(
    examples: LabelledExamples, winner: MaskWinner
) -> None:
    assert examples.masks is not None
    found = overlays(examples, winner.worst)
    assert set(found) == {one.image_id for one in winner.worst}
    ids = examples.image_ids()
    for one in winner.worst[:3]:
        content = base64.b64decode(found[one.image_id].partition(",")[2])
        with Image.open(io.BytesIO(content)) as opened:
            pixels = np.asarray(opened.convert("RGB")).astype(int)
        side = len(pixels)
        plain, true, given = (pixels[:, start : start + side] for start in starts(pixels))
        mask = examples.masks.mask(ids.index(one.image_id))
        for shown, ids_shown in ((true, mask), (given, decode_mask(one.mask))):
            small = Image.fromarray(ids_shown).resize((side, side), Image.Resampling.NEAREST)
            coloured = np.asarray(small) > 0
            changed = np.abs(shown - plain).sum(axis=2)
            assert changed[coloured].mean() > 4 * changed[~coloured].mean()


def starts(pixels: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    """Where the three square parts of an overlay start."""
    height, width, _ = pixels.shape
    gap = (width - 3 * height) // 2
    return 0, height + gap, 2 * (height + gap)


@pytest.fixture(scope="module")
def exported(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best fine-tuned trial as its finalist of repeat 0 was, in all forms."""
    (trial,) = (one for one in scored_in(swept) if one.rpartition("-")[2].isdecimal())
    out = tmp_path_factory.mktemp("exported") / "model"
    options = ["--trial", trial, "--labels", "budget"]
    assert command(["export", str(swept), *options, "-o", str(out)]) == 0
    return out


def test_an_export_has_all_forms_and_a_card_of_masks(swept: Path, exported: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == [
        *("README.md", "model.json", "model.onnx", "model.pt2", "model.safetensors"),
    ]
    about = json.loads((exported / "model.json").read_text())
    assert about["format"] == 5
    assert about["heads"]
    assert about["class_names"] == list(CLASSES)
    _, metadata, card = (exported / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(metadata)["pipeline_tag"] == "image-segmentation"
    assert "gives every pixel of an image one of" in card
    assert "sft-sweep predict DIR IMAGE... -o FOLDER" in card
    (row,) = (
        row
        for row in rows_of(swept, "leaderboard")
        if row["trial_id"] in scored_in(swept) and row["method"] == "finetune"
    )
    assert f"{100 * row['test_score']:.1f} %" in card


@pytest.fixture(scope="module")
def pictures(examples: LabelledExamples, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three test canvases as files, the last one larger and not square."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for place, index in enumerate(examples.indices(Split.TEST)[:3].tolist()):
        path = folder / f"canvas{place}.pgm"
        path.write_bytes(examples.encoded(index))
        paths.append(path)
    with Image.open(paths[-1]) as opened:
        opened.resize((70, 50)).save(paths[-1])
    return paths


def test_the_exported_network_gives_the_masks_of_the_trained_one(
    swept: Path,
    space: Path,
    examples: LabelledExamples,
    exported: Path,
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    (row,) = (
        row
        for row in rows_of(swept, "trials")
        if row["method"] == "finetune" and row["trial_id"] in scored_in(swept)
    )
    prepared = prepare(space)
    ((name, weights),) = prepared.weights.items()
    backbone = Backbone(weights, prepared.graphs[name], prepared.tokens[name])
    trained = train_configuration(TrialSpec.from_json(json.loads(row["spec"])), examples, backbone)
    model = ExportedModel.load(exported)
    told = predicted_counts(swept, row["trial_id"], examples)
    for place, found in enumerate(model.predict_masks(pictures)):
        assert found.problem is None
        assert found.mask is not None
        assert found.mask.shape == ((50, 70) if place == 2 else (SIDE, SIDE))
        expected = _predicted_by(trained.network, model, found.path, found.mask.shape)
        assert np.array_equal(found.mask, expected)
        if place < 2:
            assert counts_of(found.mask) == told[place]


def counts_of(mask: Mask) -> dict[str, int]:
    """Pixels of each class that a mask holds."""
    return {CLASSES[number]: int((mask == number).sum()) for number in np.unique(mask)}


def predicted_counts(run: Path, trial: str, examples: LabelledExamples) -> list[dict[str, int]]:
    """Pixels of each class that repeat 0 of a trial predicted, of each test image."""
    rows = {
        row["image_id"]: row["pixels"]
        for row in rows_of(run, "predictions")
        if row["trial_id"] == trial and row["repeat"] == 0
    }
    ids = examples.image_ids()
    return [
        {part["class"]: part["predicted"] for part in rows[ids[index]] if part["predicted"]}
        for index in examples.indices(Split.TEST)
    ]


def _predicted_by(
    network: torch.nn.Module, model: ExportedModel, path: Path, shape: tuple[int, ...]
) -> Mask:
    """The mask that a network gives for an image that the model reads."""
    ((_, (content, *side)),) = model._reader.read([path]).batches
    with torch.no_grad():
        logits = network(model._reader.content(content), *side)
    enlarged = functional.interpolate(logits, size=shape, mode="bilinear")
    found: Mask = enlarged[0].argmax(dim=0).to(torch.uint8).numpy()
    return found


def test_predict_writes_masks_of_ids_and_their_classes(
    exported: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "masks"
    assert command(["predict", str(exported), *map(str, pictures), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    table = json.loads((out / "classes.json").read_text())
    assert [one["name"] for one in table] == list(CLASSES)
    assert [one["id"] for one in table] == list(range(len(CLASSES)))
    expected = list(ExportedModel.load(exported).predict_masks(pictures))
    for one, given, mask in zip(told, pictures, expected, strict=True):
        assert one["path"] == str(given)
        assert one["mask"] == str(out / f"{given.stem}.png")
        assert mask.mask is not None
        with Image.open(one["mask"]) as opened:
            assert opened.mode == "P"
            assert np.array_equal(np.asarray(opened), mask.mask)
            palette = np.asarray(opened.getpalette()).reshape(-1, 3)
        assert [tuple(row["colour"]) for row in table] == [
            tuple(palette[row["id"]].tolist()) for row in table
        ]
        shares = {part["class"]: part["share"] for part in one["classes"]}
        assert shares == {
            CLASSES[number]: pytest.approx(float((mask.mask == number).mean()))
            for number in np.unique(mask.mask)
        }
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert tuple(table[1]["colour"]) == colour_of(1)


def test_predict_prints_shares_and_tells_of_what_it_cannot_read(
    exported: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    paths = [str(pictures[0]), str(broken), str(tmp_path / "missing.png")]
    out = tmp_path / "masks"
    assert command(["predict", str(exported), *paths, "-o", str(out)]) == 3
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{out / 'canvas0.png'}: ")
    assert " %" in shown.out
    assert f"{broken}: " in shown.err
    assert "missing.png: " in shown.err
    assert sorted(path.name for path in out.iterdir()) == ["canvas0.png", "classes.json"]
    assert command(["predict", str(exported), *paths, "-o", str(out), "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert ["error" in one for one in told] == [False, True, True]


def test_the_lines_of_the_card_write_the_masks_that_predict_writes(
    exported: Path, pictures: list[Path], tmp_path: Path
) -> None:
    card = (exported / "README.md").read_text()
    assert "torch.export.load" in card
    (tmp_path / "lines.py").write_text(
        card.split("```python\n")[1]
        .split("\n```")[0]
        .replace('Path(".")', f"Path({str(exported)!r})")
    )
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER, *map(str, pictures)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for one in ExportedModel.load(exported).predict_masks(pictures):
        assert one.mask is not None
        with Image.open(tmp_path / f"{one.path.stem}_mask.png") as opened:
            written = np.asarray(opened)
        assert written.shape == one.mask.shape
        assert (written == one.mask).mean() > 0.999
        assert f"{one.path}\t'background'\t" in done.stdout


def test_classifiers_write_no_masks(
    exported: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((exported / "model.json").read_text())
    del about["heads"]
    (tmp_path / "model.json").write_text(json.dumps(about | {"format": FORMAT}))
    assert command(["predict", str(tmp_path), str(pictures[0]), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "-o: is for masks; this network predicts classes, which are printed" in told


def test_predict_refuses_what_it_cannot_write(
    exported: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["predict", str(exported), str(pictures[0])]) == 2
    told = capsys.readouterr().err
    assert "-o: missing; this network predicts masks: name a folder for them" in told
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "canvas0.png"
    twin.write_bytes(pictures[0].read_bytes())
    out = tmp_path / "masks"
    assert command(["predict", str(exported), str(pictures[0]), str(twin), "-o", str(out)]) == 2
    assert "several images are called canvas0" in capsys.readouterr().err
    assert not out.exists()
    out.write_text("mine")
    assert command(["predict", str(exported), str(pictures[0]), "-o", str(out)]) != 0
    assert f"{out}: masks cannot be written: " in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_network_of_masks_is_no_classifier(exported: Path, pictures: list[Path]) -> None:
    about = ExportedModel.load(exported).about
    assert (about.task, about.modality) == ("segmentation", "image")
    written = json.loads((exported / "model.json").read_text())
    for heads in ([], None, ["a", 3]):
        with pytest.raises(ExportError, match=r"heads: got .*; allowed: a list of names"):
            ModelConfig.from_json(written | {"heads": heads})
    plain = ModelConfig.from_json({**written, "format": FORMAT, "heads": None})
    assert (plain.heads, plain.task) == ((), "classification")


def test_an_exported_probe_predicts_what_it_predicted(
    swept: Path, pictures: list[Path], examples: LabelledExamples, tmp_path: Path
) -> None:
    (trial,) = (row["trial_id"] for row in rows_of(swept, "trials") if row["method"] == "probe")
    options = ["--trial", trial, "--labels", "budget", "-o", str(tmp_path / "model")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
        assert command(["export", str(swept), *options]) == 0
    found = ExportedModel.load(tmp_path / "model").predict_masks(pictures[:2])
    for one, expected in zip(found, predicted_counts(swept, trial, examples), strict=False):
        assert one.mask is not None
        assert counts_of(one.mask) == expected
