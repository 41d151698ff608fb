"""`dataset:` of a search-space file, one section per source: its keys, and how it reads images.

Checking a search-space file imports this module, so modules that read images are imported only
when they are called.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from orchestrator.datasets.section_keys import (
    GROUP_HELP,
    Bits,
    DataPath,
    Encoding,
    GroupColumn,
    LabelColumn,
    Links,
    MaxBad,
    PathColumn,
    SplitColumn,
    TestShare,
)
from orchestrator.space import DatasetSection
from orchestrator.space.dataset_sources import SourceName
from trainable.spec.setting import Setting, Text

if TYPE_CHECKING:
    from orchestrator.datasets.dataset import Dataset
    from orchestrator.datasets.image_reader import Demand
    from orchestrator.datasets.listing import Listing
    from orchestrator.space.problems import Problems


class DatasetSource(DatasetSection):
    """A source of examples: most list them (`ListedSource`), others have them at once."""

    @abstractmethod
    def dataset(self, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
        """The examples, with their test split; see `orchestrator.datasets.dataset.read_dataset`."""


class Listed(Protocol):
    """What a source says of examples that are listed before they are read."""

    test: float | None
    max_bad_fraction: float

    @property
    def value_bits(self) -> int | None:
        """Bits that 16-bit grey pictures use, where the file says it."""

    def list_images(self, problems: Problems) -> Listing | None:
        """List the images; None if problems were added that make them unusable."""

    def to_json(self) -> dict[str, Any]:
        """Return the section as the file writes it."""


class ListedSource(DatasetSource):
    """A source that lists its examples; hashing, splits, draws and checks are the same for all.

    It has the keys `test` and `max_bad_fraction`, and `bits` if it may hold images.
    """

    _NEEDED: ClassVar = ("test", "max_bad_fraction")

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

    @property
    def value_bits(self) -> int | None:
        """See `Listed`."""
        bits: int | None = getattr(self, "bits", None)
        return bits

    @abstractmethod
    def list_images(self, problems: Problems) -> Listing | None:
        """List the images; problems are added under ("dataset", KEY)."""

    def dataset(self: Listed, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
        """The examples as they are listed; see `DatasetSource`."""
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


class BankingSection(ListedSource):
    """Ten intents of Banking77, questions of a bank's customers, split as the source does."""

    source: Annotated[Literal["banking"], SourceName] = "banking"
    test: TestShare = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems: Problems) -> Listing:
        """See `orchestrator.datasets.banking`."""
        from orchestrator.datasets import banking

        del problems
        return banking.list_texts()


class FolderSection(ListedSource):
    """A folder with a folder a class, or with train, val and test folders of these.

    The files are images, or `.txt` files of one text each.
    """

    source: Annotated[Literal["folder"], SourceName] = "folder"
    path: DataPath
    test: TestShare = None
    layout: Annotated[
        Literal["classes"] | None,
        Setting(
            help="what the folders in `path` are, whatever they are called: classes; left out: "
            "splits where all are called so, else classes where that is beyond doubt",
            words=("classes",),
        ),
    ] = None
    group: Annotated[str | None, Setting(help=GROUP_HELP, text=Text.PATTERN)] = None
    encoding: Encoding = None
    links: Links = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.folder`."""
        from orchestrator.datasets import folder

        return folder.list_examples(self, problems)


class TableSection(ListedSource):
    """A table with a row an example: the path of an image's file, or a text.

    Attributes:
        keys_of_images: keys that say nothing of texts.
    """

    keys_of_images: ClassVar = ("path_column", "root", "match", "links", "bits")

    source: Annotated[Literal["table"], SourceName] = "table"
    path: DataPath
    text_column: Annotated[
        str | None,
        Setting(
            help="column of the texts; left out: the rows are images, each in a file of its own",
            text=Text.COLUMN,
        ),
    ] = None
    path_column: PathColumn = "path"
    label_column: LabelColumn = "label"
    split_column: SplitColumn = None
    group: GroupColumn = None
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
    encoding: Encoding = None
    links: Links = None
    test: TestShare = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    @property
    def modality(self) -> str:
        """What the rows are."""
        return "image" if self.text_column is None else "text"

    @property
    def content_key(self) -> str:
        """The key that names the column of the images' paths, or of the texts."""
        return "path_column" if self.text_column is None else "text_column"

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.table`."""
        from orchestrator.datasets import table

        return table.list_examples(self, problems)

    def to_json(self) -> dict[str, Any]:
        """The form of the file; what says nothing of the rows is left out."""
        form = super().to_json()
        unused = () if self.text_column is None else self.keys_of_images
        return {key: value for key, value in form.items() if key not in unused}


class ParquetSection(ListedSource):
    """Parquet files with one row per image; a column has its encoded bytes."""

    source: Annotated[Literal["parquet"], SourceName] = "parquet"
    path: DataPath
    image_column: Annotated[
        str, Setting(help="column of the encoded images, binary or {bytes, path}", text=Text.NAME)
    ] = "image"
    label_column: LabelColumn = "label"
    split_column: SplitColumn = None
    group: GroupColumn = None
    links: Links = None
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
