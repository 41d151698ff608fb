"""Rehearsals refuse configurations that cannot be trained, and no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainable.families import Case
from trainable.backbones import Backbone, load_weights
from trainable.backbones.graphs.facts import cheapest_device
from trainable.backbones.graphs.graph import trace
from trainable.backbones.graphs.inputs import ImageInputs
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import BackboneError, SpecError
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.rehearsal import rehearse
from trainable.training.trial import Trial

ONE: dict[str, Any] = {"batch_size": 1, "batchnorm": "train"}


def spec_of(backbone: str = "tiny_strokes", **settings: Any) -> TrialSpec:
    return TrialSpec(
        **{
            "backbone": backbone,
            "lr": 1e-3,
            "label_budget": LabelBudget(3),
            "freeze_depth": 0.5,
            **settings,
        }
    )


def try_out(backbone: Backbone, num_train: int = 30, **settings: Any) -> None:
    rehearse(
        spec_of(backbone.weights.backbone, **settings),
        backbone,
        num_train=num_train,
        num_classes=10,
    )


def backbone_of(model: nn.Module, size: int) -> Backbone:
    """A backbone with this model as its network, at one image size."""
    found = Backbone(load_weights("tiny_untrained"))
    found._traced["", size] = trace(model.eval(), image_size=size)
    return found


@pytest.fixture(scope="module")
def resnet() -> Backbone:
    return Backbone(load_weights("resnet18@none"))


def test_a_batch_of_one_is_refused_if_its_batch_statistics_have_one_value(
    strokes: Backbone, resnet: Backbone
) -> None:
    devices = [cheapest_device(strokes.traced(4).module, ImageInputs(4)).type]
    devices += [cheapest_device(resnet.traced(32).module, ImageInputs(32)).type]
    assert devices == ["cpu", "meta"]  # it fails on both
    for backbone, size in ((strokes, 4), (resnet, 32)):
        with pytest.raises(SpecError, match=r"^batch_size: got 1; .*more than 1 value") as told:
            try_out(backbone, image_size=size, **ONE)
        assert f"one image of {size} x {size} pixels at a time with batchnorm: train" in str(
            told.value
        )
        assert str(told.value).endswith("Allowed: a whole number from 2, or batchnorm: eval")


def test_the_advice_of_a_refusal_can_be_followed(strokes: Backbone, resnet: Backbone) -> None:
    for backbone, size in ((strokes, 4), (resnet, 32)):
        try_out(backbone, image_size=size, batch_size=2, batchnorm="train")
        try_out(backbone, image_size=size, batch_size=1, batchnorm="eval")
        try_out(backbone, image_size=2 * size, **ONE)
    try_out(strokes, image_size=4, freeze_depth=1, **ONE)


def test_auto_is_resolved_by_the_number_of_training_images(strokes: Backbone) -> None:
    settings: dict[str, Any] = {"batch_size": 1, "batchnorm": "auto", "image_size": 4}
    try_out(strokes, num_train=4999, **settings)
    with pytest.raises(SpecError, match="at a time with batchnorm: auto"):
        try_out(strokes, num_train=5000, **settings)
    try_out(strokes, num_train=5000, **{**settings, "batch_size": "auto"})


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_rehearsal_fails_where_a_trial_does(
    strokes: Backbone, digit_images: LabelledExamples, batch_size: int
) -> None:
    spec = spec_of(
        batch_size=batch_size, batchnorm="train", image_size=4, steps=1, reports=1, head_init="zero"
    )
    trial = Trial(spec, digit_images, strokes, device=torch.device("cpu"))
    if batch_size == 1:
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            list(trial.reports())
        with pytest.raises(SpecError, match="batch_size: got 1"):
            rehearse(spec, strokes, num_train=20, num_classes=10)
    else:
        assert len(list(trial.reports())) == 2
        rehearse(spec, strokes, num_train=20, num_classes=10)


def test_every_family_can_be_trained_and_is_left_as_it_was(case: Case) -> None:
    backbone = Backbone(load_weights("tiny_untrained"))
    backbone._traced["", case.size] = case.traced
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    state = torch.get_rng_state()
    try_out(backbone, freeze_depth=0.0, image_size=case.size, batchnorm="train", batch_size=2)
    assert torch.equal(state, torch.get_rng_state())
    for name, tensor in case.model.state_dict().items():
        assert torch.equal(before[name], tensor), name


class Squeezing(nn.Module):
    """Loses the batch dimension of a single image if `squeeze`; `between` may read values."""

    def __init__(self, *, squeeze: bool = False, between: nn.Module | None = None) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.between = between or nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = squeeze
        self.fc = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.pool(self.between(self.stem(images)))
        logits: Tensor = self.fc(pooled.squeeze() if self.squeeze else pooled.flatten(1))
        return logits


class DropSometimes(nn.Dropout):
    """Reads a value, which fails on the meta device."""

    def forward(self, inputs: Tensor) -> Tensor:
        drop = self.training and float(torch.rand((), device=inputs.device)) < 0.5
        return torch.zeros_like(inputs) if drop else inputs


def test_a_network_that_takes_no_single_image_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"cannot be trained on images of 16 x 16 pixels") as e:
        try_out(backbone_of(Squeezing(squeeze=True), 16), image_size=16, freeze_depth=0.0)
    assert "Try another image_size, or freeze all of it with freeze_depth: 1" in str(e.value)


@pytest.mark.parametrize("size", [16, 1200])
def test_a_layer_that_reads_values_is_rehearsed_on_the_cpu(size: int) -> None:
    backbone = backbone_of(Squeezing(between=DropSometimes()), size)
    device = "cpu" if size == 16 else "meta"
    assert cheapest_device(backbone.traced(size).module, ImageInputs(size)).type == device
    try_out(backbone, image_size=size, freeze_depth=0.0)
