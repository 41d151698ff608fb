"""A source of backbones that another installed package adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.builders.plugins import install
from trainable import backbones
from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.errors import PluginError
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.trial import Trial

SOURCE = '''
"""Networks of one hidden layer, by their width."""

import torch
from torch import nn

from trainable.backbones.files import to_array
from trainable.backbones.graphs import graph
from trainable.backbones.weights import BackboneInfo, Preprocessing, Weights, digest_of

PREFIX = "plain:"
KNOWN = [PREFIX + "8", PREFIX + "16"]

def owns(name):
    return name.startswith(PREFIX)

def names():
    return KNOWN

def problem(name, wanted):
    return None if name in KNOWN and wanted in ("", "none") else "allowed: " + ", ".join(KNOWN)

def describe(name):
    return BackboneInfo(name=name, source="plain", version="none", num_params=None, input_size=8,
                        cached=True, licence=None, pretraining=None)

def load(name, wanted, backbone):
    torch.manual_seed(0)
    model = architecture(name, size=8)
    arrays = {key: to_array(tensor) for key, tensor in model.state_dict().items()}
    return Weights(backbone=backbone, source="plain", architecture=name, version="none",
                   preprocessing=Preprocessing(image_size=8, resize_size=8), arrays=arrays,
                   digest=digest_of(arrays))

def architecture(name, *, size):
    width = int(name.removeprefix(PREFIX))
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))

def build(weights, *, size):
    return architecture(weights.architecture, size=size)

def adapt(weights, model, *, size):
    return weights.arrays

def trace(model, *, size):
    return graph.trace(model, image_size=size)
'''


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, value: str = "plain_nets") -> None:
    install(
        folder,
        monkeypatch,
        adds={"backbone_sources": {"plain": value}},
        modules={"plain_nets": SOURCE},
    )


def test_a_backbone_of_an_added_source_is_found_described_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digit_images: LabelledExamples
) -> None:
    _install(tmp_path, monkeypatch)
    assert backbones.expand("plain:*") == ["plain:8", "plain:16"]
    assert "plain:8" not in backbones.names()  # as those of timm, they are asked for by the prefix
    assert backbones.describe("plain:8").source == "plain"
    assert backbones.known_problem("plain:9") == "got 'plain:9'; allowed: plain:8, plain:16"
    spec = TrialSpec(
        backbone="plain:8", lr=0.01, label_budget=LabelBudget(2), freeze_depth=0.5, steps=2,
        reports=1, validation=Validation(2), image_size=8,
    )  # fmt: skip
    reports = list(Trial(spec, digit_images, Backbone(backbones.load_weights("plain:8"))).reports())
    assert [report.report for report in reports] == [0, 1]
    assert all(np.isfinite(report.val_loss) for report in reports)


def test_a_process_without_the_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as installed:
        _install(tmp_path, installed)
        here = Backbone(backbones.load_weights("plain:8"))
        here.traced(8)
        graphs = here.graphs
    for there in (Backbone(here.weights), Backbone(here.weights, graphs)):
        with pytest.raises(PluginError, match=r"backbones called 'plain' is not known .* install"):
            there.traced(8)


def test_what_is_no_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(tmp_path, monkeypatch, value="plain_nets:PREFIX")
    assert backbones.known_problem("tiny_strokes") is None
    with pytest.raises(PluginError, match=r"no source of backbones, but str; allowed: .*Source"):
        backbones.known_problem("plain:8")
