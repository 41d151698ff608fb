"""Checks that a resumed sweep has the space, data, weights and versions it began with."""

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
from orchestrator.text import printable
from trainable.data.labelled_examples import LabelledExamples, Split

PROGRAM = "sft-sweep"
"""The distribution name of this program."""

VERSIONED = (PROGRAM, "torch", "torchvision", "timm", "numpy", "pillow", "optuna")
"""Packages whose versions can change results."""

VERSIONED_FOR_TEXTS = ("transformers", "tokenizers")
"""Packages whose versions can change the results of a sweep over texts."""

MOST_LISTED = 10
"""Differences listed in a message."""


def provenance(prepared: Prepared) -> dict[str, Any]:
    """The provenance of a sweep's results, as JSON values for its manifest.

    It holds fingerprints of the search space and the images, digests of the weights, and versions.
    """
    return {
        "space_hash": prepared.space.fingerprint(),
        "space": prepared.space.meaning(),
        "dataset_fingerprint": prepared.images.fingerprint(),
        "images": _describe(prepared.images),
        "weights": {name: weights.digest for name, weights in prepared.weights.items()},
        "result_versions": result_versions()
        | (text_versions() if prepared.space.modality == "text" else {}),
    }


def result_versions() -> dict[str, str | None]:
    """Installed versions of `VERSIONED`; None for a package that is not installed."""
    return {name: _version(name) for name in VERSIONED}


def text_versions() -> dict[str, str | None]:
    """Installed versions of `VERSIONED_FOR_TEXTS`; None for a package that is not installed."""
    return {name: _version(name) for name in VERSIONED_FOR_TEXTS}


def check_release(run: Run, manifest: Mapping[str, Any]) -> None:
    """Check that the sweep last ran with the same minor version of this program.

    Results and ranking may change between minor versions, so `--accept-changes` does not apply.

    Args:
        run: the sweep.
        manifest: its manifest.

    Raises:
        UsageError: the minor versions differ; the message says what is still possible.
    """
    before, now = manifest.get("tool_version"), result_versions()[PROGRAM]
    if before is None or now is None or _minor(str(before)) == _minor(now):
        return
    raise UsageError(
        f"{run.given}: a sweep of {PROGRAM} {before}, and this is {now}. What trials compute and "
        f"how they are ranked changed between the two, so its results would be a mixture. That is "
        f"refused even with --accept-changes.\n"
        f"It can be read as it is: {PROGRAM} leaderboard, report, query and export take it.\n"
        f"To finish it, use {PROGRAM} {before}; or start a new sweep over the same space with: "
        f"{PROGRAM} launch {shlex.quote(str(run.space))}"
    )


def check_space(run: Run, manifest: Mapping[str, Any], space: SearchSpace) -> None:
    """Check that the search space is the one that the sweep began with.

    Args:
        run: the sweep.
        manifest: its manifest.
        space: the search space in its directory.

    Raises:
        UsageError: the spaces differ; the message lists the differences.
    """
    if manifest.get("space_hash") != space.fingerprint():
        raise _refusal(run.space, differences(manifest.get("space"), space.meaning()))


def check_versions(run: Run, manifest: Mapping[str, Any], *, accept: bool) -> None:
    """Check that the sweep last ran with the installed versions of packages.

    Args:
        run: the sweep.
        manifest: its manifest.
        accept: whether differences are accepted.

    Raises:
        UsageError: versions differ and that is not accepted.
    """
    before = manifest.get("result_versions")
    now = result_versions()
    if isinstance(before, Mapping) and before.keys() & set(VERSIONED_FOR_TEXTS):
        now |= text_versions()
    found = differences(before, now)
    if found and not accept:
        raise _refusal(run.manifest, found, advice="or accept this with: --accept-changes")


def check_data(run: Run, manifest: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that images and weights are those that the sweep began with.

    Args:
        run: the sweep.
        manifest: its manifest.
        now: the current `provenance`.

    Raises:
        UsageError: images or weights differ; the message lists the differences.
    """
    found = list(differences(manifest.get("weights"), now["weights"], "weights"))
    if manifest.get("dataset_fingerprint") != now["dataset_fingerprint"]:
        lines = differences(manifest.get("images"), now["images"], "images")
        found += lines or ["images: some have other contents, labels or places in the splits"]
    if found:
        raise _refusal(run.path, found)


def differences(before: object, now: object, path: str = "") -> list[str]:
    """The differences of two JSON values, one line each: `search.lr.high: was 0.03, is 0.1`.

    Args:
        before: the earlier value.
        now: the current value.
        path: dotted key of the two values, the prefix of each line.
    """
    return list(_differences(before, now, path))


def _differences(before: object, now: object, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*before, *now)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differences(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{path or 'all'}: was {_shown(before)}, is {_shown(now)}"


def _shown(value: object) -> str:
    text = "not there" if value is None else printable(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refusal(what: object, found: Iterable[str], *, advice: str = "") -> UsageError:
    all_lines = list(found)
    lines = all_lines[:MOST_LISTED]
    if len(all_lines) > len(lines):
        lines.append(f"and {len(all_lines) - len(lines)} more")
    return UsageError(
        "\n  ".join([f"{what}: not as when the sweep began or ran last:", *lines])
        + "\nFinished trials would not compare with new ones. Make it as it was, start a new sweep "
        + ("with: sft-sweep launch" + (f", {advice}" if advice else ""))
    )


def _describe(images: LabelledExamples) -> dict[str, Any]:
    """Image counts by split and class, and the value range of 16-bit images if one is set."""
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
    """(major, minor) of a version; the text itself if it is no valid version."""
    try:
        return Version(version).release[:2]
    except InvalidVersion:
        return version


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
