"""A backbone of transformers as a graph: what it computes, where it is cut, how it is listed."""

from __future__ import annotations

import json

import pytest
import torch

from orchestrator.cli.main import run
from tests.builders.text_models import as_sentence_model, save_text_model
from trainable.backbones import Backbone, load_weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.transformers_models import PREFIX, build

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = save_text_model(tmp_path_factory.mktemp("models") / "bert")
    as_sentence_model(folder)
    return f"{PREFIX}{folder}"


@pytest.fixture(scope="module")
def backbone(name: str) -> Backbone:
    return Backbone(load_weights(name))


@pytest.mark.parametrize("length", [24, 16])
def test_all_before_the_head_is_the_network_with_its_weights(
    backbone: Backbone, length: int
) -> None:
    weights = backbone.weights
    network = build(weights, size=length)
    network.load_state_dict({key: torch.tensor(array) for key, array in weights.arrays.items()})
    tokens = torch.randint(4, 20, (3, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    traced = backbone.traced(length)
    prefix = split(traced, frozen=len(boundaries(traced)), num_classes=2).prefix
    with torch.no_grad():
        expected = network(tokens * mask, mask)
    assert torch.equal(prefix(tokens * mask, mask), expected)


def test_it_can_be_cut_behind_embeddings_layers_pooling_and_normalisation(
    backbone: Backbone,
) -> None:
    shapes = [boundary.shape for boundary in boundaries(backbone.traced(24))]
    assert shapes == [*[(24, 16)] * 3, (16,), (16,)]


def test_the_boundaries_that_are_listed_are_those_that_trials_cut_at(
    backbone: Backbone, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["backbones", name, "--boundaries", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["boundaries"]
    cuts = boundaries(backbone.traced(24))  # the longest text of its folder
    assert [(row["node"], row["shape"]) for row in listed] == [
        (cut.node, list(cut.shape)) for cut in cuts
    ]
