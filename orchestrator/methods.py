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
    MAJORITY = "majority"
    """The commonest class everywhere, whatever the image."""
    TFIDF = "tfidf"
    """Logistic regression on tf-idf of word and character n-grams, without a network."""


WITHOUT_BACKBONE: Mapping[tuple[str, str], tuple[Method, ...]] = {
    ("classification", "image"): (Method.PIXELS,),
    ("classification", "text"): (Method.TFIDF,),
    ("segmentation", "image"): (Method.MAJORITY, Method.PIXELS),
}
"""The methods that use no backbone, by task and modality."""

WITHOUT_BACKBONE_METHODS = frozenset(
    method for methods in WITHOUT_BACKBONE.values() for method in methods
)
"""All methods that use no backbone."""
