"""A backbone of texts: exported once, examined for each length, and sent to other processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.builders.plugins import install
from tests.trainable.small_text import small_text
from trainable.backbones import Backbone, Weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.files import to_array
from trainable.backbones.graphs import exporting
from trainable.backbones.weights import Preprocessing, digest_of
from trainable.features import feature_keys

pytestmark = pytest.mark.usefixtures("one_thread")

SOURCE = '''
"""One text network."""

from tests.trainable.small_text import small_text
from trainable.backbones.graphs import exporting

PREFIX = "text:"

def owns(name):
    return name.startswith(PREFIX)

def names():
    return [PREFIX + "small"]

def problem(name, wanted):
    return None

def describe(name):
    raise NotImplementedError

def load(name, wanted, backbone):
    raise NotImplementedError

def architecture(name, *, size):
    return small_text()

def build(weights, *, size):
    return small_text()

def adapt(weights, model, *, size):
    return weights.arrays

def trace(model, *, size):
    return exporting.export(model, size=size)
'''

FORBIDDEN = ("transformers", "tokenizers", "sympy", "torch._dynamo", "small_texts")

WORKER = """
import pickle, sys
import torch
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.transport import from_bytes

torch.set_num_threads(1)
with open(sys.argv[1], "rb") as file:
    contents, arrays, inputs, forbidden = pickle.load(file)
known, features = None, []
for content in contents:
    known = from_bytes(content, arrays, known=known)
    halves = split(known, frozen=1, num_classes=2)
    halves.suffix.train()
    activations = halves.prefix(*inputs)
    halves.suffix(activations, inputs[1]).sum().backward()
    features.append((boundaries(known), activations))
with open(sys.argv[2], "wb") as file:
    pickle.dump((features, [name for name in forbidden if name in sys.modules]), file)
"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Those of the small text network, with one number that it does not have by itself."""
    install(
        tmp_path,
        monkeypatch,
        adds={"backbone_sources": {"texts": "small_texts"}},
        modules={"small_texts": SOURCE},
    )
    arrays = {name: to_array(value) for name, value in small_text().state_dict().items()}
    arrays["layers.0.norms.0.weight"] = arrays["layers.0.norms.0.weight"] + 1
    return Weights(
        backbone="text:small",
        source="texts",
        architecture="text:small",
        version="none",
        preprocessing=Preprocessing(image_size=8, resize_size=8),
        arrays=arrays,
        digest=digest_of(arrays),
    )


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(1, 50, (4, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    return tokens * mask, mask


def test_it_is_exported_once_and_has_the_facts_of_every_length(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone(weights)
    first = backbone.traced(16)
    monkeypatch.setattr(exporting, "export", None)
    second = backbone.traced(32)
    assert second.module is first.module
    assert second is backbone.traced(32)
    assert boundaries(first)[0].shape == (16, 16)
    assert boundaries(second)[0].shape == (32, 16)
    assert feature_keys.graph_digest(first) == feature_keys.graph_digest(second)


def test_its_weights_are_those_that_were_given(weights: Weights) -> None:
    module = Backbone(weights).traced(16).module
    for name, array in weights.arrays.items():
        assert torch.equal(module.get_parameter(name), torch.tensor(array))


def test_it_arrives_as_it_was_without_compiler_or_library(weights: Weights, tmp_path: Path) -> None:
    backbone = Backbone(weights)
    lengths = (16, 24)
    cuts = [boundaries(backbone.traced(length)) for length in lengths]
    contents = [backbone.graphs["", length] for length in lengths]
    given, found = tmp_path / "given", tmp_path / "found"
    given.write_bytes(pickle.dumps((contents, dict(weights.arrays), inputs(), FORBIDDEN)))
    subprocess.run([sys.executable, "-c", WORKER, str(given), str(found)], check=True)
    features, forbidden = pickle.loads(found.read_bytes())
    assert forbidden == []
    expected = split(backbone.traced(16), frozen=1, num_classes=2).prefix(*inputs())
    assert [each for each, _ in features] == cuts
    assert all(torch.equal(activations, expected) for _, activations in features)


def test_where_graphs_arrived_lengths_share_their_weights(
    weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Backbone(weights)
    for length in (16, 24):
        driver.traced(length)
    graphs = driver.graphs
    monkeypatch.setattr(Backbone, "_trace", None)
    worker = Backbone(weights, graphs)
    first, second = worker.traced(16), worker.traced(24)
    assert second.module is first.module
    assert second.inputs == driver.traced(24).inputs
    assert second.sizes == first.sizes == driver.traced(16).sizes
    assert feature_keys.graph_digest(second) == feature_keys.graph_digest(driver.traced(24))
    assert boundaries(second) == boundaries(driver.traced(24))
    saved = driver.traced(16).module.state_dict().keys()
    assert first.module.state_dict().keys() == saved
