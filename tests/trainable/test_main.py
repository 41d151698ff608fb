import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.builders.masked_examples import masked_examples
from trainable.__main__ import main
from trainable.backbones import Backbone, load_weights
from trainable.data import examples_file
from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.metrics import Metric
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = TrialSpec(
    backbone="tiny_strokes",
    lr=3e-3,
    label_budget=LabelBudget(3),
    freeze_depth=0.5,
    validation=Validation(2),
    steps=4,
    reports=2,
)

# As in an environment with PyTorch but without the packages that only sweeps need.
BARE = """
import runpy
import sys

ABSENT = {"ray", "optuna", "typer", "pyarrow", "pydantic", "sklearn", "scipy", "pandas",
          "rich", "duckdb", "orchestrator"}

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
for name in ABSENT:
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported after all")
runpy.run_module("trainable", run_name="__main__", alter_sys=True)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )


@pytest.fixture
def images_file(tmp_path: Path, digit_images: LabelledExamples) -> str:
    examples_file.save(digit_images, tmp_path / "images.npz")
    return str(tmp_path / "images.npz")


def written(folder: Path, spec: object) -> str:
    path = folder / "spec.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return str(path)


def outcome(lines: str) -> list[dict[str, Any]]:
    reports = [json.loads(line) for line in lines.splitlines()]
    assert all(report.pop("elapsed_s") > 0 for report in reports)
    return reports


@pytest.mark.parametrize("start", [["-m", "trainable"], ["-c", BARE]], ids=["here", "bare box"])
def test_command_prints_the_reports_of_the_library_to_the_bit(
    start: list[str],
    tmp_path: Path,
    images_file: str,
    digit_images: LabelledExamples,
    strokes: Backbone,
) -> None:
    finished = run(*start, written(tmp_path, SPEC.to_json()), images_file)
    assert (finished.returncode, finished.stderr) == (0, "")
    expected = [asdict(report) for report in Trial(SPEC, digit_images, strokes).reports()]
    for report in expected:
        del report["elapsed_s"]
    assert outcome(finished.stdout) == expected
    assert [report["step"] for report in expected] == [0, SPEC.steps // 2, SPEC.steps]


def test_command_trains_on_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = masked_examples(pool=6, test=1)
    examples_file.save(examples, tmp_path / "masks.npz")
    spec = replace(SPEC, objective=Metric.MIOU, image_size=16, head_init="zero")
    assert main([written(tmp_path, spec.to_json()), str(tmp_path / "masks.npz")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    strokes = Backbone(load_weights("tiny_strokes", task="segmentation"))
    expected = [asdict(report) for report in Trial(spec, examples, strokes).reports()]
    for report in expected:
        del report["elapsed_s"]
    assert outcome(out) == expected
    assert [report["val_accuracy"] for report in expected] == [None] * 3
    assert all(0 < report["val_objective"] < 1 for report in expected)


def test_bad_file_ends_with_one_message_and_no_traceback(tmp_path: Path) -> None:
    finished = run("-m", "trainable", str(tmp_path / "none.json"), "images.npz")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.count("\n") == 1
    assert "none.json: cannot be read as JSON" in finished.stderr


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([1, 2], "spec.json: got list; allowed: an object of settings"),
        ({}, "spec.json: backbone: missing"),
        ({**SPEC.to_json(), "lr": "fast"}, "spec.json: lr: got 'fast'; allowed: a number above 0"),
        ({**SPEC.to_json(), "lr": float("nan")}, "lr: got nan"),
        ({**SPEC.to_json(), "steps": 2.5}, "steps: got 2.5; allowed: a whole number from 1"),
        (
            {**SPEC.to_json(), "validation": 3},
            "validation: got 3; allowed: a mapping such as {folds: 3}",
        ),
        ({**SPEC.to_json(), "label_budget": "5"}, "label_budget: got '5'"),
        ({**SPEC.to_json(), "backbone": 3}, "backbone: got 3; allowed: text"),
        ({**SPEC.to_json(), "backbone": "tiny"}, "got 'tiny'; unknown backbone"),
        ({**SPEC.to_json(), "label_budget": 1}, "needs 2 or more labels of every class"),
        (
            {k: v for k, v in SPEC.to_json().items() if k != "freeze_depth"} | {"frozen_blocks": 9},
            "frozen_blocks: got 9; this backbone has 7 boundaries",
        ),
    ],
)
def test_bad_spec_ends_with_exit_code_two_and_says_why(
    tmp_path: Path,
    images_file: str,
    capsys: pytest.CaptureFixture[str],
    spec: object,
    message: str,
) -> None:
    assert main([written(tmp_path, spec), images_file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"text"])
def test_bad_images_end_with_exit_code_two_and_name_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "images.npz"
    if content is not None:
        path.write_bytes(content)
    assert main([written(tmp_path, SPEC.to_json()), str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{path}: ")
    assert err.count("\n") == 1


def test_spec_that_is_no_json_ends_with_exit_code_two(
    tmp_path: Path, images_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(b"{\xff}")
    assert main([str(path), images_file]) == 2
    assert "spec.json: cannot be read as JSON" in capsys.readouterr().err


def test_diverged_training_ends_with_exit_code_three(
    tmp_path: Path, images_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {**SPEC.to_json(), "lr": 1e30}
    assert main([written(tmp_path, spec), images_file]) == 3
    out, err = capsys.readouterr()
    (start,) = out.splitlines()
    assert json.loads(start)["step"] == 0
    assert err.startswith("nonfinite: the training loss was nan by step 2")
    assert err.count("\n") == 1
