import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from orchestrator.datasets import canvases
from orchestrator.datasets.canvases import CLASSES, NUM_POOL, NUM_TEST, SIDE
from orchestrator.datasets.digits import scans
from orchestrator.datasets.holders import holders
from orchestrator.datasets.mask_sections import CanvasesSection
from tests.builders.prepared import load_images
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import IGNORED


@pytest.fixture(scope="module")
def examples() -> LabelledExamples:
    return canvases.load()


def pixels_of(examples: LabelledExamples, index: int) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(examples.encoded(index))) as opened:
        return np.asarray(opened)


def test_they_are_grey_with_a_mask_of_their_size(examples: LabelledExamples) -> None:
    assert examples.task == "segmentation"
    assert examples.class_names == CLASSES
    assert examples.masks is not None
    counts = [int((examples.split == one).sum()) for one in Split]
    assert counts == [NUM_POOL, 0, NUM_TEST]
    for index in range(len(examples)):
        mask = examples.masks.mask(index)
        assert pixels_of(examples, index).shape == mask.shape == (SIDE, SIDE)
        assert mask.max() < len(CLASSES) < IGNORED


def test_every_class_is_in_many_canvases_of_either_split(examples: LabelledExamples) -> None:
    held = holders(examples)
    for split in (Split.POOL, Split.TEST):
        assert held[examples.split == split].sum(axis=0).min() >= 20


def test_they_are_the_same_in_every_load(examples: LabelledExamples) -> None:
    again = load_images(CanvasesSection(), seed=7)
    assert again.image_ids() == examples.image_ids()
    assert again.paths == examples.paths
    assert again.fingerprint() == examples.fingerprint()
    assert again.masks is not None
    assert examples.masks is not None
    assert np.array_equal(again.masks.digests, examples.masks.digests)


def test_no_canvas_and_no_mask_is_in_both_splits(examples: LabelledExamples) -> None:
    assert examples.masks is not None
    assert len(set(examples.image_ids())) == len(examples)
    pool, test = (
        {row.tobytes() for row in examples.masks.digests[examples.split == one]}
        for one in (Split.POOL, Split.TEST)
    )
    assert not pool & test


def test_digits_of_the_test_split_are_in_no_canvas_of_the_pool(
    monkeypatch: pytest.MonkeyPatch, examples: LabelledExamples
) -> None:
    """Without their test digits, which are every other one, the pool comes out the same."""
    images, labels = scans()
    wanted = np.flatnonzero(np.isin(labels, [int(name) for name in CLASSES[1:]]))
    for split, ours in ((Split.POOL, 0), (Split.TEST, 1)):
        blank = images.copy()
        blank[wanted[1 - ours :: 2]] = 0
        monkeypatch.setattr(canvases, "scans", lambda blank=blank: (blank, labels))
        changed = canvases.load()
        same = np.asarray(changed.image_ids()) == np.asarray(examples.image_ids())
        assert same[examples.split == split].all()
        assert not same[examples.split != split].any()
