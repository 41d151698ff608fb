"""Whether a sweep may go on: what its results rest on, as it began and as it is now."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from typing import Any

import numpy as np
from packaging.version import InvalidVersion, Version

from orchestrator.errors import UsageError
from orchestrator.planning.preparation import Prepared
from orchestrator.recording.sweep_directory import Run
from orchestrator.space import SearchSpace
from orchestrator.text import plain
from trainable.data.labelled_images import LabelledImages, Split

PROGRAM = "sft-sweep"
"""The distribution that this program is."""

VERSIONED = (PROGRAM, "torch", "torchvision", "timm", "numpy", "pillow", "optuna")
"""Packages whose versions may change results."""

MOST_TOLD = 10
"""Differences that a message names."""


def provenance(prepared: Prepared) -> dict[str, Any]:
    """What a sweep's results rest on, in JSON values for its manifest."""
    return {
        "space_hash": prepared.space.fingerprint(),
        "space": prepared.space.meaning(),
        "dataset_fingerprint": prepared.images.fingerprint(),
        "images": _describe(prepared.images),
        "weights": {name: weights.digest for name, weights in prepared.weights.items()},
        "result_versions": result_versions(),
    }


def result_versions() -> dict[str, str | None]:
    """The versions in use of what may change results; None where a package is not installed."""
    return {name: _version(name) for name in VERSIONED}


def check_release(run: Run, manifest: Mapping[str, Any]) -> None:
    """Make sure that a sweep is not continued by another minor version of this program.

    Between those what a sweep computes and how it answers may change, so that nobody can accept it.

    Raises:
        UsageError: the one it ran with last was another; the message says what is still possible.
    """
    before, now = manifest.get("tool_version"), result_versions()[PROGRAM]
    if before is None or now is None or _minor(str(before)) == _minor(now):
        return
    raise UsageError(
        f"{run.given}: a sweep of {PROGRAM} {before}, and this is {now}. What trials compute and "
        f"how they are ranked changed between the two, so its results would be a mixture: that is "
        f"refused, with --accept-changes, too.\n"
        f"It can be read as it is: {PROGRAM} leaderboard, report, query and export take it.\n"
        f"To finish it, use {PROGRAM} {before}; or start a new sweep over the same space with: "
        f"{PROGRAM} launch {shlex.quote(str(run.space))}"
    )


def check_space(run: Run, manifest: Mapping[str, Any], space: SearchSpace) -> None:
    """Make sure that the search space is the one that a sweep began with.

    Raises:
        UsageError: it is another one; the message says where they differ.
    """
    if manifest.get("space_hash") != space.fingerprint():
        raise _refusal(run.space, differences(manifest.get("space"), space.meaning()))


def check_versions(run: Run, manifest: Mapping[str, Any], *, accept: bool) -> None:
    """Make sure that a sweep goes on under the versions that it ran with last.

    Raises:
        UsageError: some differ, and that is not accepted.
    """
    found = differences(manifest.get("result_versions"), result_versions())
    if found and not accept:
        raise _refusal(run.manifest, found, advice="or accept this with: --accept-changes")


def check_data(run: Run, manifest: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Make sure that images and weights are those that a sweep began with.

    Args:
        run: the sweep.
        manifest: what it began with.
        now: its `provenance` as they are now.

    Raises:
        UsageError: they are others; the message says where they differ.
    """
    found = list(differences(manifest.get("weights"), now["weights"], "weights"))
    if manifest.get("dataset_fingerprint") != now["dataset_fingerprint"]:
        told = differences(manifest.get("images"), now["images"], "images")
        found += told or ["images: some have other contents, labels or places in the splits"]
    if found:
        raise _refusal(run.path, found)


def differences(before: object, now: object, path: str = "") -> list[str]:
    """Where two JSON values differ, one line each: `search.lr.high: was 0.03, is 0.1`."""
    return list(_differences(before, now, path))


def _differences(before: object, now: object, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{path or 'all'}: was {_told(before)}, is {_told(now)}"


def _told(value: object) -> str:
    text = "not there" if value is None else plain(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refusal(what: object, found: Iterable[str], *, advice: str = "") -> UsageError:
    lines = list(found)
    told = lines[:MOST_TOLD]
    if len(lines) > len(told):
        told.append(f"and {len(lines) - len(told)} more")
    return UsageError(
        "\n  ".join([f"{what}: not as when the sweep began or ran last:", *told])
        + "\nFinished trials would not compare with new ones. Make it as it was, start a new sweep "
        + ("with: sft-sweep launch" + (f", {advice}" if advice else ""))
    )


def _describe(images: LabelledImages) -> dict[str, Any]:
    """Counts by split and class, and the range of 16-bit pictures where it has one of its own."""
    counts: dict[str, Any] = {
        split.name.lower(): {
            name: int(np.count_nonzero((images.split == split) & (images.labels == label)))
            for label, name in enumerate(images.class_names)
        }
        for split in Split
    }
    if images.value_range is not None:
        counts["value_range"] = list(images.value_range)
    return counts


def _minor(version: str) -> tuple[int, ...] | str:
    """Major and minor number; the text itself where it has none."""
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return version


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
