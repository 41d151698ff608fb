"""From a launched sweep to an exported network, and to what it says of pictures."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from orchestrator.cli.main import run as command
from orchestrator.datasets import digits
from orchestrator.errors import UsageError
from orchestrator.recording.tables import read_table
from tests.integration.conftest import Launched, finished
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.export import written_model
from trainable.export.exported_model import ExportedModel
from trainable.export.model_config import read_about
from trainable.modalities.image.preprocessing import decode, normalize

Export = Callable[..., Path]

BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "optuna", "pyarrow", "duckdb"}:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocker())
from orchestrator.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def images() -> LabelledExamples:
    return digits.load(test=None, seed=0)


@pytest.fixture(scope="module")
def pictures(images: LabelledExamples, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every test image, by its id."""
    folder, ids = tmp_path_factory.mktemp("pictures"), images.image_ids()
    found = {}
    for index in images.indices(Split.TEST):
        found[ids[index]] = folder / f"{ids[index]}.png"
        found[ids[index]].write_bytes(images.encoded(int(index)))
    return found


@pytest.fixture(scope="module")
def exported(small_sweep: Launched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best of 5 labels per class, as its finalist of repeat 1 was, in all its forms."""
    out = tmp_path_factory.mktemp("export") / "model"
    options = ["--budget", "5", "--labels", "budget", "--repeat", "1"]
    assert command(["export", str(small_sweep.path), *options, "-o", str(out)]) == 0
    return out


@pytest.fixture
def export(small_sweep: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Exports without the portable files, which take long."""
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])

    def run(*options: str) -> Path:
        out = tmp_path / "model"
        assert command(["export", str(small_sweep.path), *options, "-o", str(out)]) == 0
        return out

    return run


def best_of(sweep: Launched, study: str) -> dict[str, Any]:
    """Rank 1 of a study with its test score."""
    rows = read_table(sweep.path, "leaderboard").to_pylist()
    row: dict[str, Any] = next(row for row in rows if row["study"] == study and row["rank"])
    assert row["test_accuracy"] is not None
    return row


def test_a_finalist_exported_predicts_what_it_predicted(
    small_sweep: Launched, exported: Path, pictures: dict[str, Path]
) -> None:
    trial_id = best_of(small_sweep, "b5")["trial_id"]
    rows = read_table(small_sweep.path, "predictions").to_pylist()
    said = {
        row["image_id"]: row for row in rows if row["trial_id"] == trial_id and row["repeat"] == 1
    }
    assert said.keys() == pictures.keys()
    model = ExportedModel.load(exported)
    for image_id, one in zip(pictures, model.predict(list(pictures.values())), strict=True):
        number, share = one.ranked()[0]
        row = said[image_id]
        assert share == pytest.approx(row["probability"], abs=1e-4)
        assert model.about.class_names[number] == row["predicted"]


def test_onnx_agrees_on_all_test_images(exported: Path, images: LabelledExamples) -> None:
    how = read_about(exported).image_preprocessing
    pixels = decode(images, images.indices(Split.TEST), how)
    session = onnxruntime.InferenceSession(
        exported / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (logits,) = session.run(None, {"images": normalize(pixels, how).numpy()})
    expected = ExportedModel.load(exported).logits(pixels).numpy()
    assert np.abs(logits - expected).max() < 1e-4


def test_predict_needs_neither_ray_nor_optuna_nor_tables(
    exported: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    few = [str(path) for path in list(pictures.values())[:3]]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    arguments = ["predict", str(exported), *few, str(bad), "--json"]
    done = finished([sys.executable, "-c", BLOCKER, *arguments], cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stderr == f"{bad}: cannot be decoded: no kind of image that Pillow knows\n"
    found = json.loads(done.stdout)
    assert [one["path"] for one in found] == [*few, str(bad)]
    expected = list(ExportedModel.load(exported).predict([Path(path) for path in few]))
    for one, other in zip(found, expected, strict=False):
        assert [entry["probability"] for entry in one["classes"]] == pytest.approx(
            [share for _, share in other.ranked()], abs=1e-6
        )
    assert found[-1] == {"path": str(bad), "error": done.stderr.strip().partition(": ")[2]}


def test_a_network_for_images_takes_files_of_images_alone(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, code, message in [
        ([], 2, "EXAMPLE...: got nothing; this network takes files of images: name some"),
        (["--file", "a.txt"], 2, "--file: is for texts; this network takes files of images"),
        (["my card"], 3, "my card: no such file; this network takes files of images"),
    ]:
        assert command(["predict", str(exported), *options]) == code
        assert message in capsys.readouterr().err


def test_the_table_of_predictions_shows_the_most_probable(
    exported: Path, pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(iter(pictures.values()))
    assert command(["predict", str(exported), str(path), "--top", "2"]) == 0
    (one,) = ExportedModel.load(exported).predict([path])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    shown = [line[-2:] for line in lines if re.fullmatch(r"[01]\.\d{4}", line[-1])]
    assert shown == [[str(number), f"{share:.4f}"] for number, share in one.ranked()[:2]]


def test_the_card_says_what_was_measured_and_with_which_labels(
    small_sweep: Launched, exported: Path
) -> None:
    row, text = best_of(small_sweep, "b5"), (exported / "README.md").read_text()
    assert f"accuracy of this configuration is **{100 * row['test_accuracy']:.1f} %**" in text
    interval = f"95 % interval {100 * row['test_ci_low']:.1f} to {100 * row['test_ci_high']:.1f} %"
    assert interval in text
    assert "at **5 labels per class**: the mean of 2 repeats" in text
    finals = read_table(small_sweep.path, "finals").to_pylist()
    own = next(f for f in finals if f["trial_id"] == row["trial_id"] and f["repeat"] == 1)
    assert (
        f"This network learnt from the 50 labels of repeat 1, which reached "
        f"{100 * own['test_accuracy']:.1f} % on the test set."
    ) in text
    manifest = json.loads((small_sweep.path / "manifest.json").read_text())
    assert manifest["dataset_fingerprint"] in text
    assert "Mind:" not in text


def test_all_labels_are_those_outside_the_test_split(export: Export) -> None:
    text = (export() / "README.md").read_text()
    assert (
        "The score belongs to the budget that was measured, 5 labels per class. This network "
        "learnt from 1,000 labels, every label outside the test split."
    ) in text
    assert "its own score was not measured" in text
    counts = re.findall(r"^\| \d \| \d \| (\d+) \|$", text, flags=re.MULTILINE)
    assert sum(map(int, counts)) == 1000


def test_everything_takes_the_test_split_too_and_says_so(
    export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (export("--labels", "everything") / "README.md").read_text()
    warning = "it learnt from the test images, too, which can no longer measure it"
    assert warning in text
    assert warning in capsys.readouterr().err
    assert "This network learnt from 1,797 labels, every label there is" in text


def test_a_linear_probe_becomes_a_networks_head(
    small_sweep: Launched, export: Export, pictures: dict[str, Path]
) -> None:
    trial_id = "b5-probe-tiny_strokes"
    model = ExportedModel.load(export("--trial", trial_id, "--labels", "budget"))
    rows = read_table(small_sweep.path, "predictions").to_pylist()
    said = {
        row["image_id"]: row["probability"]
        for row in rows
        if row["trial_id"] == trial_id and row["repeat"] == 0
    }
    found = model.predict(list(pictures.values()))
    shares = [one.ranked()[0][1] for one in found]
    assert shares == pytest.approx([said[image_id] for image_id in pictures], abs=1e-4)


def test_wrong_arguments_leave_nothing_behind(
    small_sweep: Launched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model"
    for options, message in {
        ("--trial", "b9-0000"): "--trial b9-0000: no such trial",
        ("--budget", "7"): "--budget 7: not in this sweep; allowed: 2, 5",
        ("--trial", "b5-pixels"): "raw pixels are classified without a network",
    }.items():
        assert command(["export", str(small_sweep.path), *options, "-o", str(out)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert command(["export", str(small_sweep.path), "-o", str(tmp_path / "full")]) == 2
    assert "not empty; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_other_images_than_the_sweeps_are_refused(
    small_sweep: Launched, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = Path(shutil.copytree(small_sweep.path, tmp_path / "copy"))
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"dataset_fingerprint": "0" * 64}))
    assert command(["export", str(copy), "-o", str(tmp_path / "model")]) == 2
    assert "the images are not those that the sweep began with" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_images_that_only_more_labels_would_need_may_be_broken(
    small_sweep: Launched,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise UsageError("dataset.max_bad_fraction: 5 of 228 images cannot be used")

    monkeypatch.setattr("orchestrator.reading.export.read_data", refuse)
    arguments = ["export", str(small_sweep.path), "-o", str(tmp_path / "model")]
    assert command(arguments) == 2
    message = capsys.readouterr().err
    assert "5 of 228 images cannot be used\nThe sweep itself read fewer images" in message
    assert "--labels budget" in message
    assert command([*arguments, "--labels", "budget"]) == 2
    assert "The sweep itself" not in capsys.readouterr().err


def test_a_folder_without_a_network_is_no_place_to_predict_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["predict", str(tmp_path), "a.png"]) == 2
    assert "no exported network here (model.json is missing)" in capsys.readouterr().err
