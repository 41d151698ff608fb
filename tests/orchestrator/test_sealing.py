from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.sealing import FOOTNOTE, is_broken, sealed

TABLE = pa.table({"trial_id": ["a", "b", None], "lr": [0.1, 0.2, 0.3]})


def _parquet(note: dict[bytes, bytes] | None = FOOTNOTE, **options: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(TABLE.replace_schema_metadata(note), content, **options)
    return content.getvalue()


@pytest.mark.parametrize("options", [{}, {"write_page_index": True}, {"row_group_size": 1}])
def test_a_sealed_file_is_read_as_before(options: dict[str, Any]) -> None:
    content = sealed(_parquet(**options))
    assert not is_broken(content)
    found = pq.read_table(io.BytesIO(content))
    assert found.equals(TABLE)
    assert found.schema.metadata == FOOTNOTE


def test_a_file_of_a_version_that_knew_no_seals_is_not_broken() -> None:
    assert not is_broken(_parquet(note=None))
    assert not is_broken(b"")
    assert not is_broken(b"PAR1\xff\xff\xff\xffPAR1")


def test_a_file_that_lost_its_seal_is_broken() -> None:
    assert is_broken(_parquet())


def test_any_bit_changed_breaks_the_seal_or_the_file() -> None:
    content = sealed(_parquet())
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        if not is_broken(bytes(changed)):
            with pytest.raises((pa.ArrowException, OSError), match=r"[Pp]arquet|[Tt]hrift|size"):
                pq.read_table(io.BytesIO(bytes(changed)))
