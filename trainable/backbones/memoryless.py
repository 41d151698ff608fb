"""Networks on the meta device, for names and shapes without memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from trainable.errors import BackboneError


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Return the network that `build` makes, with its parameters on the meta device if possible.

    Not thread-safe: no other thread may build modules.

    Raises:
        BackboneError: it cannot be built.
    """
    # Not `with torch.device("meta")`: some models compute their widths with tensors. Parameters
    # lose their memory before they are initialised, so that initialisation costs nothing.
    hook = register_module_parameter_registration_hook(
        _to_meta  # type: ignore[arg-type]  # torch's annotation lacks the return value
    )
    try:
        with hook, torch.random.fork_rng(devices=[]):
            return build()
    except BackboneError:  # a few models of timm compute with their initial weights
        with torch.random.fork_rng(devices=[]):
            return build()


def _to_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
    del module, name
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
