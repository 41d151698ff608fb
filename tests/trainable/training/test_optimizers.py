"""Our optimizers make the same steps as PyTorch's, and import less."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn, optim

from tests.builders.programs import printed_by
from trainable.training.optimizers import SGD, SGD_MOMENTUM, AdamW, Group, Optimizer

RATES = (0.3, 0.1, 0.02, 0.0)
DECAYS = (0.05, 0.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 6 * 6, 4))


def grouped(model: nn.Module) -> list[list[nn.Parameter]]:
    """Two groups: weights, and biases."""
    parameters = list(model.parameters())
    return [[each for each in parameters if (each.ndim > 1) is wide] for wide in (True, False)]


def ours(name: str, model: nn.Module) -> Optimizer:
    groups = [
        Group(parameters=list(parameters), peak_lr=1.0, weight_decay=decay)
        for parameters, decay in zip(grouped(model), DECAYS, strict=True)
    ]
    return AdamW(groups) if name == "adamw" else SGD(groups)


def theirs(name: str, model: nn.Module) -> optim.Optimizer:
    groups = [
        {"params": parameters, "weight_decay": decay}
        for parameters, decay in zip(grouped(model), DECAYS, strict=True)
    ]
    if name == "adamw":
        return optim.AdamW(groups, lr=1.0, fused=True)
    return optim.SGD(groups, lr=1.0, momentum=SGD_MOMENTUM, fused=True)


def gradients(model: nn.Module, step: int) -> None:
    """Compute the gradients of a random batch."""
    generator = torch.Generator().manual_seed(step)
    model(torch.randn(5, 3, 8, 8, generator=generator)).square().sum().backward()


def values(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def advance(optimizer: Optimizer, model: nn.Module, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        gradients(model, step)
        for group in optimizer.groups:
            group.lr = RATES[step]
        optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_are_those_of_torch_to_the_bit(name: str) -> None:
    model = network()
    expected = copy.deepcopy(model)
    advance(ours(name, model), model, range(len(RATES)))
    reference = theirs(name, expected)
    for step, rate in enumerate(RATES):
        reference.zero_grad(set_to_none=True)
        gradients(expected, step)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
    assert all(torch.equal(*pair) for pair in zip(values(model), values(expected), strict=True))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_parameter_without_gradient_does_not_change_and_has_no_state(name: str) -> None:
    model = network()
    before = values(model)
    optimizer = ours(name, model)
    gradients(model, 0)
    first, *others = model.parameters()
    first.grad = None
    for group in optimizer.groups:
        group.lr = 0.1
    optimizer.step()
    after = values(model)
    assert torch.equal(after[0], before[0])
    assert not any(map(torch.equal, after[1:], before[1:]))
    assert optimizer.state.keys() == set(others)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_an_optimizer_with_a_copied_state_makes_the_same_steps_to_the_bit(name: str) -> None:
    model = network()
    optimizer = ours(name, model)
    advance(optimizer, model, range(2))
    copied = copy.deepcopy(model)
    other = ours(name, copied)
    for old, new in zip(model.parameters(), copied.parameters(), strict=True):
        other.state[new] = {key: value.clone() for key, value in optimizer.state[old].items()}
    advance(optimizer, model, range(2, len(RATES)))
    advance(other, copied, range(2, len(RATES)))
    assert all(torch.equal(*pair) for pair in zip(values(model), values(copied), strict=True))


def test_a_step_imports_no_compiler() -> None:
    program = (
        "import sys, torch\nfrom trainable.training.optimizers import AdamW, SGD, Group\n"
        "for kind in (AdamW, SGD):\n"
        "    weight = torch.ones(3, requires_grad=True)\n"
        "    weight.sum().backward()\n"
        "    kind([Group(parameters=[weight], peak_lr=1.0, weight_decay=0.0, lr=0.1)]).step()\n"
        "    assert weight.mean() < 1\n"
        "print('torch._dynamo' in sys.modules)"
    )
    assert printed_by(program) == "False"
