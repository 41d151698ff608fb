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
        "set saved by Hugging Face; or the Parquet file or folder of Parquet files",
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
