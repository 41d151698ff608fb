"""What exporting does with ways of writing a text network."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.trainable.small_text import WIDTH, SmallText, small_text
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.exporting import export
from trainable.backbones.graphs.graph import TracedBackbone, copied_to, resized
from trainable.backbones.graphs.inputs import TokenInputs
from trainable.errors import BackboneError

pytestmark = pytest.mark.usefixtures("one_thread")


class LearntScale(SmallText):
    """A number that both sides of a cut use."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        features: Tensor = super().forward(tokens, mask) * self.scale
        return features

    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * self.scale


class PlainTensor(SmallText):
    """A tensor that is no buffer, and one that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.plain: Tensor = torch.linspace(0, 1, WIDTH)
        self.unsaved: Tensor
        self.register_buffer("unsaved", torch.linspace(1, 2, WIDTH), persistent=False)

    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * self.plain + self.unsaved


class Angles(SmallText):
    """Positions turned into angles by a matrix product, without gradients."""

    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad():
            places = torch.arange(x.shape[1], device=x.device).float()
            rates = torch.linspace(0, 1, WIDTH, device=x.device)
            angles = places[:, None] @ rates[None, :]
        return x + angles.cos()


class WritesInPlace(SmallText):
    """Into a tensor of its own, and into a part of one."""

    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = x.new_zeros(x.shape[1])
        bias += 1
        bias[0] = 3
        y = x * 2
        y += bias[:, None]
        return y


class ByLength(SmallText):
    """Short texts and long ones take different ways."""

    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        return x.sin() if x.shape[1] > 20 else x.cos()


class OtherWaysInTraining(SmallText):
    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        return x.sin() if self.training else x.cos()


class DependsOnValues(SmallText):
    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


KINDS: list[Callable[[], SmallText]] = [SmallText, LearntScale, PlainTensor, Angles, WritesInPlace]


@functools.cache
def exported(kind: Callable[[], SmallText] = SmallText) -> TracedBackbone:
    """The graph of a network; shared, so that it is not to be changed."""
    return export(small_text(kind), size=16)


def batch(number: int, length: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 50, (number, length), generator=generator)
    lengths = torch.randint(1, length + 1, (number, 1), generator=generator)
    mask = (torch.arange(length) < lengths).long()
    return tokens * mask, mask


def head_of(traced: TracedBackbone) -> nn.Module:
    return traced.module.get_submodule(str(traced.head.target))


@pytest.mark.parametrize("kind", KINDS)
def test_halves_are_the_network_for_any_number_and_length(kind: Callable[[], SmallText]) -> None:
    model = small_text(kind)
    traced = exported(kind)
    assert traced.side_inputs == ("mask",)
    for frozen in range(len(boundaries(traced)) + 1):
        halves = split(traced, frozen=frozen, num_classes=1)
        halves.suffix.set_submodule(halves.head, head_of(traced))
        halves.suffix.eval()
        for number, length in ((1, 16), (7, 16), (3, 40)):
            tokens, mask = batch(number, length)
            with torch.no_grad():
                expected = head_of(traced)(model(tokens, mask))
                assert torch.equal(halves.suffix(halves.prefix(tokens, mask), mask), expected)


def test_each_sublayer_ends_in_a_boundary_and_the_last_is_the_pooled_text() -> None:
    cuts = boundaries(exported())
    assert [cut.shape for cut in cuts] == [(16, WIDTH)] * 3 + [(WIDTH,)]
    assert [cut.node for cut in cuts][:2] == ["layer_norm", "layer_norm_1"]
    assert 0 < cuts[0].params < cuts[1].params
    assert 0 < cuts[0].flops < cuts[1].flops


def test_facts_are_those_of_the_length_and_the_graph_stays_the_same() -> None:
    traced = exported()
    longer = resized(traced, 32)
    assert longer.module is traced.module
    assert longer.inputs == TokenInputs(32)
    short, long = boundaries(traced), boundaries(longer)
    assert [cut.node for cut in long] == [cut.node for cut in short]
    assert long[0].shape == (32, WIDTH)
    assert long[0].flops > 2 * short[0].flops  # attention grows with the square of the length


def test_a_graph_is_right_for_the_lengths_that_take_its_branches() -> None:
    short, long = exported(ByLength), export(small_text(ByLength), size=24)
    assert 20 in short.sizes
    assert 21 not in short.sizes
    assert 20 not in long.sizes
    assert 21 in long.sizes


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_both_modes_are_those_of_the_network(frozen: int) -> None:
    model = small_text()
    traced = exported()
    assert not traced.without_dropout
    tokens, mask = batch(4, 16)
    model.train()
    traced.module.train()
    torch.manual_seed(1)
    expected = head_of(traced)(model(tokens, mask))
    torch.manual_seed(1)
    assert torch.equal(traced.module(tokens, mask), expected)
    halves = split(traced, frozen=frozen, num_classes=1)
    halves.suffix.set_submodule(halves.head, head_of(traced))
    activations = halves.prefix(tokens, mask)
    assert torch.equal(halves.prefix(tokens, mask), activations)
    halves.suffix.train()
    assert not torch.equal(halves.suffix(activations, mask), halves.suffix(activations, mask))
    traced.module.eval()


def test_a_network_that_trains_by_another_graph_trains_without_dropout() -> None:
    traced = export(small_text(OtherWaysInTraining), size=16)
    assert traced.without_dropout
    tokens, mask = batch(4, 16)
    expected = traced.module(tokens, mask)
    assert torch.equal(traced.module.train()(tokens, mask), expected)


def test_parameters_on_both_sides_of_a_cut_are_named_and_trained_behind_it() -> None:
    traced = exported(LearntScale)
    cuts = boundaries(traced)
    assert [split(traced, frozen=n, num_classes=2).on_both_sides for n in range(len(cuts))] == [
        (),
        (),
        ("scale",),  # a product is cheap, so that the cut comes after it
        ("scale",),
    ]
    halves = split(traced, frozen=len(cuts) - 1, num_classes=2)
    with torch.no_grad():
        halves.suffix.get_parameter("scale").add_(1)
    assert float(halves.prefix.module.get_parameter("scale")) == 1.5


def test_tensors_that_are_not_saved_are_buffers_that_are_not_saved() -> None:
    model = PlainTensor().eval()
    traced = export(model, size=16)
    saved = {name for name in traced.module.state_dict() if not name.startswith("head.")}
    assert saved == set(model.state_dict())
    assert len(dict(traced.module.named_buffers())) == 2
    assert export(model, size=16).version == traced.version
    model.plain += 1
    assert export(model, size=16).version != traced.version


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [0, 2])
def test_everything_made_inside_follows_the_device(
    kind: Callable[[], SmallText], frozen: int
) -> None:
    halves = split(exported(kind), frozen=frozen, num_classes=3)
    suffix, prefix = halves.suffix.to("meta"), halves.prefix.to("meta")
    tokens, mask = (tensor.to("meta") for tensor in batch(2, 16))
    assert suffix(prefix(tokens, mask), mask).device.type == "meta"


def test_a_network_without_memory_has_the_same_boundaries() -> None:
    real, empty = exported(), export(small_text().to("meta"), size=16)
    assert boundaries(empty) == boundaries(real)
    assert all(parameter.is_meta for parameter in empty.module.parameters())
    assert boundaries(copied_to(torch.device("meta"), real)) == boundaries(real)


def test_positions_are_computed_in_full_precision() -> None:
    traced = exported(Angles)
    halves = split(traced, frozen=0, num_classes=3)
    dtypes: dict[str, torch.dtype] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                dtypes[n.name] = value.dtype
            return value

    with torch.autocast("cpu", dtype=torch.bfloat16):
        Recorder(halves.suffix).run(*batch(2, 16))
    assert dtypes["matmul"] is torch.float32
    assert dtypes["linear"] is torch.bfloat16


@pytest.mark.parametrize(
    ("kind", "message"),
    [(DependsOnValues, r"cannot be followed by torch\.export: .*")],
)
def test_what_cannot_be_exported_says_so_in_a_sentence(
    kind: Callable[[], SmallText], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BackboneError, match=message) as caught:
        export(small_text(kind), size=16)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_length_that_the_network_refuses_says_so() -> None:
    traced = exported()
    with pytest.raises(
        BackboneError, match=r"refuses texts of 65 tokens: .*Try another max_length"
    ):
        resized(traced, 65)


def test_exporting_leaves_the_network_as_it_was() -> None:
    model = small_text()
    model.layers[1].train()
    before = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    export(model, size=16)
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
