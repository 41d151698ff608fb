"""What a source of backbones has to offer; a module or an object that offers it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from trainable.backbones.weights import Arrays, BackboneInfo, Weights

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.tracing import LeafModules


class NetworkBuilder(Protocol):
    """What builds the networks that weights belong to."""

    def build(self, weights: Weights, *, image_size: int) -> nn.Module:
        """The architecture for square images of `image_size` pixels, with weights of any value.

        It takes (N, 3, S, S) float32 and gives (N, C) logits, whose last nn.Linear or 1x1 nn.Conv2d
        is the classifier to replace. The arrays of `weights` may not be there.

        Raises:
            BackboneError: it cannot be built, as for images of this size.
        """

    def adapt(self, weights: Weights, model: nn.Module, *, image_size: int) -> Arrays:
        """The arrays as a network that `build` made takes them; most are as they were."""

    def leaf_modules(self) -> LeafModules:
        """What torch.fx may not look into; `TRANSPARENT` where it can follow everything."""


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

    def architecture(self, name: str, *, image_size: int) -> nn.Module:
        """The architecture that the default weights belong to, with random ones; see `build`."""
