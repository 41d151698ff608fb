"""Keys that several sections of `dataset:` share, each with what it may be."""

from __future__ import annotations

from typing import Annotated, Literal

from orchestrator.space import ALL_BITS, DEFAULT_TEST_SHARE
from trainable.spec.setting import Setting, Text

TestShare = Annotated[
    float | None,
    Setting(
        help="share of the examples kept for the test set, drawn by their content; left out: the "
        f"data's own test split, or {DEFAULT_TEST_SHARE} where there is none",
        low=0,
        low_excluded=True,
        high=1,
        high_excluded=True,
    ),
]
MaxBad = Annotated[
    float,
    Setting(
        help="share of the examples that may be broken; they are skipped and listed",
        low=0,
        high=1,
    ),
]
Bits = Annotated[
    int | None,
    Setting(
        help="bits that 16-bit grey pictures use, such as 12 for values of 0 to 4095; left out: "
        "the range of values in the pool where that is less than half of all, else 16",
        low=1,
        high=ALL_BITS,
        integer=True,
    ),
]
Links = Annotated[
    Literal["follow"] | None,
    Setting(
        help="whether links may lead out of the folder, as those of hub caches, DVC and git-annex "
        "do: follow; left out: such links are refused",
        words=("follow",),
    ),
]
DataPath = Annotated[
    str,
    Setting(
        help="the folder of class folders; the table, the folder of one table a split or of a data "
        "set saved by Hugging Face; the Parquet file or folder of Parquet files; or the folder of "
        "the folders of images and of masks",
        text=Text.PATH,
    ),
]
Encoding = Annotated[
    str | None,
    Setting(
        help="encoding of text files, such as latin-1; left out: utf-8, or what a byte order mark "
        "says",
        text=Text.NAME,
    ),
]
ClassNames = Annotated[
    tuple[str, ...] | None,
    Setting(
        help="names of the classes, in the order of their ids; left out: the ids",
        text=Text.NAME,
        several=True,
    ),
]
ClassValues = Annotated[
    tuple[int, ...] | None,
    Setting(
        help="value of each class in the masks, such as [0, 255]; left out: 0, 1, 2 and so on",
        low=0,
        high=65535,
        integer=True,
        several=True,
    ),
]
IgnoredValue = Annotated[
    int | None,
    Setting(
        help="value of pixels that have no class; left out: there are none",
        low=0,
        high=65535,
        integer=True,
    ),
]
TurnedMasks = Annotated[
    Literal["stored", "upright"] | None,
    Setting(
        help="masks of photographs that EXIF turns: drawn on the photograph as it is stored, or "
        "upright; left out: what their sizes tell",
        words=("stored", "upright"),
    ),
]
PathColumn = Annotated[str, Setting(help="column of the images' paths", text=Text.NAME)]
LabelColumn = Annotated[str, Setting(help="column of the class names", text=Text.NAME)]
SplitColumn = Annotated[
    str | None,
    Setting(help="column that says train, val or test; left out: none", text=Text.NAME),
]
GROUP_HELP = (
    "what no split may separate, such as a patient: a column of a table, or a regular expression "
    "on paths below the folder (its first group, or all it matches); left out: nothing"
)
GroupColumn = Annotated[str | None, Setting(help=GROUP_HELP, text=Text.NAME)]
