import copy
import itertools
import weakref
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.trainable.families import Case, some
from trainable.backbones import zoo
from trainable.backbones.cutting.boundaries import boundaries, frozen_boundaries, parameter_depths
from trainable.backbones.cutting.split import FrozenPrefix, SplitBackbone, split
from trainable.backbones.graphs.graph import TracedBackbone, independent_copy, trace
from trainable.errors import SpecError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_two_halves_are_the_model_to_the_bit_for_any_batch_size(case: Case) -> None:
    model, traced, size = case
    head = model.get_submodule(str(traced.head.target))
    found = boundaries(traced)
    batches = [torch.randn(batch, 3, size, size) for batch in (1, 4)]
    with torch.no_grad():
        expected = [model(images) for images in batches]
    for frozen in some(len(found)):
        halves = split(traced, frozen=frozen, num_classes=7)
        halves.suffix.set_submodule(halves.head, head)
        halves.suffix.eval()
        for images, logits in zip(batches, expected, strict=True):
            with torch.no_grad():
                activations = halves.prefix(images.clone())
                if frozen:
                    assert activations.shape[1:] == found[frozen - 1].shape
                else:
                    assert torch.equal(activations, images)
                assert torch.equal(halves.suffix(activations), logits), frozen
    assert not torch.equal(expected[1][0], expected[1][1])


def test_boundaries_go_from_shallow_to_deep_and_end_right_before_the_head(case: Case) -> None:
    _, traced, _ = case
    found = boundaries(traced)
    order = [node.name for node in traced.module.graph.nodes]
    places = [order.index(boundary.node) for boundary in found]
    assert places == sorted(set(places))
    assert places[-1] < order.index(traced.head.name)
    for shallower, deeper in itertools.pairwise(found):
        assert shallower.params <= deeper.params
        assert shallower.flops <= deeper.flops
    last = split(traced, frozen=len(found), num_classes=3)
    assert {name for name, _ in last.suffix.named_parameters()} == {
        f"{last.head}.weight",
        f"{last.head}.bias",
    }
    facts = traced.facts
    behind = sum(facts[node].flops for node in traced.module.graph.nodes) - found[-1].flops
    assert behind == facts[traced.head].flops


def flops_of(module: nn.Module, size: int, *, batch: int) -> int:
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(batch, 3, size, size, device="meta"))
    return int(counter.get_total_flops())


def test_parameters_and_flops_of_a_boundary_are_those_of_the_prefix(case: Case) -> None:
    _, traced, size = case
    found = boundaries(traced)
    total = sum(p.numel() for p in traced.module.parameters())
    old_head = sum(
        p.numel() for p in traced.module.get_submodule(str(traced.head.target)).parameters()
    )
    for frozen in some(len(found))[1:]:
        halves = split(traced, frozen=frozen, num_classes=3)
        boundary = halves.boundary
        assert boundary == found[frozen - 1]
        assert boundary.params == sum(p.numel() for p in halves.prefix.parameters())
        suffix = sum(p.numel() for p in halves.suffix.parameters())
        new_head = sum(p.numel() for p in halves.suffix.get_submodule(halves.head).parameters())
        assert boundary.params + suffix - new_head == total - old_head
        prefix = copy.deepcopy(halves.prefix).to("meta")
        assert boundary.flops == flops_of(prefix, size, batch=5) - flops_of(prefix, size, batch=4)
        assert boundary.flops > 0


def test_every_parameter_of_every_suffix_has_a_depth_and_depths_count_boundaries(
    case: Case,
) -> None:
    _, traced, _ = case
    depths = parameter_depths(traced)
    number = len(boundaries(traced))
    assert set(depths) == {name for name, _ in traced.module.named_parameters()}
    head = str(traced.head.target)
    in_head = {f"{head}.{name}" for name, _ in traced.module.get_submodule(head).named_parameters()}
    assert {name for name, depth in depths.items() if depth == 0} == in_head
    for frozen in some(number):
        suffix = split(traced, frozen=frozen, num_classes=3).suffix
        named = {name for name, _ in suffix.named_parameters()} - {f"{head}.bias"}
        assert max(depths[name] for name in named) <= number - frozen


@pytest.fixture
def tiny() -> TracedBackbone:
    torch.manual_seed(0)
    return trace(zoo.build().eval(), image_size=8)


def halves_of(traced: TracedBackbone, frozen: int) -> SplitBackbone:
    return split(traced, frozen=frozen, num_classes=3)


def test_depth_of_a_parameter_is_its_distance_from_the_head(tiny: TracedBackbone) -> None:
    blocks = {name.rpartition(".")[0]: depth for name, depth in parameter_depths(tiny).items()}
    assert blocks["head"] == 0
    assert [blocks[f"blocks.{i}.conv1"] for i in range(6)] == [6, 5, 4, 3, 2, 1]
    assert blocks["blocks.5.shortcut.1"] == 1
    assert blocks["stem.0"] == 7


def test_each_block_of_the_trunk_is_a_boundary_after_its_activation(tiny: TracedBackbone) -> None:
    names = [boundary.node for boundary in boundaries(tiny)]
    assert names == ["stem_2", *(f"blocks_{i}_relu_1" for i in range(5)), "flatten"]


def test_new_head_starts_at_zero_and_the_rest_as_it_was(tiny: TracedBackbone) -> None:
    halves = halves_of(tiny, 3)
    assert halves.suffix.get_submodule("head").weight.shape == (3, 96)
    for name, parameter in halves.suffix.named_parameters():
        if name.startswith("head."):
            assert (parameter == 0).all()
        else:
            assert torch.equal(parameter, tiny.module.get_parameter(name))


@pytest.mark.parametrize("frozen", [0, 3, 7])
def test_suffix_shares_nothing_with_the_prefix_or_the_backbone(
    tiny: TracedBackbone, frozen: int
) -> None:
    before = {name: value.clone() for name, value in tiny.module.state_dict().items()}
    halves = halves_of(tiny, frozen)
    with torch.no_grad():
        for tensor in [*halves.suffix.parameters(), *halves.suffix.buffers()]:
            tensor.add_(1)
    after = tiny.module.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.usefixtures("no_cycle_collector")
def test_weights_of_a_suffix_are_given_back_with_it(tiny: TracedBackbone) -> None:
    halves = halves_of(tiny, 3)
    copied = independent_copy(halves.suffix)
    copied(halves.prefix(torch.randn(2, 3, 8, 8))).sum().backward()
    suffixes = [halves.suffix, copied]
    weights = [weakref.ref(p) for suffix in suffixes for p in suffix.parameters()]
    assert all(weight() is not None for weight in weights)
    del halves, copied, suffixes
    assert all(weight() is None for weight in weights)


def test_prefix_stays_in_eval_mode_whatever_is_called(tiny: TracedBackbone) -> None:
    whole = nn.Sequential(halves_of(tiny, 3).prefix, nn.Dropout())
    whole.train()
    assert whole[1].training
    assert not any(module.training for module in whole[0].modules())
    prefix = whole[0]
    assert isinstance(prefix, FrozenPrefix)
    assert prefix.train() is prefix
    assert not any(module.training for module in prefix.modules())


def test_prefix_gets_no_gradient_and_its_batch_statistics_stay(tiny: TracedBackbone) -> None:
    halves = halves_of(tiny, 3)
    whole = nn.Sequential(halves.prefix, halves.suffix).train()
    head = halves.suffix.get_submodule("head").get_parameter("weight")
    nn.init.normal_(head)
    before = {name: value.clone() for name, value in halves.prefix.state_dict().items()}
    moving = halves.suffix.get_buffer("blocks.3.norm1.running_mean").clone()
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    for _ in range(3):
        images = torch.randn(8, 3, 8, 8).requires_grad_()
        loss: Tensor = whole(images).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        assert images.grad is None
        optimizer.step()
    assert all(parameter.grad is None for parameter in halves.prefix.parameters())
    assert all(parameter.grad is not None for parameter in halves.suffix.parameters())
    after = halves.prefix.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not torch.equal(halves.suffix.get_buffer("blocks.3.norm1.running_mean"), moving)


def test_trained_part_of_a_later_split_needs_gradients_although_an_earlier_one_froze_it(
    tiny: TracedBackbone,
) -> None:
    halves_of(tiny, 7)
    assert all(parameter.requires_grad for parameter in halves_of(tiny, 0).suffix.parameters())


class NoBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(images).relu().mean(dim=(2, 3)))
        return logits


def test_new_head_has_a_bias_even_where_the_old_one_had_none() -> None:
    halves = halves_of(trace(NoBias().eval(), image_size=8), 1)
    assert halves.suffix(torch.randn(2, 4)).shape == (2, 3)
    assert {name for name, _ in halves.suffix.named_parameters()} == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("number", "depth", "frozen"),
    [
        (5, 0.0, 0),
        (5, 1.0, 5),
        (5, 1, 5),
        (5, 0.7, 3),  # 3.5, a tie
        (5, 0.3, 1),  # 1.5, a tie, although 0.3 * 5 is less in binary
        (5, 0.1, 0),  # 0.5, a tie
        (5, 0.9, 4),  # 4.5, a tie
        (5, 0.71, 4),
        (5, 0.69, 3),
        (7, 0.5, 3),
        (35, 0.7, 24),  # 24.5, a tie that binary arithmetic misses
        (15, 0.7, 10),
        (9, 1e-9, 0),
        (153, 0.5, 76),
    ],
)
def test_share_is_rounded_to_the_nearest_boundary_and_ties_to_the_shallower(
    number: int, depth: float, frozen: int
) -> None:
    assert frozen_boundaries(number, depth=depth) == frozen


@given(number=st.integers(1, 200), hundredths=st.integers(0, 100))
def test_no_other_boundary_is_nearer_to_the_share(number: int, hundredths: int) -> None:
    wanted = Fraction(hundredths, 100) * number
    nearest = min(range(number + 1), key=lambda frozen: (abs(frozen - wanted), frozen))
    assert frozen_boundaries(number, depth=hundredths / 100) == nearest


def test_blocks_are_counted_and_minus_one_means_all() -> None:
    assert [frozen_boundaries(7, blocks=blocks) for blocks in (-1, 0, 3, 7)] == [7, 0, 3, 7]


def test_more_blocks_than_the_backbone_has_are_refused() -> None:
    with pytest.raises(SpecError, match="frozen_blocks: got 8; this backbone has 7 boundaries"):
        frozen_boundaries(7, blocks=8)
