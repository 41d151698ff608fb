"""A backbone in this process: its graphs, and the tokens of the texts that it reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from trainable.backbones.builders import builder_called
from trainable.backbones.source import KeepsGraphs, NetworkBuilder
from trainable.backbones.sources import CUSTOM, SOURCES
from trainable.backbones.weights import Arrays, Preprocessing, TextPreprocessing, Weights
from trainable.data.tokens import TokenTable
from trainable.errors import BackboneError

if TYPE_CHECKING:
    from torch import nn

    from trainable.backbones.graphs.graph import TracedBackbone
    from trainable.backbones.graphs.graph_cache import KeptGraph

Form = tuple[str, int]
"""What a backbone's graph depends on beside its architecture: how the vectors of a text's tokens
are pooled, which is nothing for images, and the size of its input."""


class Backbone:
    """A backbone in this process: built and traced once where one graph serves, never trained.

    Sizes are the sides of square images in pixels, or the lengths that texts are padded to in
    tokens. A graph that is right for several sizes is traced once, and examined anew for each.

    Args:
        weights: of the backbone; copied, never written to.
        graphs: what `graphs` of the same backbone was in another process. Where there is one the
            network is neither built nor traced, nor is its library imported.
        tokens: of a backbone for texts, by what they depend on: the tokens of all texts that it
            will read; see `TextPreprocessing.before_pooling`.

    Attributes:
        weights: as given.
        tokens: as given; the driver adds to them.
    """

    def __init__(
        self,
        weights: Weights,
        graphs: Mapping[Form, bytes] | None = None,
        tokens: Mapping[TextPreprocessing, TokenTable] | None = None,
    ) -> None:
        self.weights = weights
        self.tokens = dict(tokens or {})
        self._given = graphs or {}
        self._traced: dict[Form, TracedBackbone] = {}
        self._usual_pooling = weights.preprocessing.pooling

    @property
    def graphs(self) -> Mapping[Form, bytes]:
        """Of all forms that it was traced in so far and whose graph can travel."""
        from trainable.backbones.graphs.transport import to_bytes

        found = {
            form: to_bytes(traced, self.weights.arrays) for form, traced in self._traced.items()
        }
        return {form: content for form, content in found.items() if content is not None}

    def reading(self, preprocessing: Preprocessing | TextPreprocessing) -> Backbone:
        """The same backbone for examples that are prepared in another way, such as pooled.

        Graphs and tokens of one are there for all that were made of one another.
        """
        if preprocessing == self.weights.preprocessing:
            return self
        other = copy.copy(self)
        other.weights = replace(self.weights, preprocessing=preprocessing)
        return other

    @property
    def as_usual(self) -> Backbone:
        """The same backbone where texts are pooled as its weights say; itself for images."""
        how = self.weights.preprocessing
        if how.pooling == self._usual_pooling:
            return self
        return self.reading(replace(self.weights.text_preprocessing, pooling=self._usual_pooling))

    def naming(self, node: str, size: int) -> Backbone:
        """The backbone that names the features of a node: `as_usual`, if it computes them too.

        So features before the pooling are shared by all poolings.

        Args:
            node: name of a node of the graph.
            size: of the graph.

        Raises:
            BackboneError: see `traced`.
        """
        usual = self.as_usual
        if usual is self:
            return self
        from trainable.backbones.graphs.comparing import common_nodes

        return usual if node in common_nodes(self.traced(size), usual.traced(size)) else self

    def traced(self, size: int) -> TracedBackbone:
        """Its graph for examples of a size.

        Raises:
            BackboneError: the size does not suit it, it cannot be traced, or the weights do not
                fit.
        """
        form = self._form(size)
        if form not in self._traced:
            self._traced[form] = self._find(form)
        return self._traced[form]

    def _form(self, size: int) -> Form:
        return self.weights.preprocessing.pooling, size

    def on_meta(self, size: int) -> Backbone:
        """The same at one size, its network without memory on the meta device.

        Raises:
            BackboneError: see `traced`.
        """
        import torch

        from trainable.backbones.graphs.graph import copied_to

        twin = Backbone(self.weights)
        twin._traced[self._form(size)] = copied_to(torch.device("meta"), self.traced(size))
        return twin

    def model(self, size: int) -> nn.Module:
        """The network itself, in eval mode: built anew, with its weights and some head.

        Raises:
            BackboneError: see `traced`.
        """
        model, arrays = self._built(size)
        _copy_into(model, self.weights, arrays, heads=self.traced(size).head_names)
        return model.eval()

    def _find(self, form: Form) -> TracedBackbone:
        from trainable.backbones.graphs.graph import resized, share_tensors

        pooling, size = form
        alike = (one for (its, _), one in self._traced.items() if its == pooling)
        known = next((one for one in alike if size in one.sizes), None)
        given = self._given.get(form)
        if known is not None and given is None:
            return resized(known, size)
        found = self._trace(size) if given is None else self._rebuilt(given, known)
        other = next(iter(self._traced.values()), None)
        if pooling and known is None and other is not None:  # of images, weights depend on the size
            share_tensors(found.module, other.module, names=self.weights.arrays)
        return found

    def _built(self, size: int) -> tuple[nn.Module, Arrays]:
        """The architecture, and the arrays as it takes them, not yet copied into it."""
        builder = builder_called(self.weights.source)
        model = builder.build(self.weights, size=size)
        return model, builder.adapt(self.weights, model, size=size)

    def _trace(self, size: int) -> TracedBackbone:
        builder = builder_called(self.weights.source)
        kept = self._kept(builder, size)
        traced = None if kept is None else kept.read()
        if traced is not None:
            return traced
        model, arrays = self._built(size)
        traced = builder.trace(model.eval(), size=size)
        _copy_into(model, self.weights, arrays, heads=traced.head_names)
        if kept is not None:
            kept.write(traced)
        return traced

    def _kept(self, builder: NetworkBuilder, size: int) -> KeptGraph | None:
        """The place of the graph in the cache; None where its source makes it quickly."""
        if not isinstance(builder, KeepsGraphs):
            return None
        from trainable.backbones.graphs.graph_cache import KeptGraph

        key = {**builder.graph_key(self.weights, size=size), "weights": self.weights.digest}
        return KeptGraph(key, self.weights.arrays)

    def _rebuilt(self, graph: bytes, known: TracedBackbone | None) -> TracedBackbone:
        from trainable.backbones import custom_models
        from trainable.backbones.graphs.transport import from_bytes

        built = self.weights.undecoded
        own = built.source == CUSTOM
        if not own:  # its graph may refer to classes of a package that is missing here
            SOURCES.check(built.source)
        with custom_models.importable(built) if own else nullcontext():
            return from_bytes(graph, self.weights.arrays, known=known)


def _copy_into(model: nn.Module, weights: Weights, arrays: Arrays, *, heads: Sequence[str]) -> None:
    """Load arrays into a model; entries of heads may misfit, because they are replaced."""
    from trainable.backbones import coverage
    from trainable.backbones.fitting import misfit

    found = coverage.load(model, arrays, heads=heads)
    if found:
        version = "" if weights.version in weights.backbone else f" ({weights.version})"
        raise BackboneError(f"{weights.backbone}{version}: {misfit(found)}")
