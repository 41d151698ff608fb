from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import get_model_weights

from tests.builders.programs import printed_by
from trainable.backbones import (
    Backbone,
    Preprocessing,
    describe,
    expand,
    known_problem,
    load_weights,
    names,
    untrained,
)
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import BackboneError
from trainable.modalities.image.preprocessing import decode
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.trial import Trial

NAME = "resnet18"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def file_name(name: str = NAME) -> str:
    return Path(get_model_weights(name).DEFAULT.url).name


def made(name: str = NAME, *, seed: int = 3) -> Any:
    torch.manual_seed(seed)
    options = {"init_weights": False} if name == "googlenet" else {}  # it warns otherwise
    return torchvision.models.get_model(name, weights=None, **options).eval()


def test_every_classification_model_of_torchvision_is_on_the_shelf() -> None:
    every = torchvision.models.list_models(torchvision.models)
    assert len(every) == 80
    assert set(every) < set(names())
    assert names()[:3] == ["tiny_strokes", "tiny_fractals", "tiny_untrained"]
    for name in every:
        entry = describe(name)
        assert entry.num_params is not None
        assert entry.num_params > 1e6
        assert entry.input_size >= 224
        assert known_problem(f"{name}@{entry.version}") is None


def test_patterns_stand_for_the_names_that_match() -> None:
    assert expand("convnext_*@none") == [
        f"convnext_{size}@none" for size in ("base", "large", "small", "tiny")
    ]
    assert expand("resnet18") == ["resnet18"]
    assert expand("nothing_*") == ["nothing_*"]
    assert known_problem("nothing_*") == (
        "got 'nothing_*'; unknown backbone. See: sft-sweep backbones"
    )


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnt50", "did you mean resnet50"),
        ("resnet50@IMAGENET", r"IMAGENET1K_V1, IMAGENET1K_V2, none, or a file"),
        ("tiny_strokes@none", "one set of weights"),
        ("RESNET50", "unknown backbone"),
        ("", "unknown backbone"),
        ("resnet50@", None),
        ("resnet50@none", None),
        ("resnet50@some/file.pth", None),
    ],
)
def test_names_and_weights_are_checked_without_reading_any(
    backbone: str, message: str | None
) -> None:
    problem = known_problem(backbone)
    if message is None:
        assert problem is None
    else:
        assert message in str(problem)


def test_random_weights_are_the_same_every_time_and_touch_no_global_state() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, second = (load_weights(f"{NAME}@none") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == second.digest
    assert first.version == "none"


@pytest.mark.parametrize("name", [NAME, "vit_b_32", "googlenet", "mnasnet0_5"])
def test_a_state_dict_in_the_hub_cache_is_loaded_by_the_real_path(cache: Path, name: str) -> None:
    model = made(name)
    torch.save(model.state_dict(), cache / file_name(name))
    weights = load_weights(name)
    assert weights.version == f"{describe(name).version} (own file)"
    assert describe(name).cached
    size = weights.preprocessing.size
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        traced = Backbone(weights).traced(size).module
        if name == "googlenet":  # torchvision's pretrained one normalises its input again
            model.transform_input = True
        expected = model(images)
    state = traced.state_dict()
    assert torch.equal(next(iter(state.values())), model.state_dict()[next(iter(state))])
    head = str(Backbone(weights).traced(size).head.target)
    with torch.no_grad():  # the head is replaced in use, and not copied
        traced.get_submodule(head).load_state_dict(model.get_submodule(head).state_dict())
        assert torch.equal(traced(images), expected)


def test_without_cache_and_network_the_message_names_file_and_folder(cache: Path) -> None:
    with pytest.raises(BackboneError, match=file_name()) as caught:
        load_weights(NAME)
    assert str(cache) in str(caught.value)
    assert not describe(NAME).cached


@pytest.mark.parametrize("place", [0.3, 0.6, 0.99])
def test_a_flipped_bit_in_a_cached_file_is_refused(cache: Path, place: float) -> None:
    path = cache / file_name()
    torch.save(made().state_dict(), path)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 4
    path.write_bytes(data)
    with pytest.raises(BackboneError, match="damaged") as caught:
        load_weights(NAME)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("keep", [0, 10, 100_000])
def test_a_truncated_file_is_refused(cache: Path, keep: int) -> None:
    path = cache / file_name()
    torch.save(made().state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BackboneError, match="damaged"):
        load_weights(NAME)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("wrap", [lambda payload: payload, lambda payload: {"fc.weight": payload}])
def test_a_pickle_with_code_in_it_is_refused_and_does_nothing(
    cache: Path, tmp_path: Path, wrap: Callable[[Payload], object]
) -> None:
    marker = tmp_path / "ran"
    torch.save(wrap(Payload(marker)), cache / file_name())
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(wrap(Payload(marker))))
    for backbone in (NAME, f"{NAME}@{tmp_path / 'plain.pth'}"):
        with pytest.raises(BackboneError, match=r"refused|damaged"):
            load_weights(backbone)
    assert not marker.exists()


def test_a_file_that_is_harmless_to_one_reader_only_runs_nothing(
    cache: Path, tmp_path: Path
) -> None:
    # torch reads the state dict at its beginning; torch.hub takes it for an archive, by its end.
    marker, archive = tmp_path / "ran", io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("inner.pth", pickle.dumps({"fc.weight": Payload(marker)}))
    path = cache / file_name()
    torch.save(made().state_dict(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes() + archive.getvalue())
    assert load_weights(NAME).version.endswith("(own file)")
    assert not marker.exists()
    assert [file.name for file in cache.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_local_file_is_loaded_whatever_its_head(tmp_path: Path, suffix: str) -> None:
    model = made()
    state = dict(model.state_dict())
    state["fc.weight"], state["fc.bias"] = torch.zeros(7, 512), torch.zeros(7)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    weights = load_weights(f"{NAME}@{path}")
    assert weights.version == str(path)
    module: Any = Backbone(weights).traced(64).module
    assert torch.equal(module.get_submodule("layer4.1.conv2").weight, model.layer4[1].conv2.weight)


def test_weights_of_another_architecture_are_refused_with_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(dict(made("resnet34").state_dict()), path)
    with pytest.raises(
        BackboneError, match=r"do not fit.*left over: layer1.2.bn1.bias.* and 77 more"
    ):
        Backbone(load_weights(f"{NAME}@{path}")).traced(64)


def test_weights_that_do_not_fit_are_told_without_their_head_and_with_what_to_do(
    tmp_path: Path,
) -> None:
    path = tmp_path / "wide.safetensors"
    state = dict(made().state_dict())
    state |= {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    save_file(state, path)
    with pytest.raises(BackboneError, match=r"conv1.weight is \(64, 1, 7, 7\) instead") as refused:
        load_weights(f"{NAME}@{path}")
    assert "fc." not in str(refused.value)
    assert str(refused.value).endswith(
        ". Name the backbone that they were trained as, or other weights"
    )


def test_a_missing_or_wrong_local_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no such file"):
        load_weights(f"{NAME}@{tmp_path / 'none.pth'}")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BackboneError, match="no state dict"):
        load_weights(f"{NAME}@{tmp_path / 'list.pth'}")


def test_position_embeddings_are_interpolated_to_another_image_size() -> None:
    weights = load_weights("vit_b_32@none")
    module: Any = Backbone(weights).traced(96).module
    assert module(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)
    assert tuple(module.encoder.pos_embedding.shape) == (1, 10, 768)
    kept = torch.tensor(weights.arrays["encoder.pos_embedding"])[:, 0]
    assert torch.equal(module.encoder.pos_embedding[:, 0], kept)  # the class token has no place


def test_an_image_size_that_does_not_suit_is_told() -> None:
    with pytest.raises(BackboneError, match="100 x 100"):
        untrained("vit_b_32").traced(100)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (37, 501), (700, 33)])
@pytest.mark.parametrize("name", ["resnet50", "vit_b_16", "efficientnet_b0", "swin_v2_t"])
def test_pixels_are_those_of_torchvisions_own_preset(name: str, size: tuple[int, int]) -> None:
    preset = get_model_weights(name).DEFAULT.transforms()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    width, height = size[1], size[0]
    encoded = f"P6 {width} {height} 255\n".encode() + pixels.tobytes()
    images = LabelledExamples.from_bytes(
        [encoded], labels=[0], split=[Split.POOL], class_names=["a"], paths=["a"]
    )
    preprocessing = Preprocessing(
        image_size=preset.crop_size[0],
        resize_size=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
    ours = decode(images, np.array([0]), preprocessing)[0].float() / 255
    mean, std = (torch.tensor(getattr(preset, key)).view(3, 1, 1) for key in ("mean", "std"))
    theirs = preset(Image.fromarray(pixels)) * std + mean
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_convolutional_head_is_trained_at_full_depth(digit_images: LabelledExamples) -> None:
    backbone = Backbone(load_weights("squeezenet1_1@none"))
    spec = TrialSpec(
        backbone="squeezenet1_1@none",
        lr=1e-2,
        label_budget=LabelBudget(2),
        freeze_depth=1.0,
        steps=4,
        reports=2,
        image_size=32,
    )
    trial = Trial(spec, digit_images, backbone)
    _, first, last = trial.reports()
    assert trial.facts().spec.head_init == "logistic"
    assert first.train_loss != last.train_loss


def test_a_shipped_backbone_does_without_torchvision() -> None:
    code = (
        "import sys, trainable.training.trial;"
        "from trainable.backbones import Backbone, load_weights;"
        "Backbone(load_weights('tiny_strokes')).traced(8); print('torchvision' in sys.modules)"
    )
    assert printed_by(code) == "False"


def test_a_pattern_means_models_for_classification_where_it_matches_others_too() -> None:
    assert expand("*resnet50") == ["resnet50"]
    assert expand("fcn_*") == ["fcn_resnet101", "fcn_resnet50"]
