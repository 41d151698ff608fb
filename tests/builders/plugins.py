"""Packages that add entries to the registries of sft-sweep, as `pip install` installs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    adds: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    package: str = "more-parts",
) -> None:
    """Write a distribution into a folder on `sys.path`, until the test ends.

    Args:
        folder: folder of the distribution; several packages may share it.
        monkeypatch: the test's monkeypatch.
        adds: group without `sft_sweep.` -> entry points: name -> `module:attribute`.
        modules: module name -> Python source.
        package: name of the distribution.
    """
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = []
    for group, points in adds.items():
        lines.append(f"[sft_sweep.{group}]")
        lines += [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(folder)
