"""`sft-sweep backbones`: list the backbones and their boundaries."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.arguments import Json
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from trainable.backbones import BackboneInfo

MOST_TRACED = 12
"""Longest list whose boundaries are counted; each backbone is traced, in about a second."""


def backbones(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="A name, or a glob such as 'convnext_*'.")
    ] = "*",
    *,
    boundaries: Annotated[
        bool, typer.Option("--boundaries", help="List the places where each can be cut.")
    ] = False,
    json: Json = False,
) -> int:
    r"""List the backbones: parameters, input size, boundaries, weights on this machine, licence.

    \b
    Examples:
      sft-sweep backbones
      sft-sweep backbones 'resnet*'
      sft-sweep backbones 'timm:*siglip*'
      sft-sweep backbones resnet50 --boundaries
    """
    from trainable import backbones as registry

    found = registry.names(pattern)
    if not found:
        raise UsageError(registry.known_problem(pattern) or f"{pattern}: no backbone matches")
    entries = [registry.describe(name) for name in found]
    if boundaries:
        for entry in entries:
            _show_boundaries(entry, as_json=json)
        return 0
    counts: dict[str, int | None] = dict.fromkeys(found)
    if len(found) <= MOST_TRACED:
        entries = [_counted(entry, counts) for entry in entries]
    if json:
        rows = [asdict(entry) | {"num_boundaries": counts[entry.name]} for entry in entries]
        print(jsonlib.dumps(rows))
        return 0
    _show_list(entries, counts)
    if len(found) > MOST_TRACED:
        print(f"boundaries are counted for {MOST_TRACED} backbones at most: narrow the pattern")
    if pattern == "*":
        print("timm's, where it is installed: sft-sweep backbones 'timm:*'")
        print("of transformers, in the hub's cache: sft-sweep backbones 'transformers:*'")
    return 0


def _counted(entry: BackboneInfo, counts: dict[str, int | None]) -> BackboneInfo:
    """The entry with its number of parameters; adds its number of boundaries to `counts`.

    Where the registry does not know the number of parameters, those before the last boundary are
    counted, and so not the classifier's. A backbone that cannot be cut is returned unchanged.
    """
    from trainable import backbones as registry
    from trainable.backbones.cutting.boundaries import boundaries
    from trainable.errors import BackboneError

    try:
        found = boundaries(registry.trace_on_meta(entry.name, size=entry.input_size))
    except BackboneError as error:  # a listing goes on
        print(f"{entry.name}: {error}", file=sys.stderr)
        return entry
    counts[entry.name] = len(found)
    return entry if entry.num_params is not None else replace(entry, num_params=found[-1].params)


def _show_list(entries: list[BackboneInfo], counts: dict[str, int | None]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from orchestrator.cli.output.render import print_rich

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "source", "weights"):
        table.add_column(name)
    for name in ("params", "input", "boundaries"):
        table.add_column(name, justify="right")
    for name in ("on this machine", "pretrained on", "licence"):
        table.add_column(name)
    for entry in entries:
        table.add_row(
            entry.name,
            entry.source,
            entry.version,
            "" if entry.num_params is None else f"{entry.num_params:,}",
            entry.input,
            str(counts[entry.name] or ""),
            "yes" if entry.cached else "no",
            entry.pretraining or "",
            entry.licence or "",
        )
    print_rich(table)


def _boundaries(entry: BackboneInfo) -> list[dict[str, Any]]:
    """One row per boundary, with the fractions of parameters and FLOPs before it, in 0..1."""
    from trainable import backbones as registry
    from trainable.backbones.cutting.boundaries import boundaries

    traced = registry.trace_on_meta(entry.name, size=entry.input_size)
    total_params = sum(parameter.numel() for parameter in traced.module.parameters())
    found = boundaries(traced)
    rows = []
    for number, boundary in enumerate(found, start=1):
        size = 1
        for side in boundary.shape:
            size *= side
        rows.append(
            {
                "boundary": number,
                "node": boundary.node,
                "shape": list(boundary.shape),
                "bytes": 4 * size,
                "params_fraction": boundary.params / total_params,
                "flops_fraction": boundary.flops / found[-1].flops,
            }
        )
    return rows


def _show_boundaries(entry: BackboneInfo, *, as_json: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from orchestrator.cli.output.render import print_rich
    from orchestrator.text import percent

    rows = _boundaries(entry)
    if as_json:
        print(jsonlib.dumps({"name": entry.name, "boundaries": rows}))
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=entry.name, title_justify="left")
    for name in ("boundary", "node", "activation", "KiB, fp32", "params before, %", "FLOPs, %"):
        table.add_column(name, justify="left" if name in ("node", "activation") else "right")
    for row in rows:
        table.add_row(
            str(row["boundary"]),
            row["node"],
            " x ".join(str(side) for side in row["shape"]),
            f"{row['bytes'] / 1024:.1f}",
            percent(row["params_fraction"]),
            percent(row["flops_fraction"]),
        )
    print_rich(table)
