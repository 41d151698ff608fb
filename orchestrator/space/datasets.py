"""`dataset:` of a search-space file: where labelled images come from, one model a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from orchestrator.space.absolute_paths import absolute_path
from orchestrator.space.section import Section
from trainable.spec.settings import Setting, Text

DEFAULT_TEST_SHARE = 0.2
"""Share of the images in the test split where neither the data nor the file give one."""

ALL_BITS = 16
"""What the files of 16-bit pictures have room for."""

WHEREABOUTS = ("path", "root", "match", "links")
"""Keys that say where images lie; which they are, a fingerprint of their contents tells."""

_Source = Setting(
    help="where the images are from",
    words=("digits", "folder", "table", "parquet", "torchvision"),
)
_TestShare = Annotated[
    float | None,
    Setting(
        help="share of the images kept for the test set, drawn by their content; left out: the "
        f"data's own test split, or {DEFAULT_TEST_SHARE} where there is none",
        low=0,
        low_excluded=True,
        high=1,
        high_excluded=True,
    ),
]
_MaxBad = Annotated[
    float,
    Setting(
        help="share of the images that may be broken; they are skipped and listed",
        low=0,
        high=1,
    ),
]
_Bits = Annotated[
    int | None,
    Setting(
        help="bits that 16-bit grey pictures use, such as 12 for values of 0 to 4095; left out: "
        "the range of values in the pool where that is less than half of all, else 16",
        low=1,
        high=ALL_BITS,
        integer=True,
    ),
]
_Links = Annotated[
    Literal["follow"] | None,
    Setting(
        help="whether links may lead out of the folder, as those of hub caches, DVC and git-annex "
        "do: follow; left out: such links are refused",
        words=("follow",),
    ),
]
_Path = Annotated[
    str,
    Setting(
        help="the folder of class folders, the CSV or Parquet file, or the folder of Parquet files",
        text=Text.PATH,
    ),
]
_LabelColumn = Annotated[str, Setting(help="column of the class names", text=Text.NAME)]
_SplitColumn = Annotated[
    str | None,
    Setting(help="column that says train, val or test; left out: none", text=Text.NAME),
]
_GROUP_HELP = (
    "what no split may separate, such as a patient: a column of a table, or a regular expression "
    "on paths below the folder (its first group, or all it matches); left out: nothing"
)
_GroupColumn = Annotated[str | None, Setting(help=_GROUP_HELP, text=Text.NAME)]


class _ImagesSection(Section):
    """What all sources share."""

    def absolute(self) -> Self:
        """The same with absolute paths, so that it means the same from every directory."""
        paths = {
            name: absolute_path(value)
            for name in type(self).model_fields
            if self.setting(name).text is Text.PATH and (value := getattr(self, name)) is not None
        }
        return self.model_copy(update=paths)


class DigitsSection(_ImagesSection):
    """The handwritten digits that come with scikit-learn, split as the source splits them."""

    source: Annotated[Literal["digits"], _Source] = "digits"
    test: _TestShare = None


class FolderSection(_ImagesSection):
    """A folder with a folder a class, or with train, val and test folders of these."""

    source: Annotated[Literal["folder"], _Source] = "folder"
    path: _Path
    test: _TestShare = None
    layout: Annotated[
        Literal["classes"] | None,
        Setting(
            help="what the folders in `path` are, whatever they are called: classes; left out: "
            "splits where all are called so, else classes where that is beyond doubt",
            words=("classes",),
        ),
    ] = None
    group: Annotated[str | None, Setting(help=_GROUP_HELP, text=Text.PATTERN)] = None
    links: _Links = None
    bits: _Bits = None
    max_bad_fraction: _MaxBad = 0.01


class TableSection(_ImagesSection):
    """A CSV or Parquet file with a row an image, which lies in a file of its own."""

    source: Annotated[Literal["table"], _Source] = "table"
    path: _Path
    path_column: Annotated[str, Setting(help="column of the images' paths", text=Text.NAME)] = (
        "path"
    )
    label_column: _LabelColumn = "label"
    split_column: _SplitColumn = None
    group: _GroupColumn = None
    root: Annotated[
        str | None,
        Setting(
            help="folder that holds the images: of a table (left out: where the table lies) or of "
            "torchvision's data sets (required)",
            text=Text.PATH,
        ),
    ] = None
    match: Annotated[
        Literal["ending"] | None,
        Setting(
            help="how a path that leads to no file finds one: ending, the file below `root` whose "
            "path has the longest end in common with it; left out: not at all",
            words=("ending",),
        ),
    ] = None
    links: _Links = None
    test: _TestShare = None
    bits: _Bits = None
    max_bad_fraction: _MaxBad = 0.01


class ParquetSection(_ImagesSection):
    """Parquet files with a row an image, its encoded bytes among the columns."""

    source: Annotated[Literal["parquet"], _Source] = "parquet"
    path: _Path
    image_column: Annotated[
        str, Setting(help="column of the encoded images, binary or {bytes, path}", text=Text.NAME)
    ] = "image"
    label_column: _LabelColumn = "label"
    split_column: _SplitColumn = None
    group: _GroupColumn = None
    links: _Links = None
    test: _TestShare = None
    bits: _Bits = None
    max_bad_fraction: _MaxBad = 0.01


class TorchvisionSection(_ImagesSection):
    """A classification data set of torchvision.datasets that lies on this machine."""

    source: Annotated[Literal["torchvision"], _Source] = "torchvision"
    name: Annotated[
        str, Setting(help="class of torchvision.datasets, such as CIFAR10", text=Text.NAME)
    ]
    root: Annotated[str, Setting(help="folder that holds its files", text=Text.PATH)]
    download: Annotated[
        bool, Setting(help="whether to fetch what is missing in `root`", flag=True)
    ] = False
    test: _TestShare = None
    bits: _Bits = None
    max_bad_fraction: _MaxBad = 0.01


DatasetSection = DigitsSection | FolderSection | TableSection | ParquetSection | TorchvisionSection

SOURCES: Mapping[str, type[DatasetSection]] = {
    "digits": DigitsSection,
    "folder": FolderSection,
    "table": TableSection,
    "parquet": ParquetSection,
    "torchvision": TorchvisionSection,
}
"""A dataset source is one model here; `source` says which."""
