"""How what is compared was made: the words of the column `method` and of `baselines:`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Method(StrEnum):
    """What scores the test images of a label budget."""

    FINETUNE = "finetune"
    """A configuration of the search space, trained."""
    PROBE = "probe"
    """Logistic regression on the features of a frozen backbone."""
    PIXELS = "pixels"
    """Logistic regression on the pixels themselves, without a network."""
    TFIDF = "tfidf"
    """Logistic regression on tf-idf of word and character n-grams, without a network."""


WITHOUT_BACKBONE: Mapping[str, Method] = {"image": Method.PIXELS, "text": Method.TFIDF}
"""The method that uses no backbone, by modality."""
