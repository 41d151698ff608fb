"""`sft-sweep predict`: classify images with an exported network.

It needs `trainable` alone, and neither Ray, Optuna nor Parquet.
"""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments import Json

if TYPE_CHECKING:
    from trainable.export.exported_model import Prediction

DEFAULT_TOP = 3
"""Classes shown for each image in the table."""

SOME_FAILED = 3


def predict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that sft-sweep export wrote.")
    ],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Files of pictures.")],
    *,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            min=1,
            metavar="K",
            help=f"Classes for each image; left out, {DEFAULT_TOP}, and all with --json.",
        ),
    ] = None,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code",
            help="Import and run the code of your own that builds the network, as model.json says.",
        ),
    ] = False,
    json: Json = False,
) -> int:
    r"""Classify pictures with an exported network; those that cannot be read are told and left out.

    \b
    Examples:
      sft-sweep predict model photo.jpg
      sft-sweep predict model photos/*.jpg --top 1
      sft-sweep predict model photos/*.jpg --json
    """
    from orchestrator.text import printable
    from trainable.export.exported_model import ExportedModel

    model = ExportedModel.load(folder, trust_code=trust_code)
    names = model.about.class_names
    found = list(model.predict(images))
    for one in found:
        if one.problem is not None:
            print(printable(f"{one.path}: {one.problem}"), file=sys.stderr)
    if json:
        print(jsonlib.dumps([_as_json(one, names, top) for one in found]))
    else:
        _show(found, names, DEFAULT_TOP if top is None else top)
    return SOME_FAILED if any(one.problem is not None for one in found) else 0


def _as_json(one: Prediction, names: Sequence[str], top: int | None) -> dict[str, Any]:
    if one.problem is not None:
        return {"path": str(one.path), "error": one.problem}
    return {
        "path": str(one.path),
        "classes": [
            {"class": names[number], "probability": share} for number, share in one.ranked()[:top]
        ],
    }


def _show(found: Sequence[Prediction], names: Sequence[str], top: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from orchestrator.cli.output.render import print_rich
    from orchestrator.text import printable

    classified = [one for one in found if one.problem is None]
    if not classified:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("image")
    table.add_column("class")
    table.add_column("probability", justify="right")
    for one in classified:
        for place, (number, share) in enumerate(one.ranked()[:top]):
            path = "" if place else printable(str(one.path))
            table.add_row(path, printable(names[number]), f"{share:.4f}")
    print_rich(table)
