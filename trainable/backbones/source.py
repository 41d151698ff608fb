"""The protocol of a source of backbones, implemented by a module or an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trainable.backbones.weights import Arrays, BackboneInfo, Weights

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.graph import TracedBackbone


class NetworkBuilder(Protocol):
    """Builds the networks of weights."""

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
class TextSource(Protocol):
    """What a source of backbones for texts has beside `BackboneSource`."""

    def tokenizer_of(self, weights: Weights) -> bytes:
        """Return the content of the tokenizer.json that belongs to weights of this source.

        Raises:
            BackboneError: its folder is gone, or the file is another one by now.
        """


@runtime_checkable
class KeepsGraphs(Protocol):
    """What a source beside `BackboneSource` has whose graphs take so long that they are kept."""

    def graph_key(self, weights: Weights, *, size: int) -> Mapping[str, Any]:
        """Return JSON values that tell a graph of `trace` from all others, the weights aside.

        Args:
            weights: of the backbone.
            size: as it is built for.
        """


@runtime_checkable
class BackboneSource(NetworkBuilder, Protocol):
    """A source of named backbones.

    Attributes:
        PREFIX: common prefix of its names, such as `timm:`; may be empty. Names with a prefix are
            listed only for patterns that begin with it.
    """

    PREFIX: str

    def owns(self, name: str) -> bool:
        """Return whether a name without weights belongs to this source, known or not."""

    def names(self) -> Sequence[str]:
        """Return all names, without weights."""

    def problem(self, name: str, wanted: str) -> str | None:
        """Return the problem with a name or with the requested weights, or None; read no weights.

        Args:
            name: a name that it owns.
            wanted: text after the @; empty for the default weights, `none` for random ones.
        """

    def describe(self, name: str) -> BackboneInfo:
        """Return metadata of the default weights without reading them."""

    def load(self, name: str, wanted: str, backbone: str) -> Weights:
        """Load weights; their `source` is the name under which this source is registered.

        Args:
            name: name without weights, for which `problem` returned None.
            wanted: the requested weights, see `problem`.
            backbone: `NAME[@WEIGHTS]` as the user wrote it.

        Raises:
            BackboneError: a file is missing, damaged or unsafe.
        """

    def architecture(self, name: str, *, size: int) -> nn.Module:
        """The architecture that the default weights belong to, with random ones; see `build`."""
