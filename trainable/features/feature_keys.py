"""Keys of the feature store: everything that a stored row depends on apart from its example."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import sys
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch

from trainable.backbones import Weights
from trainable.backbones.graphs.graph import TracedBackbone
from trainable.device import describe

_FORMAT = 1
"""Version of the key; a change that gives the same key other rows increases it."""

_LIBRARIES = frozenset({"torch", "torchvision", "timm", "trainable", *sys.builtin_module_names})
"""Libraries whose code is not hashed: their versions or graphs already say what they compute."""

_digests: WeakKeyDictionary[TracedBackbone, str] = WeakKeyDictionary()


def feature_key(
    weights: Weights,
    traced: TracedBackbone,
    *,
    content: Mapping[str, Any],
    boundary: str,
    precision: str,
    device: torch.device,
    batch: int,
) -> dict[str, Any]:
    """Return JSON values that identify the rows of one boundary, apart from the example's content.

    Args:
        weights: weights of the backbone.
        traced: graph of the backbone.
        content: key of the network's inputs; see `Inputs.content_key`.
        boundary: name of the boundary's node.
        precision: `fp32` or `bf16`.
        device: the device that computes.
        batch: examples per forward pass.
    """
    return {
        "format": _FORMAT,
        **content,
        "backbone": weights.architecture,
        "weights": weights.digest,
        "graph": graph_digest(traced),
        "boundary": boundary,
        "precision": precision,
        "device": describe(device),
        "batch": batch,
        "torch": torch.__version__,
    }


def graph_digest(traced: TracedBackbone) -> str:
    """Return a SHA-256 in hex of what a backbone computes, apart from its weights."""
    if traced not in _digests:
        text = json.dumps(
            [traced.module.code, str(traced.module), traced.version, _own_code(traced)]
        )
        _digests[traced] = hashlib.sha256(text.encode()).hexdigest()
    return _digests[traced]


def _own_code(traced: TracedBackbone) -> list[str]:
    """Return the sources of the modules whose code the graph calls, apart from known libraries."""
    called = {type(layer).__module__ for layer in traced.module.modules()}
    called |= {
        getattr(node.target, "__module__", None) or ""
        for node in traced.module.graph.nodes
        if node.op == "call_function"
    }
    found = []
    for name in sorted(called - {""}):
        module = sys.modules.get(name)
        if module is not None and name.partition(".")[0] not in _LIBRARIES:
            with contextlib.suppress(OSError, TypeError):
                found.append(inspect.getsource(module))
    return found
