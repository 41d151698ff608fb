"""A file that is taken for sound without being decoded does decode, whatever was done to it."""

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from orchestrator.datasets.header_check import kind_of
from trainable.errors import DataError
from trainable.modalities.image.decoding import decode_image


def saved(
    kind: str, mode: str = "RGB", *, side: int = 24, seed: int = 0, **options: object
) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    arguments: dict[str, Any] = options
    Image.fromarray(pixels).convert(mode).save(file, kind, **arguments)
    return file.getvalue()


def text() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", "camera")
    return info


def exif() -> Image.Exif:
    notes = Image.Exif()
    notes[0x0112] = 6
    return notes


FILES: dict[str, Callable[[int], bytes]] = {
    "jpeg": lambda seed: saved("JPEG", seed=seed),
    "grey jpeg": lambda seed: saved("JPEG", "L", seed=seed),
    "jpeg with restarts": lambda seed: saved("JPEG", seed=seed, restart_marker_rows=1),
    "jpeg with notes": lambda seed: saved("JPEG", seed=seed, exif=exif(), comment=b"hello"),
    "png": lambda seed: saved("PNG", seed=seed),
    "palette png": lambda seed: saved("PNG", "P", seed=seed),
    "transparent png": lambda seed: saved("PNG", "RGBA", seed=seed),
    "png with text": lambda seed: saved("PNG", "L", seed=seed, pnginfo=text()),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_one_encoder_are_of_one_kind_and_others_are_not(name: str) -> None:
    kind = kind_of(FILES[name](0))
    assert kind is not None
    assert kind_of(FILES[name](1)) == kind
    others = {kind_of(make(0)) for other, make in FILES.items() if other != name}
    if name not in ("jpeg", "jpeg with notes"):  # notes decide nothing
        assert kind not in others


def test_sizes_are_no_part_of_a_kind() -> None:
    assert kind_of(saved("JPEG", side=24)) == kind_of(saved("JPEG", side=40))
    assert kind_of(saved("PNG", side=24)) == kind_of(saved("PNG", side=40))


@pytest.mark.parametrize(
    "encoded",
    [
        saved("JPEG", progressive=True),
        saved("JPEG", icc_profile=b"profile"),
        saved("JPEG") + b"tail",
        saved("PNG") + b"tail",
        saved("GIF", "P"),
        saved("PNG", icc_profile=b"profile"),
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_unusual_has_to_be_decoded(encoded: bytes) -> None:
    assert kind_of(encoded) is None


def test_a_pixel_bomb_has_to_be_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 24 - 1)
    assert kind_of(saved("JPEG")) is None
    assert kind_of(saved("PNG")) is None


def test_a_chunk_with_a_wrong_checksum_or_length_has_to_be_decoded() -> None:
    whole = saved("PNG")
    at = whole.index(b"IDAT") + 20
    assert kind_of(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]) is None
    data = b"\x00" * 20
    crc = zlib.crc32(b"IDAT" + data).to_bytes(4)
    assert kind_of(whole[: at - 24] + b"\xff\xff\xff\xff" + b"IDAT" + data + crc) is None


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # as where pictures are read
@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(FILES)),
    seed=st.integers(0, 20),
    cut=st.none() | st.integers(0, 3000),
    insertion=st.binary(max_size=3),
    changes=st.lists(
        st.tuples(st.integers(0, 3000) | st.integers(0, 700), st.integers(0, 255)), max_size=4
    ),
    ending=st.sampled_from([b"", b"\xff\xd9"]),
)
def test_whatever_happens_to_a_file_what_is_of_a_sound_kind_decodes(
    *,
    name: str,
    seed: int,
    cut: int | None,
    insertion: bytes,
    changes: list[tuple[int, int]],
    ending: bytes,
) -> None:
    whole = FILES[name](seed)
    damaged = bytearray(whole if cut is None else whole[:cut] + insertion + ending)
    for at, value in changes:
        if at < len(damaged):
            damaged[at] = value
    if kind_of(bytes(damaged)) == kind_of(whole):
        decode_image(bytes(damaged))


def test_the_property_above_can_fail() -> None:
    """Some damage keeps a file's kind, and some damage of another kind is refused by Pillow."""
    whole = saved("JPEG")
    data = whole.index(b"\xff\xda") + 40
    damaged = whole[:data] + bytes([whole[data] ^ 1]) + whole[data + 1 :]
    assert damaged != whole
    assert kind_of(damaged) == kind_of(whole)
    with pytest.raises(DataError):
        decode_image(whole[:data])
    assert kind_of(whole[:data]) is None
