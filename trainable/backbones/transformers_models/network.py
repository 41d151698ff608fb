"""Networks of transformers that give one vector a text: tokens and mask -> pooled vector."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainable.backbones.naming import shortened
from trainable.backbones.transformers_models.conventions import config_of, positions_of
from trainable.backbones.transformers_models.silence import quiet
from trainable.errors import BackboneError

_RANDOM_SEED = 0
_TOKENS, _MASK = "input_ids", "attention_mask"


class TextEncoder(nn.Module):
    """A model whose tokens' vectors are pooled.

    Args:
        model: of transformers; takes tokens and a mask, gives one vector a token.
        pooling: how they become one, of `trainable.spec.settings.POOLINGS`.
        normalize: whether the pooled vector is divided by its length.
    """

    def __init__(self, model: nn.Module, *, pooling: str, normalize: bool) -> None:
        super().__init__()
        self.model = model
        self._pool = POOLERS[pooling]
        self._normalize = normalize

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, D) vectors of N texts.

        Args:
            tokens: (N, L) int64.
            mask: (N, L) int64, 1 for tokens and 0 for padding, which is on the right.
        """
        states = self.model(**{_TOKENS: tokens, _MASK: mask}).last_hidden_state
        pooled = self._pool(states, mask)
        return functional.normalize(pooled, dim=1) if self._normalize else pooled


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def _first(states: Tensor, mask: Tensor) -> Tensor:
    del mask
    return states[:, 0]


def _last(states: Tensor, mask: Tensor) -> Tensor:
    # 1 where the mask ends. A sum of zeros and one vector is that vector, and on a GPU its
    # gradient has one order of addition, as that of an index has not.
    ends = mask - functional.pad(mask[:, 1:], (0, 1))
    return (states * ends.unsqueeze(-1).to(states.dtype)).sum(1)


def _max(states: Tensor, mask: Tensor) -> Tensor:
    lowest = torch.finfo(states.dtype).min
    return states.masked_fill(mask.unsqueeze(-1) == 0, lowest).amax(1)


POOLERS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "last": _last,
    "max": _max,
}
"""From (N, L, D) vectors of tokens and their (N, L) mask to (N, D) vectors of texts."""


def build_encoder(
    config: Mapping[str, Any], *, pooling: str, normalize: bool, size: int, name: str
) -> TextEncoder:
    """The network with seeded random weights, in eval mode.

    Args:
        config: content of a model's config.json.
        pooling: see `TextEncoder`.
        normalize: see `TextEncoder`.
        size: tokens of the longest text that it is to take.
        name: of the backbone, for messages.

    Raises:
        BackboneError: it cannot be built, takes no texts, or none of this length.
    """
    from transformers import AutoModel

    wanted = prepared_config(config)
    try:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(_RANDOM_SEED)
            whole = AutoModel.from_config(wanted, dtype=torch.float32)
    except Exception as error:  # each model checks its configuration in its own way
        reason = shortened(str(error).partition("\n")[0] or type(error).__name__)
        raise BackboneError(f"{name} cannot be built: {reason}") from error
    model = encoder_of(whole, name=name)
    _check_size(model, size, name=name)
    return TextEncoder(model, pooling=pooling, normalize=normalize).eval()


def prepared_config(config: Mapping[str, Any]) -> Any:
    """The configuration, without the cache that only generation has a use for.

    Raises:
        BackboneError: see `config_of`.
    """
    found = config_of(config)
    if hasattr(found, "use_cache"):
        found.use_cache = False
    return found


def encoder_of(whole: Any, *, name: str) -> nn.Module:
    """What of a model turns tokens into vectors: its encoder where it has a decoder, else all.

    Raises:
        BackboneError: it takes no tokens, or cannot tell padding from text.
    """
    model: Any = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    if model.main_input_name != _TOKENS:
        raise BackboneError(f"{name} takes {model.main_input_name}; allowed: a model of texts")
    if _MASK not in inspect.signature(model.forward).parameters:
        raise BackboneError(
            f"{name} takes no {_MASK}: what it says of a text would depend on the padding behind it"
        )
    found: nn.Module = model
    return found


def _check_size(model: Any, size: int, *, name: str) -> None:
    """Refuse texts that are longer than a model's positions reach.

    Raises:
        BackboneError: they are.
    """
    positions = positions_of(model.config)
    if positions is None:
        return
    # A table with a row for padding counts its positions from the row behind that.
    skipped = [
        1 + layer.padding_idx
        for layer in model.modules()
        if isinstance(layer, nn.Embedding)
        and layer.num_embeddings == positions
        and layer.padding_idx is not None
    ]
    allowed = positions - max(skipped, default=0)
    if size > allowed:
        raise BackboneError(
            f"{name}: max_length: got {size}; allowed: at most {allowed}, as many positions as the "
            "model has"
        )
