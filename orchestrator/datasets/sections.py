"""`dataset:` of a search-space file, one section per source: its keys, and how it reads images.

Checking a search-space file imports this module, so modules that read images are imported only
when they are called.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from orchestrator.space import ALL_BITS, DEFAULT_TEST_SHARE, DatasetSection
from orchestrator.space.datasets import SourceName
from trainable.spec.settings import Setting, Text

if TYPE_CHECKING:
    from orchestrator.datasets.dataset import Dataset
    from orchestrator.datasets.image_reader import Demand
    from orchestrator.datasets.listing import Listing
    from orchestrator.space.problems import Problems

TestShare = Annotated[
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
MaxBad = Annotated[
    float,
    Setting(
        help="share of the images that may be broken; they are skipped and listed",
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


class DatasetSource(DatasetSection):
    """A source of images: most list them first (`ListedSource`), others load them directly."""

    @abstractmethod
    def dataset(self, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
        """Read the images with their test split; see `orchestrator.datasets.dataset`."""


class Listed(Protocol):
    """A source whose images are listed before they are read."""

    test: float | None
    bits: int | None
    max_bad_fraction: float

    def list_images(self, problems: Problems) -> Listing | None:
        """List the images; None if problems were added that make them unusable."""

    def to_json(self) -> dict[str, Any]:
        """Return the section as the file writes it."""


class ListedSource(DatasetSource):
    """A source that lists its images; hashing, splits, draws and checks are shared code.

    It has the keys `test`, `bits` and `max_bad_fraction`.
    """

    _NEEDED: ClassVar = ("test", "bits", "max_bad_fraction")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check that the subclass has the required keys.

        Raises:
            TypeError: one is missing.
        """
        super().__pydantic_init_subclass__(**kwargs)
        missing = [name for name in cls._NEEDED if name not in cls.model_fields]
        if missing:
            raise TypeError(f"{cls.__name__} lacks the keys {', '.join(missing)}")

    @abstractmethod
    def list_images(self, problems: Problems) -> Listing | None:
        """List the images; problems are added under ("dataset", KEY)."""

    def dataset(self: Listed, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
        """Read the images that are listed; see `DatasetSource`."""
        from orchestrator.datasets.dataset import read_listed

        return read_listed(self, demand=demand, where=where, keep_val=keep_val)


class DigitsSection(DatasetSource):
    """The handwritten digits of scikit-learn, with a fixed test split by default."""

    source: Annotated[Literal["digits"], SourceName] = "digits"
    test: TestShare = None

    def dataset(self, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
        """Return all digits: they are few, always sound, and have no validation split."""
        from orchestrator.datasets import digits
        from orchestrator.datasets.dataset import Dataset

        del where, keep_val
        return Dataset(images=digits.load(test=self.test, seed=demand.seed))


class FolderSection(ListedSource):
    """A folder with one folder per class, or with train, val and test folders of these."""

    source: Annotated[Literal["folder"], SourceName] = "folder"
    path: _Path
    test: TestShare = None
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
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.folder`."""
        from orchestrator.datasets import folder

        return folder.list_images(self, problems)


class TableSection(ListedSource):
    """A CSV or Parquet file with one row per image; images are separate files."""

    source: Annotated[Literal["table"], SourceName] = "table"
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
    test: TestShare = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.table`."""
        from orchestrator.datasets import table

        return table.list_images(self, problems)


class ParquetSection(ListedSource):
    """Parquet files with one row per image; a column has its encoded bytes."""

    source: Annotated[Literal["parquet"], SourceName] = "parquet"
    path: _Path
    image_column: Annotated[
        str, Setting(help="column of the encoded images, binary or {bytes, path}", text=Text.NAME)
    ] = "image"
    label_column: _LabelColumn = "label"
    split_column: _SplitColumn = None
    group: _GroupColumn = None
    links: _Links = None
    test: TestShare = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.parquet`."""
        from orchestrator.datasets import parquet

        return parquet.list_images(self, problems)


class TorchvisionSection(ListedSource):
    """A classification data set of torchvision.datasets that lies on this machine."""

    source: Annotated[Literal["torchvision"], SourceName] = "torchvision"
    name: Annotated[
        str, Setting(help="class of torchvision.datasets, such as CIFAR10", text=Text.NAME)
    ]
    root: Annotated[str, Setting(help="folder that holds its files", text=Text.PATH)]
    download: Annotated[
        bool, Setting(help="whether to fetch what is missing in `root`", flag=True)
    ] = False
    test: TestShare = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.torchvision_sets`."""
        from orchestrator.datasets import torchvision_sets

        return torchvision_sets.list_images(self, problems)
