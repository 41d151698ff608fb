"""Images with masks, in folders or by the rows of a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator.datasets.files import Root, file_reader
from orchestrator.datasets.listing import Listing, Note
from orchestrator.datasets.mask_classes import ClassTable
from orchestrator.datasets.mask_files import MaskReader
from orchestrator.datasets.mask_pairs import pairs_of_folders, pairs_of_table
from orchestrator.datasets.mask_sections import MasksSection
from orchestrator.datasets.progress_bar import reading_bar
from orchestrator.space.problems import Problems
from trainable.data.masks import Masks


def list_images(section: MasksSection, problems: Problems) -> Listing | None:
    """The images with their masks; what is wrong with either goes to the problems.

    Every mask is read: which classes there are is known from all of them alone.
    """
    path = Path(section.path)
    if not path.exists():
        problems.add(
            ("dataset", "path"),
            f"{path}: no such folder; allowed: one that holds {section.images}/ and "
            f"{section.masks}/, or a table",
        )
        return None
    root = Root(path if path.is_dir() else path.parent, follow=section.links is not None)
    if path.is_dir():
        pairs = pairs_of_folders(section, root, problems)
    else:
        pairs = pairs_of_table(section, path, root, problems)
    reader = MaskReader(root, exif=section.exif)
    table = ClassTable(names=section.classes, values=section.values, ignore=section.ignore)
    masks = []
    with reading_bar("reading masks", len(pairs.masks)) as step:
        for image, mask in zip(pairs.images, pairs.masks, strict=False):
            step()
            found = reader.read(image, mask)
            if found is not None:
                masks.append(table.classed(found, mask))
    reader.complain(problems)
    table.complain(problems)
    if len(problems):
        return None
    return Listing(
        paths=tuple(pairs.images),
        labels=np.zeros(len(pairs.images), dtype=np.int64),
        class_names=table.class_names,
        split=None if pairs.splits is None else np.asarray(pairs.splits, dtype=np.int64),
        groups=None,
        group_names=(),
        read=file_reader(root.path, pairs.images),
        notes=(*reader.notes, _note_of_classes(table)),
        masks=Masks.of(masks),
    )


def _note_of_classes(table: ClassTable) -> Note:
    lines = [f"{name}: {100 * share:.1f} %" for name, share in table.shares().items()]
    return Note("classes, by their share of the pixels", tuple(lines))
