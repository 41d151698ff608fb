"""Training a suffix equals training the whole model with everything before the cut frozen.

The reference is torchvision's own module with the same weights, which is not traced. Its parameters
before the cut have no gradients, and its modules before the cut are in eval mode.
"""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from tests.trainable.families import Case, fill, some
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import SplitBackbone, split
from trainable.training.recipe import train_mode

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 3
BATCH = 4
LARGEST_DIFFERENCE = 1e-5


def cuts(case: Case) -> Iterator[tuple[SplitBackbone, nn.Module]]:
    """Yield splits in train mode with a random head, and the model that each has to equal."""
    for frozen in some(len(boundaries(case.traced))):
        halves = split(case.traced, frozen=frozen, num_classes=NUM_CLASSES)
        torch.manual_seed(frozen)
        fill(halves.suffix.get_submodule(halves.head))
        train_mode(nn.Sequential(halves.prefix, halves.suffix), batchnorm="train")
        yield halves, unsplit(case.model, halves)


def unsplit(model: nn.Module, halves: SplitBackbone) -> nn.Module:
    """A copy of the model, frozen and in eval mode up to the cut, with the suffix's head."""
    whole = copy.deepcopy(model)
    whole.set_submodule(halves.head, copy.deepcopy(halves.suffix.get_submodule(halves.head)))
    frozen = {name for name, _ in halves.prefix.module.named_parameters()}
    for name, parameter in whole.named_parameters():
        parameter.requires_grad_(name not in frozen)
    prefix = halves.prefix.module
    assert isinstance(prefix, fx.GraphModule)
    before, behind = nodes_of_modules(prefix), nodes_of_modules(halves.suffix)
    whole.train()
    for name, module in whole.named_modules():
        if before[name] and not behind[name]:
            module.training = False
        elif before[name] and isinstance(module, StochasticDepth):
            train_from(module, before[name], of=before[name] + behind[name])
        elif before[name]:
            assert not isinstance(module, _BatchNorm | nn.Dropout), name
    return whole


def nodes_of_modules(graph: fx.GraphModule) -> Counter[str]:
    """Number of the graph's nodes that each module of the model makes, by name of the module."""
    stacks = (node.meta.get("nn_module_stack", {}) for node in graph.graph.nodes)
    return Counter(name for stack in stacks for name, _ in stack.values())


def train_from(module: nn.Module, call: int, *, of: int) -> None:
    """Put a module into train mode from its call number `call` on, of `of` calls per pass.

    Swin and MaxViT call the same module before and behind a cut.
    """
    calls = itertools.count()

    def set_mode(module: nn.Module, _: object) -> None:
        module.training = next(calls) % of >= call

    module.register_forward_pre_hook(set_mode)


def images_of(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, 3, case.size, case.size, generator=generator)


def seeded(module: nn.Module, images: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
    """The output of a module after seeding, and the state of torch's generator afterwards."""
    torch.manual_seed(seed)
    return module(images.clone()), torch.random.get_rng_state()


def test_a_step_of_the_suffix_is_the_step_of_the_frozen_model(case: Case) -> None:
    images, labels = images_of(case), torch.arange(BATCH) % NUM_CLASSES
    for halves, whole in cuts(case):
        before, losses = copy.deepcopy(halves.prefix.module.state_dict()), []
        for module in (nn.Sequential(halves.prefix, halves.suffix), whole):
            # With all parameters, because weight decay would change one that is not really frozen.
            optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.1)
            logits, _ = seeded(module, images, seed=1)
            losses.append(functional.cross_entropy(logits, labels))
            losses[-1].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert torch.equal(losses[0], losses[1])
        assert_frozen(before, halves, whole)
        assert_trained_alike(case, halves, whole)


def assert_frozen(before: dict[str, Tensor], halves: SplitBackbone, whole: nn.Module) -> None:
    """Assert that parameters and buffers before the cut have not changed, to the bit."""
    after, whole_after = halves.prefix.module.state_dict(), whole.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor), name
        assert torch.equal(whole_after.get(name, tensor), tensor), name  # tracing adds constants
    assert all(parameter.grad is None for parameter in halves.prefix.parameters())


def assert_trained_alike(case: Case, halves: SplitBackbone, whole: nn.Module) -> None:
    """Assert that parameters and batch statistics behind the cut have changed, and equally."""
    trained = {name: p for name, p in whole.named_parameters() if p.requires_grad}
    assert trained.keys() == dict(halves.suffix.named_parameters()).keys()
    for name, parameter in halves.suffix.named_parameters():
        gradient, expected = parameter.grad, trained[name].grad
        assert gradient is not None
        assert expected is not None
        assert (gradient - expected).norm() <= LARGEST_DIFFERENCE * expected.norm(), name
    after, old = halves.suffix.state_dict(), case.model.state_dict()
    for name, buffer in whole.named_buffers():
        if name in after:
            assert torch.equal(after[name], buffer), name
            assert torch.equal(buffer, old[name]) is not is_statistic(name), name


def is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def test_random_layers_behind_the_cut_draw_what_they_draw_in_the_frozen_model(case: Case) -> None:
    images = images_of(case)
    for halves, whole in cuts(case):
        outputs, drew = [], []
        for seed in (1, 2):
            untouched = torch.Generator().manual_seed(seed).get_state()
            with torch.no_grad():
                logits, left = seeded(
                    nn.Sequential(halves.prefix, halves.suffix), images, seed=seed
                )
                expected, expected_left = seeded(whole, images, seed=seed)
            assert torch.equal(logits, expected)
            assert torch.equal(left, expected_left)
            outputs.append(logits)
            drew.append(not torch.equal(left, untouched))
        assert drew[0] == drew[1] == (not torch.equal(outputs[0], outputs[1]))
