from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.trainable.training import test_whole_training
from trainable.backbones import Backbone, load_weights, torchvision_models, zoo
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.errors import ExportError
from trainable.export import written_model
from trainable.export.exchange_formats import ONNX_FILE, TORCH_FILE, difference, write_portable
from trainable.export.exported_model import ExportedModel
from trainable.export.image_networks import IMAGE
from trainable.export.model_config import ABOUT_FILE, WEIGHTS_FILE
from trainable.export.trained_model import TrainedModel, train_configuration, train_probe
from trainable.export.written_model import Written, write_model
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.spec.custom_backbone import CustomBackbone
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.baseline_features import FrozenFeatures
from trainable.training.baselines import run_baseline
from trainable.training.logistic import LinearClassifier, fit_path
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")


def spec_of(**changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": "tiny_strokes",
        "lr": 3e-3,
        "label_budget": LabelBudget(4),
        "freeze_depth": 0.5,
        "validation": Validation(2),
        "steps": 5,
        "reports": 1,
        "interpolation": 1.0,
    }
    return TrialSpec(**{**settings, **changed})


def test_a_training_that_collapses_is_written_with_the_rate_that_it_was_repeated_at(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    model = train_configuration(test_whole_training.spec_of(lr=0.03), digit_images, strokes)
    assert (model.lr_factor, model.spec and model.spec.lr) == (0.5, 0.015)


def inputs_of_the_test_split(images: LabelledExamples, model: TrainedModel) -> Tensor:
    """All test images as the model's input."""
    how = model.about.image_preprocessing
    return normalize(decode(images, images.indices(Split.TEST), how), how)


def shares_of(network: nn.Module, inputs: Tensor) -> npt.NDArray[np.float64]:
    with torch.no_grad():
        shares: npt.NDArray[np.float64] = network(inputs).double().softmax(dim=1).numpy()
    return shares


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return Backbone(load_weights("resnet18@none"))


@pytest.fixture(scope="module")
def exported_resnet(
    digit_images: LabelledExamples, resnet: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainedModel, Written, Path]:
    """resnet18 with random weights, briefly trained at 32 pixels, and written."""
    spec = spec_of(backbone="resnet18@none", steps=2, image_size=32, freeze_depth=0.8)
    model = train_configuration(spec, digit_images, resnet)
    folder = tmp_path_factory.mktemp("resnet")
    return model, write_model(model, folder), folder


@pytest.mark.parametrize(
    "changed",
    [
        {"freeze_depth": 0.0},
        {"freeze_depth": 0.5, "batchnorm": "train"},
        {"freeze_depth": 1.0},
        {"freeze_depth": None, "train_blocks": "3-4"},
        {"freeze_depth": 0.75, "repeat": 1, "augment": None, "trainable": "bitfit"},
    ],
)
def test_the_whole_network_predicts_what_the_refitted_trial_predicts(
    digit_images: LabelledExamples, strokes: Backbone, changed: dict[str, Any]
) -> None:
    spec = spec_of(**changed)
    expected = Trial(spec, digit_images, strokes).refit()
    model = train_configuration(spec, digit_images, strokes)
    shares = shares_of(model.network, inputs_of_the_test_split(digit_images, model))
    np.testing.assert_array_equal(shares.argmax(axis=1), expected.arrays()["predicted"])
    np.testing.assert_allclose(shares.max(axis=1), expected.arrays()["probability"], atol=1e-5)
    assert len(model.indices) == 40


def test_frozen_weights_are_the_backbones_own_under_its_own_names(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    model = train_configuration(spec_of(), digit_images, strokes)
    state, before = model.network.state_dict(), strokes.model(8).state_dict()
    assert state.keys() == zoo.build(num_classes=10).state_dict().keys()
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert {"head.weight", "head.bias", "blocks.5.conv1.weight"} <= changed
    assert not any(name.startswith(("stem.", "blocks.0.")) for name in changed)


def test_training_tells_how_far_it_is_and_touches_no_test_image(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    unread = replace(
        digit_images, shard_of=np.where(digit_images.split == Split.TEST, -1, digit_images.shard_of)
    )
    seen: list[int] = []
    model = train_configuration(spec_of(), unread, strokes, watch=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 5
    assert not set(model.indices) & set(digit_images.indices(Split.TEST))


def test_a_probe_becomes_the_head_of_its_backbone(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    budget = LabelBudget(4)
    expected = run_baseline(
        digit_images,
        backbone=strokes,
        budget=budget,
        validation=Validation(2),
        repeats=2,
        seed=0,
    )
    model = train_probe(
        digit_images,
        strokes,
        budget=budget,
        inverse_penalty=expected.inverse_penalties[1],
        repeat=1,
        seed=0,
    )
    shares = shares_of(model.network, inputs_of_the_test_split(digit_images, model))
    np.testing.assert_array_equal(shares.argmax(axis=1), expected.tests[1].arrays()["predicted"])
    np.testing.assert_allclose(
        shares.max(axis=1), expected.tests[1].arrays()["probability"], atol=1e-4
    )
    assert (model.spec, model.inverse_penalty) == (None, expected.inverse_penalties[1])


def probe_of(
    images: LabelledExamples, backbone: Backbone, *, size: int, precision: str = "fp32"
) -> TrainedModel:
    """The network with a linear probe on two labels per class, C = 1."""
    return train_probe(
        images,
        backbone,
        budget=LabelBudget(2),
        inverse_penalty=1.0,
        repeat=0,
        seed=0,
        size=size,
        precision=precision,
    )


def fitted_to(
    features: FrozenFeatures, images: LabelledExamples
) -> tuple[LinearClassifier, Tensor]:
    """What the probe of `probe_of` is, fitted to features here, and the features."""
    indices = draw_subset(images, budget=LabelBudget(2), repeat=0, seed=0)
    rows, labels = features.rows(indices), torch.from_numpy(images.labels[indices])
    (classifier,) = fit_path(rows, labels, num_classes=10, inverse_penalties=[1.0])
    return classifier, rows


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_probe_is_fitted_to_features_of_the_size_and_precision_asked_for(
    digit_images: LabelledExamples, strokes: Backbone, precision: str
) -> None:
    features = FrozenFeatures(digit_images, strokes, size=12, precision=precision)
    expected, _ = fitted_to(features, digit_images)
    model = probe_of(digit_images, strokes, size=12, precision=precision)
    assert model.about.image_preprocessing.image_size == 12
    head = model.network.get_submodule(model.about.head)
    assert isinstance(head, nn.Linear)
    assert torch.equal(head.weight, expected.weight.float())


def test_a_probe_of_mean_features_becomes_the_convolution_that_is_averaged(
    digit_images: LabelledExamples,
) -> None:
    backbone = Backbone(load_weights("squeezenet1_1@none"))
    expected, rows = fitted_to(FrozenFeatures(digit_images, backbone, size=32), digit_images)
    model = probe_of(digit_images, backbone, size=32)
    assert isinstance(model.network.get_submodule(model.about.head), nn.Conv2d)
    with torch.no_grad():
        logits = torch.cat([model.network(*batch) for batch in model.batches])
    torch.testing.assert_close(
        logits, expected.logits(rows).float()[: len(logits)], rtol=1e-4, atol=1e-4
    )


class ScoresEveryPlace(nn.Module):
    """A network whose linear layer scores each place of a map; its logits are their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 6, 3, stride=4)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(images).relu().flatten(2).transpose(1, 2))
        return scores.mean(1)


def test_a_probe_is_refused_where_it_cannot_be_the_head(digit_images: LabelledExamples) -> None:
    module = f"{__name__}:{ScoresEveryPlace.__name__}"
    backbone = Backbone(load_weights(CustomBackbone(name="places", module=module)))
    with pytest.raises(ExportError, match="places: its classifier is no linear layer on"):
        probe_of(digit_images, backbone, size=16)


@pytest.fixture(scope="module")
def exported_squeezenet(
    digit_images: LabelledExamples, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainedModel, Written, Path]:
    """squeezenet1_1 with random weights, whose own code has a ReLU on its logits."""
    backbone = Backbone(load_weights("squeezenet1_1@none"))
    spec = spec_of(backbone="squeezenet1_1@none", steps=2, image_size=32, freeze_depth=0.8)
    model = train_configuration(spec, digit_images, backbone)
    folder = tmp_path_factory.mktemp("squeezenet")
    return model, write_model(model, folder), folder


def test_no_form_of_a_network_has_the_activation_behind_its_head(
    digit_images: LabelledExamples,
    exported_squeezenet: tuple[TrainedModel, Written, Path],
) -> None:
    model, written, folder = exported_squeezenet
    pixels = decode(digit_images, model.indices, model.about.image_preprocessing)
    inputs = normalize(pixels, model.about.image_preprocessing)
    with torch.no_grad():
        expected = model.network(inputs)
    assert (expected < 0).any()
    assert difference(ExportedModel.load(folder).logits(pixels), expected) < 1e-5
    session = onnxruntime.InferenceSession(folder / ONNX_FILE)
    (logits,) = session.run(None, {"images": inputs.numpy()})
    assert difference(torch.from_numpy(logits), expected) < 1e-4
    with torch.no_grad():
        again = torch.export.load(folder / TORCH_FILE).module()(inputs)
    assert difference(again, expected) < 1e-5
    assert written.library.options is None  # its own code would put the ReLU back


def test_a_folder_of_before_keeps_the_activation_it_was_trained_with(
    digit_images: LabelledExamples,
    exported_squeezenet: tuple[TrainedModel, Written, Path],
    tmp_path: Path,
) -> None:
    model, _, folder = exported_squeezenet
    about = json.loads((folder / ABOUT_FILE).read_text())
    assert about["format"] == 2
    (tmp_path / ABOUT_FILE).write_text(json.dumps(about | {"format": 1}))
    (tmp_path / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes())
    pixels = decode(digit_images, model.indices, model.about.image_preprocessing)
    assert (ExportedModel.load(tmp_path).logits(pixels) >= 0).all()


def test_a_network_that_is_not_the_graph_that_was_trained_is_refused(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(image_size: int) -> nn.Module:
        model = Backbone.model(strokes, image_size)
        model.get_submodule("pool").register_forward_hook(lambda _module, _inputs, out: 2 * out)
        return model

    monkeypatch.setattr(strokes, "model", other)
    with pytest.raises(ExportError, match="run by its own code is not the one that was trained"):
        train_configuration(spec_of(), digit_images, strokes)


def test_written_weights_load_into_torchvisions_own_network(
    exported_resnet: tuple[TrainedModel, Written, Path],
) -> None:
    model, written, folder = exported_resnet
    assert written.library.options == {"num_classes": 10}
    network = torchvision.models.get_model("resnet18", weights=None, num_classes=10)
    network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    with torch.no_grad():
        found, expected = network.eval()(model.batches[0][0]), model.network(model.batches[0][0])
    assert difference(found, expected) < 1e-5
    assert expected.std() > 0.01


def test_the_folder_predicts_what_the_network_predicts(
    digit_images: LabelledExamples, exported_resnet: tuple[TrainedModel, Written, Path]
) -> None:
    model, _, folder = exported_resnet
    pixels = decode(digit_images, model.indices, model.about.image_preprocessing)
    found = ExportedModel.load(folder).logits(pixels)
    with torch.no_grad():
        expected = model.network(normalize(pixels, model.about.image_preprocessing))
    assert difference(found, expected) < 1e-5


def test_onnx_agrees_for_any_number_of_images(
    exported_resnet: tuple[TrainedModel, Written, Path],
) -> None:
    model, written, folder = exported_resnet
    assert written.has(ONNX_FILE)
    session = onnxruntime.InferenceSession(folder / ONNX_FILE, providers=["CPUExecutionProvider"])
    (inputs,), (outputs,) = session.get_inputs(), session.get_outputs()
    assert (inputs.name, inputs.shape, inputs.type) == (
        "images",
        ["batch", 3, 32, 32],
        "tensor(float)",
    )
    assert (outputs.name, outputs.shape) == ("logits", ["batch", 10])
    for count in (1, 2, 7):
        images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))
        (logits,) = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            expected = model.network(images)
        assert float((torch.from_numpy(logits) - expected).abs().max()) < 1e-4


def test_the_onnx_file_says_what_its_inputs_and_outputs_are(
    exported_resnet: tuple[TrainedModel, Written, Path],
) -> None:
    folder = exported_resnet[2]
    onnx.checker.check_model(folder / ONNX_FILE, full_check=True)
    said = {entry.key: entry.value for entry in onnx.load(folder / ONNX_FILE).metadata_props}
    assert json.loads(said["class_names"]) == [str(digit) for digit in range(10)]
    assert json.loads(said["preprocessing"])["image_size"] == 32


def test_torch_export_agrees_for_any_number_of_images(
    exported_resnet: tuple[TrainedModel, Written, Path],
) -> None:
    model, written, folder = exported_resnet
    assert written.has(TORCH_FILE)
    loaded = torch.export.load(folder / TORCH_FILE).module()
    for count in (1, 5):
        images = torch.randn(count, 3, 32, 32)
        with torch.no_grad():
            assert difference(loaded(images), model.network(images)) < 1e-5


def test_no_path_of_this_machine_is_in_any_file(
    exported_resnet: tuple[TrainedModel, Written, Path],
) -> None:
    folder = exported_resnet[2]
    names = {path.name for path in folder.iterdir()}
    assert names == {ABOUT_FILE, WEIGHTS_FILE, ONNX_FILE, TORCH_FILE}
    own = str(Path(torchvision.__file__).parents[1]).encode()
    for name in names:
        assert own not in (folder / name).read_bytes(), name


def test_torchvision_is_not_promised_where_its_network_is_another(
    exported_resnet: tuple[TrainedModel, Written, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    model, _, _ = exported_resnet
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])

    other = torchvision.models.resnet34(num_classes=10)
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_args, **_options: other)
    assert write_model(model, tmp_path).library.options is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", {}),
        ("vit_b_16", {"image_size": 64}),
        ("maxvit_t", {"input_size": (64, 64)}),
        ("googlenet", {"aux_logits": False, "transform_input": True, "init_weights": False}),
    ],
)
def test_torchvisions_builders_get_what_the_weights_ask_for(
    name: str, expected: Mapping[str, Any]
) -> None:
    found = torchvision_models.builder_options(name, image_size=64, pretrained=True)
    assert found == expected


def test_what_cannot_be_exported_is_left_out_and_told(
    digit_images: LabelledExamples,
    strokes: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def give_up(*_args: object, **_options: object) -> None:
        raise RuntimeError("control flow that depends on values\nlong story")

    monkeypatch.setattr(torch.export, "export", give_up)
    written = write_model(train_configuration(spec_of(), digit_images, strokes), tmp_path)
    problem = (
        "torch.export cannot follow the network: RuntimeError: control flow that depends on values"
    )
    assert {one.file: one.problem for one in written.portable} == {
        TORCH_FILE: problem,
        ONNX_FILE: problem,
    }
    assert {path.name for path in tmp_path.iterdir()} == {ABOUT_FILE, WEIGHTS_FILE}
    assert written.library.options is None


def test_a_failing_onnx_writer_leaves_the_other_files(
    digit_images: LabelledExamples,
    strokes: Backbone,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def fail(*_args: object, **_options: object) -> None:
        (tmp_path / f"{ONNX_FILE}.data").write_bytes(b"half of it")
        raise RuntimeError("no such operator\nlong story")

    monkeypatch.setattr(torch.onnx, "export", fail)
    model = train_configuration(spec_of(), digit_images, strokes)
    written = write_model(model, tmp_path)
    assert [one.problem for one in written.portable] == [
        None,
        "cannot be written: RuntimeError: no such operator",
    ]
    assert {path.name for path in tmp_path.iterdir()} == {ABOUT_FILE, WEIGHTS_FILE, TORCH_FILE}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("file", [TORCH_FILE, ONNX_FILE])
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(file: str, tmp_path: Path) -> None:
    (tmp_path / file).symlink_to("/dev/full")
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    with pytest.raises(OSError, match="No space left on device"):
        write_portable(
            network, [(torch.zeros(3, 3, 2, 2),)], tmp_path, inputs=IMAGE.inputs, about={}
        )


def test_differences_beyond_rounding_are_refused() -> None:
    ones = torch.ones(2, 3)
    assert difference(ones + 1e-5, ones) == pytest.approx(1e-5, rel=0.1)
    assert difference(100 * ones + 5e-3, 100 * ones) == pytest.approx(5e-3, rel=0.1)
    with pytest.raises(ExportError, match=r"logits differ by 0\.001; allowed are 0\.0001"):
        difference(ones + 1e-3, ones)
    with pytest.raises(ExportError, match="logits differ by nan"):
        difference(ones * float("nan"), ones)
