"""What the rest of the program asks of a kind of example, such as images: how bytes become inputs.

An example's inputs are one *content* tensor, which the first layers see, and further *side inputs*,
which layers anywhere in the network may see, such as a mask of the padding. Layers that look at
side inputs or shapes alone are computed anew behind a cut; content is not.

Examples of one kind may differ in size. Each has a *padded size* that depends on nothing but the
example itself and the size asked for, so that its rows have the same bits whatever is computed
beside it. Images have one padded size, the side of the square that the network sees.
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
        shape: of one example's row, with views first where there are any.
        dtype: of the rows.
        stored: whether the feature cache may hold rows: whether making them costs more than reading
            them.
        row_s: seconds that making one row takes at the least.
        key: JSON values that rows depend on, the example's own content aside.
        content_key: JSON values that `content` depends on; they become part of every feature key.
        batch: examples per forward pass on a CPU. Every pass has that many, because kernels for
            other numbers round differently.
    """

    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    stored: bool
    row_s: float
    key: Mapping[str, Any]
    content_key: Mapping[str, Any]
    batch: int

    def rows(self, indices: Indices) -> npt.NDArray[Any]:
        """Make the rows of some examples.

        Args:
            indices: (M,) indices of the examples.

        Returns:
            (M, *shape) of `dtype`.

        Raises:
            DataError: an example cannot be read; the message names its path.
        """

    def content(self, rows: Tensor) -> Tensor:
        """Return (M, *shape) content as the network takes it, on the device of the rows."""

    def side(self, indices: Indices) -> tuple[Tensor, ...]:
        """Return the side inputs of some examples, on the CPU; empty if the network has none."""


class Modality(Protocol):
    """A kind of example.

    Attributes:
        name: as weights and labelled examples have it.
        setting: name of the setting of a trial that sizes its inputs.
        nouns: what examples are called.
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
        """Resolve the size of a backbone's input.

        Args:
            weights: of the backbone.
            given: the size that was asked for; `auto` or None for the backbone's own.
        """

    def size_text(self, size: int) -> str:
        """Return a size with its unit, for messages: `224 x 224 pixels`."""

    def prepare(self, examples: LabelledExamples, backbone: Backbone, size: int) -> tuple[str, ...]:
        """Do in the driver what other processes are spared: trace the backbone, tokenise texts.

        Args:
            examples: those that were read.
            backbone: gets what is made.
            size: of the inputs.

        Returns:
            What the user should know, a line each.

        Raises:
            BackboneError: the backbone cannot be traced, or does not fit examples of this size.
        """

    def padded_sizes(
        self, examples: LabelledExamples, indices: Indices, backbone: Backbone, size: int
    ) -> Indices:
        """Return (M,) the padded size of each example where inputs have at most `size`."""

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
            examples: with their encoded bytes.
            backbone: for which they are made.
            padded_size: size of each row.
            size: the size that was asked for.
            augmentation: views to make of each example; None for the example as it is.
            seed: of the views.
        """
