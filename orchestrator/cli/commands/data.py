"""`sft-sweep data`: summarize the data of a search-space file."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.arguments import Json, Overrides, Space

if TYPE_CHECKING:
    from PIL.Image import Image

    from orchestrator.datasets.summary import DatasetSummary


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
    r"""Show a file's images or texts: classes, sizes, splits, groups, copies, broken files.

    \b
    Examples:
      sft-sweep data search_spaces/lowdata.yaml
      sft-sweep data photos.yaml --sheet photos.png
      sft-sweep data search_spaces/photos.yaml --set dataset.path=my_photos
    """
    import numpy as np

    from orchestrator.datasets.example_kinds import EXAMPLE_KINDS
    from orchestrator.datasets.summary import summarize_dataset
    from orchestrator.errors import UsageError
    from orchestrator.planning.preparation import read_data

    dataset = read_data(space, overrides=overrides or [])
    draw = EXAMPLE_KINDS[dataset.images.modality].sheet
    if sheet is not None and draw is None:
        raise UsageError(
            f"--sheet {sheet}: draws images, and these are {dataset.images.modality}s; leave it "
            "out, some of them are listed with the classes"
        )
    found = summarize_dataset(dataset)
    if json:
        print(jsonlib.dumps(found.to_json()))
    else:
        _show(found)
    if sheet is not None and draw is not None:
        _write(draw(dataset.images, np.flatnonzero(dataset.images.is_read())), sheet)
    return 0


def _show(found: DatasetSummary) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from orchestrator.api.progress_lines import MOST_DETAILS
    from orchestrator.cli.output.render import print_rich
    from orchestrator.text import plural, printable

    counted = [one for one in found.classes if one.groups is not None]
    grouped = any(one.groups != one.pool + one.val + one.test for one in counted)
    shown = found.looks.examples
    apart = any(one.val for one in found.classes)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    for name in ["pool"] + ["val"] * apart + ["test"] + ["groups"] * grouped:
        table.add_column(name, justify="right")
    if shown:
        table.add_column("for example", no_wrap=True, overflow="ellipsis")
    for number, one in enumerate(found.classes):
        counts = [one.pool] + [one.val] * apart + [one.test] + [one.groups or 0] * grouped
        example = [printable(text) for text in shown[number][:1]] if shown else []
        table.add_row(printable(one.name), *(f"{count:,}" for count in counts), *example)
    print_rich(table)
    print(
        f"{plural(found.num_images, found.modality)} in {len(found.classes):,} classes; "
        f"{found.num_read:,} of them can be touched and were checked"
    )
    for line in found.looks.lines():
        print(line)
    if found.test is not None:
        told = found.test.described(found.modality)
        if found.test.majority is not None:  # else differences are not of images
            points = 100 * found.test.smallest_difference
            told += (
                f". Two configurations that disagree on one {found.modality} in ten are told apart "
                f"from about {points:.1f} points"
            )
        print(told)
    for note in (*found.notes, *found.looks.notes()):
        for line in note.lines(MOST_DETAILS):
            print(printable(line))


def _write(drawing: Image, sheet: Path) -> None:
    from orchestrator.errors import UsageError
    from trainable.atomic_files import atomic_write

    try:
        with atomic_write(sheet) as sink:
            drawing.save(sink, "PNG")
    except OSError as error:
        raise UsageError(
            f"--sheet {sheet}: cannot be written: {error.strerror or error}"
        ) from error
    print(f"drawn: {sheet}", file=sys.stderr)
