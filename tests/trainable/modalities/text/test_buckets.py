from __future__ import annotations

import numpy as np
import pytest

from trainable.modalities.text.buckets import MAX_LENGTH, bucket_lengths, padded_lengths


@pytest.mark.parametrize("max_length", [5, 16, 40, 256, MAX_LENGTH])
def test_every_text_fits_its_bucket_and_no_smaller_one(max_length: int) -> None:
    num_tokens = np.arange(1, max_length + 1)
    padded = padded_lengths(num_tokens, max_length=max_length)
    buckets = np.asarray(bucket_lengths(max_length))
    assert (padded >= num_tokens).all()
    smaller = np.where(buckets < padded[:, None], buckets, 0).max(axis=1)
    assert (smaller < num_tokens).all()


def test_the_longest_text_decides_the_last_bucket() -> None:
    assert bucket_lengths(40) == (12, 16, 20, 24, 32, 40)
    assert bucket_lengths(32) == (12, 16, 20, 24, 32)


def test_a_bucket_does_not_depend_on_the_other_texts() -> None:
    together = padded_lengths(np.array([3, 17, 200, 256]), max_length=256)
    alone = [padded_lengths(np.array([n]), max_length=256)[0] for n in (3, 17, 200, 256)]
    assert together.tolist() == alone == [12, 20, 256, 256]


def test_padding_costs_little_over_the_tokens_themselves() -> None:
    num_tokens = np.arange(8, MAX_LENGTH + 1)
    padded = padded_lengths(num_tokens, max_length=MAX_LENGTH)
    assert padded.sum() < 1.3 * num_tokens.sum()
