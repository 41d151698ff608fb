from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from trainable.data.tokens import TokenTable, mask_of
from trainable.errors import DataError

TEXTS = ([2, 7, 3], [2, 8, 9, 9, 3], [2, 3])


def digests_of(*names: str) -> npt.NDArray[np.uint8]:
    joined = b"".join(hashlib.sha256(name.encode()).digest() for name in names)
    return np.frombuffer(joined, dtype=np.uint8).reshape(-1, 32)


@pytest.fixture
def table() -> TokenTable:
    return TokenTable.of(
        [np.array(text, dtype=np.int32) for text in TEXTS],
        digests=[digest.tobytes() for digest in digests_of("a", "b", "c")],
        pad_id=1,
    )


def test_texts_are_found_by_content_in_any_order_and_number(table: TokenTable) -> None:
    assert len(table) == 3
    assert table.rows(digests_of("c", "a", "c")).tolist() == [2, 0, 2]
    assert table.lengths(digests_of("c", "a", "b")).tolist() == [2, 3, 5]


def test_texts_are_padded_on_their_right(table: TokenTable) -> None:
    padded = table.padded(digests_of("b", "a", "c"), 6)
    assert padded.dtype == np.int32
    assert padded.tolist() == [[2, 8, 9, 9, 3, 1], [2, 7, 3, 1, 1, 1], [2, 3, 1, 1, 1, 1]]


def test_the_row_of_a_text_does_not_depend_on_other_texts(table: TokenTable) -> None:
    together = table.padded(digests_of("a", "b", "c"), 5)
    for row, name in zip(together, "abc", strict=True):
        np.testing.assert_array_equal(table.padded(digests_of(name), 5)[0], row)


def test_no_texts_give_no_rows(table: TokenTable) -> None:
    assert table.padded(digests_of(), 5).shape == (0, 5)
    assert TokenTable.of([], digests=[], pad_id=0).rows(digests_of()).tolist() == []


def test_a_text_that_is_not_there_is_named_by_its_digest(table: TokenTable) -> None:
    missing = digests_of("d")
    with pytest.raises(DataError, match=f"{missing.tobytes().hex()[:16]}.*not been tokenised"):
        table.padded(missing, 5)


def test_a_table_is_the_same_in_another_process(table: TokenTable) -> None:
    table.rows(digests_of("a"))
    copy = pickle.loads(pickle.dumps(table))
    assert copy.padded(digests_of("a", "c"), 3).tolist() == [[2, 7, 3], [2, 3, 1]]


def test_workers_look_tokens_up_without_the_libraries_that_made_them() -> None:
    code = (
        "import sys; from trainable.data import tokens; "
        "from trainable.modalities.text import buckets; "
        "print(sorted({'torch', 'tokenizers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_mask_is_1_at_tokens_and_0_at_padding() -> None:
    mask = mask_of(np.array([3, 1, 4]), 4)
    assert mask.dtype == np.int64
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
