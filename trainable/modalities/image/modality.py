"""Images as a modality: every image has the padded size of the network's square input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from trainable.backbones import Backbone, Weights
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.masks import Masks
from trainable.modalities.image.inputs import PixelInputs
from trainable.modalities.image.views import draw_mask_views
from trainable.modalities.modality import Indices, Inputs, Modality
from trainable.spec.augmentation import Augmentation
from trainable.spec.settings import SIZES


class _Image:
    """See `Modality`."""

    name = "image"
    setting = SIZES["image"]
    nouns = "images"

    def reading(self, backbone: Backbone, given: Mapping[str, Any]) -> Backbone:
        """Return the backbone: there is one way."""
        del given
        return backbone

    def resolved(self, weights: Weights) -> Mapping[str, Any]:
        """Return nothing: there is one way."""
        del weights
        return {}

    def size(self, weights: Weights, given: int | str | None) -> int:
        """Return the side of the backbone's input, in pixels."""
        if given is None or given == "auto":
            return weights.image_preprocessing.image_size
        return int(given)

    def size_text(self, size: int) -> str:
        """Return `S x S pixels`."""
        return f"{size} x {size} pixels"

    def prepare(self, examples: LabelledExamples, backbone: Backbone, size: int) -> tuple[str, ...]:
        """Trace the backbone.

        Raises:
            BackboneError: the backbone cannot be traced at this size.
        """
        del examples
        backbone.traced(size)
        return ()

    def padded_sizes(
        self, examples: LabelledExamples, indices: Indices, backbone: Backbone, size: int
    ) -> Indices:
        """Return `size` for every image."""
        del examples, backbone
        return np.full(len(indices), size, dtype=np.int64)

    def labels_of_views(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> LabelledExamples:
        """Return the views of all images; masks are moved as the views are."""
        repeated = examples.at(np.repeat(np.arange(len(examples)), augmentation.num_views))
        if examples.masks is None:
            return repeated
        masks = draw_mask_views(
            examples,
            augmentation=augmentation,
            preprocessing=backbone.weights.image_preprocessing.resized(size),
            seed=seed,
        )
        return replace(repeated, masks=Masks.of(masks))

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
        """Return images or views of `padded_size` x `padded_size` pixels."""
        del size
        preprocessing = backbone.weights.image_preprocessing.resized(padded_size)
        return PixelInputs(examples, preprocessing, augmentation=augmentation, seed=seed)


IMAGE: Modality = _Image()
