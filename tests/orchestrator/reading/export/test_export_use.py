"""The lines of Python in a card are run as they stand, by a process that has torchvision alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.datasets import digits
from orchestrator.reading.export.use import use_lines
from tests.orchestrator.datasets.conftest import encoded, write
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.export import written_model
from trainable.export.exchange_formats import TORCH_FILE, ExchangeForms
from trainable.export.exported_model import ExportedModel
from trainable.export.network_kinds import LibraryForm
from trainable.export.trained_model import TrainedModel, train_configuration
from trainable.export.written_model import Written, write_model
from trainable.spec.trial_spec import LabelBudget, TrialSpec

ODD = ("<b>", "=1+1", "'quoted'", "new\nline", '"', "5", "6", "7", "8", "9")
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "optuna", "orchestrator", "trainable", "pyarrow"}:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocker())
exec(compile(open("lines.py").read(), "lines.py", "exec"))
"""


def python_of(lines: list[str]) -> str:
    text = "\n".join(lines)
    return text[text.index("```python\n") + len("```python\n") : text.rindex("\n```")]


def deep(path: Path, *, seed: int) -> Path:
    """A 16-bit file that uses 12 bits and a little more."""
    values = np.random.default_rng(seed).integers(0, 5000, (8, 8), dtype=np.uint16)
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("backbone", ["resnet18@none", "mobilenet_v3_small@none", "tiny_strokes"])
def test_the_lines_of_a_card_give_what_predict_gives(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = backbone == "tiny_strokes"
    if not shipped:  # torchvision's own code reads the weights
        monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    images = replace(
        digits.load(test=None, seed=0),
        class_names=ODD,
        value_range=(100, 4095) if shipped else None,
    )
    model = train_configuration(
        TrialSpec(
            backbone=backbone,
            lr=1e-3,
            label_budget=LabelBudget(2),
            freeze_depth=0.8,
            image_size="auto" if shipped else 32,
            steps=3,
            reports=1,
            interpolation=1.0,
        ),
        images,
        Backbone(load_weights(backbone)),
    )
    written = write_model(model, tmp_path)
    assert (written.library.options is None) == shipped
    code = python_of(use_lines(model.about, written))
    assert ("torch.export.load" in code) == shipped
    assert ("from torchvision.models import get_model" in code) != shipped
    (tmp_path / "lines.py").write_text(code)
    paths = [write(tmp_path / f"{number}.png", encoded(number)) for number in range(5)]
    if shipped:
        paths += [deep(tmp_path / f"deep{number}.png", seed=number) for number in range(3)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER, *map(str, paths)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    expected = []
    for one in ExportedModel.load(tmp_path).predict(paths):
        number, share = one.ranked()[0]
        expected.append((str(one.path), repr(ODD[number]), share))
    found = [line.split("\t") for line in done.stdout.splitlines()]
    assert [(path, name) for path, name, _ in found] == [line[:2] for line in expected]
    assert [float(share) for *_, share in found] == pytest.approx(
        [share for *_, share in expected], abs=1e-3
    )


def test_a_file_that_is_missing_says_why_and_no_lines_are_promised(
    strokes_model: TrainedModel,
) -> None:
    missing = ExchangeForms(TORCH_FILE, "torch.export cannot follow the network: <b>")
    text = "\n".join(
        use_lines(strokes_model.about, Written(library=LibraryForm(), portable=(missing,)))
    )
    assert "```python" not in text
    assert "The network cannot be had without its own code: `sft-sweep predict` builds it" in text
    assert (
        "| `model.pt2` | not there: torch.export cannot follow the network&#58; &#60;b&#62; |"
        in text
    )


@pytest.fixture
def strokes_model() -> TrainedModel:
    images: LabelledExamples = digits.load(test=None, seed=0)
    spec = TrialSpec(
        backbone="tiny_strokes",
        lr=1e-3,
        label_budget=LabelBudget(2),
        freeze_depth=1.0,
        steps=1,
        reports=1,
        interpolation=1.0,
    )
    return train_configuration(spec, images, Backbone(load_weights("tiny_strokes")))


def test_class_names_survive_in_the_description(
    strokes_model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    about = replace(strokes_model.about, class_names=ODD)
    write_model(replace(strokes_model, about=about), tmp_path)
    assert tuple(json.loads((tmp_path / "model.json").read_text())["class_names"]) == ODD
