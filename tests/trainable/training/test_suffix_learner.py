import copy
import math
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.builders.class_examples import class_examples, labels_of, log_probabilities
from trainable.backbones import Backbone, Preprocessing
from trainable.backbones.cutting.boundaries import parameter_depths
from trainable.backbones.cutting.split import FrozenPrefix, SplitBackbone, split
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.features.activations import Activations
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.training.learner import DivergedError, Examples
from trainable.training.logistic import LinearClassifier, fit_path
from trainable.training.optimizers import SGD, AdamW
from trainable.training.recipe import (
    learning_parameters,
    learning_rate_factor,
    make_optimizer,
    resolve_batch_size,
    resolve_batchnorm,
    resolve_head_init,
    train_mode,
)
from trainable.training.suffix_learner import SuffixLearner

pytestmark = pytest.mark.usefixtures("one_thread")

RESOLVED: dict[str, Any] = {
    "backbone": "tiny_strokes",
    "lr": 3e-3,
    "label_budget": LabelBudget(5),
    "freeze_depth": 0.5,
    "steps": 10,
    "batch_size": 16,
    "head_init": "zero",
    "batchnorm": "eval",
    "image_size": 8,
    "precision": "fp32",
}


@dataclass(frozen=True)
class Bench:
    """Thirty digits, and the shipped backbone to split."""

    backbone: Backbone
    pixels: Tensor
    labels: Tensor

    def halves(self, frozen: int) -> SplitBackbone:
        return split(self.backbone.traced(8), frozen=frozen, num_classes=10)

    def examples(self, prefix: nn.Module) -> Examples:
        values = prefix(normalize(self.pixels, self.backbone.weights.image_preprocessing))
        return class_examples(Activations([(values,)]), self.labels)

    def learner(
        self,
        *,
        frozen: int = 3,
        name: str = "fold0",
        examples: Examples | None = None,
        **settings: Any,
    ) -> SuffixLearner:
        halves = self.halves(frozen)
        return SuffixLearner(
            halves.suffix,
            halves.heads,
            examples or self.examples(halves.prefix),
            name=name,
            spec=TrialSpec(**{**RESOLVED, **settings}),
            depth_of=parameter_depths(self.backbone.traced(8)),
            initial_head=self.probe() if settings.get("head_init") == "logistic" else None,
        )

    def probe(self) -> LinearClassifier:
        """A probe that is fitted on the head's inputs."""
        features = self.examples(self.halves(7).prefix).activations.dense
        return next(fit_path(features, self.labels, num_classes=10, inverse_penalties=[1.0]))


@pytest.fixture
def bench(digit_images: LabelledExamples, strokes: Backbone) -> Bench:
    rows = digit_images.indices(Split.POOL)[:30]
    return Bench(
        backbone=strokes,
        pixels=decode(digit_images, rows, Preprocessing(8, 8)),
        labels=torch.from_numpy(digit_images.labels[rows]),
    )


def state(learner: SuffixLearner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.suffix.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# The recipe


def test_learning_rate_warms_up_linearly_then_falls_as_a_cosine() -> None:
    factors = [learning_rate_factor(step, steps=20, warmup=0.2) for step in range(20)]
    assert factors[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    expected = [0.5 * (1 + math.cos(math.pi * i / 16)) for i in range(16)]
    assert factors[4:] == pytest.approx(expected)
    assert learning_rate_factor(20, steps=20, warmup=0.2) == pytest.approx(0, abs=1e-12)


@given(steps=st.integers(1, 300), warmup=st.floats(0.0, 1.0))
def test_learning_rate_rises_once_then_falls_and_is_never_zero_at_an_update(
    steps: int, warmup: float
) -> None:
    factors = [learning_rate_factor(step, steps=steps, warmup=warmup) for step in range(steps)]
    peak = round(warmup * steps)
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert max(factors) == pytest.approx(1.0)


def test_updates_follow_the_schedule(bench: Bench) -> None:
    learner = bench.learner(lr=0.5, steps=10, warmup=0.3)
    rates = []
    for step in range(10):
        learner.advance(step + 1)
        rates.append(learner._optimizer.groups[0].lr)
    expected = [0.5 * learning_rate_factor(step, steps=10, warmup=0.3) for step in range(10)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given_size", "num_train", "size"),
    [
        ("auto", 4, 16),
        ("auto", 16, 16),
        ("auto", 33, 33),
        ("auto", 900, 64),
        (5, 900, 5),
        (99, 4, 99),
    ],
)
def test_batch_size_auto_follows_the_training_images_within_limits(
    given_size: int | str, num_train: int, size: int
) -> None:
    assert resolve_batch_size(given_size, num_train) == size


def test_batch_statistics_are_used_from_5000_images_unless_said_otherwise() -> None:
    assert [resolve_batchnorm("auto", n) for n in (4999, 5000)] == ["eval", "train"]
    assert [resolve_batchnorm(word, 9000) for word in ("eval", "train")] == ["eval", "train"]
    assert [resolve_batchnorm(word, 4) for word in ("eval", "train")] == ["eval", "train"]


def test_head_starts_as_the_probe_unless_the_probe_is_all_there_is() -> None:
    assert resolve_head_init("auto") == resolve_head_init("logistic") == "logistic"
    assert resolve_head_init("zero") == "zero"


def options_by_name(bench: Bench, *, frozen: int, **settings: Any) -> dict[str, dict[str, float]]:
    """Learning rate and weight decay of every parameter of a suffix, by name."""
    suffix = bench.halves(frozen).suffix
    optimizer = make_optimizer(
        TrialSpec(**{**RESOLVED, **settings}),
        suffix,
        depth_of=parameter_depths(bench.backbone.traced(8)),
    )
    names = {id(parameter): name for name, parameter in suffix.named_parameters()}
    found = {
        names[id(parameter)]: {"lr": group.peak_lr, "weight_decay": group.weight_decay}
        for group in optimizer.groups
        for parameter in group.parameters
    }
    assert len(found) == len(names)
    return found


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_biases_and_normalisation_are_not_decayed(bench: Bench, optimizer: str) -> None:
    options = options_by_name(bench, frozen=0, optimizer=optimizer, weight_decay=0.3)
    decayed = {name for name, option in options.items() if option["weight_decay"] == 0.3}
    assert all(options[name]["weight_decay"] == 0 for name in set(options) - decayed)
    assert {"head.weight", "stem.0.weight", "blocks.5.shortcut.0.weight"} <= decayed
    assert {name for name in decayed if "norm" in name or "bias" in name} == set()
    assert "blocks.5.shortcut.1.weight" not in decayed


def test_weight_decay_skips_two_dimensional_parameters_of_norm_layers() -> None:
    suffix = torch.fx.symbolic_trace(
        nn.Sequential(nn.LayerNorm([4, 4]), nn.Flatten(), nn.Linear(16, 2))
    )
    optimizer = make_optimizer(TrialSpec(**RESOLVED), suffix, depth_of={})
    decayed = [group.parameters for group in optimizer.groups if group.weight_decay > 0]
    assert [[tuple(p.shape) for p in params] for params in decayed] == [[(2, 16)]]


def test_layer_decay_multiplies_once_per_boundary(bench: Bench) -> None:
    options = options_by_name(bench, frozen=2, lr=0.1, layer_decay=0.5)
    assert options["head.weight"]["lr"] == pytest.approx(0.1)
    assert options["head.bias"]["lr"] == pytest.approx(0.1)
    rates = [options[f"blocks.{i}.conv1.weight"]["lr"] for i in range(1, 6)]
    assert rates == pytest.approx([0.1 * 0.5**depth for depth in (5, 4, 3, 2, 1)])
    flat = options_by_name(bench, frozen=2, lr=0.1, layer_decay=1.0)
    assert {option["lr"] for option in flat.values()} == {0.1}


def test_optimizer_is_the_one_named(bench: Bench) -> None:
    adamw, sgd = (bench.learner(optimizer=name)._optimizer for name in ("adamw", "sgd"))
    assert (type(adamw), type(sgd)) == (AdamW, SGD)


@pytest.mark.parametrize(("batchnorm", "trains"), [("eval", False), ("train", True)])
def test_batchnorm_alone_follows_its_own_mode(batchnorm: str, trains: bool) -> None:
    suffix = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.BatchNorm1d(3)).eval()
    train_mode(suffix, batchnorm=batchnorm)
    assert [module.training for module in suffix] == [trains, True, trains]


@pytest.mark.parametrize(("batchnorm", "moves"), [("eval", False), ("train", True)])
def test_batch_statistics_change_only_in_train_mode(
    bench: Bench, batchnorm: str, moves: bool
) -> None:
    learner = bench.learner(batchnorm=batchnorm)
    before = state(learner)
    learner.advance(2)
    after = state(learner)
    buffers = [name for name in before if "running" in name]
    assert len(buffers) > 4
    assert all(torch.equal(before[name], after[name]) is not moves for name in buffers)


# The learner


@pytest.mark.usefixtures("no_cycle_collector")
def test_memory_of_the_weights_is_freed_with_the_learner(bench: Bench) -> None:
    learner = bench.learner(head_init="logistic")
    learner.advance(3)
    log_probabilities(learner, learner.examples.activations)
    weights = [weakref.ref(parameter) for parameter in learner.suffix.parameters()]
    del learner
    assert all(weight() is None for weight in weights)


def test_training_in_one_call_equals_training_in_several_calls(bench: Bench) -> None:
    whole, parts = bench.learner(), bench.learner()
    loss = whole.advance(6)
    losses = [parts.advance(step) for step in (1, 4, 6)]
    assert same(state(whole), state(parts))
    assert (losses[0] + 3 * losses[1] + 2 * losses[2]) / 6 == pytest.approx(loss)
    assert whole.step == parts.step == 6


def test_predictions_between_updates_change_nothing(bench: Bench) -> None:
    blind, looking = bench.learner(batchnorm="train"), bench.learner(batchnorm="train")
    blind.advance(4)
    for step in range(5):
        looking.advance(step)
        log_probabilities(looking, looking.examples.activations)
    assert same(state(blind), state(looking))


def test_learners_that_take_turns_equal_learners_one_after_another(bench: Bench) -> None:
    alone = [bench.learner(name=name) for name in ("fold0", "fold1")]
    for learner in alone:
        learner.advance(4)
    torch.manual_seed(99)
    turns = [bench.learner(name=name) for name in ("fold0", "fold1")]
    for step in range(1, 5):
        for learner in turns:
            learner.advance(step)
    for one, other in zip(alone, turns, strict=True):
        assert same(state(one), state(other))
    assert not same(state(alone[0]), state(alone[1]))


@dataclass(frozen=True, eq=False)
class Recording(Examples):
    """Examples that record the rows that each update asks for."""

    asked: list[list[int]] = field(default_factory=list)

    def at(self, positions: Tensor) -> Examples:
        self.asked.append(positions.tolist())
        return super().at(positions)


def batches(bench: Bench, **changed: Any) -> list[list[int]]:
    """The rows that each of three updates computes."""
    examples = bench.examples(bench.halves(changed.get("frozen", 3)).prefix)
    recording = Recording(examples.activations, examples.targets)
    bench.learner(examples=recording, **changed).advance(3)
    return recording.asked


def test_batches_depend_on_seed_repeat_name_and_step_alone(bench: Bench) -> None:
    expected = batches(bench)
    assert len(expected[0]) == 16
    assert len({tuple(batch) for batch in expected}) == 3
    for same_batches in (
        {"lr": 1e-4, "optimizer": "sgd", "head_init": "logistic"},
        {"frozen": 6, "freeze_depth": 1.0, "steps": 50, "label_smoothing": 0.1},
    ):
        torch.manual_seed(5)
        assert batches(bench, **same_batches) == expected
    for other in ({"seed": 1}, {"repeat": 1}, {"name": "fold1"}):
        assert batches(bench, **other)[0] != expected[0], other


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_example_drawn_twice_for_an_update_is_computed_once_and_counts_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    settings: dict[str, Any] = {"steps": 6, "label_smoothing": 0.1, "optimizer": optimizer}
    rows = batches(bench, **settings)
    assert [len(batch) for batch in rows[1:]] == [len(set(batch)) for batch in rows[1:]]
    assert max(map(len, rows[1:])) < 16
    once, each = bench.learner(**settings), bench.learner(**settings)
    monkeypatch.setattr(each, "_knows_the_batch", lambda: True)
    assert once.advance(6) == pytest.approx(each.advance(6), abs=1e-6)
    for name, value in state(once).items():
        assert torch.allclose(value, state(each)[name], atol=1e-5), name


def test_with_batch_statistics_every_drawn_example_is_computed(bench: Bench) -> None:
    assert [len(batch) for batch in batches(bench, batchnorm="train")] == [16, 16, 16]


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(x))
        return logits


def test_noise_depends_on_the_number_of_the_update_and_not_on_what_ran_before(
    bench: Bench,
) -> None:
    examples = bench.examples(bench.halves(7).prefix)

    def trained(*, disturb: bool, noise_seed: int = 0) -> dict[str, Tensor]:
        suffix = torch.fx.symbolic_trace(Noisy())
        for parameter in suffix.get_submodule("head").parameters():
            nn.init.zeros_(parameter)
        learner = SuffixLearner(
            suffix,
            ["head"],
            examples,
            name="fold0",
            spec=TrialSpec(**{**RESOLVED, "seed": noise_seed}),
            depth_of={},
        )
        for step in range(1, 4):
            if disturb:
                torch.rand(step * 7)
            learner.advance(step)
        return state(learner)

    assert same(trained(disturb=False), trained(disturb=True))
    assert not same(trained(disturb=False), trained(disturb=False, noise_seed=1))


@pytest.mark.parametrize("head_init", ["zero", "logistic"])
def test_huge_learning_rate_ends_as_diverged(bench: Bench, head_init: str) -> None:
    learner = bench.learner(lr=1e30, warmup=0.0, head_init=head_init)
    with pytest.raises(DivergedError, match=r"^the training loss was (nan|inf) by step 5$"):
        learner.advance(5)


def test_prediction_of_nan_ends_as_diverged(bench: Bench) -> None:
    learner = bench.learner()
    with torch.no_grad():
        learner.suffix.get_submodule("head").get_parameter("bias")[3] = math.nan
    with pytest.raises(DivergedError, match="a prediction at step 0 is no finite number"):
        log_probabilities(learner, learner.examples.activations)


def test_gradient_of_nan_is_noticed_although_the_loss_is_finite(bench: Bench) -> None:
    learner = bench.learner(steps=1, reports=1)
    weight = learner.suffix.get_submodule("head").get_parameter("weight")
    weight.register_hook(lambda gradient: gradient * math.nan)  # type: ignore[no-untyped-call]
    with pytest.raises(DivergedError, match="the training loss was nan by step 1"):
        learner.advance(1)


def test_initial_head_predicts_like_its_probe_at_the_start(bench: Bench) -> None:
    features, probe = bench.examples(bench.halves(7).prefix).activations.dense, bench.probe()
    for frozen in (0, 3, 7):
        learner = bench.learner(frozen=frozen, head_init="logistic")
        found = log_probabilities(learner, learner.examples.activations)
        expected = probe.log_probabilities(features)
        assert torch.allclose(found.exp(), expected.exp(), atol=1e-4)
        assert (found.argmax(dim=1) == bench.labels).all()


def test_zero_head_predicts_every_class_alike_at_the_start(bench: Bench) -> None:
    learner = bench.learner()
    found = log_probabilities(learner, learner.examples.activations)
    assert found == pytest.approx(-math.log(10))
    assert found.dtype == torch.float64


def test_one_by_one_convolution_serves_as_a_head(bench: Bench) -> None:
    class Pixelwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(32, 10, 1)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(x).mean(dim=(2, 3))
            return result

    examples = bench.examples(bench.halves(1).prefix)
    pooled = examples.activations.dense.mean(dim=(2, 3))
    (probe,) = fit_path(pooled, labels_of(examples), num_classes=10, inverse_penalties=[1.0])
    learner = SuffixLearner(
        torch.fx.symbolic_trace(Pixelwise()),
        ["head"],
        examples,
        name="fold0",
        spec=TrialSpec(**{**RESOLVED, "head_init": "logistic"}),
        depth_of={},
        initial_head=probe,
    )
    expected = probe.log_probabilities(pooled).exp()
    assert torch.allclose(
        log_probabilities(learner, examples.activations).exp(), expected, atol=1e-3
    )


def test_examples_are_left_as_they_were_by_layers_that_work_in_place(bench: Bench) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(96, 10)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(x.mul_(2))
            return logits

    examples = bench.examples(bench.halves(7).prefix)
    before = examples.activations.dense
    learner = SuffixLearner(
        torch.fx.symbolic_trace(InPlace()),
        ["head"],
        examples,
        name="fold0",
        spec=TrialSpec(**{**RESOLVED, "head_init": "logistic"}),
        depth_of={},
        initial_head=bench.probe(),
    )
    learner.advance(2)
    log_probabilities(learner, examples.activations)
    assert torch.equal(examples.activations.dense, before)


class Whole(nn.Module):
    """Prefix and suffix as one module, as a training loop without a cache runs them."""

    def __init__(self, prefix: FrozenPrefix, suffix: nn.Module) -> None:
        super().__init__()
        self.prefix = prefix
        self.suffix = suffix

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.suffix(self.prefix(pixels))
        return logits


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("frozen", [3, 7])
def test_training_on_cached_activations_equals_running_the_prefix_at_each_step(
    bench: Bench, frozen: int, batchnorm: str
) -> None:
    cached = bench.learner(frozen=frozen, head_init="logistic", batchnorm=batchnorm)
    halves = bench.halves(frozen)
    images = bench.examples(nn.Identity())
    whole: Callable[..., Any] = Whole(copy.deepcopy(halves.prefix), halves.suffix)
    uncached = SuffixLearner(
        whole,  # type: ignore[arg-type]
        [f"suffix.{halves.head}"],
        images,
        name="fold0",
        spec=replace(cached.spec),
        depth_of={},
        initial_head=bench.probe(),
    )
    assert cached.advance(5) == pytest.approx(uncached.advance(5), rel=1e-5)
    expected = log_probabilities(uncached, images.activations)
    found = log_probabilities(cached, cached.examples.activations)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(
        found,
        log_probabilities(bench.learner(frozen=frozen), cached.examples.activations),
        atol=0.1,
    )


def test_label_smoothing_keeps_the_loss_from_vanishing(bench: Bench) -> None:
    learners = [bench.learner(label_smoothing=share, head_init="logistic") for share in (0.0, 0.5)]
    plain, smooth = (learner.advance(1) for learner in learners)
    assert smooth > plain + 0.5


def test_gradients_are_clipped(bench: Bench) -> None:
    large = Activations([(1e4 * bench.examples(bench.halves(7).prefix).activations.dense,)])
    learner = bench.learner(
        frozen=7,
        examples=class_examples(large, bench.labels),
        optimizer="sgd",
        lr=1.0,
        warmup=0.0,
        weight_decay=0.0,
    )
    before = state(learner)
    learner.advance(1)
    after = state(learner)
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before])
    assert float(moved.norm()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "frozen", "learns"),
    [
        ({"train_blocks": "6-7"}, 5, {"blocks.4", "blocks.5", "head"}),
        ({"train_blocks": "3-3"}, 2, {"blocks.1", "head"}),
        ({"train_blocks": "1-1"}, 0, {"stem.0", "stem.1", "head"}),
        ({"freeze_depth": 0.75, "trainable": "bitfit"}, 5, {"blocks.4", "blocks.5", "head"}),
        ({"freeze_depth": 1.0, "trainable": "bitfit"}, 7, {"head"}),
    ],
)
def test_only_the_trained_parameters_change(
    bench: Bench, settings: dict[str, Any], frozen: int, learns: set[str]
) -> None:
    spec = TrialSpec(**{**RESOLVED, "freeze_depth": None, **settings})
    halves = bench.halves(frozen)
    depths = parameter_depths(bench.backbone.traced(8))
    learning = learning_parameters(
        spec, halves.suffix, heads=halves.heads, depth_of=depths, num_boundaries=7
    )
    learner = SuffixLearner(
        halves.suffix,
        halves.heads,
        bench.examples(halves.prefix),
        name="fold0",
        spec=spec,
        depth_of=depths,
        learning=learning,
    )
    before = state(learner)
    learner.advance(2)
    moved = {name for name, value in state(learner).items() if not torch.equal(value, before[name])}
    assert moved == set(learning)
    assert {re.match(r"(blocks|stem)\.\d|head", name)[0] for name in moved} == learns  # type: ignore[index]
    if "trainable" in settings:
        assert all(name.endswith("bias") for name in moved if not name.startswith("head."))
    held = sum(len(group.parameters) for group in learner._optimizer.groups)
    assert held == len(learning)
