"""Weights of transformers' models, from safetensors, by the names of our networks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from trainable.backbones.coverage import Coverage
from trainable.backbones.files import to_array
from trainable.backbones.fitting import misfit
from trainable.backbones.naming import shortened
from trainable.backbones.transformers_models.folder import ModelFolder, check_weights
from trainable.backbones.transformers_models.network import (
    TextEncoder,
    encoder_of,
    prepared_config,
)
from trainable.backbones.transformers_models.silence import quiet
from trainable.backbones.weights import Arrays
from trainable.errors import BackboneError


def arrays_of(network: nn.Module) -> Arrays:
    """A network's state dict as arrays."""
    return {name: to_array(entry) for name, entry in sorted(network.state_dict().items())}


def read_arrays(folder: ModelFolder, *, pooling: str, normalize: bool) -> Arrays:
    """The weights of a folder, by the names of its network.

    transformers translates the names in the files, which may be those of older versions, of the
    model within one with a head, or one for several that share a tensor.

    Raises:
        BackboneError: there are none that can be read, or they are of another architecture.
    """
    check_weights(folder)
    whole, told = _loaded(folder)
    network = TextEncoder(
        encoder_of(whole, name=folder.place), pooling=pooling, normalize=normalize
    )
    _check_fit(folder, whole, network, told)
    return arrays_of(network)


def _loaded(folder: ModelFolder) -> tuple[Any, Mapping[str, Any]]:
    """The model with a folder's weights, and what transformers tells of how they fitted."""
    from transformers import AutoModel

    try:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(0)
            whole, told = AutoModel.from_pretrained(
                folder.path,
                config=prepared_config(folder.config),
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except BackboneError:
        raise
    except Exception as error:  # whatever a library finds in a damaged file
        reason = shortened(str(error).partition("\n")[0] or type(error).__name__)
        raise BackboneError(f"{folder.path}: the weights cannot be read: {reason}") from error
    return whole, told


def _check_fit(
    folder: ModelFolder, whole: Any, network: TextEncoder, told: Mapping[str, Any]
) -> None:
    """Refuse weights that leave something random that counts, or are of a larger model.

    Parameters that the pooled vector does not depend on become zeros where the files have none.

    Raises:
        BackboneError: see above.
    """
    entries = dict(whole.state_dict(keep_vars=True))
    misshapen = {
        name: f"{name} is {tuple(given)} instead of {tuple(wanted)}"
        for name, given, wanted in sorted(told["mismatched_keys"])
    }
    open_names = {name for name in (*told["missing_keys"], *misshapen) if name in entries}
    used = _used(network) if open_names else set()
    found = Coverage(
        missing=tuple(
            sorted(n for n in open_names if id(entries[n]) in used and n not in misshapen)
        ),
        misshapen={n: text for n, text in misshapen.items() if id(entries.get(n)) in used},
        left_over=_of_the_body(told["unexpected_keys"], whole),
    )
    if found:
        raise BackboneError(f"{folder.path}: {misfit(found)}")
    with torch.no_grad():
        for name in open_names:
            if isinstance(entries[name], nn.Parameter):  # buffers keep what they are built with
                entries[name].zero_()


def _used(network: TextEncoder) -> set[int]:
    """Ids of the parameters that the pooled vector depends on."""
    tokens = torch.ones((1, 2), dtype=torch.int64)
    with torch.enable_grad():
        pooled = network.eval()(tokens, torch.ones_like(tokens))
    found, seen, ahead = set[int](), set[Any](), [pooled.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.add(id(getattr(node, "variable", None)))
        ahead.extend(before for before, _ in node.next_functions)
    return found - {id(None)}


def _of_the_body(left_over: Iterable[str], whole: Any) -> tuple[str, ...]:
    """Entries of files that a larger model of the kind would have, and not those of a head."""
    kinds = {_kind(name) for name in whole.state_dict()}
    prefix = f"{whole.base_model_prefix}."  # of the body within a model with a head
    return tuple(sorted(n for n in left_over if _kind(n.removeprefix(prefix)) in kinds))


def _kind(name: str) -> str:
    """A name, its numbers aside: the sixth layer's is that of the first."""
    return re.sub(r"\d+", "0", name)
