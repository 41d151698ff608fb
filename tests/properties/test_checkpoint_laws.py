"""Whatever happens to the files of a checkpoint: it is refused, or it is the same."""

import contextlib

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainable.errors import CheckpointError
from trainable.training.checkpoint import Checkpoint

MADE = Checkpoint(
    {"about": {"spec": {"lr": 0.003}, "images": "ab"}, "rows": None, "fold0": {"step": 3}},
    {
        "fold0/loss": torch.tensor(0.7, dtype=torch.float64),
        "fold0/weight": torch.arange(6.0).view(3, 2),
    },
)
TEXT, CONTENT = MADE.to_files()


def refused_or_the_same(text: bytes, content: bytes) -> None:
    with contextlib.suppress(CheckpointError):
        found = Checkpoint.from_files(text.decode(errors="replace"), content)
        assert found.values == MADE.values
        assert found.tensors.keys() == MADE.tensors.keys()
        assert all(torch.equal(found.tensors[name], MADE.tensors[name]) for name in MADE.tensors)


def test_the_files_as_they_were_made_are_not_refused() -> None:
    assert Checkpoint.from_files(TEXT, CONTENT).values == MADE.values


@settings(deadline=None, max_examples=300)
@given(data=st.data(), flips=st.integers(1, 255), in_text=st.booleans())
def test_a_changed_byte_is_noticed_or_changes_nothing(
    data: st.DataObject, flips: int, in_text: bool
) -> None:
    files = [bytearray(TEXT.encode()), bytearray(CONTENT)]
    file = files[0 if in_text else 1]
    file[data.draw(st.integers(0, len(file) - 1))] ^= flips
    refused_or_the_same(bytes(files[0]), bytes(files[1]))


@settings(deadline=None, max_examples=100)
@given(text=st.integers(0, len(TEXT)), content=st.integers(0, len(CONTENT)), zeros=st.booleans())
@example(text=len(TEXT), content=len(CONTENT), zeros=False)
def test_a_file_cut_off_is_noticed(text: int, content: int, zeros: bool) -> None:
    """Some file systems leave zeros where something was not written."""
    filled = (b"\0" * (len(TEXT) - text), b"\0" * (len(CONTENT) - content)) if zeros else (b"", b"")
    refused_or_the_same(TEXT.encode()[:text] + filled[0], CONTENT[:content] + filled[1])


@settings(deadline=None, max_examples=100)
@given(text=st.binary(max_size=200), content=st.binary(max_size=200))
def test_anything_at_all_is_refused(text: bytes, content: bytes) -> None:
    refused_or_the_same(text, CONTENT)
    refused_or_the_same(TEXT.encode(), content)
    refused_or_the_same(text, content)
