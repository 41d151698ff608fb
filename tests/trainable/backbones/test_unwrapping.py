"""Checkpoints as people have them: the part that fits a network is found, and no other taken."""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import shufflenet_v2_x0_5

from trainable.backbones import Backbone, Weights, known_problem, load_weights
from trainable.errors import BackboneError
from trainable.spec.custom_backbone import CustomBackbone

State = dict[str, Tensor]
SIZE = 64


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.block2 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6))
        self.head = nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.block2(self.block1(images)).mean((2, 3)))
        return logits


def build_small() -> nn.Module:
    """What a search-space file would name."""
    return Small()


def own_code(weights: str) -> Weights:
    module = f"{__name__}:{build_small.__name__}"
    return load_weights(CustomBackbone(name="small", module=module, weights=weights))


def on_shelf(name: str) -> Callable[[str], Weights]:
    return lambda weights: load_weights(f"{name}@{weights}")


SHELVES: dict[str, tuple[Callable[[], nn.Module], str, Callable[[str], Weights]]] = {
    "torchvision": (
        lambda: shufflenet_v2_x0_5(weights=None),
        "fc",
        on_shelf("shufflenet_v2_x0_5"),
    ),
    "timm": (lambda: timm.create_model("test_resnet"), "fc", on_shelf("timm:test_resnet")),
    "own code": (build_small, "head", own_code),
}


def combined(layouts: Iterable[str], *, everywhere: Collection[str]) -> list[tuple[str, str]]:
    """Every layout of a file with own code, which is quick, and some with the other shelves."""
    layouts = list(layouts)
    return [(s, kind) for s in SHELVES for kind in layouts if s == "own code" or kind in everywhere]


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: entry for name, entry in state.items()}


def without(head: str, state: Mapping[str, Tensor]) -> State:
    return {name: entry for name, entry in state.items() if not name.startswith(f"{head}.")}


def moved(state: Mapping[str, Tensor]) -> State:
    """The same network some updates later."""
    return {name: e + 0.5 if e.is_floating_point() else e for name, e in state.items()}


def optimizer_state() -> dict[str, Any]:
    model = Small()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def settings() -> argparse.Namespace:
    return argparse.Namespace(lr=0.1, out=PurePosixPath("runs"), best=np.float64(0.5))


WRAPPINGS: dict[str, tuple[Callable[[State, str], Any], str]] = {
    "DataParallel": (lambda s, h: prefixed("module.", s), "weights: the prefix 'module.' taken"),
    "compiled": (lambda s, h: prefixed("_orig_mod.", s), "the prefix '_orig_mod.' taken"),
    "both": (lambda s, h: prefixed("module._orig_mod.", s), "'module._orig_mod.' taken"),
    "Lightning": (
        lambda s, h: {
            "pytorch-lightning_version": "2.5.0",
            "epoch": 3,
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [optimizer_state()],
            "hyper_parameters": settings(),
            "state_dict": prefixed("model.", s),
        },
        "weights: those in state_dict of the file, the prefix 'model.' taken",
    ),
    "torchvision's own training": (
        lambda s, h: {"model": s, "optimizer": optimizer_state(), "epoch": 1, "args": settings()},
        "weights: those in model of the file",
    ),
    "EMA that is the same": (
        lambda s, h: {"state_dict": s, "state_dict_ema": prefixed("module.", s)},
        "weights: those in state_dict",
    ),
    "DINO's teacher": (
        lambda s, h: {
            "teacher": prefixed("backbone.", without(h, s)) | {"dino.mlp.weight": torch.ones(2)},
            "epoch": 100,
        },
        "weights: those in teacher of the file, the prefix 'backbone.' taken",
    ),
    "MoCo": (
        lambda s, h: {
            "arch": "resnet",
            "state_dict": prefixed("module.encoder_q.", without(h, s))
            | {f"module.encoder_q.{h}.0.weight": torch.ones(3, 3), "module.queue": torch.ones(4)},
        },
        "weights: those in state_dict of the file, the prefix 'module.encoder_q.' taken",
    ),
    "another type of mapping": (
        lambda s, h: defaultdict(list, weights={"deep": s}),
        "weights: those in weights.deep of the file",
    ),
}


@pytest.mark.parametrize(
    ("registry", "wrapping"), combined(WRAPPINGS, everywhere={"Lightning", "both", "MoCo"})
)
def test_the_part_that_fits_is_found_and_told(registry: str, wrapping: str, tmp_path: Path) -> None:
    make, head, load = SHELVES[registry]
    wrap, note = WRAPPINGS[wrapping]
    state = make().state_dict()
    torch.save(wrap(state, head), tmp_path / "w.ckpt")
    weights = load(f"{tmp_path / 'w.ckpt'}")
    assert note in weights.notes[0]
    for name, entry in without(head, state).items():
        assert np.array_equal(weights.arrays[name], entry)


@pytest.mark.parametrize("registry", SHELVES)
def test_the_same_weights_in_a_wrapping_have_the_same_key(registry: str, tmp_path: Path) -> None:
    make, _, load = SHELVES[registry]
    state = make().state_dict()
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"model": prefixed("module.", state)}, tmp_path / "wrapped.pth")
    plain, wrapped = (load(f"{tmp_path / name}.pth") for name in ("plain", "wrapped"))
    assert plain.notes == ()
    assert plain.digest == wrapped.digest


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_checkpoint_wrapped_module"])
def test_a_part_of_a_network_may_be_wrapped(wrapper: str, tmp_path: Path) -> None:
    state = build_small().state_dict()
    torch.save(
        {name.replace("block1.", f"block1.{wrapper}."): entry for name, entry in state.items()},
        tmp_path / "w.pth",
    )
    weights = own_code(str(tmp_path / "w.pth"))
    assert np.array_equal(weights.arrays["block1.0.weight"], state["block1.0.weight"])


TWICE: dict[str, tuple[Callable[[State], Any], str]] = {
    "timm's own training": (
        lambda s: {"state_dict": s, "state_dict_ema": moved(s), "args": settings()},
        "state_dict_ema",
    ),
    "torchvision's EMA": (
        lambda s: {
            "model": s,
            "model_ema": prefixed("module.", moved(s)) | {"n_averaged": torch.tensor(2)},
        },
        "model_ema.module",
    ),
    "two encoders": (
        lambda s: {"state_dict": prefixed("q.", s) | prefixed("k.", moved(s))},
        "state_dict.k",
    ),
}


@pytest.mark.parametrize(("registry", "file"), combined(TWICE, everywhere={"timm's own training"}))
def test_parts_that_fit_and_differ_are_named_and_can_be_chosen(
    registry: str, file: str, tmp_path: Path
) -> None:
    make, head, load = SHELVES[registry]
    wrap, part = TWICE[file]
    state = make().state_dict()
    path = tmp_path / "w.ckpt"
    torch.save(wrap(state), path)
    with pytest.raises(BackboneError, match=rf"2 parts .*differ: .*{part}.*behind a #, such as"):
        load(str(path))
    weights = load(f"{path}#{part}")
    assert weights.version == f"{path}#{part}"
    for name, entry in without(head, moved(state)).items():
        assert np.array_equal(weights.arrays[name], entry)


def test_a_part_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    torch.save({"model": build_small().state_dict()}, path)
    with pytest.raises(BackboneError, match=r"nothing under ema could be .* tensors in model$"):
        own_code(f"{path}#ema")


def test_a_file_with_a_number_sign_in_its_name_is_itself(tmp_path: Path) -> None:
    path = tmp_path / "run#3.pth"
    torch.save(build_small().state_dict(), path)
    assert own_code(str(path)).notes == ()


@pytest.mark.parametrize(
    ("registry", "other"),
    combined(
        ["classifier.weight", "{head}.1.weight", "projector.0.weight"],
        everywhere={"classifier.weight"},
    ),
)
def test_a_head_of_another_name_is_passed_over(registry: str, other: str, tmp_path: Path) -> None:
    make, head, load = SHELVES[registry]
    name = other.format(head=head)
    state = without(head, make().state_dict()) | {name: torch.ones(7, 3)}
    torch.save(state, tmp_path / "w.pth")
    weights = load(str(tmp_path / "w.pth"))
    told = [note for note in weights.notes if f"no place: {name}" in note]
    assert bool(told) is not name.startswith(head)
    Backbone(weights).traced(SIZE)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_are_read(kind: torch.dtype, tmp_path: Path) -> None:
    state = build_small().to(kind).state_dict()
    torch.save({"net": state}, tmp_path / "w.bin")
    weights = own_code(str(tmp_path / "w.bin"))
    assert {a.dtype for n, a in weights.arrays.items() if "num_" not in n} == {np.dtype("f4")}
    assert np.array_equal(weights.arrays["head.weight"], state["head.weight"].float())


@pytest.mark.parametrize(
    ("registry", "deeper"),
    [
        ("torchvision", "stage2.9.branch1.0.weight"),
        ("timm", "layer1.7.conv1.weight"),
        ("own code", "block3.0.weight"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": prefixed("module.", s)}])
def test_another_architecture_is_refused_in_few_words(
    registry: str, deeper: str, wrap: Callable[[State], Any], tmp_path: Path
) -> None:
    make, _, load = SHELVES[registry]
    path = tmp_path / "w.pth"
    torch.save(wrap(make().state_dict() | {deeper: torch.ones(2)}), path)
    with pytest.raises(
        BackboneError, match=rf"do not fit the architecture: left over: {deeper}\. Name"
    ):
        load(str(path))
    torch.save(wrap(timm.create_model("test_vit").state_dict()), path)
    with pytest.raises(
        BackboneError, match=r"fit.* missing: .* and .*left over: .* \d+ more"
    ) as no:
        load(str(path))
    assert len(str(no.value)) - len(str(path)) < 350


@pytest.mark.parametrize(
    "name", ["w.ckpt", "w.bin", "w.pth.tar", "w.PTH", "w.SafeTensors", "w.safetensors", "w.weights"]
)
@pytest.mark.parametrize("write", [torch.save, save_file])
def test_a_file_is_judged_by_what_is_in_it(
    name: str, write: Callable[[State, Path], None], tmp_path: Path
) -> None:
    state = build_small().state_dict()
    write(state, tmp_path / name)
    weights = own_code(str(tmp_path / name))
    assert np.array_equal(weights.arrays["head.weight"], state["head.weight"])
    assert known_problem(f"resnet18@{name}") is None


class Unknown:
    """A class that whoever reads a file would have to import."""


def written_by_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def written_before_zip(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [torch.save, written_by_pickle, written_before_zip])
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (build_small, rf"{__name__}\.Small"),
        (lambda: {"model": nn.Linear(2, 2)}, r"torch\.nn\.modules\.linear\.Linear"),
        (lambda: {"state_dict": {}, "hyper_parameters": Unknown()}, rf"{__name__}\.Unknown"),
        (lambda: {"head.weight": print}, r"print"),
    ],
)
def test_a_pickle_of_more_than_tensors_is_refused_with_what_it_wants_and_what_to_do(
    write: Callable[[object, Path], None],
    content: Callable[[], object],
    wanted: str,
    tmp_path: Path,
) -> None:
    write(content(), tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=rf"refused: its pickle wants \S*{wanted}, ") as caught:
        own_code(str(tmp_path / "w.pth"))
    text = str(caught.value)
    assert 'torch.save(model.state_dict(), "weights.pth")' in text
    assert text.isprintable()
    assert not any(word in text for word in ("weights_only", "trust", "add_safe_globals"))


def test_a_torchscript_archive_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch's: it is deprecated
        program: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
            build_small().eval(), torch.ones(1, 3, 8, 8)
        )
        torch.jit.save(program, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match="refused: it is a TorchScript archive") as caught:
        own_code(str(tmp_path / "w.pt"))
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Run: git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page"),
        (b"\x1b[31mred", r'begins with "\\x1b\[31mred"'),
        (b"\xff\xd8\xff\xe0JFIF", r'begins with "\\xff\\xd8\\xff\\xe0JFIF"'),
        (b"PK\x03\x04 and no more", "damaged or no state dict: "),
        (b"\x80\x02}q\x00", "damaged or no state dict: "),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "damaged or no state dict: "),
    ],
)
def test_what_is_no_file_of_weights_is_told_apart(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=rf"w\.pth: .*{message}") as caught:
        own_code(str(path))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("write", [torch.save, save_file, written_before_zip])
def test_a_truncated_file_is_damaged(
    write: Callable[[State, Path], None], share: float, tmp_path: Path
) -> None:
    path = tmp_path / "w.pth"
    write(build_small().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BackboneError, match=r"w\.pth: damaged or no state dict: "):
        own_code(str(path))


def test_weights_of_a_training_that_diverged_are_refused(tmp_path: Path) -> None:
    state = build_small().state_dict()
    state["block2.0.bias"][1] = torch.nan
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"hold NaN, .*: block2\.0\.bias\. Take an earlier"):
        own_code(str(tmp_path / "w.pth"))


def test_infinite_values_are_values(tmp_path: Path) -> None:
    state = build_small().state_dict()
    state["block2.0.bias"][1] = -torch.inf
    torch.save(state, tmp_path / "w.pth")
    assert np.isneginf(own_code(str(tmp_path / "w.pth")).arrays["block2.0.bias"][1])


def test_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="a folder; allowed: the file of weights in it"):
        own_code(str(tmp_path))


def test_names_in_a_file_are_shown_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    torch.save({"\x1b[31mred": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(BackboneError, match=r"left over: \\x1b\[31mred"):
        own_code(str(tmp_path / "w.pth"))


def test_timm_logs_no_names_of_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = timm.create_model("test_resnet").state_dict()
    torch.save(prefixed("module.", state), tmp_path / "w.pth")
    load_weights(f"timm:test_resnet@{tmp_path / 'w.pth'}")
    assert not caplog.records
