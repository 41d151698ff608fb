import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from tests.trainable.families import convnext, fill, maxvit, swin, vit
from trainable.backbones import zoo
from trainable.backbones.cutting.boundaries import boundaries, frozen_boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs import facts as graph_facts
from trainable.backbones.graphs.graph import trace
from trainable.backbones.graphs.inputs import ImageInputs
from trainable.backbones.graphs.tracing import TRANSPARENT, LeafModules, traced_module
from trainable.errors import BackboneError


class Small(nn.Module):
    """Two convolutions and a head, for the subclasses to put something between."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def between(self, x: Tensor) -> Tensor:
        return x

    def forward(self, images: Tensor) -> Tensor:
        x = self.between(self.first(images).relu())
        logits: Tensor = self.head(self.second(x).relu().mean(dim=(2, 3)))
        return logits


class FunctionalDropout(Small):
    def between(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.p, training=self.training)


class ProbabilityByMode(Small):
    """As scaled_dot_product_attention has it: no switch, but a probability that is 0 in eval."""

    def between(self, x: Tensor) -> Tensor:
        p = self.p if self.training else 0.0
        return functional.dropout(x, p, training=True)


class ModuleDropout(Small):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(0.5)

    def between(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(x)
        return dropped


class MoreInTraining(Small):
    def between(self, x: Tensor) -> Tensor:
        return x * 2 if self.training else x


class OtherWiresInTraining(Small):
    def between(self, x: Tensor) -> Tensor:
        a, b = x.exp(), x.sin()
        return a - b if self.training else b - a


class DependsOnValues(Small):
    def between(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Optional(Small):
    def forward(self, images: Tensor, scale: float = 2.0, mask: Tensor | None = None) -> Tensor:
        x = self.first(images) * scale
        if mask is not None:
            x = x * mask
        logits: Tensor = self.head(self.second(x).mean(dim=(2, 3)))
        return logits


class Headless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.conv(images)
        return result


class Everywhere(nn.Module):
    """Pixels are needed up to the very end, behind the head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits + images.sum()


class TwoHeads(Small):
    """As distilled transformers end."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images).relu()
        pooled = self.second(x).mean(dim=(2, 3))
        other: Tensor = self.other(pooled)
        logits: Tensor = self.head(pooled)
        return logits + other


def shrunk(x: Tensor) -> Tensor:
    return x[:, :, ::2, ::2] if x.shape[-1] > 8 else x


class Shrinking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2] if x.shape[-2] > 4 else x


class AsksForTheSize(Small):
    def __init__(self) -> None:
        super().__init__()
        self.shrink = Shrinking()

    def between(self, x: Tensor) -> Tensor:
        smaller: Tensor = self.shrink(shrunk(x))
        return smaller


class CastLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.to(x.dtype), self.bias)


class NamesItsDevice(Small):
    def between(self, x: Tensor) -> Tensor:
        return x * torch.linspace(0, 1, 16, device=self.first.weight.device)


class AsksForTheDevice(Small):
    """The question lies before the cut, what is made of its answer behind it."""

    def forward(self, images: Tensor) -> Tensor:
        device = images.device
        x = self.second(self.first(images).relu()).relu().mean(dim=(2, 3))
        logits: Tensor = self.head(x * torch.linspace(0, 1, 16, device=device))
        return logits


class Attention(nn.Module):
    """Layers that PyTorch has one kernel for, which no formula counts."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.recurrent = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.encoder(self.patches(images).flatten(2).transpose(1, 2))
        x, _ = self.recurrent(functional.scaled_dot_product_attention(x, x, x))
        logits: Tensor = self.head(x.mean(dim=1))
        return logits


def shufflenet() -> nn.Module:
    """Its nodes hold sizes, and numbers made of them."""
    model: nn.Module = models.shufflenet_v2_x0_5(weights=None)
    return model


RANDOM: list[Callable[[], nn.Module]] = [
    FunctionalDropout,
    ProbabilityByMode,
    ModuleDropout,
    convnext,
    swin,
    vit,
    maxvit,
]


@pytest.mark.parametrize("make", RANDOM, ids=lambda make: make.__name__)
@pytest.mark.parametrize("frozen", [0, 1])
def test_random_layers_are_random_in_train_mode_and_still_in_eval_mode(
    make: Callable[[], nn.Module], frozen: int
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    images = torch.randn(4, 3, 32, 32)
    traced = trace(model, image_size=32)
    halves = split(traced, frozen=frozen, num_classes=3)
    fill(model.get_submodule(halves.head))
    fill(halves.suffix.get_submodule(halves.head))
    x = halves.prefix(images)
    with torch.no_grad():
        assert torch.equal(traced.module(images), model(images))
        halves.suffix.eval()
        assert torch.equal(halves.suffix(x.clone()), halves.suffix(x.clone()))
        halves.suffix.train()
        one, other = halves.suffix(x.clone()), halves.suffix(x.clone())
        assert not torch.equal(one, other)
        halves.suffix.eval()
        assert torch.equal(halves.suffix(x.clone()), halves.suffix(x.clone()))


@pytest.mark.parametrize("make", [FunctionalDropout, ProbabilityByMode])
def test_train_mode_computes_what_the_model_itself_does_in_train_mode(
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    traced = trace(model, image_size=16)
    images = torch.randn(2, 3, 16, 16)
    model.train()
    traced.module.train()
    torch.manual_seed(1)
    expected = model(images)
    torch.manual_seed(1)
    assert torch.equal(traced.module(images), expected)


@pytest.mark.parametrize("make", [FunctionalDropout, ModuleDropout])
def test_dropout_right_behind_the_cut_stays_with_the_suffix(make: Callable[[], Small]) -> None:
    halves = split(trace(make().eval(), image_size=16), frozen=1, num_classes=3)
    nn.init.normal_(halves.suffix.get_submodule(halves.head).get_parameter("weight"))
    halves.prefix.train()
    x = halves.prefix(torch.randn(2, 3, 16, 16))
    assert torch.equal(x, x.relu())
    assert not torch.equal(halves.suffix.train()(x), halves.suffix(x))


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = maxvit().eval()
    before, values = set(vars(model)), copy.deepcopy(model.state_dict())
    trace(model, image_size=32)
    assert set(vars(model)) == before
    assert not any(module.training for module in model.modules())
    after = model.state_dict()
    assert after.keys() == values.keys()
    assert all(torch.equal(after[name], values[name]) for name in values)


def test_optional_arguments_are_bound_to_their_defaults() -> None:
    model = Optional().eval()
    traced = trace(model, image_size=16)
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(traced.module(images), model(images))
    assert [node.name for node in traced.module.graph.nodes if node.op == "placeholder"] == [
        "images"
    ]


def test_model_that_depends_on_tensor_values_says_what_to_do() -> None:
    message = (
        r"DependsOnValues cannot be traced by torch\.fx: .*"
        r"\(test_graph\.py, line \d+\)\. "
        r"Control flow .* function decorated with torch\.fx\.wrap"
    )
    with pytest.raises(BackboneError, match=message):
        trace(DependsOnValues(), image_size=16)


@pytest.mark.parametrize("make", [MoreInTraining, OtherWiresInTraining])
def test_model_of_two_graphs_says_what_to_do(make: Callable[[], nn.Module]) -> None:
    message = "different graphs in train and eval mode.*switch auxiliary outputs off"
    with pytest.raises(BackboneError, match=message):
        trace(make(), image_size=16)


def test_model_with_auxiliary_outputs_can_be_traced_without_them() -> None:
    with pytest.raises(BackboneError, match="switch auxiliary outputs off"):
        trace(models.googlenet(weights=None, init_weights=False), image_size=32)
    model = models.googlenet(weights=None, init_weights=False, aux_logits=False)
    assert trace(model, image_size=32).head.target == "fc"


def test_model_without_a_classifier_says_which_are_known() -> None:
    with pytest.raises(
        BackboneError, match=r"no classifier to replace; allowed: a last nn\.Linear"
    ):
        trace(Headless(), image_size=16)


def test_image_size_that_the_model_refuses_says_so() -> None:
    with pytest.raises(
        BackboneError, match=r"refuses RGB images of 40 x 40 pixels: .*\. Try another"
    ):
        trace(vit(), image_size=40)


@pytest.mark.parametrize("make", [Everywhere, TwoHeads])
def test_model_whose_output_does_not_come_from_one_head_is_refused(
    make: Callable[[], nn.Module],
) -> None:
    with pytest.raises(BackboneError, match=r"last classifier alone \(head\); allowed: one head"):
        trace(make(), image_size=16)


def test_what_is_opaque_is_not_looked_into() -> None:
    with pytest.raises(BackboneError, match="symbolically traced variables"):
        trace(AsksForTheSize().eval(), image_size=16)
    model = AsksForTheSize().eval()
    leaf_modules = LeafModules(functions=(shrunk,), modules=(Shrinking,))
    traced = trace(model, image_size=16, leaf_modules=leaf_modules)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(traced.module(images), model(images))


def test_layers_derived_from_torchs_stay_one_node_so_that_heads_are_found() -> None:
    model = Small()
    model.head = CastLinear(16, 5)
    traced = trace(model.eval(), image_size=16)
    assert traced.head.target == "head"
    assert split(traced, frozen=2, num_classes=3).suffix(torch.randn(2, 16)).shape == (2, 3)


def follows_devices() -> bool:
    """Whether torch.fx of this version can follow what makes a tensor where another one lies."""
    try:
        fx.symbolic_trace(lambda x: x + torch.linspace(0, 1, 2, device=x.device))
    except TypeError:
        return False
    return True


@pytest.mark.skipif(not follows_devices(), reason="this torch.fx cannot follow the networks")
@pytest.mark.parametrize("make", [NamesItsDevice, AsksForTheDevice])
@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_tensors_made_inside_follow_the_device_of_the_images(
    make: Callable[[], nn.Module], frozen: int
) -> None:
    halves = split(trace(make().eval(), image_size=16), frozen=frozen, num_classes=3)
    suffix, prefix = halves.suffix.to("meta"), halves.prefix.to("meta")
    logits = suffix(prefix(torch.empty(2, 3, 16, 16, device="meta")))
    assert logits.device.type == "meta"  # a CPU tensor among them would have raised


def test_frozen_share_of_a_traced_model_counts_its_boundaries() -> None:
    found = boundaries(trace(Small().eval(), image_size=16))
    assert [boundary.node for boundary in found] == ["relu", "mean"]
    assert frozen_boundaries(len(found), depth=0.5) == 1


@pytest.mark.parametrize("make", [Attention, zoo.build, swin, shufflenet])
def test_a_network_is_found_to_be_the_same_with_arithmetic_and_without(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make().eval()
    found = []
    for little_work, device in ((0.0, "meta"), (math.inf, "cpu")):
        monkeypatch.setattr(graph_facts, "_LITTLE_WORK", little_work)
        module = traced_module(model, leaf_modules=TRANSPARENT)
        assert graph_facts.cheapest_device(module, ImageInputs(32)).type == device
        facts = trace(model, image_size=32).facts
        found.append(
            [(node.name, one.content, one.shape, one.flops) for node, one in facts.items()]
        )
        assert all(
            not isinstance(result, Tensor) or result.is_meta
            for one in facts.values()
            for result in one.results
        )
    assert found[0] == found[1]
    assert sum(flops for *_, flops in found[0]) > 0


@pytest.mark.parametrize("make", [Attention, zoo.build, swin])
def test_operations_are_counted_as_pytorch_counts_them(make: Callable[[], nn.Module]) -> None:
    model = make().to("meta").eval()
    totals = []
    for batch in (2, 3):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.empty(batch, 3, 32, 32, device="meta"))
        totals.append(counter.get_total_flops())
    facts = trace(model, image_size=32).facts
    assert sum(one.flops for one in facts.values()) == totals[1] - totals[0]


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cuda.flash_sdp_enabled(),  # type: ignore[no-untyped-call]
    )


def test_looking_at_a_network_leaves_the_settings_of_pytorch_as_they_were() -> None:
    before = settings()
    trace(zoo.build().eval(), image_size=8)
    with pytest.raises(BackboneError, match="refuses RGB images"):
        trace(vit(), image_size=40)
    assert settings() == before
