"""Trials over texts: the same to the bit, whatever runs beside them or interrupts them."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.builders.checkpoints import Keeper
from tests.builders.class_examples import all_log_probabilities, class_examples
from tests.builders.text_models import LINES, save_text_model
from tests.trainable.features.test_reader import cache
from tests.trainable.training.test_loop import numbers
from tests.trainable.training.test_trial import rows_of, shuffled_labels
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.features.activations import Activations
from trainable.features.readers import FeatureReaders
from trainable.micro_batches import Memory
from trainable.modalities import modality_of
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training import suffix_learner, trial
from trainable.training.setup import TrialSetup
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
CLASSES = ("card", "account", "transfer")
WORDS = sorted({word for line in LINES for word in line.split()} - set(CLASSES))
DEPTHS = (0.5, 1.0)
"""The upper half of the network, with dropout, and its head alone."""


@pytest.fixture(scope="module")
def texts() -> LabelledExamples:
    """90 texts of very different lengths, every third for the test."""
    draw = random.Random(0)
    labels = [number % len(CLASSES) for number in range(90)]
    lines = [
        " ".join([*draw.choices(WORDS, k=draw.choice((2, 9, 20, 36))), CLASSES[label], str(number)])
        for number, label in enumerate(labels)
    ]
    return LabelledExamples.from_bytes(
        [line.encode() for line in lines],
        labels=labels,
        split=[Split.TEST if number % 9 < 3 else Split.POOL for number in range(90)],
        class_names=CLASSES,
        paths=[f"line {number}" for number in range(90)],
        modality="text",
    )


@pytest.fixture(scope="module")
def encoder(texts: LabelledExamples, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """A tiny BERT with dropout that has read the texts."""
    pytest.importorskip("transformers")
    return encoder_of(texts, tmp_path_factory.mktemp("encoder"))


def encoder_of(texts: LabelledExamples, folder: Path, **config: float) -> Backbone:
    save_text_model(folder / "model", "bert", **config)
    backbone = Backbone(load_weights(f"transformers:{folder / 'model'}"))
    modality = modality_of(texts, backbone.weights)
    modality.prepare(texts, backbone, modality.size(backbone.weights, "auto"))
    return backbone


def spec_of(**changed: Any) -> TrialSpec:
    settings: dict[str, Any] = {
        "backbone": "encoder",
        "lr": 3e-3,
        "label_budget": LabelBudget(4),
        "freeze_depth": 0.5,
        "validation": Validation(2),
        "steps": 3,
        "reports": 2,
        "batch_size": 8,
        "head_init": "zero",
        "interpolation": 1.0,
    }
    return TrialSpec(**{**settings, **changed})


def run(texts: LabelledExamples, encoder: Backbone, **changed: Any) -> list[dict[str, Any]]:
    return numbers(Trial(spec_of(**changed), texts, encoder).reports())


def drawn(texts: LabelledExamples) -> np.ndarray[Any, np.dtype[np.int64]]:
    return draw_subset(texts, budget=LabelBudget(4), repeat=0, seed=0)


@pytest.mark.parametrize("freeze_depth", DEPTHS)
def test_reports_after_any_update_are_those_of_an_undisturbed_trial(
    texts: LabelledExamples, encoder: Backbone, freeze_depth: float
) -> None:
    spec = spec_of(freeze_depth=freeze_depth, head_init="logistic", interpolation="auto")
    keeper = Keeper()
    undisturbed = numbers(Trial(spec, texts, encoder).reports(after_update=keeper))
    being_trained = [1, 1, 2] if freeze_depth == 1 else [1, 1, 1, 1, 2, 2]
    for checkpoint, first in zip(keeper.checkpoints(), being_trained, strict=True):
        torch.manual_seed(77)
        resumed = Trial(spec, texts, encoder).reports(start=checkpoint)
        assert numbers(resumed) == undisturbed[first:]


def test_a_refit_after_any_update_predicts_as_an_undisturbed_one(
    texts: LabelledExamples, encoder: Backbone
) -> None:
    spec = spec_of()
    keeper = Keeper()
    undisturbed = Trial(spec, texts, encoder).refit(after_update=keeper)
    assert len(keeper.files) == 3
    for checkpoint in keeper.checkpoints():
        found = Trial(spec, texts, encoder).refit(start=checkpoint)
        assert np.array_equal(
            found.arrays()["label_probability"], undisturbed.arrays()["label_probability"]
        )
        assert found.scores == undisturbed.scores


@pytest.mark.parametrize("freeze_depth", DEPTHS)
def test_stored_features_give_the_reports_of_computed_ones(
    texts: LabelledExamples, encoder: Backbone, tmp_path: Path, freeze_depth: float
) -> None:
    spec = spec_of(freeze_depth=freeze_depth)
    computed = run(texts, encoder, freeze_depth=freeze_depth)
    for name in ("cold", "warm"):
        one = Trial(spec, texts, encoder, cache=cache(tmp_path))
        assert numbers(one.reports()) == computed
        assert name == "cold" or (one.counts.hits > 0 and not one.counts.computed_flops)


def test_trials_that_take_turns_give_what_they_give_alone(
    texts: LabelledExamples, encoder: Backbone
) -> None:
    rates = (1e-3, 1e-2)
    alone = [run(texts, encoder, lr=lr) for lr in rates]
    first, second = (Trial(spec_of(lr=lr), texts, encoder).reports() for lr in rates)
    turns = list(zip(first, second, strict=True))
    assert [numbers(pair[i] for pair in turns) for i in (0, 1)] == alone


def test_neither_the_order_of_texts_nor_those_that_are_not_drawn_change_anything(
    texts: LabelledExamples, encoder: Backbone
) -> None:
    expected = run(texts, encoder)
    order = np.random.default_rng(0).permutation(len(texts))
    assert run(rows_of(texts, order), encoder) == expected
    assert run(rows_of(texts, drawn(texts)), encoder) == expected


def test_labels_outside_the_budget_change_nothing(
    texts: LabelledExamples, encoder: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset = drawn(texts)
    scrambled = shuffled_labels(texts, np.setdiff1d(texts.indices(Split.POOL), subset))
    expected = run(texts, encoder)
    spec = spec_of()
    predicted = Trial(spec, texts, encoder).refit().arrays()["label_probability"]
    # A draw by other labels may pick others; here the same texts are drawn, as by luck.
    monkeypatch.setattr(trial, "draw_subset", lambda *_, **__: subset)
    assert run(scrambled, encoder) == expected
    again = Trial(spec, scrambled, encoder).refit()
    assert np.array_equal(again.arrays()["label_probability"], predicted)
    assert run(shuffled_labels(texts, subset), encoder) != expected


def test_test_labels_change_no_report_and_no_prediction(
    texts: LabelledExamples, encoder: Backbone
) -> None:
    scrambled = shuffled_labels(texts, texts.indices(Split.TEST))
    assert run(scrambled, encoder) == run(texts, encoder)
    honest, other = (Trial(spec_of(), some, encoder).refit() for some in (texts, scrambled))
    assert np.array_equal(honest.arrays()["predicted"], other.arrays()["predicted"])
    assert np.array_equal(honest.arrays()["probability"], other.arrays()["probability"])
    assert honest.scores != other.scores


def test_predictions_of_a_text_do_not_depend_on_longer_ones_beside_it(
    texts: LabelledExamples, encoder: Backbone
) -> None:
    setup = TrialSetup(spec_of(), encoder, num_classes=len(CLASSES), device=CPU)
    readers = FeatureReaders(texts, encoder, size=setup.size, device=CPU, precision="fp32")
    together = readers.read(texts.indices(Split.POOL), frozen=setup.split.frozen)
    learner = setup.learners(
        [class_examples(together)],
        names=["whole"],
        spec=setup.resolve(len(together)),
        initial_heads=None,
        memory=Memory(CPU),
    )
    (predicted,) = all_log_probabilities(learner, [together])
    sizes = together.by_size()
    assert len(sizes) > 2
    for positions in sizes:
        (alone,) = all_log_probabilities(learner, [together.at(positions)])
        assert torch.equal(alone, predicted[positions])


def test_an_update_in_parts_of_similar_length_is_that_of_the_whole_batch(
    texts: LabelledExamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    still = encoder_of(texts, tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    in_parts, numbers_of_parts = Activations.in_parts, list[int]()

    def watched(self: Activations, *, pass_size: float) -> list[torch.Tensor]:
        parts = in_parts(self, pass_size=pass_size)
        numbers_of_parts.append(len(parts))
        return parts

    monkeypatch.setattr(Activations, "in_parts", watched)
    losses = []
    for pass_tokens in (1, math.inf):
        monkeypatch.setattr(suffix_learner, "PASS_TOKENS", pass_tokens)
        losses.append([report["val_loss"] for report in run(texts, still)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert min(numbers_of_parts[:6]) > 1
    assert set(numbers_of_parts[6:]) == {1}
