"""Imports of trial processes and of the driver: only the libraries that the networks need."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from orchestrator.planning.preparation import prepare_space, read_space

LOWDATA = Path(__file__).parents[4] / "search_spaces" / "lowdata.yaml"

TRIAL = """
import pickle, sys
from pathlib import Path
from orchestrator.planning.work import Kind, Work
from orchestrator.running.worker.worker import perform
from trainable.backbones import Backbone
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation

images, weights, graphs = pickle.loads(Path(sys.argv[1]).read_bytes())
(name,) = weights
((_, size),) = graphs[name]
backbone = Backbone(weights[name], graphs[name])
for optimizer in ("adamw", "sgd"):
    spec = TrialSpec(
        backbone=name, lr=1e-3, label_budget=LabelBudget(2), freeze_depth=0.5, steps=2, reports=1,
        validation=Validation(2), optimizer=optimizer, image_size=size,
    )
    work = Work(kind=Kind.TRIAL, study="b2", trial_id="b2-0000", task=spec.to_json())
    for event in perform(work, images=lambda: images, backbone=lambda _: backbone):
        assert event.failure is None, (event.failure, event.run)
print([name for name in sys.argv[2:] if name in sys.modules])
"""

PREPARATION = """
import sys
from pathlib import Path
from orchestrator.planning.preparation import prepare_space, read_space

path = Path(sys.argv[1])
assert prepare_space(read_space(path), path=path).graphs
print([name for name in sys.argv[2:] if name in sys.modules])
"""

SHIPPED: tuple[str, list[str]] = ("tiny_strokes", [])
TORCHVISION = ("squeezenet1_1@none", ["search.image_size=64"])
ITS_OPERATORS = ("efficientnet_b0@none", ["search.image_size=32"])
COMPILER = ["torch._dynamo", "sympy"]


def imported(backbone: str, overrides: list[str], modules: list[str], folder: Path) -> str:
    """Modules that a process imports to run trials of a backbone, as the text of a list."""
    space = read_space(
        LOWDATA, [f"search.backbone='{backbone}'", "search.label_budget=[2]", *overrides]
    )
    prepared = prepare_space(space, path=LOWDATA)
    file = folder / "prepared"
    file.write_bytes(pickle.dumps((prepared.images, prepared.weights, prepared.graphs)))
    return run(TRIAL, str(file), *modules)


def run(program: str, *arguments: str) -> str:
    """Run a program in a process of its own; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_shipped_network_is_trained_without_compiler_sympy_and_torchvision(
    tmp_path: Path,
) -> None:
    unwanted = [*COMPILER, "torchvision", "optuna", "pyarrow", "scipy", "pydantic"]
    assert imported(*SHIPPED, unwanted, tmp_path) == "[]"


def test_a_network_of_torchvision_is_trained_without_compiler_sympy_and_torchvision(
    tmp_path: Path,
) -> None:
    assert imported(*TORCHVISION, [*COMPILER, "torchvision"], tmp_path) == "[]"


def test_operators_of_torchvision_are_imported_if_a_network_needs_them(tmp_path: Path) -> None:
    assert (
        imported(*ITS_OPERATORS, ["torch", "torchvision"], tmp_path) == "['torch', 'torchvision']"
    )


def test_a_shipped_network_is_prepared_without_compiler_sympy_and_torchvision() -> None:
    done = run(PREPARATION, str(LOWDATA), *COMPILER, "torchvision")
    assert done == "[]"
