from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.orchestrator.datasets.conftest import encoded, write
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import BackboneError, DataError, ExportError, PluginError
from trainable.export import written_model
from trainable.export.exported_model import ExportedModel, Prediction
from trainable.export.image_networks import ImageFiles
from trainable.export.model_config import ModelConfig, read_about
from trainable.export.trained_model import train_configuration
from trainable.export.written_model import write_model
from trainable.modalities.image.preprocessing import decode, decode_one
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.trial_spec import LabelBudget, TrialSpec

ODD = (
    "<b>two</b>",
    "=1+1",
    'a "quoted" `name`',
    "new\nline",
    "\x1b[31mred",
    "\udc80",
    "ü",
    "",
    "8",
    "9",
)


@pytest.fixture(scope="module")
def folder(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A briefly trained network over classes with odd names, without its portable forms."""
    target = tmp_path_factory.mktemp("model")
    spec = TrialSpec(
        backbone="tiny_strokes",
        lr=0.01,
        label_budget=LabelBudget(5),
        freeze_depth=1.0,
        steps=50,
        interpolation=1.0,
    )
    images = replace(digit_images, class_names=ODD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
        write_model(train_configuration(spec, images, strokes), target)
    return target


@pytest.fixture
def changed(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the folder whose model.json says something else; None leaves a key out."""

    def change(**values: object) -> Path:
        data = json.loads((folder / "model.json").read_text(encoding="utf-8")) | values
        kept = {key: value for key, value in data.items() if value is not None}
        (tmp_path / "model.json").write_text(json.dumps(kept))
        (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        return tmp_path

    return change


def test_class_names_come_back_whatever_they_are(folder: Path) -> None:
    assert read_about(folder).class_names == ODD


def test_what_is_written_of_a_network_is_read_back(folder: Path) -> None:
    about = read_about(folder)
    assert ModelConfig.from_json(json.loads(json.dumps(about.to_json()))) == about
    assert (about.backbone, about.source, about.head) == ("tiny_strokes", "shipped", "head")
    assert about.image_preprocessing.image_size == 8


@pytest.mark.parametrize("bare_logits", [True, False])
def test_a_range_of_16_bit_pictures_is_read_back(folder: Path, bare_logits: bool) -> None:
    about = replace(read_about(folder), value_range=(7, 4095), bare_logits=bare_logits)
    written = json.loads(json.dumps(about.to_json()))
    assert written["format"] == 3
    assert ModelConfig.from_json(written) == about


def test_files_are_classified_in_order_and_a_bad_one_has_its_problem(
    folder: Path, digit_images: LabelledExamples, tmp_path: Path
) -> None:
    numbers = list(range(1000, 1040))
    paths = [write(tmp_path / f"{number}.png", encoded(number)) for number in numbers]
    bad = write(tmp_path / "bad.png", b"no picture")
    given = [*paths[:3], bad, tmp_path, tmp_path / "missing.png", *paths[3:]]
    found = list(ExportedModel.load(folder).predict(given))
    assert [one.path for one in found] == given
    assert [one.problem for one in found[3:6]] == [
        "cannot be decoded: no kind of image that Pillow knows",
        "is a folder; name the files in it",
        "no such file; this network takes files of images",
    ]
    good = [one for one in found if one.problem is None]
    assert [one.path for one in good] == paths
    right = [
        one.ranked()[0][0] == digit_images.labels[number]
        for one, number in zip(good, numbers, strict=True)
    ]
    assert np.mean(right) > 0.8
    assert all(sum(one.probabilities or ()) == pytest.approx(1) for one in good)


def test_an_image_does_not_depend_on_those_beside_it(folder: Path, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.png", encoded(number)) for number in range(5)]
    model = ExportedModel.load(folder)
    together = list(model.predict(paths))
    for path, one in zip(paths, together, strict=True):
        (alone,) = model.predict([path])
        assert alone.probabilities == pytest.approx(one.probabilities, abs=1e-6)


def test_one_image_is_decoded_as_many_are(digit_images: LabelledExamples, folder: Path) -> None:
    how = replace(read_about(folder).image_preprocessing, image_size=6)
    many = decode(digit_images, np.arange(3), how)
    for row in range(3):
        assert torch.equal(decode_one(digit_images.encoded(row), how), many[row])
    with pytest.raises(DataError, match=r"^cannot be decoded: the file is empty"):
        decode_one(b"", how)


def test_classes_are_ranked_by_probability_then_number() -> None:
    assert Prediction(Path("a"), (0.2, 0.4, 0.4)).ranked() == [(1, 0.4), (2, 0.4), (0, 0.2)]
    assert Prediction(Path("a"), None, "broken").ranked() == []


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no exported network here \(model\.json is missing\)"):
        ExportedModel.load(tmp_path)
    file = write(tmp_path / "file", b"")
    with pytest.raises(ExportError, match="no exported network here"):
        ExportedModel.load(file)


@pytest.mark.parametrize("content", ["", "[1]", '{"format": 3}', "\x00", "[" * 100_000])
def test_a_file_of_another_form_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ExportError, match=rf"^{tmp_path / 'model.json'}: "):
        ExportedModel.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head": None}, "head: got None; allowed: text"),
        ({"class_names": "abc"}, "class_names: got 'abc'; allowed: a list of names"),
        ({"args": [1]}, r"args: got \[1\]"),
        ({"preprocessing": {"image_size": 8}}, "preprocessing: got"),
        ({"format": 3}, r"value_range: got None; allowed: two rising whole numbers"),
        ({"format": 3, "value_range": [5, 5]}, r"value_range: got \[5, 5\]; allowed: two rising"),
        ({"format": 6}, r"format: got 6; this version reads 1, 2, 3, 4, 5"),
        ({"format": 5}, r"heads: got \[\]; allowed: a list of names"),
        ({"format": 4}, "preprocessing: got .*; allowed: a mapping with max_length"),
        ({"preprocessing": None}, "preprocessing: got None; allowed: a mapping with image_size"),
    ],
)
def test_damaged_descriptions_are_refused(
    changed: Callable[..., Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        ExportedModel.load(changed(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architecture": "tiny_stroke"}, "did you mean tiny_strokes"),
        ({"source": "torchvision"}, "torchvision has no 'tiny_strokes'"),
        ({"source": "timm", "architecture": "timm:hf-hub:some/one"}, "unknown model of timm"),
        ({"head": "stem"}, "it has no classifier called 'stem'"),
        ({"head": "nowhere.at.all"}, "it has no classifier called 'nowhere.at.all'"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(
    changed: Callable[..., Path], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(BackboneError, match=message):
        ExportedModel.load(changed(**values))


def test_a_network_of_a_source_that_is_not_installed_says_what_to_install(
    changed: Callable[..., Path],
) -> None:
    with pytest.raises(PluginError, match=r"backbones called 'elsewhere' .* install that package"):
        ExportedModel.load(changed(source="elsewhere"))


def test_code_named_by_a_folder_runs_only_where_it_is_trusted(
    changed: Callable[..., Path], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    given = changed(source="custom", architecture="os:mkdir", args={"path": str(mark)})
    with pytest.raises(
        ExportError, match="built by code that is not part of sft-sweep: 'os:mkdir'"
    ):
        ExportedModel.load(given)
    assert not mark.exists()
    with pytest.raises(BackboneError, match="os:mkdir returned NoneType"):
        ExportedModel.load(given, trust_code=True)
    assert mark.exists()


def test_a_backbone_of_ones_own_is_built_by_its_code_again(
    digit_images: LabelledExamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainable.backbones import load_weights

    module = "trainable.backbones.zoo:build"
    backbone = CustomBackbone(name="own", module=module, args={"num_classes": 3})
    spec = TrialSpec(
        backbone="own",
        lr=0.01,
        label_budget=LabelBudget(2),
        freeze_depth=0.5,
        image_size=8,
        steps=2,
        reports=1,
        interpolation=1.0,
    )
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    model = train_configuration(spec, digit_images, Backbone(load_weights(backbone)))
    write_model(model, tmp_path)
    again = ExportedModel.load(tmp_path, trust_code=True)
    pixels = decode(digit_images, model.indices, model.about.image_preprocessing)
    with torch.no_grad():
        expected = ExportedModel(model.about, model.network, ImageFiles(model.about)).logits(pixels)
    assert torch.allclose(again.logits(pixels), expected, atol=1e-6)


def test_missing_damaged_and_foreign_weights_are_told_apart(
    changed: Callable[..., Path], folder: Path
) -> None:
    given = changed()
    weights = given / "model.safetensors"
    state = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in state.items() if name != "head.bias"}, weights)
    with pytest.raises(ExportError, match=r"does not fit tiny_strokes: .*head\.bias"):
        ExportedModel.load(given)
    weights.write_bytes(b"x" * 100)
    with pytest.raises(ExportError, match=r"model\.safetensors: damaged: "):
        ExportedModel.load(given)
    weights.unlink()
    with pytest.raises(ExportError, match=r"model\.safetensors: no such file"):
        ExportedModel.load(given)


def test_the_form_of_the_description_is_fixed(folder: Path) -> None:
    """A reader of another version goes by this; raise FORMAT with any change of meaning."""
    data = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert list(data) == [
        *("format", "backbone", "source", "architecture", "version", "head"),
        *("preprocessing", "class_names", "args"),
    ]
    assert data["preprocessing"] == json.loads(json.dumps(asdict(read_about(folder).preprocessing)))
