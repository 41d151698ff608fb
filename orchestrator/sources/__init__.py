"""Where labelled images come from: one module a source, each giving `LabelledImages`."""

from orchestrator.sources import digits
from orchestrator.space import DatasetSection
from trainable.images import LabelledImages


def load_images(dataset: DatasetSection, *, seed: int) -> LabelledImages:
    """The images of a search-space file's `dataset:`, with their test split.

    Args:
        dataset: the section.
        seed: of the sweep; draws the test split where the source has none of its own.
    """
    return digits.load(test=dataset.test, seed=seed)
