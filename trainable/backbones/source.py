"""The protocol of a source of backbones, implemented by a module or an object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from trainable.backbones.weights import Arrays, BackboneInfo, Weights

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.tracing import LeafModules


class NetworkBuilder(Protocol):
    """Builds the networks of weights."""

    def build(self, weights: Weights, *, image_size: int) -> nn.Module:
        """Build the architecture for square images of `image_size` pixels, with arbitrary values.

        It maps (N, 3, S, S) float32 to (N, C) logits; its last nn.Linear or 1x1 nn.Conv2d is the
        classifier to replace. The arrays of `weights` may be empty.

        Raises:
            BackboneError: it cannot be built, for example for images of this size.
        """

    def adapt(self, weights: Weights, model: nn.Module, *, image_size: int) -> Arrays:
        """Return the arrays adapted to a network that `build` made; most are unchanged."""

    def leaf_modules(self) -> LeafModules:
        """Return what torch.fx must not trace; `TRANSPARENT` if it can trace everything."""


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

    def architecture(self, name: str, *, image_size: int) -> nn.Module:
        """Build the architecture of the default weights with random ones; see `build`."""
