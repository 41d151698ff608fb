"""Masks as the values of their pixels, from files; what is wrong with these is collected."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from orchestrator.datasets.files import Root, read_file
from orchestrator.datasets.listing import Note
from orchestrator.space.problems import Problems, some
from orchestrator.text import plural
from trainable.errors import DataError

Values = npt.NDArray[np.int64]
"""(H, W) values of a mask's pixels."""

_PATH, _EXIF = ("dataset", "path"), ("dataset", "exif")

_ORIENTATION = 274
"""EXIF tag of the way in which a photograph has to be turned."""

_TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a photograph upright, by its orientation."""

_SWAPPING = 5
"""Orientation from which on width and height change places."""

_GREY = frozenset({"1", "L", "P", "I", "I;16", "I;16L", "I;16B", "F"})

_LARGEST = 65535
"""Largest value of a pixel."""

_REASONS: Mapping[str, str] = {
    "jpeg": "in JPEG, which changes the values of pixels; allowed: PNG, or another format without "
    "loss",
    "colour": "in colours; allowed: the ids of classes as grey values, or a palette",
    "values": f"with other values than whole numbers from 0 to {_LARGEST}",
    "size": "of another size than the image",
    "broken": "that cannot be read",
}
"""What is wrong with masks, by kind."""


class MaskReader:
    """Reads masks, and collects what is wrong with them.

    Args:
        root: the folder that they lie in.
        exif: whether masks of turned photographs are drawn on these as they are `stored` or
            `upright`; None where sizes tell.
    """

    def __init__(self, root: Root, *, exif: str | None) -> None:
        self._root = root
        self._exif = exif
        self._wrong: dict[str, list[str]] = {}
        self._turned: list[str] = []
        self._ambiguous: list[str] = []

    @property
    def notes(self) -> tuple[Note, ...]:
        """What came up that does not stop the sweep."""
        if not self._turned:
            return ()
        return (Note("masks turned as EXIF turns their photographs", tuple(self._turned)),)

    def complain(self, problems: Problems) -> None:
        """Add what is wrong with the masks that were read."""
        for kind, paths in self._wrong.items():
            problems.add(_PATH, f"{plural(len(paths), 'mask')} {_REASONS[kind]}: {some(paths)}")
        if self._ambiguous:
            problems.add(
                _EXIF,
                f"missing; EXIF turns {len(self._ambiguous):,} photographs, and their masks fit "
                f"both ways: {some(self._ambiguous)}. Allowed: stored, where masks were drawn on "
                "the photographs as they are stored, or upright",
            )

    def read(self, image: str, mask: str) -> Values | None:
        """Return the values of a mask, upright as its image; None if something is wrong with it.

        Args:
            image: path of the image below the root.
            mask: path of the mask.
        """
        content = read_file(str(self._root.path / mask))
        if isinstance(content, DataError):
            return self._add("broken", f"{mask} ({content})")
        try:
            with Image.open(io.BytesIO(content)) as opened:
                if opened.format == "JPEG":
                    return self._add("jpeg", mask)
                drawn = _grey(opened)
        except UnidentifiedImageError:
            return self._add("broken", f"{mask} (no image)")
        except Exception as error:  # Pillow raises errors of many classes
            return self._add("broken", f"{mask} ({error})")
        if drawn is None:
            return self._add("colour", mask)
        if not _are_ids(np.asarray(drawn)):
            return self._add("values", mask)
        return self._placed(image, mask, drawn)

    def _placed(self, image: str, mask: str, drawn: Image.Image) -> Values | None:
        """The values of a mask, turned as its image is; None if it does not fit."""
        stored, orientation = self._header(image)
        turn = _TURNS.get(orientation)
        if stored is None:  # the image is broken, which is told elsewhere
            return _values(drawn)
        wanted = stored[::-1] if orientation >= _SWAPPING else stored
        if turn is not None and self._exif is None and stored == wanted:
            self._ambiguous.append(image)
            return None
        on_stored = self._exif == "stored" or (self._exif is None and drawn.size == stored)
        if turn is not None and on_stored and drawn.size == stored:
            self._turned.append(mask)
            drawn = drawn.transpose(turn)
        if drawn.size != wanted:
            sizes = f"{drawn.width} x {drawn.height}, not {wanted[0]} x {wanted[1]}"
            return self._add("size", f"{mask} ({sizes})")
        return _values(drawn)

    def _header(self, image: str) -> tuple[tuple[int, int] | None, int]:
        """Width and height of an image as it is stored, and its orientation by EXIF."""
        try:
            with Image.open(self._root.path / image) as opened:
                return opened.size, int(opened.getexif().get(_ORIENTATION, 1))
        except Exception:  # see `read`
            return None, 1

    def _add(self, kind: str, path: str) -> Values | None:
        """Note what is wrong with a mask, which has no values then."""
        self._wrong.setdefault(kind, []).append(path)
        return None


def _grey(opened: Image.Image) -> Image.Image | None:
    """A mask in one channel, its palette aside; None if it has colours."""
    if opened.mode in _GREY:
        return opened.copy()
    channels = np.asarray(opened.convert("RGB"))
    if (channels != channels[..., :1]).any():
        return None
    return Image.fromarray(channels[..., 0])


def _are_ids(pixels: npt.NDArray[Any]) -> bool:
    return pixels.dtype.kind != "f" and int(pixels.min()) >= 0 and int(pixels.max()) <= _LARGEST


def _values(drawn: Image.Image) -> Values:
    return np.asarray(drawn).astype(np.int64)
