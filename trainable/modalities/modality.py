"""Interface of a modality, a kind of examples such as images: how bytes become inputs of a network.

The inputs of an example are one *content* tensor, which the first layers take, and *side inputs*,
which layers anywhere in the network may take, such as a mask of the padding. Layers that depend on
side inputs or shapes alone are computed again behind a cut; layers that depend on content are not.

Examples may differ in size. The *padded size* of an example depends only on the example and on the
size that was asked for, so that its rows have the same bits whatever else is in a batch. All images
have one padded size, the side of the network's square input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from trainable.backbones import Backbone, Weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.augmentation import Augmentation

if TYPE_CHECKING:  # texts are read, and search-space files checked, without importing torch
    from torch import Tensor

Indices = npt.NDArray[np.int64]


class Inputs(Protocol):
    """Inputs of examples of one padded size for one backbone, as arrays that can be stored.

    Attributes:
        shape: shape of one example's row; views, if any, are the first dimension.
        dtype: data type of the rows.
        stored: whether the feature cache may store rows, because computing them takes longer than
            reading them.
        row_s: least seconds that computing one row takes.
        key: JSON values that rows depend on, apart from the example's content.
        content_key: JSON values that `content` depends on; they become part of every feature key.
        batch: examples per forward pass on a CPU. Every pass has this many, because kernels for
            other batch sizes round differently.
    """

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    stored: bool
    row_s: float
    key: Mapping[str, Any]
    content_key: Mapping[str, Any]
    batch: int

    def rows(self, indices: Indices) -> npt.NDArray[Any]:
        """Return the rows of some examples.

        Args:
            indices: (M,) indices of the examples.

        Returns:
            (M, *shape) rows of data type `dtype`.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """

    def content(self, rows: Tensor) -> Tensor:
        """Return the (M, *shape) content of some rows as the network takes it, on their device."""

    def side(self, indices: Indices) -> tuple[Tensor, ...]:
        """Return the side inputs of some examples, on the CPU; empty if the network has none."""


class Modality(Protocol):
    """A kind of examples.

    Attributes:
        name: `image` or `text`, as in `Weights` and `LabelledExamples`.
        setting: name of a trial's setting for the size of its inputs.
        nouns: word for several examples, such as `images`.
    """

    name: str
    setting: str
    nouns: str

    def reading(self, backbone: Backbone, given: Mapping[str, Any]) -> Backbone:
        """Return a backbone that reads its examples as settings say.

        Args:
            backbone: as it was loaded.
            given: value by name, of some of `READINGS`; `auto` or a missing one for its own.
        """

    def resolved(self, weights: Weights) -> Mapping[str, Any]:
        """Return the settings `READINGS` of a backbone's weights, without any `auto`."""

    def size(self, weights: Weights, given: int | str | None) -> int:
        """Return the size of a backbone's input.

        Args:
            weights: weights of the backbone.
            given: the size that was asked for; `auto` or None for the backbone's own.
        """

    def size_text(self, size: int) -> str:
        """Return a size with its unit, for messages, such as `224 x 224 pixels`."""

    def prepare(self, examples: LabelledExamples, backbone: Backbone, size: int) -> tuple[str, ...]:
        """Do work in the driver that workers then need not do: trace the backbone, tokenise texts.

        Args:
            examples: all examples of the sweep; unread ones are left out.
            backbone: the backbone, which keeps the results.
            size: size of the inputs.

        Returns:
            Notes for the user, one line each.

        Raises:
            BackboneError: the backbone cannot be traced, or does not fit examples of this size.
        """

    def padded_sizes(
        self, examples: LabelledExamples, indices: Indices, backbone: Backbone, size: int
    ) -> Indices:
        """Return the (M,) padded sizes of some examples; none is larger than `size`."""

    def labels_of_views(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> LabelledExamples:
        """Return the views of all examples with their labels, one example after another.

        Masks are those of the views; the bytes of an example are its own in each of its views.

        Args:
            examples: M examples.
            backbone: the backbone that takes the inputs.
            size: the size of inputs that was asked for.
            augmentation: the augmentation.
            seed: seed of the views.
        """

    def inputs(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        padded_size: int,
        size: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> Inputs:
        """Return the inputs of the examples of one padded size.

        Args:
            examples: the examples, with their encoded bytes.
            backbone: the backbone that takes the inputs.
            padded_size: size of each row.
            size: the size that was asked for.
            augmentation: augmentation whose views replace the examples; None for the examples.
            seed: seed of the views.
        """
