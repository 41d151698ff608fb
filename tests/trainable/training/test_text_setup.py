"""What settings of texts do to one trial: pooling, prompt, truncation, dropout, shared layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.builders.text_models import as_sentence_model, save_text_model
from tests.trainable.small_text import SmallText, small_text
from trainable.backbones import Backbone, Weights, load_weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.exporting import export
from trainable.errors import SpecError
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.setup import TrialSetup, check_dropout, reading_backbone

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def weights(folder: Path) -> Weights:
    as_sentence_model(save_text_model(folder / "bert"))
    return load_weights(f"transformers:{folder / 'bert'}")


@pytest.fixture(scope="module")
def bert(weights: Weights) -> Backbone:
    return Backbone(weights)


@pytest.fixture(scope="module")
def albert(folder: Path) -> Backbone:
    save_text_model(folder / "albert", "albert", embedding_size=8)
    return Backbone(load_weights(f"transformers:{folder / 'albert'}"))


def spec(**settings: Any) -> TrialSpec:
    given = {"backbone": "transformers:bert", "lr": 0.1, "label_budget": LabelBudget(4)}
    return TrialSpec(**{"frozen_blocks": 0, **given, **settings})


def setup(backbone: Backbone, **settings: Any) -> TrialSetup:
    return TrialSetup(spec(**settings), backbone, num_classes=2, device=torch.device("cpu"))


def test_the_pooling_of_a_trial_is_that_of_its_network(bert: Backbone) -> None:
    tokens = torch.randint(4, 20, (3, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    features = {}
    for pooling in ("mean", "cls"):
        made = setup(bert, frozen_blocks=-1, pooling=pooling, max_length=24)
        features[pooling] = made.split.prefix(tokens * mask, mask)
        assert made.resolve(8).pooling == pooling
    usual = setup(bert, frozen_blocks=-1).split.prefix(tokens * mask, mask)
    assert torch.equal(features["mean"], usual)
    assert not torch.allclose(features["cls"], usual)


def test_poolings_share_the_weights_in_memory(bert: Backbone) -> None:
    cls = reading_backbone(spec(pooling="cls"), bert).traced(24)
    name = "model.encoder.layer.0.output.dense.weight"
    assert cls.module is not bert.traced(24).module
    assert cls.module.get_parameter(name) is bert.traced(24).module.get_parameter(name)


def test_features_before_the_pooling_are_named_alike(bert: Backbone) -> None:
    cls = reading_backbone(spec(pooling="cls"), bert)
    cuts = boundaries(cls.traced(24))
    owners = [cls.naming(cut.node, 24).weights.text_preprocessing.pooling for cut in cuts]
    assert owners == ["mean", "mean", "mean", "cls", "cls"]
    tokens = torch.randint(4, 20, (3, 24), generator=torch.Generator().manual_seed(0))
    for frozen in (1, 2, 3):
        one, other = (
            split(backbone.traced(24), frozen=frozen, num_classes=2).prefix
            for backbone in (bert, cls)
        )
        assert torch.equal(
            one(tokens, torch.ones_like(tokens)), other(tokens, torch.ones_like(tokens))
        )


def test_prompt_and_truncation_that_are_not_given_are_those_of_the_folder(bert: Backbone) -> None:
    how = bert.weights.text_preprocessing
    assert reading_backbone(spec(), bert) is bert
    given = reading_backbone(spec(prompt="query: ", truncate="head_tail"), bert)
    found = given.weights.text_preprocessing
    assert (found.prompt, found.truncate, found.pooling) == ("query: ", "head_tail", how.pooling)
    assert given.traced(24) is bert.traced(24)
    resolved = setup(bert).resolve(8)
    assert (resolved.prompt, resolved.truncate, resolved.pooling) == ("", "head", "mean")
    assert TrialSpec.from_json(resolved.to_json()) == resolved


class OtherWaysInTraining(SmallText):
    def between(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x.sin() if self.training else x.cos()


class WithoutDropout(SmallText):
    def __init__(self) -> None:
        super().__init__(rate=0.0)
        for layer in self.layers:
            layer.dropout = torch.nn.Identity()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(OtherWaysInTraining, "trains without dropout"), (WithoutDropout, "has no dropout")],
)
def test_a_rate_of_dropout_is_refused_where_there_is_none(
    kind: type[SmallText], reason: str
) -> None:
    traced = export(small_text(kind), size=16)
    for allowed in ("auto", 0.0):
        check_dropout(spec(dropout=allowed), traced)
    message = rf"^dropout: got 0.1; allowed: auto or 0, as this backbone {reason}"
    with pytest.raises(SpecError, match=message):
        check_dropout(spec(dropout=0.1), traced)


def test_dropout_of_a_trial_is_set_in_the_part_that_trains(bert: Backbone) -> None:
    def rates(made: TrialSetup) -> set[float]:
        nodes = made.split.suffix.graph.nodes
        return {node.args[1] for node in nodes if str(node.target).startswith("aten.dropout")}

    assert rates(setup(bert)) == {0.1}
    assert rates(setup(bert, dropout=0.4)) == {0.4}
    assert rates(setup(bert)) == {0.1}


def test_a_layer_used_by_all_blocks_learns_with_the_first_block_that_does(albert: Backbone) -> None:
    number = len(boundaries(albert.traced(24)))
    shared = "model.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"
    depths = []
    for frozen in range(number):
        made = setup(albert, frozen_blocks=frozen, layer_decay=0.5)
        if shared in dict(made.split.suffix.named_parameters()):
            depths.append(made._depths[shared])
    first = max(depths)
    assert depths == [min(first, number - frozen) for frozen in range(len(depths))]
    assert depths[-1] < first
    last = len(depths)
    blocks = setup(albert, frozen_blocks=None, train_blocks=f"{last}-{last}")
    assert shared in blocks._learning
    biases = setup(albert, frozen_blocks=2, trainable="bitfit")
    assert shared not in biases._learning
    assert shared.replace("weight", "bias") in biases._learning
