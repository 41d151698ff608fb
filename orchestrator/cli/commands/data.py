"""`sft-sweep data`: summarize the images of a search-space file."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import Json, Overrides, Space

if TYPE_CHECKING:
    from orchestrator.datasets.summary import DatasetSummary
    from trainable.data.labelled_examples import LabelledExamples


def data(
    space: Space,
    *,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", help="Draw a few images of each class into this PNG file."),
    ] = None,
    overrides: Overrides = None,
    json: Json = False,
) -> int:
    r"""Show a file's images: classes, sizes, splits, groups, duplicates, broken files.

    \b
    Examples:
      sft-sweep data search_spaces/lowdata.yaml
      sft-sweep data photos.yaml --sheet photos.png
      sft-sweep data search_spaces/photos.yaml --set dataset.path=my_photos
    """
    from orchestrator.datasets.summary import summarize_dataset
    from orchestrator.planning.preparation import read_data

    dataset = read_data(space, overrides=overrides or [])
    found = summarize_dataset(dataset)
    if json:
        print(jsonlib.dumps(found.to_json()))
    else:
        _show(found)
    if sheet is not None:
        _draw(dataset.images, sheet)
    return 0


def _show(found: DatasetSummary) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from orchestrator.api.progress_lines import MOST_DETAILS
    from orchestrator.cli.output.render import print_rich
    from orchestrator.datasets.listing import Note
    from orchestrator.text import plural, printable

    grouped = any(one.groups is not None for one in found.classes)
    apart = any(one.val for one in found.classes)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    for name in ["pool"] + ["val"] * apart + ["test"] + ["groups"] * grouped:
        table.add_column(name, justify="right")
    for one in found.classes:
        counts = [one.pool] + [one.val] * apart + [one.test] + [one.groups or 0] * grouped
        table.add_row(printable(one.name), *(f"{count:,}" for count in counts))
    print_rich(table)
    print(
        f"{plural(found.num_images, 'image')} in {len(found.classes):,} classes; "
        f"{found.num_read:,} of them can be touched and were checked"
    )
    widths, heights = (" / ".join(map(str, part)) for part in (found.widths, found.heights))
    print(f"pixels, smallest / median / largest: {widths} wide, {heights} high")
    if found.test is not None:
        points = 100 * found.test.smallest_difference
        print(
            f"{found.test.text}. Two configurations that disagree on one image in ten are told "
            f"apart from about {points:.1f} points"
        )
    notes = list(found.notes)
    pairs = tuple(f"{first} ~ {second}" for first, second in found.near_duplicates)
    if pairs:
        notes.append(Note(f"{plural(len(pairs), 'pair')} of pictures look the same", pairs))
    for note in notes:
        for line in note.lines(MOST_DETAILS):
            print(printable(line))


def _draw(images: LabelledExamples, sheet: Path) -> None:
    import numpy as np

    from orchestrator.datasets.contact_sheet import contact_sheet
    from orchestrator.errors import UsageError
    from trainable.atomic_files import atomic_write

    drawing = contact_sheet(images, np.flatnonzero(images.shard_of >= 0))
    try:
        with atomic_write(sheet) as sink:
            drawing.save(sink, "PNG")
    except OSError as error:
        raise UsageError(
            f"--sheet {sheet}: cannot be written: {error.strerror or error}"
        ) from error
    print(f"drawn: {sheet}", file=sys.stderr)
