import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from orchestrator.datasets import digits
from orchestrator.datasets.sections import DigitsSection
from tests.builders.prepared import load_images
from trainable.data.labelled_examples import LabelledExamples, Split


@pytest.fixture(scope="module")
def fixed() -> LabelledExamples:
    return digits.load(test=None, seed=0)


def test_all_scans_are_there_with_their_labels(fixed: LabelledExamples) -> None:
    scans = load_digits()
    assert len(fixed) == 1797
    assert fixed.class_names == tuple("0123456789")
    assert np.array_equal(fixed.labels, scans.target)
    for i in range(len(fixed)):
        with Image.open(io.BytesIO(fixed.encoded(i))) as picture:
            assert (picture.mode, picture.size) == ("L", (8, 8))
            pixels = np.asarray(picture)
        # Scans count 0 to 16, bytes 0 to 255: full ink is the one value that is cut.
        expected = np.minimum(scans.images[i] * 16, 255)
        assert np.array_equal(pixels, expected)


def test_test_split_is_fixed_whatever_the_seed(fixed: LabelledExamples) -> None:
    other = digits.load(test=None, seed=7)
    assert (fixed.split == Split.TEST).sum() == 797
    assert (fixed.split == Split.POOL).sum() == 1000
    assert np.array_equal(fixed.split, other.split)
    assert fixed.fingerprint() == other.fingerprint()


def test_fixed_test_split_holds_every_class_in_fair_shares(fixed: LabelledExamples) -> None:
    counts = np.bincount(fixed.labels[fixed.indices(Split.TEST)], minlength=10)
    assert counts.min() > 55
    assert counts.max() < 105


def test_share_given_is_about_that_of_the_images_and_moves_with_the_seed() -> None:
    splits = [digits.load(test=0.3, seed=seed).split for seed in (0, 0, 1)]
    for split in splits:
        assert (split == Split.TEST).mean() == pytest.approx(0.3, abs=0.04)
    assert np.array_equal(splits[0], splits[1])
    assert not np.array_equal(splits[0], splits[2])
    both = ((splits[0] == Split.TEST) & (splits[2] == Split.TEST)).mean()
    assert both == pytest.approx(0.09, abs=0.03)


def test_larger_share_keeps_the_test_images_of_a_smaller_one() -> None:
    small, large = (digits.load(test=share, seed=0).split for share in (0.2, 0.3))
    assert (large[small == Split.TEST] == Split.TEST).all()


def test_section_of_a_file_loads_the_same(fixed: LabelledExamples) -> None:
    assert load_images(DigitsSection(source="digits"), seed=3).fingerprint() == fixed.fingerprint()
    shared = load_images(DigitsSection(source="digits", test=0.3), seed=3)
    assert shared.fingerprint() == digits.load(test=0.3, seed=3).fingerprint()
