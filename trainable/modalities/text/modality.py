"""Texts as a modality: a text is padded to a length that its own number of tokens decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trainable.backbones import Backbone, Weights, tokenizer_of
from trainable.backbones.weights import TextPreprocessing
from trainable.data.labelled_examples import LabelledExamples
from trainable.data.tokens import TokenTable
from trainable.errors import DataError, SpecError
from trainable.modalities.modality import Indices, Inputs, Modality
from trainable.modalities.text.buckets import padded_lengths
from trainable.modalities.text.inputs import TextInputs
from trainable.spec.augmentation import Augmentation
from trainable.spec.settings import AUTO, MOST_TOKENS, READINGS, SIZES

if TYPE_CHECKING:
    from trainable.modalities.text.tokenizing import TokenizedTexts

MOST_LOST = 0.05
"""Share of texts cut off, or of tokens unknown, above which there is a warning."""


class _Text:
    """See `Modality`."""

    name = "text"
    setting = SIZES["text"]
    nouns = "texts"

    def reading(self, backbone: Backbone, given: Mapping[str, Any]) -> Backbone:
        """Return the backbone with the truncation, prompt and pooling that are given."""
        chosen = {
            name: given[name] for name in READINGS[self.name] if given.get(name, AUTO) != AUTO
        }
        return backbone.reading(replace(backbone.weights.text_preprocessing, **chosen))

    def resolved(self, weights: Weights) -> Mapping[str, Any]:
        """Return the truncation, prompt and pooling."""
        return {name: getattr(weights.text_preprocessing, name) for name in READINGS[self.name]}

    def size(self, weights: Weights, given: int | str | None) -> int:
        """Return the most tokens of a text.

        Raises:
            SpecError: the backbone has no positions for so many.
        """
        if given is None or given == "auto":
            return weights.text_preprocessing.max_length
        return int(given)

    def size_text(self, size: int) -> str:
        """Return `L tokens`."""
        return f"{size} tokens"

    def prepare(self, examples: LabelledExamples, backbone: Backbone, size: int) -> tuple[str, ...]:
        """Tokenise the texts that were read, and trace the backbone for each of their lengths.

        Raises:
            BackboneError: there is no tokenizer, or the backbone cannot be traced.
        """
        if size > backbone.weights.text_preprocessing.max_length:
            backbone.model(size)  # refuses more tokens than it has positions for
        read = np.flatnonzero(examples.is_read())
        notes = self._tokenise(examples, read, backbone, size)
        lengths = np.unique(self.padded_sizes(examples, read, backbone, size)).tolist()
        for one in (backbone.as_usual, backbone):
            for length in (size, *lengths):
                one.traced(length)
        return notes

    def _tokenise(
        self, examples: LabelledExamples, read: Indices, backbone: Backbone, size: int
    ) -> tuple[str, ...]:
        from trainable.modalities.text.tokenizing import TextTokenizer

        how = backbone.weights.text_preprocessing.before_pooling(size)
        if how in backbone.tokens:  # of another pooling
            return ()
        tokenizer = TextTokenizer(tokenizer_of(backbone.weights), how)
        found = tokenizer.tokenize([examples.encoded(int(index)) for index in read])
        backbone.tokens[how] = found.table
        return _notes(found)

    def padded_sizes(
        self, examples: LabelledExamples, indices: Indices, backbone: Backbone, size: int
    ) -> Indices:
        """Return the length that each text is padded to, in tokens.

        Raises:
            DataError: a text has not been tokenised.
        """
        lengths = _tokens(backbone, size).lengths(examples.digests[indices])
        return padded_lengths(lengths, max_length=size)

    def labels_of_views(
        self,
        examples: LabelledExamples,
        backbone: Backbone,
        *,
        size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> LabelledExamples:
        """Return the texts: a text has no views."""
        del backbone, size, augmentation, seed
        return examples

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
        """Return tokens padded to `padded_size`.

        Raises:
            SpecError: views are asked for, which texts do not have.
        """
        del seed
        if augmentation is not None:
            raise SpecError("augment: texts have no augmented views; leave it out")
        return TextInputs(
            examples,
            _tokens(backbone, size),
            preprocessing_at(backbone.weights, size),
            length=padded_size,
        )


TEXT: Modality = _Text()


def _notes(found: TokenizedTexts) -> tuple[str, ...]:
    """Return what share of the texts was cut off, and what share of the tokens is unknown."""
    cut, unknown = float(found.truncated.mean()), float(found.unknown_share.mean())
    line = (
        f"{100 * cut:.1f} % of the texts have more than {found.max_length} tokens and are cut off; "
        f"{100 * unknown:.1f} % of the tokens are unknown"
    )
    if cut > MOST_LOST and found.max_length < MOST_TOKENS:
        line += ". Texts lose what tells them apart: a larger max_length keeps more of them"
    if unknown > MOST_LOST:
        line += ". The backbone was trained on texts of another kind or language"
    return (line,)


def preprocessing_at(weights: Weights, size: int) -> TextPreprocessing:
    """Return the preprocessing of a backbone for texts of at most `size` tokens."""
    return replace(weights.text_preprocessing, max_length=size)


def _tokens(backbone: Backbone, size: int) -> TokenTable:
    how = backbone.weights.text_preprocessing.before_pooling(size)
    if how not in backbone.tokens:
        raise DataError(f"no text has been tokenised for {backbone.weights.backbone} at {size}")
    return backbone.tokens[how]
