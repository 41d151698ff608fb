from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import timm
import timm.data
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from safetensors.torch import save_file

from trainable.backbones import Backbone, describe, expand, known_problem, load_weights, names
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.timm_models import PREFIX, preprocessing_of
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import BackboneError
from trainable.modalities.image.preprocessing import decode
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

TESTED = (
    "test_vit",
    "test_vit2",
    "test_vit4",
    "test_efficientnet",
    "test_resnet",
    "test_convnext2",
    "test_byobnet",
    "test_nfnet",
    "test_maxvit",
)
"""timm's own small architectures for tests: each stands for a family."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def put(hub: Path, repository: str, file: str, state: dict[str, torch.Tensor]) -> Path:
    """A file in the cache, where the hub's client puts it."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    path = folder / "snapshots" / "abc" / file
    path.parent.mkdir(parents=True)
    if file.endswith(".safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def made(name: str = "test_vit", *, seed: int = 3, **options: Any) -> Any:
    torch.manual_seed(seed)
    return timm.create_model(name, **options).eval()


def test_names_of_timm_come_when_asked_for() -> None:
    assert not [name for name in names() if name.startswith(PREFIX)]
    assert len(names("timm:*")) > 1000
    assert expand("timm:test_vit?@none") == [f"timm:test_vit{i}@none" for i in (2, 3, 4)]


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("timm:test_vitt", r"unknown model of timm; did you mean timm:test_vit\?"),
        ("timm:test_vit.other", "unknown tag 'other' of test_vit; its tags: r160_in1k"),
        ("timm:test_vit@other", r"as timm:test_vit\.TAG, @none, or @ and a file"),
        ("timm:test_vit2@none", None),
        ("timm:test_vit", None),
        ("timm:test_vit.r160_in1k", None),
        ("timm:test_vit@some/file.safetensors", None),
        ("timm:vit_base_patch16_siglip_224.webli@none", None),
    ],
)
def test_names_are_checked_without_reading_weights(backbone: str, message: str | None) -> None:
    problem = known_problem(backbone)
    if message is None:
        assert problem is None
    else:
        with pytest.raises(BackboneError, match=message):
            load_weights(backbone)


def test_architecture_without_weights_says_how_to_have_it_all_the_same() -> None:
    without = next(
        name for name in names("timm:*") if not timm.is_model_pretrained(name.removeprefix(PREFIX))
    )
    assert f"write {without}@none or {without}@FILE" in str(known_problem(without))
    assert known_problem(f"{without}@none") is None


def test_without_timm_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'sft-sweep[timm]'" in str(known_problem("timm:test_vit"))


@pytest.mark.parametrize("name", TESTED)
def test_the_two_halves_are_the_model_to_the_bit(name: str) -> None:
    backbone = Backbone(load_weights(f"timm:{name}@none"))
    size = backbone.weights.preprocessing.size
    traced = backbone.traced(size)
    images = torch.randn(3, 3, size, size)
    model = made(name, seed=0, num_classes=10)
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(traced.module(images), expected)
        number = len(boundaries(traced))
        for frozen in {0, 1, number // 2, number - 1, number}:
            halves = split(traced, frozen=frozen, num_classes=10)
            halves.suffix.set_submodule(halves.head, model.get_submodule(halves.head))
            assert torch.equal(halves.suffix.eval()(halves.prefix(images)), expected), frozen
    assert not torch.equal(expected[0], expected[1])


def test_random_weights_are_the_same_every_time_and_touch_no_global_state() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (load_weights("timm:test_vit@none") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == second.digest
    assert first.version == "none"


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_the_hubs_cache_are_loaded(hub: Path, file: str) -> None:
    model = made()
    put(hub, "timm/test_vit.r160_in1k", file, model.state_dict())
    assert describe("timm:test_vit").cached
    weights = load_weights("timm:test_vit")
    assert (weights.version, weights.licence) == ("r160_in1k", "apache-2.0")
    module: Any = Backbone(weights).traced(160).module
    name = "blocks.3.mlp.fc2.weight"
    assert torch.equal(module.get_parameter(name), model.get_parameter(name))


def test_a_pickle_in_the_hubs_cache_is_read_without_running_it(hub: Path) -> None:
    path = put(hub, "timm/test_vit.r160_in1k", "pytorch_model.bin", {})
    torch.save({"head.weight": Path("no tensor")}, path)
    with pytest.raises(BackboneError, match=r"pytorch_model\.bin: refused"):
        load_weights("timm:test_vit")


def test_without_cache_and_network_the_message_names_file_and_repository(hub: Path) -> None:
    assert not describe("timm:test_vit").cached
    message = (
        r"not on this machine and cannot be fetched .*Fetch model\.safetensors or "
        r"pytorch_model\.bin of timm/test_vit\.r160_in1k .* write timm:test_vit@FILE"
    )
    with pytest.raises(BackboneError, match=message) as caught:
        load_weights("timm:test_vit")
    assert isinstance(caught.value.__cause__, LocalEntryNotFoundError)


def test_a_local_file_is_loaded_whatever_its_head(tmp_path: Path) -> None:
    model = made(num_classes=7)
    save_file(model.state_dict(), tmp_path / "mine.safetensors")
    weights = load_weights(f"timm:test_vit@{tmp_path / 'mine.safetensors'}")
    assert weights.version == str(tmp_path / "mine.safetensors")
    name = "blocks.0.attn.qkv.weight"
    assert np.array_equal(weights.arrays[name], model.state_dict()[name])


def test_a_file_that_lacks_weights_is_refused_with_their_name(tmp_path: Path) -> None:
    state = made().state_dict()
    del state["blocks.1.attn.qkv.weight"], state["cls_token"]
    save_file(state, tmp_path / "part.safetensors")
    message = (
        r"part\.safetensors: timm:test_vit: .* do not fit .*: missing: cls_token, blocks\.1\.attn"
    )
    with pytest.raises(BackboneError, match=message):
        load_weights(f"timm:test_vit@{tmp_path / 'part.safetensors'}")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(made("test_resnet").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(BackboneError, match=r"do not fit|cannot be built"):
        load_weights(f"timm:test_vit@{tmp_path / 'other.safetensors'}")


@pytest.mark.parametrize("name", ["test_vit", "test_vit4"])
def test_position_embeddings_are_resampled_to_another_image_size(name: str, tmp_path: Path) -> None:
    model = made(name)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    backbone = Backbone(load_weights(f"timm:{name}@{tmp_path / 'w.safetensors'}"))
    smaller: Any = backbone.traced(96).module
    torch.manual_seed(0)
    resampled = timm.create_model(
        name,
        img_size=96,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors")},
    ).eval()
    for key in ("pos_embed", "blocks.2.mlp.fc1.weight"):
        assert torch.equal(smaller.state_dict()[key], resampled.state_dict()[key])
    assert smaller(torch.zeros(1, 3, 96, 96)).shape == (1, 10)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (37, 501)])
@pytest.mark.parametrize(
    "name", ["resnet50.a1_in1k", "vit_base_patch16_clip_224", "vit_base_patch16_siglip_224"]
)
def test_pixels_are_those_of_timms_own_transform(name: str, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    images = LabelledExamples.from_bytes(
        [f"P6 {size[1]} {size[0]} 255\n".encode() + pixels.tobytes()],
        labels=[0],
        split=[Split.POOL],
        class_names=["a"],
        paths=["a"],
    )
    config = timm.get_pretrained_cfg(name)
    assert config is not None
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config(pretrained_cfg=config.to_dict())
    )
    mean, std = (torch.tensor(getattr(config, key)).view(3, 1, 1) for key in ("mean", "std"))
    theirs = transform(Image.fromarray(pixels)) * std + mean
    ours = decode(images, np.array([0]), preprocessing_of(config))[0].float() / 255
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_trial_of_a_vision_transformer_learns(digit_images: LabelledExamples) -> None:
    name = "timm:test_vit2@none"
    spec = TrialSpec(
        backbone=name,
        lr=3e-3,
        label_budget=LabelBudget(5),
        freeze_depth=0.5,
        steps=30,
        reports=1,
        image_size=64,
    )
    trial = Trial(spec, digit_images, Backbone(load_weights(name)))
    *_, last = trial.reports()
    assert last.val_objective > 0.3
    assert trial.facts().num_boundaries > 8
