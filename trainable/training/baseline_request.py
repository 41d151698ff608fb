"""What a baseline is asked for, and what its features come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from trainable.backbones import Backbone
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.cache import FeatureCache
from trainable.features.reader import FeatureCounts, Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineRequest:
    """What a baseline makes features of; see `run_baseline`.

    Attributes:
        examples: all examples, with their encoded bytes.
        touched: (M,) ascending indices of all examples that will be asked for.
        method: name of the baseline, where there are several without a backbone.
        backbone: the backbone whose features are used; None for features without one.
        size: size of the backbone's input; None for the size of its weights.
        precision: `fp32`, `bf16` or `auto`.
        device: the device that features are put on.
        cache: the feature cache; None computes the features here.
        counts: counters to add to; None for new ones.
        heartbeat: called regularly while there is progress.
    """

    examples: LabelledExamples
    touched: Indices
    method: str | None
    backbone: Backbone | None
    size: int | None
    precision: str
    device: torch.device
    cache: FeatureCache | None
    counts: FeatureCounts | None
    heartbeat: Callable[[], None]


class FeatureOrigin(Protocol):
    """What the features of a baseline come from.

    Attributes:
        size: size of the inputs that features are computed from; None if it does not apply.
        precision: precision of the backbone's forward pass, `fp32` or `bf16`; `fp32` without a
            backbone.
        key: JSON values that features depend on, apart from the examples' content.
    """

    size: int | None
    precision: str
    key: Mapping[str, Any]
