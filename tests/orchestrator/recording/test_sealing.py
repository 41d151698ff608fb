from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.recording.sealing import is_broken, sealed

TABLE = pa.table({"trial_id": ["a", "b", None], "lr": [0.1, 0.2, 0.3]})


def _parquet(**options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(TABLE, content, **options)
    return content.getvalue()


@pytest.mark.parametrize("options", [{}, {"write_page_index": True}, {"row_group_size": 1}])
def test_a_sealed_file_is_read_as_before(options: dict[str, Any]) -> None:
    content = sealed(_parquet(**options))
    assert not is_broken(content)
    found = pq.read_table(io.BytesIO(content))
    assert found.equals(TABLE)


def test_a_file_that_another_program_wrote_is_not_broken() -> None:
    assert not is_broken(_parquet())
    assert not is_broken(b"")
    assert not is_broken(b"PAR1\xff\xff\xff\xffPAR1")


def test_any_bit_changed_breaks_the_seal_or_the_file() -> None:
    content = sealed(_parquet())
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        if not is_broken(bytes(changed)):
            with pytest.raises((pa.ArrowException, OSError), match=r"[Pp]arquet|[Tt]hrift|size"):
                pq.read_table(io.BytesIO(bytes(changed)))
