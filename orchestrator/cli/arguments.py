"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Space = Annotated[Path, typer.Argument(metavar="SPACE", help="A search-space file.")]
RunPath = Annotated[
    str | None,  # a Path would lose a slash of a URL
    typer.Argument(metavar="RUN", help="A sweep directory or URL; left out, the newest in runs/."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the file, dotted, such as training.steps=50. Repeatable.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDR",
        help="A Ray cluster: auto, host:port or ray://host:port. Left out: this machine.",
    ),
]
JobAddress = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="URL",
        help="Where a Ray cluster takes jobs: its dashboard, such as http://10.0.0.1:8265.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Runs = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN", help="Sweep directories or URLs; left out, the newest in runs/."),
]
