"""A small text network in plain PyTorch, for what needs no library of pretrained ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 50
WIDTH = 16


class Layer(nn.Module):
    """Attention and a hidden layer, each followed by dropout and normalised after its skip."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.mixed = nn.Linear(WIDTH, 3 * WIDTH)
        self.first = nn.Linear(WIDTH, 32)
        self.second = nn.Linear(32, WIDTH)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.dropout = nn.Dropout(rate)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        heads = self.mixed(x).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind()
        p = self.rate if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, seen, dropout_p=p)
        x = self.norms[0](x + self.dropout(found.transpose(1, 2).flatten(2)))
        normed: Tensor = self.norms[1](x + self.dropout(self.second(self.first(x).relu())))
        return normed


class SmallText(nn.Module):
    """Two layers between embeddings and a mean, for the subclasses to change."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(64, WIDTH)
        self.layers = nn.ModuleList([Layer(rate), Layer(rate)])

    def between(self, x: Tensor, mask: Tensor) -> Tensor:
        del mask
        return x

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.words(tokens) + self.positions(places)
        seen = mask[:, None, None, :].bool()
        x = self.layers[0](x, seen)
        x = self.layers[1](self.between(x, mask), seen)
        weight = mask.unsqueeze(-1).to(x.dtype)
        features: Tensor = (x * weight).sum(dim=1) / weight.sum(dim=1)
        return features


def small_text(kind: Callable[[], SmallText] = SmallText) -> SmallText:
    """A network in eval mode, with the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()
