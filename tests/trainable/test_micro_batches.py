"""Smaller micro-batches give the same results when memory runs out; exceptions simulate a GPU."""

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.builders.checkpoints import Keeper
from tests.builders.class_examples import (
    all_log_probabilities,
    class_examples,
    log_probabilities,
)
from tests.trainable.training.test_loop import numbers, spec_of
from trainable.backbones import Backbone
from trainable.backbones.cutting.split import frozen_between
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import GpuMemoryError
from trainable.features import reader as features
from trainable.features.activations import Activations
from trainable.features.reader import FeatureReader
from trainable.micro_batches import MicroBatches, memory_errors
from trainable.modalities.image.inputs import BATCH
from trainable.spec.trial_spec import LabelBudget, TrialSpec
from trainable.spec.validation import Validation
from trainable.training.baselines import run_baseline
from trainable.training.checkpoint import Checkpoint
from trainable.training.head_learner import HeadLearners
from trainable.training.learner import Examples
from trainable.training.logistic import LinearClassifier
from trainable.training.suffix_learner import SuffixLearner
from trainable.training.trial import Trial

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SPEC: dict[str, Any] = {
    "backbone": "none",
    "lr": 0.02,
    "label_budget": LabelBudget(5),
    "freeze_depth": 0.5,
    "steps": 6,
    "batch_size": 16,
    "head_init": "zero",
    "batchnorm": "eval",
    "precision": "fp32",
    "interpolation": 1.0,
}


def out_of_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines.")


def holding(rows: int) -> Callable[[int], int]:
    """An attempt that runs out of memory above a number of rows."""

    def attempt(size: int) -> int:
        if size > rows:
            raise out_of_memory()
        return size

    return attempt


# Micro-batches


def test_rows_at_a_time_are_halved_until_they_fit_and_remembered() -> None:
    pieces = MicroBatches(CPU, what="work")
    tried: list[int] = []

    def attempt(size: int) -> int:
        tried.append(size)
        return holding(7)(size)

    assert pieces.fit(50, attempt) == 7
    assert tried == [50, 25, 13, 7]
    assert pieces.fit(64, attempt) == 7
    assert pieces.fit(3, attempt) == 3
    assert tried[4:] == [7, 3]
    assert pieces.rows == 7


def test_work_that_fits_is_not_cut() -> None:
    pieces = MicroBatches(CPU, what="work")
    assert [pieces.fit(size, holding(100)) for size in (9, 100)] == [9, 100]
    assert pieces.rows is None


def test_pieces_cover_all_rows_once_though_memory_runs_out_on_the_way() -> None:
    pieces = MicroBatches(CPU, what="work")
    room = iter([8, 8, 3, 3, 3, 3, 3, 3])

    def attempt(rows: slice) -> list[int]:
        holding(next(room))(rows.stop - rows.start)
        return list(range(rows.start, rows.stop))

    found = pieces.over(20, most=8, attempt=attempt)
    assert [len(part) for part in found] == [8, 8, 2, 2]
    assert [row for part in found for row in part] == list(range(20))
    assert pieces.over(0, most=8, attempt=attempt) == []


def test_one_row_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    message = (
        r"^frozen prefix: 1 row does not fit into the GPU's memory; try a smaller image_size, a "
        r"deeper freeze_depth, or precision: bf16; where BatchNorm is in train mode, a smaller "
        r"batch_size or batchnorm: eval$"
    )
    with pytest.raises(GpuMemoryError, match=message) as caught:
        MicroBatches(CPU, what="frozen prefix").fit(16, holding(0))
    assert caught.value.__context__ is None  # it would keep tensors alive


def test_indivisible_work_is_tried_once() -> None:
    tried: list[int] = []

    def attempt(size: int) -> int:
        tried.append(size)
        raise out_of_memory()

    with pytest.raises(GpuMemoryError, match=r"16 rows do not fit .*, and need each other; try"):
        MicroBatches(CPU, what="training").fit(16, attempt, divisible=False)
    assert tried == [16]


@pytest.mark.usefixtures("no_cycle_collector")
def test_tensors_of_a_failed_attempt_are_freed_before_the_next_one() -> None:
    computed: list[weakref.ref[Tensor]] = []

    def attempt(size: int) -> int:
        assert all(tensor() is None for tensor in computed)
        half = torch.zeros(size)
        computed.append(weakref.ref(half))
        return holding(2)(size)

    assert MicroBatches(CPU, what="work").fit(16, attempt) == 2
    assert len(computed) == 4


def test_other_errors_are_raised_unchanged() -> None:
    tried: list[int] = []

    def attempt(size: int) -> int:
        tried.append(size)
        raise RuntimeError("CUDA error: misaligned address")

    with pytest.raises(RuntimeError, match="misaligned"):
        MicroBatches(CPU, what="work").fit(4, attempt)
    assert tried == [4]


def test_every_finished_micro_batch_sends_a_heartbeat() -> None:
    heartbeats: list[None] = []
    pieces = MicroBatches(CPU, what="work", heartbeat=lambda: heartbeats.append(None))
    pieces.over(20, most=8, attempt=lambda rows: holding(4)(rows.stop - rows.start))
    assert len(heartbeats) == 5


def test_running_out_of_memory_elsewhere_is_an_error_with_advice() -> None:
    message = "^training: CUDA out of memory. Tried to allocate 2 GiB.; try a smaller image_size"
    with pytest.raises(GpuMemoryError, match=message), memory_errors("training"):
        raise out_of_memory()


# Updates


class Net(nn.Module):
    """A suffix whose head notes how many rows reach it, and has room for some of them."""

    def __init__(self, *, dropout: float = 0.0, norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(8, 12)
        self.norm = nn.BatchNorm1d(12) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.norm(self.first(x).tanh())))
        return logits


def examples() -> Examples:
    random = torch.Generator().manual_seed(3)
    features = Activations([(torch.randn(30, 8, generator=random),)])
    return class_examples(features, torch.randint(4, (30,), generator=random))


def probe(width: int) -> LinearClassifier:
    """A classifier that a head with this number of inputs starts from."""
    random = torch.Generator().manual_seed(7)
    return LinearClassifier(
        torch.randn(4, width, generator=random, dtype=torch.float64),
        torch.randn(4, generator=random, dtype=torch.float64),
    )


def learner(*, dropout: float = 0.0, norm: bool = False, **settings: Any) -> SuffixLearner:
    torch.manual_seed(5)
    return SuffixLearner(
        torch.fx.symbolic_trace(Net(dropout=dropout, norm=norm)),
        ("head",),
        examples(),
        name="fold0",
        spec=TrialSpec(**{**SPEC, **settings}),
        depth_of={},
        initial_head=probe(12) if settings.get("head_init") == "logistic" else None,
    )


def give_room(one: SuffixLearner, rows: int, *, backward: bool = False) -> list[int]:
    """Make the head run out of memory above `rows` rows; return the sizes that reach it."""
    reached: list[int] = []

    def check(count: int) -> None:
        reached.append(count)
        holding(rows)(count)

    def watch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if backward and inputs[0].requires_grad:
            count = len(inputs[0])
            inputs[0].register_hook(lambda _: check(count))  # type: ignore[no-untyped-call]
        else:
            check(len(inputs[0]))

    one.suffix.get_submodule("head").register_forward_pre_hook(watch)
    return reached


def parameters(one: SuffixLearner) -> Tensor:
    return torch.cat([value.detach().flatten() for value in one.suffix.parameters()])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "label_smoothing": 0.2, "weight_decay": 0.1, "lr": 0.5},
        {"optimizer": "adamw", "head_init": "logistic"},
        {"optimizer": "sgd", "norm": True},
    ],
)
def test_training_in_micro_batches_equals_training_in_whole_batches(
    settings: dict[str, Any], backward: bool
) -> None:
    whole, cut = learner(**settings), learner(**settings)
    untrained = parameters(cut)
    reached = give_room(cut, 3, backward=backward)
    assert cut.advance(6) == pytest.approx(whole.advance(6), abs=1e-6)
    assert torch.allclose(parameters(cut), parameters(whole), atol=1e-5)
    assert not torch.allclose(parameters(cut), untrained, atol=1e-2)
    assert reached[:11] == [16, 8, 4] + [2] * 8
    assert max(reached[11:]) == 2  # larger sizes are not tried again


def test_a_batch_that_is_cut_during_an_update_is_trained_as_one_cut_before() -> None:
    prepared, surprised = learner(dropout=0.5), learner(dropout=0.5)
    prepared._memory.updates.rows = 4
    surprised._memory.updates.rows = 8
    # When the second half of a batch does not fit, gradients of the first half exist already.
    room = iter([8, 4])
    sizes: list[int] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))
        holding(next(room, 4))(len(inputs[0]))

    surprised.suffix.get_submodule("head").register_forward_pre_hook(watch)
    assert surprised.advance(5) == prepared.advance(5)
    assert torch.equal(parameters(surprised), parameters(prepared))
    assert sizes == [8, 8] + [4] * 20


def test_batches_with_batch_statistics_are_not_cut() -> None:
    one = learner(norm=True, batchnorm="train")
    before = parameters(one)
    reached = give_room(one, 8)
    message = "^training: 16 rows do not fit .*need each other; .*batchnorm: eval$"
    with pytest.raises(GpuMemoryError, match=message):
        one.advance(1)
    assert reached == [16]
    assert torch.equal(parameters(one), before)


def test_an_optimizer_without_room_is_an_error_and_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = learner()
    tried: list[None] = []

    def step() -> None:
        tried.append(None)
        raise out_of_memory()

    monkeypatch.setattr(one._optimizer, "step", step)
    with pytest.raises(GpuMemoryError, match="an update of the parameters: CUDA out of memory"):
        one.advance(1)
    assert len(tried) == 1


def heads(**settings: Any) -> HeadLearners:
    parts = [examples(), examples().at(torch.arange(20))]
    spec = TrialSpec(**{**SPEC, "freeze_depth": 1.0, **settings})
    initial = [probe(8)] * 2 if spec.head_init == "logistic" else None
    return HeadLearners(
        parts, names=["fold0", "fold1"], spec=spec, num_classes=4, initial_heads=initial
    )


@pytest.mark.parametrize("settings", [{"optimizer": "sgd", "lr": 0.5}, {"head_init": "logistic"}])
def test_heads_trained_in_micro_batches_equal_heads_trained_in_whole_batches(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    whole, cut = heads(**settings), heads(**settings)
    expected = whole.advance(6)
    sizes: list[int] = []
    product = torch.baddbmm

    def tight(bias: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        sizes.append(rows.shape[1])
        holding(7)(rows.shape[1])
        return product(bias, rows, weight)

    monkeypatch.setattr(torch, "baddbmm", tight)
    assert cut.advance(6) == pytest.approx(expected, abs=1e-6)
    assert sizes == [16, 8] + [4] * 24
    assert torch.allclose(cut._weight, whole._weight, atol=1e-5)
    assert torch.allclose(cut._bias, whole._bias, atol=1e-5)


# Evaluation and the frozen prefix


def test_predictions_of_smaller_chunks_are_the_same() -> None:
    one = learner(head_init="logistic")
    many = Activations([(torch.randn(300, 8),)])
    expected = log_probabilities(one, many)
    reached = give_room(one, 70)
    assert torch.allclose(log_probabilities(one, many), expected, atol=1e-6)
    assert reached == [256, 128, 64, 64, 64, 64, 44]


def test_heads_predict_in_chunks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    both = heads(head_init="logistic")
    parts = [Activations([(torch.randn(size, 8),)]) for size in (30, 21)]
    expected = all_log_probabilities(both, parts)
    linear, sizes = functional.linear, []

    def tight(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        sizes.append(len(rows))
        holding(20)(len(rows))
        return linear(rows, weight, bias)

    monkeypatch.setattr(functional, "linear", tight)
    for found, wanted in zip(all_log_probabilities(both, parts), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)
    assert sizes == [30, 15, 15, 15, 6]


def test_a_frozen_prefix_takes_as_many_images_at_a_time_as_fit(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = np.arange(20)

    def reader(heartbeat: Callable[[], None]) -> FeatureReader:
        return FeatureReader(
            digit_images, strokes, size=8, device=CPU, precision="fp32", heartbeat=heartbeat
        )

    expected = reader(lambda: None).read(indices, frozen=4)
    sizes: list[int] = []

    def tight(*args: Any) -> nn.Module:
        prefix = frozen_between(*args)

        def watch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            sizes.append(len(inputs[0]))
            holding(6)(len(inputs[0]))

        prefix.register_forward_pre_hook(watch)
        return prefix

    monkeypatch.setattr(features, "frozen_between", tight)
    heartbeats: list[None] = []
    one = reader(lambda: heartbeats.append(None))
    assert torch.allclose(one.read(indices, frozen=4), expected, atol=1e-5)
    assert sizes == [16, 8, 4, 4, 4, 4, 4]
    assert len(heartbeats) == 1 + 5  # one more for decoding
    assert one.counts.misses == 20


# A whole trial


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A linear layer that runs out of memory above eight rows."""
    forward = nn.Linear.forward

    def tight(layer: nn.Linear, rows: Tensor) -> Tensor:
        holding(8)(len(rows))
        return forward(layer, rows)

    monkeypatch.setattr(nn.Linear, "forward", tight)


def test_a_trial_on_a_small_gpu_reports_the_same_and_counts_its_micro_batches(
    digit_images: LabelledExamples, strokes: Backbone, request: pytest.FixtureRequest
) -> None:
    spec = spec_of(optimizer="sgd")
    whole = Trial(spec, digit_images, strokes)
    assert whole.micro_batches == 1
    expected = list(whole.reports())
    assert whole.micro_batches == 1
    request.getfixturevalue("small_gpu")
    cut = Trial(spec, digit_images, strokes)
    for found, wanted in zip(cut.reports(), expected, strict=True):
        assert found.val_accuracy == wanted.val_accuracy
        assert found.train_loss == pytest.approx(wanted.train_loss, abs=1e-5)
        assert found.val_loss == pytest.approx(wanted.val_loss, abs=1e-5)
    assert cut.micro_batches == 2


@pytest.mark.usefixtures("small_gpu")
def test_a_resumed_trial_knows_the_size_that_fits(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    keeper = Keeper()
    undisturbed = numbers(Trial(spec_of(), digit_images, strokes).reports(after_update=keeper))
    tried: list[int] = []
    for checkpoint in keeper.checkpoints()[:4:3]:
        trial = Trial(spec_of(), digit_images, strokes)
        tried.append(trial.micro_batches)
        assert numbers(trial.reports(start=checkpoint)) == undisturbed[1:]
        tried.append(trial.micro_batches)
    assert tried == [1, 2, 1, 2]


@pytest.mark.usefixtures("small_gpu")
def test_batch_statistics_on_a_small_gpu_fail_the_trial_with_advice(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    trial = Trial(spec_of(batchnorm="train"), digit_images, strokes)
    with pytest.raises(GpuMemoryError, match=r"16 rows do not fit .* a smaller batch_size or"):
        list(trial.reports())


def test_running_out_of_memory_at_the_start_of_a_trial_is_an_error_with_advice(
    digit_images: LabelledExamples, strokes: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tight(*_: object) -> Examples:
        raise out_of_memory()

    monkeypatch.setattr(Examples, "at", tight)
    with pytest.raises(GpuMemoryError, match=r"^training: CUDA out of memory"):
        next(Trial(spec_of(), digit_images, strokes).reports())


# Heartbeats


def test_a_trial_sends_a_heartbeat_at_every_update_and_every_chunk(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    heartbeats: list[None] = []
    seen: list[int] = []

    def after_update(_: Callable[[], Checkpoint]) -> None:
        seen.append(len(heartbeats))

    trial = Trial(spec_of(), digit_images, strokes, heartbeat=lambda: heartbeats.append(None))
    list(trial.reports(after_update=after_update))
    assert seen[0] >= 1 + 2 + 1  # decoding, two batches of 30 images, an update
    assert all(later > earlier for earlier, later in itertools.pairwise(seen))
    assert seen[4] - seen[3] == 1 + 2  # two folds are evaluated between these updates
    assert len(heartbeats) == seen[-1] + 2
    before = len(heartbeats)
    trial.refit()
    num_tested = len(digit_images.indices(Split.TEST))
    assert len(heartbeats) - before > 3 + num_tested / BATCH


@pytest.mark.parametrize("probe", [True, False])
def test_a_baseline_sends_heartbeats_while_it_reads_and_fits(
    digit_images: LabelledExamples, strokes: Backbone, probe: bool
) -> None:
    heartbeats: list[None] = []
    images = digit_images.at(np.arange(0, 1797, 6))
    run_baseline(
        images,
        backbone=strokes if probe else None,
        budget=LabelBudget(3),
        validation=Validation(2),
        repeats=1,
        seed=0,
        heartbeat=lambda: heartbeats.append(None),
    )
    assert len(heartbeats) > 100  # most are passes over the features
