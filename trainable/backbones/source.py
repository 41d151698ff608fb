"""What a source of backbones has to offer; a module or an object that offers it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from trainable.backbones.weights import Arrays, BackboneInfo, Weights

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.graph import TracedBackbone


class NetworkBuilder(Protocol):
    """What builds the networks that weights belong to."""

    def build(self, weights: Weights, *, size: int) -> nn.Module:
        """The architecture for examples of one size, with weights of any value.

        For square images of `size` pixels it takes (N, 3, S, S) float32 and gives (N, C) logits,
        whose last nn.Linear or 1x1 nn.Conv2d is the classifier to replace. For texts that are
        padded to `size` tokens it takes tokens (N, L) int64 and a mask (N, L) int64 of 1 for tokens
        and 0 for padding, and gives (N, D) features. The arrays of `weights` may not be there.

        Raises:
            BackboneError: it cannot be built, as for examples of this size.
        """

    def adapt(self, weights: Weights, model: nn.Module, *, size: int) -> Arrays:
        """The arrays as a network that `build` made takes them; most are as they were."""

    def trace(self, model: nn.Module, *, size: int) -> TracedBackbone:
        """The graph of a network that `build` or `architecture` made, sharing its parameters.

        Use `trace` of `trainable.backbones.graphs.graph` for images, and `export` of
        `trainable.backbones.graphs.exporting` for texts.

        Args:
            model: in eval mode; it may lie on the meta device.
            size: as it was built for.

        Raises:
            BackboneError: it cannot be followed, or the size does not suit it.
        """


@runtime_checkable
class BackboneSource(NetworkBuilder, Protocol):
    """Where backbones with names of their own come from.

    Attributes:
        PREFIX: what all its names begin with, such as `timm:`; empty for our own. Names with a
            prefix are listed only for patterns that begin with it.
    """

    PREFIX: str

    def owns(self, name: str) -> bool:
        """Whether a name, without weights, belongs to this source; it need not be known."""

    def names(self) -> Sequence[str]:
        """All names, without weights."""

    def problem(self, name: str, wanted: str) -> str | None:
        """What is wrong with a name or with the weights asked for, or None; it reads no weights.

        Args:
            name: one that it owns.
            wanted: what stands behind the @; empty for the default weights, `none` for random ones.
        """

    def describe(self, name: str) -> BackboneInfo:
        """What is known of the default weights without reading them."""

    def load(self, name: str, wanted: str, backbone: str) -> Weights:
        """The weights; their `source` is the name under which this source is registered.

        Args:
            name: without weights; `problem` found nothing wrong with it.
            wanted: which weights, see `problem`.
            backbone: `NAME[@WEIGHTS]` as the user wrote it.

        Raises:
            BackboneError: a file is missing, damaged or unsafe.
        """

    def architecture(self, name: str, *, size: int) -> nn.Module:
        """The architecture that the default weights belong to, with random ones; see `build`."""
