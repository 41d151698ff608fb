import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from orchestrator.recording.array_text import from_text, to_text


@given(
    array=arrays.arrays(
        dtype=st.sampled_from(["<i8", ">i8", "<f4", ">f4", "<f8", "u1", "?", "<i2"]),
        shape=st.integers(0, 20),
    )
)
def test_arrays_come_back_from_a_journal_line_bit_for_bit(array: npt.NDArray[np.generic]) -> None:
    text = json.loads(json.dumps(to_text(array)))
    back = from_text(text)
    assert back.dtype == array.dtype.newbyteorder("<")
    assert back.tobytes() == array.astype(back.dtype).tobytes()


def test_text_is_short_and_little_endian_on_any_machine() -> None:
    expected = "<i2:AQACAA=="
    for dtype in ("<i2", ">i2"):
        assert to_text(np.asarray([1, 2], dtype=dtype)) == expected


@pytest.mark.parametrize("text", ["<i2:AQA", "<i4:AQACAAMA"])
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"padding|multiple of element size"):
        from_text(text)
