from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from orchestrator.recording.tables import read_table

if TYPE_CHECKING:
    from tests.integration.conftest import Launched

pytestmark = pytest.mark.faults

FAST = ("search.label_budget=[2]", "training={steps: 4, reports: 1, image_size: 32}")
TORCHVISION = ["resnet18", "mobilenet_v3_small", "vit_b_32", "convnext_tiny"]
TIMM = ["timm:test_vit", "timm:test_efficientnet", "timm:test_convnext2", "timm:test_resnet"]

MODELS = """
from torch import nn
from nets_of_mine.blocks import Block

def build(width):
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), Block(width), Block(width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2),
    )
    model.preprocessing = {"image_size": 8, "mean": (0.25,) * 3, "std": (0.35,) * 3}
    return model
"""
BLOCKS = """
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return (x + self.conv(x)).relu()
"""


@pytest.mark.slow
@pytest.mark.parametrize("registry", [TORCHVISION, TIMM], ids=["torchvision", "timm"])
def test_a_sweep_over_four_families_runs_through(
    launch_in: Callable[..., Launched], registry: list[str]
) -> None:
    names = [f"{name}@none" for name in registry]
    grid = (
        f"search.backbone={names}",
        "search.freeze_depth=[0.0, 1.0]",
        "search.lr=0.001",
        "search.layer_decay=1.0",
        "sampler={name: grid}",
        "trials=8",
        "pruner={name: none}",
        "finalists={count: 1, repeats: 2}",
    )
    sweep = launch_in(*FAST, *grid)
    trials = read_table(sweep.path, "trials").to_pandas()
    tried = trials[trials.method == "finetune"]
    assert sweep.code == 0
    assert sorted(tried.backbone) == sorted(2 * names)
    assert tried.state.eq("complete").all()
    assert tried.weights.eq("none").all()
    assert (tried.frozen_boundaries == tried.freeze_depth * tried.num_boundaries).all()


def test_the_users_own_code_travels_to_the_trials(
    launch_in: Callable[..., Launched], tmp_path: Path
) -> None:
    package = tmp_path / "nets_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(MODELS)
    (package / "blocks.py").write_text(BLOCKS)
    for name in ("random", "PIL", "trainable", "safetensors"):  # no process takes these for others
        (tmp_path / f"{name}.py").write_text("raise SystemError('of the working directory')")
    mine = {"name": "mine", "module": "nets_of_mine.models:build", "args": {"width": 8}}
    space = tmp_path / "mine.yaml"
    space.write_text(
        yaml.safe_dump(
            {
                "dataset": {"source": "digits"},
                "search": {"backbone": ["tiny_strokes", mine], "label_budget": [2]},
            }
        )
    )
    sweep = launch_in("search.label_budget=[2]", space=space, folder=tmp_path)
    trials = read_table(sweep.path, "trials").to_pandas()
    assert sweep.code == 0
    assert set(trials[trials.method == "probe"].backbone) == {"tiny_strokes", "mine"}
    own = trials[(trials.method == "finetune") & (trials.backbone == "mine")]
    assert len(own)
    assert own.weights.eq("as built").all()
    assert own.num_boundaries.eq(3).all()
