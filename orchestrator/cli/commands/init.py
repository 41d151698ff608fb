"""`sft-sweep init`: write a first search-space file for a folder or a table."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.datasets.listing import Listing
    from orchestrator.space.problems import Problems
    from orchestrator.space.template import Folder

CONNECT_TIMEOUT_S = 2.0
"""Timeout for the server that weights are downloaded from, in seconds."""


def init(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A folder with a folder of images or texts per class, with a table of them, or "
            "with folders of images and of their masks.",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Where to write; left out: stdout."),
    ] = None,
) -> int:
    r"""Write a commented search-space file for a folder or a table of images or texts.

    A folder that holds images/ and masks/ is read as images with masks.

    \b
    Examples:
      sft-sweep init photos
      sft-sweep init photos -o photos.yaml
      sft-sweep init labels.csv -o labels.yaml
    """
    from orchestrator.space.template import template_text
    from trainable.atomic_files import atomic_write
    from trainable.device import default_device

    if out is not None and out.exists():
        raise UsageError(f"{out}: exists; name another file, or delete it first")
    found = _list_classes(folder)
    gpu = default_device().type == "cuda"
    backbones, missing = _CHOICES[found.modality](gpu=gpu)
    name = (
        re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._") or f"{found.modality}s"
    )
    text = template_text(found, name=name[:100], backbones=backbones, missing=missing, gpu=gpu)
    if out is None:
        print(text, end="")
        return 0
    try:
        with atomic_write(out, "w") as sink:
            sink.write(text)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror or error}") from error
    print(f"written: {out}. Look at the data with: sft-sweep data {out}", file=sys.stderr)
    print(f"Start with: sft-sweep launch {out}", file=sys.stderr)
    return 0


def _list_classes(place: Path) -> Folder:
    """The classes and counts of masks, of class folders or, if there are none, of a table.

    Class folders behind links are found, too. Files of images and texts are not opened.

    Raises:
        SpaceError: neither class folders nor a table can be read.
    """
    from orchestrator.datasets import folder, table
    from orchestrator.datasets.sections import FolderSection, TableSection
    from orchestrator.datasets.table_file import TABLE_SUFFIXES
    from orchestrator.datasets.table_guess import guess_table, guess_texts
    from orchestrator.space.problems import Problems

    with_masks = _with_masks(place)
    if with_masks is not None:
        return with_masks
    path = str(place.absolute())
    problems = Problems(str(place), command="init")
    listing = _checked(folder.list_examples(FolderSection(path=path), problems), problems)
    if listing is not None:
        return _counted(listing, path=path)
    linked = FolderSection(path=path, links="follow")
    others = Problems(str(place), command="init")
    listing = _checked(folder.list_examples(linked, others), others)
    if listing is not None:
        return replace(_counted(listing, path=path), keys={"links": "follow"})
    found = guess_table(place) or guess_texts(place)
    if found is None:
        if place.is_file() and place.suffix.lower() in TABLE_SUFFIXES:
            others = Problems(str(place), command="init")
            table.list_examples(TableSection(path=path), others)
            others.raise_if_any({})
        problems.raise_if_any({})
    assert found is not None
    problems = Problems(found.section.path, command="init")
    listing = _checked(table.list_examples(found.section, problems), problems)
    problems.raise_if_any({})
    assert listing is not None
    keys = found.section.to_json()
    for key in ("source", "path", "max_bad_fraction"):
        del keys[key]
    return replace(
        _counted(listing, path=found.section.path),
        source="table",
        keys=keys,
        other_labels=found.other_labels,
    )


def _with_masks(place: Path) -> Folder | None:
    """What a folder of images and masks holds; None if it is none.

    Values 0 and 255 are taken for two classes, as they mostly are.

    Raises:
        SpaceError: it is one, and something is wrong with it.
    """
    import numpy as np

    from orchestrator.datasets import masks
    from orchestrator.datasets.holders import holders_of_masks
    from orchestrator.datasets.mask_pairs import guess_folders
    from orchestrator.datasets.mask_sections import MasksSection
    from orchestrator.space.problems import Problems
    from orchestrator.space.template import Folder
    from trainable.data.labelled_examples import Split

    folders = guess_folders(place)
    if folders is None:
        return None
    path = str(place.absolute())
    for more in ({}, {"values": (0, 255)}, {"ignore": 255}):
        keys: dict[str, Any] = {**folders, **more}
        problems = Problems(str(place), command="init")
        listing = masks.list_images(MasksSection(path=path, **keys), problems)
        if listing is not None:
            break
    problems.raise_if_any({})
    assert listing is not None
    assert listing.masks is not None
    own_test = listing.split is not None and bool((listing.split == Split.TEST).any())
    here = np.ones(len(listing.paths), dtype=np.bool_)
    if listing.split is not None:
        here = listing.split != Split.TEST
    held = holders_of_masks(listing.masks, len(listing.class_names))[here].sum(axis=0)
    return Folder(
        path=path,
        counts=dict(zip(listing.class_names, held.tolist(), strict=True)),
        own_test=own_test,
        source="masks",
        keys=keys,
        task="segmentation",
        num_images=int(here.sum()),
    )


def _checked(listing: Listing | None, problems: Problems) -> Listing | None:
    """The listing if it has no problems, else None; problems of its classes are added."""
    from orchestrator.datasets.checks import check_classes

    if listing is not None:
        check_classes(listing, problems)
    return None if len(problems) else listing


def _counted(listing: Listing, *, path: str) -> Folder:
    import numpy as np

    from orchestrator.space.template import Folder
    from trainable.data.labelled_examples import Split

    own_test = listing.split is not None and bool((listing.split == Split.TEST).any())
    labels = listing.labels if not own_test else listing.labels[listing.split != Split.TEST]
    counts = np.bincount(labels, minlength=len(listing.class_names)).tolist()
    return Folder(
        path=path,
        counts=dict(zip(listing.class_names, counts, strict=True)),
        own_test=own_test,
        modality=listing.modality,
    )


def _backbones_of_images(*, gpu: bool) -> tuple[list[str], list[str]]:
    """Backbones suited to the device, in two lists: weights available, and unavailable.

    Weights are available if they are cached or their server answers. Without any, the first list
    names `WITHOUT_WEIGHTS` instead.
    """
    from orchestrator.space.template import ON_CPU, ON_GPU, WITHOUT_WEIGHTS
    from trainable.backbones import describe
    from trainable.backbones.torchvision_files import reachable

    wanted = ON_GPU if gpu else ON_CPU
    online = reachable(timeout_s=CONNECT_TIMEOUT_S)
    available = [name for name in wanted if online or describe(name).cached]
    missing = [name for name in wanted if name not in available]
    return available or [WITHOUT_WEIGHTS], missing


def _backbones_of_texts(*, gpu: bool) -> tuple[list[str], list[str]]:
    """A small encoder of sentences, on every device; see `_backbones_of_images`."""
    from orchestrator.space.template import FOR_TEXTS

    del gpu
    return list(FOR_TEXTS), []


_CHOICES = {"image": _backbones_of_images, "text": _backbones_of_texts}
