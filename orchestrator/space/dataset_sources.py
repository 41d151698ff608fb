"""`dataset:` of a search-space file: where labelled examples come from, one section a source."""

from __future__ import annotations

from typing import Annotated, Self

from orchestrator.space.absolute_paths import absolute_path
from orchestrator.space.kinds import registry_of
from orchestrator.space.section import Section
from trainable.registry import Registry, named
from trainable.spec.setting import Setting, Text

DEFAULT_TEST_SHARE = 0.2
"""Share of the examples in the test split where neither the data nor the file give one."""

ALL_BITS = 16
"""Number of bits per value in the files of 16-bit images."""

WHEREABOUTS = ("path", "root", "match", "links")
"""Keys that say where the data lie; which they are, a fingerprint of their contents tells."""

SourceName = Setting(help="where the labelled examples are from", text=Text.NAME)


class DatasetSection(Section):
    """The section that all sources share.

    A source derives from a class of `orchestrator.datasets.sections`.
    """

    source: Annotated[str, SourceName]

    @property
    def task(self) -> str:
        """What the labels are: `classification`, or `segmentation` for masks."""
        return "classification"

    def absolute(self) -> Self:
        """Return the section with absolute paths, valid from every directory."""
        paths = {
            name: absolute_path(value)
            for name in type(self).model_fields
            if self.setting(name).text is Text.PATH and (value := getattr(self, name)) is not None
        }
        return self.model_copy(update=paths)


_SECTIONS, _MASKS = "orchestrator.datasets.sections", "orchestrator.datasets.mask_sections"

SOURCES: Registry[type[DatasetSection]] = registry_of(
    named(f"{_SECTIONS}:DatasetSource"),
    tag="source",
    group="sft_sweep.dataset_sources",
    what="a data source",
    own={
        "digits": named(f"{_SECTIONS}:DigitsSection"),
        "banking": named(f"{_SECTIONS}:BankingSection"),
        "folder": named(f"{_SECTIONS}:FolderSection"),
        "table": named(f"{_SECTIONS}:TableSection"),
        "parquet": named(f"{_SECTIONS}:ParquetSection"),
        "torchvision": named(f"{_SECTIONS}:TorchvisionSection"),
        "masks": named(f"{_MASKS}:MasksSection"),
        "canvases": named(f"{_MASKS}:CanvasesSection"),
    },
)
"""The sections that `dataset:` can be, by the value of `source`."""
