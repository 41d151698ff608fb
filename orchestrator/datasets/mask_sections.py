"""`dataset:` of a search-space file for images with masks; see `sections`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from orchestrator.datasets.section_keys import (
    Bits,
    ClassNames,
    ClassValues,
    DataPath,
    IgnoredValue,
    Links,
    MaxBad,
    PathColumn,
    SplitColumn,
    TestShare,
    TurnedMasks,
)
from orchestrator.datasets.sections import DatasetSource, ListedSource
from orchestrator.space.dataset_sources import SourceName
from trainable.spec.setting import Setting, Text

if TYPE_CHECKING:
    from orchestrator.datasets.dataset import Dataset
    from orchestrator.datasets.image_reader import Demand
    from orchestrator.datasets.listing import Listing
    from orchestrator.space.problems import Problems


class CanvasesSection(DatasetSource):
    """Handwritten digits of five classes on textured canvases, with their masks."""

    source: Annotated[Literal["canvases"], SourceName] = "canvases"

    @property
    def task(self) -> str:
        """See `DatasetSection`."""
        return "segmentation"

    def dataset(self, *, demand: Demand, where: str, keep_val: bool) -> Dataset:
        """Return all canvases: they are made anew, and have a test split of their own."""
        from orchestrator.datasets import canvases
        from orchestrator.datasets.dataset import Dataset

        del demand, where, keep_val
        return Dataset(images=canvases.load())


class MasksSection(ListedSource):
    """Images with masks: folders of both, perhaps in train, val and test folders, or a table."""

    source: Annotated[Literal["masks"], SourceName] = "masks"
    path: DataPath
    images: Annotated[
        str, Setting(help="name of the folders of images, below `path`", text=Text.NAME)
    ] = "images"
    masks: Annotated[
        str, Setting(help="name of the folders of masks, below `path`", text=Text.NAME)
    ] = "masks"
    path_column: PathColumn = "path"
    mask_column: Annotated[
        str, Setting(help="of a table, column of the masks' paths", text=Text.NAME)
    ] = "mask"
    split_column: SplitColumn = None
    classes: ClassNames = None
    values: ClassValues = None
    ignore: IgnoredValue = None
    exif: TurnedMasks = None
    links: Links = None
    test: TestShare = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    @property
    def task(self) -> str:
        """See `DatasetSection`."""
        return "segmentation"

    def list_images(self, problems: Problems) -> Listing | None:
        """See `orchestrator.datasets.masks`."""
        from orchestrator.datasets import masks

        return masks.list_images(self, problems)
