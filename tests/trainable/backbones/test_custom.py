from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trainable.backbones import Backbone, custom_models, load_weights, shipped_modules
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import frozen_between
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import BackboneError, SpecError
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.trial import Trial

CODE = """
import torch
from torch import nn

def build(width=6, image_size=8):
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(width, 4),
    )
    model.preprocessing = {"image_size": 8, "mean": (0.25,) * 3, "std": (0.35,) * 3}
    model.built_for = image_size
    return model

def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64 * 64, 2))

def wrong():
    model = plain()
    model.preprocessing = {"size": 8}
    return model

def late():
    from nets_of_mine import others
    return others.plain()

def text():
    return "no model"

def fails():
    raise RuntimeError("disk on fire")

class DependsOnPixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, images):
        if images.sum() > 0:
            images = images + 1
        return self.head(images.mean(dim=(2, 3)))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a package `nets_of_mine` in it."""
    package = tmp_path / "nets_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(CODE)
    (package / "others.py").write_text("from nets_of_mine.models import plain")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(custom_models, "_found_here", {})  # what other tests have imported
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("nets_of_mine")]:
        del sys.modules[name]


def custom(function: str = "build", **rest: object) -> CustomBackbone:
    return CustomBackbone.parse(
        {"name": "mine", "module": f"nets_of_mine.models:{function}", **rest}
    )


def test_a_function_in_the_working_directory_builds_the_backbone(here: Path) -> None:
    path, finders = list(sys.path), list(sys.meta_path)
    weights = load_weights(custom(args={"width": 10}))
    assert (sys.path, sys.meta_path) == (path, finders)
    assert (weights.backbone, weights.version) == ("mine", "as built")
    assert weights.arrays["0.weight"].shape == (10, 3, 3, 3)
    assert weights.image_preprocessing.image_size == weights.image_preprocessing.resize_size == 8
    traced = Backbone(weights).traced(8)
    assert torch.equal(
        traced.module.get_parameter("0.weight"), torch.tensor(weights.arrays["0.weight"])
    )


def test_what_the_function_leaves_random_is_the_same_every_time(here: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    assert load_weights(custom()).digest == load_weights(custom()).digest
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_of_a_file_replace_what_was_built(here: Path) -> None:
    state = {"0.weight": torch.ones(6, 3, 3, 3), "0.bias": torch.zeros(6)}
    save_file(state, here / "mine.safetensors")
    weights = load_weights(custom(weights="mine.safetensors"))
    assert weights.version == "mine.safetensors"
    assert bool((Backbone(weights).traced(8).module.get_parameter("0.weight") == 1).all())


def test_the_function_gets_the_image_size_where_it_takes_one(here: Path) -> None:
    from trainable.backbones import custom_models

    weights = load_weights(custom())
    assert custom_models.build(weights, size=16).built_for == 16
    assert custom_models.build(load_weights(custom("plain")), size=64) is not None


def test_the_function_may_import_more_of_its_package_when_it_is_called(here: Path) -> None:
    assert load_weights(custom("late")).version == "as built"


LATE_LAYER = """
def build():
    from nets_of_mine.layers import Layer
    from torch import nn
    return nn.Sequential(Layer(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


def test_a_graph_with_ones_own_layers_arrives_where_they_were_not_imported(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = here / "nets_of_mine"
    (package / "layers.py").write_text("from torch import nn\nclass Layer(nn.Conv2d): ...")
    (package / "late_layer.py").write_text(LATE_LAYER)
    weights = load_weights(
        CustomBackbone.parse({"name": "mine", "module": "nets_of_mine.late_layer:build"})
    )
    sender = Backbone(weights)
    expected = sender.traced(8)
    graphs = sender.graphs
    for name in [name for name in sys.modules if name.startswith("nets_of_mine")]:
        del sys.modules[name]
    monkeypatch.setattr(Backbone, "_trace", None)
    arrived = Backbone(weights, graphs).traced(8)
    images = torch.ones(2, 3, 8, 8)
    boundary = boundaries(expected)[-1]
    assert torch.equal(
        *(frozen_between(each, None, boundary)(images) for each in (arrived, expected))
    )


def test_a_model_that_says_nothing_of_its_images_gets_imagenets(here: Path) -> None:
    preprocessing = load_weights(custom("plain")).image_preprocessing
    assert (preprocessing.image_size, preprocessing.resize_size) == (224, 256)
    assert preprocessing.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", r"nets_of_mine\.models has no function nothing"),
        ("text", "returned str; allowed: a torch.nn.Module"),
        ("fails", "failed: RuntimeError: disk on fire"),
        ("wrong", r"its model's `preprocessing` is .*allowed: a mapping with image_size"),
    ],
)
def test_a_function_that_does_not_serve_is_told(here: Path, function: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_weights(custom(function))


def test_a_module_that_cannot_be_imported_says_from_where(here: Path) -> None:
    backbone = CustomBackbone(name="mine", module="no_such_package.models:build")
    with pytest.raises(BackboneError, match=r"cannot be imported from .*Start from the folder"):
        load_weights(backbone)


def test_a_model_that_cannot_be_traced_says_where_and_what_to_do(here: Path) -> None:
    weights = load_weights(custom("DependsOnPixels"))
    message = r"cannot be traced .*\(models\.py, line \d+\).*decorated with torch\.fx\.wrap"
    with pytest.raises(BackboneError, match=message):
        Backbone(weights).traced(8)


def test_a_trial_runs_on_it(here: Path, digit_images: LabelledExamples) -> None:
    spec = TrialSpec(
        backbone="mine", lr=1e-2, label_budget=LabelBudget(5), freeze_depth=0.0, steps=40, reports=1
    )
    *_, last = Trial(spec, digit_images, Backbone(load_weights(custom()))).reports()
    assert last.val_objective > 0.3


def test_own_code_is_sent_along_and_installed_code_is_not(here: Path) -> None:
    assert [package.__name__ for package in shipped_modules(custom())] == ["nets_of_mine"]
    installed = CustomBackbone(name="r", module="torchvision.models:resnet18")
    assert "torchvision" not in [package.__name__ for package in shipped_modules(installed)]


def test_what_own_code_imports_from_beside_it_is_sent_along(here: Path) -> None:
    (here / "nets_of_mine_layers.py").write_text("from torch.nn import Flatten")
    (here / "nets_of_mine" / "beside.py").write_text(
        "from nets_of_mine_layers import Flatten\n" + CODE
    )
    backbone = CustomBackbone(name="mine", module="nets_of_mine.beside:plain")
    names = {package.__name__ for package in shipped_modules(backbone)}
    assert names >= {"nets_of_mine", "nets_of_mine_layers"}


def test_a_folder_without_an_init_file_is_sent_along(here: Path) -> None:
    (here / "nets_of_mine" / "__init__.py").unlink()
    assert "nets_of_mine" in [package.__name__ for package in shipped_modules(custom())]


@pytest.mark.parametrize("name", ["colorsys", "plotly"])
def test_what_lies_in_the_working_directory_takes_the_place_of_no_installed_module(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delitem(sys.modules, name, raising=False)
    (here / f"{name}.py").write_text("raise RuntimeError('of the working directory')")
    (here / "nets_of_mine" / "importing.py").write_text(f"import {name}\n{CODE}")
    backbone = CustomBackbone(name="mine", module="nets_of_mine.importing:plain")
    assert load_weights(backbone).version == "as built"
    assert name not in [package.__name__ for package in shipped_modules(backbone)]


def test_what_own_code_prints_goes_to_stderr(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "nets_of_mine" / "talking.py").write_text(f"print('imported')\n{CODE}")
    load_weights(CustomBackbone(name="mine", module="nets_of_mine.talking:plain"))
    captured = capfd.readouterr()
    assert (captured.out, "imported" in captured.err) == ("", True)


def test_the_module_that_is_named_goes_before_an_installed_one(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    (here / "colorsys.py").write_text(CODE)
    backbone = CustomBackbone(name="mine", module="colorsys:plain")
    assert load_weights(backbone).version == "as built"
    monkeypatch.delitem(sys.modules, "colorsys")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "a"}, r"module: got None; allowed: package\.module:function"),
        ({"name": "a", "module": "b"}, "module: got 'b'"),
        ({"name": "a", "module": "os;x:y"}, "module: got 'os;x:y'"),
        ({"module": "b:c"}, "name: got None; allowed: text for tables"),
        ({"name": "a@b", "module": "b:c"}, r"name: got 'a@b'; .*without @\*\?\[:"),
        ({"name": "a\n", "module": "b:c"}, "name: got"),
        ({"name": "a", "module": "b:c", "args": [1]}, r"args: got \[1\]; allowed: a mapping"),
        ({"name": "a", "module": "b:c", "weights": 3}, "weights: got 3; allowed: the path"),
        ({"name": "a", "module": "b:c", "arg": {}}, "'arg' is unknown; known: name, module, args"),
    ],
)
def test_what_a_file_says_wrong_of_it_is_told(given: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        CustomBackbone.parse(given)


def test_it_goes_to_json_and_back() -> None:
    for given in (
        {"name": "a", "module": "b.c:d"},
        {"name": "a b", "module": "b:d", "args": {"x": [1, 2]}, "weights": "w.pth"},
    ):
        assert CustomBackbone.parse(given).to_json() == given
