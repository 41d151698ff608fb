"""Files of weights that leave a part of the network as it was built are refused on every shelf."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from trainable.backbones import Backbone, load_weights
from trainable.backbones.coverage import load, watched_loading
from trainable.errors import BackboneError
from trainable.spec.custom_backbone import CustomBackbone

State = dict[str, Tensor]
SIZE = 64


class Small(nn.Module):
    """A network with what is built as ones and zeros, and a buffer of its own."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("scale", torch.ones(()))
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.head((self.norm(self.conv(images)) * self.scale).mean((2, 3)))
        return features


def build_small() -> nn.Module:
    """What a search-space file would name."""
    return Small()


def from_torchvision(state: State, path: Path) -> Backbone:
    save_file(state, path)
    return Backbone(load_weights(f"resnet18@{path}"))


def from_timm(state: State, path: Path) -> Backbone:
    save_file(state, path)
    return Backbone(load_weights(f"timm:resnet18@{path}"))


def from_own_code(state: State, path: Path) -> Backbone:
    save_file(state, path)
    builder = CustomBackbone(
        name="small", module=f"{__name__}:{build_small.__name__}", weights=str(path)
    )
    return Backbone(load_weights(builder))


SHELVES: dict[str, tuple[Callable[[], nn.Module], Callable[[State, Path], Backbone]]] = {
    "torchvision": (lambda: resnet18(weights=None), from_torchvision),
    "timm": (lambda: timm.create_model("resnet18"), from_timm),
    "own code": (build_small, from_own_code),
}


@pytest.mark.parametrize("registry", SHELVES)
@pytest.mark.parametrize(
    "lost",
    [
        r"(^|\.)(bn\d|norm|downsample\.1)\.",
        r"(^|\.)(bn\d|norm|downsample\.1)\.weight",
        r"running_(mean|var)",
        r"running_var",
        r"conv\d?\.weight",
    ],
)
def test_a_file_that_lacks_what_is_built_as_ones_and_zeros_is_refused(
    registry: str, lost: str, tmp_path: Path
) -> None:
    make, load_from = SHELVES[registry]
    whole = make().state_dict()
    state = {name: entry for name, entry in whole.items() if not re.search(lost, name)}
    assert len(state) < len(whole)
    first = next(name for name in whole if re.search(lost, name) and "tracked" not in name)
    with pytest.raises(BackboneError, match=rf"w\.safetensors.* missing: {re.escape(first)}"):
        load_from(state, tmp_path / "w.safetensors").traced(SIZE)


@pytest.mark.parametrize("registry", SHELVES)
def test_a_file_under_other_names_is_refused_with_what_is_left_over(
    registry: str, tmp_path: Path
) -> None:
    make, load_from = SHELVES[registry]
    state = {
        name.replace("bn1.", "bn_1.").replace("norm.", "layernorm."): entry
        for name, entry in make().state_dict().items()
    }
    message = r"missing: (bn1|norm)\.weight.*; left over: (bn_1|layernorm)\.bias"
    with pytest.raises(BackboneError, match=message):
        load_from(state, tmp_path / "w.safetensors").traced(SIZE)


@pytest.mark.parametrize("registry", SHELVES)
def test_neither_the_head_nor_counts_of_updates_have_to_be_in_a_file(
    registry: str, tmp_path: Path
) -> None:
    make, load_from = SHELVES[registry]
    whole = make().state_dict()
    state = {
        name: entry.flatten().roll(1).reshape(entry.shape) + 1.0
        for name, entry in whole.items()
        if not re.search(r"^(fc|head)\.|tracked$", name)
    }
    traced = load_from(state, tmp_path / "w.safetensors").traced(SIZE)
    loaded = traced.module.state_dict()
    assert state.keys() <= loaded.keys()
    assert all(torch.equal(loaded[name], entry) for name, entry in state.items())


@pytest.mark.parametrize("norms", ["norm1", "norm2", r"norm\d?"])
def test_a_vision_transformer_whose_norms_have_another_name_is_refused(
    norms: str, tmp_path: Path
) -> None:
    whole = timm.create_model("test_vit").state_dict()
    state = {
        re.sub(rf"(^|\.){norms}\.", r"\1layernorm.", name): entry for name, entry in whole.items()
    }
    save_file({name: entry.clone() for name, entry in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(
        BackboneError, match=r"missing: blocks\.0\.norm\d\.weight.*; left over: .*l"
    ):
        load_weights(f"timm:test_vit@{tmp_path / 'w.safetensors'}")


def test_one_tensor_under_two_names_may_be_in_the_file_once() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, second, nn.Linear(2, 1))
    assert not load(model, {"0.weight": torch.full((2, 2), 3.0).numpy()}, heads=["2"])
    assert torch.equal(second.weight, torch.full((2, 2), 3.0))


def test_values_of_a_file_are_never_taken_for_missing_ones() -> None:
    for values in (float("nan"), float("inf"), 0.0, 1.0):
        model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
        state = {
            name: torch.full_like(entry, values).numpy()
            for name, entry in model.state_dict().items()
            if entry.is_floating_point()
        }
        assert not load(model, state, heads=["1"])


@pytest.mark.parametrize(
    "kind",
    [
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.complex64,
        torch.int64,
        torch.uint8,
        torch.bool,
    ],
)
def test_what_is_not_loaded_is_named_and_left_as_it_was_in_every_type(kind: torch.dtype) -> None:
    model = nn.Module()
    model.register_buffer("there", torch.ones(3, dtype=kind))
    model.register_buffer("lost", torch.ones(3, dtype=kind))
    model.register_buffer("one", torch.ones((), dtype=kind))
    with watched_loading() as seen:
        model.load_state_dict({"there": torch.zeros(3, dtype=kind)}, strict=False)
    assert seen[0].missing == ("lost", "one")
    assert [int(entry.sum().real) for entry in model.state_dict().values()] == [0, 3, 1]
