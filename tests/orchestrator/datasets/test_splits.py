import hashlib

import numpy as np
import pytest

from orchestrator.datasets.splits import (
    content_uniform,
    content_uniforms,
    share_of_groups,
    share_of_test,
    split_of,
)
from trainable.data.labelled_examples import Split

DIGESTS = np.asarray(
    [list(hashlib.sha256(b"%d" % number).digest()) for number in range(3000)], dtype=np.uint8
)


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("train", Split.POOL),
        (" Training ", Split.POOL),
        ("VAL", Split.VAL),
        ("valid", Split.VAL),
        ("validation", Split.VAL),
        ("test", Split.TEST),
        ("cat", None),
        ("", None),
    ],
)
def test_words_of_splits(word: str, split: Split | None) -> None:
    assert split_of(word) is split


def test_uniforms_are_those_of_each_content_alone_and_spread_evenly() -> None:
    values = content_uniforms(DIGESTS, key="x")
    assert values[7] == content_uniform(DIGESTS[7].tobytes(), key="x")
    assert np.histogram(values, bins=10, range=(0, 1))[0] == pytest.approx(300, abs=80)
    assert abs(np.corrcoef(values, content_uniforms(DIGESTS, key="y"))[0, 1]) < 0.06


def test_the_share_of_images_and_of_groups_is_about_that_asked_for() -> None:
    assert share_of_test(DIGESTS, share=0.2, seed=0).mean() == pytest.approx(0.2, abs=0.03)
    names = [f"patient {number}" for number in range(3000)]
    groups = share_of_groups(names, share=0.2, seed=0)
    assert groups.mean() == pytest.approx(0.2, abs=0.03)
    assert (share_of_groups(names[::-1], share=0.2, seed=0) == groups[::-1]).all()
    assert (share_of_groups(names, share=0.2, seed=1) != groups).any()
