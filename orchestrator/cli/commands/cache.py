"""`sft-sweep cache`: show or clear this machine's feature cache."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict

import typer

from orchestrator.cli.arguments import Json

cache = typer.Typer(no_args_is_help=True, help="Show or clear what frozen prefixes yielded.")
"""The Typer app of the subcommands of `cache`."""


def info(*, json: Json = False) -> int:
    r"""Show where features and exported graphs are kept, and how much of them.

    \b
    Example:
      sft-sweep cache info
    """
    from orchestrator.text import plural
    from trainable.features.store import FeatureStore

    found = FeatureStore().info()
    if json:
        print(jsonlib.dumps({**asdict(found), "folder": str(found.folder)}))
        return 0
    print(
        f"{found.folder}: {found.bytes / 2**20:,.1f} MiB of at most "
        f"{found.max_bytes / 2**20:,.0f} MiB, {plural(found.files, 'file')} in "
        f"{plural(found.collections, 'collection')}, {plural(found.graphs, 'exported graph')}"
    )
    return 0


def clear() -> int:
    r"""Remove all features and exported graphs that are kept; sweeps that run go on.

    \b
    Example:
      sft-sweep cache clear
    """
    from trainable.features.store import FeatureStore

    store = FeatureStore()
    print(f"{store.folder}: {store.clear() / 2**20:,.1f} MiB removed")
    return 0
