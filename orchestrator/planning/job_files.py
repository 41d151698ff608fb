"""Staging of the local files that a search space names, to be sent along with a job."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from orchestrator.errors import UsageError
from orchestrator.planning.inputs import backbones
from orchestrator.space import SearchSpace
from trainable.spec.setting import Text
from trainable.spec.weight_paths import split_part

MOST_BYTES = 500 * 2**20
"""Ray's limit for the files of a job."""

SPACE_NAME = "space.yaml"

# Ray silently leaves out what these files list, and images are often listed in .gitignore.
_UNSAID = shutil.ignore_patterns(".gitignore", ".rayignore")


def stage_job_files(space: SearchSpace, file: Path, into: Path) -> list[str]:
    """Copy a search-space file and the files of its relative paths into an empty folder.

    Relative paths are relative to the current directory, here and on the cluster. Absolute paths
    refer to files of the cluster and are not copied.

    Args:
        space: the search space of the file.
        file: path of the search-space file; its copy is named `space.yaml`.
        into: an empty folder.

    Returns:
        The relative paths that were copied.

    Raises:
        UsageError: a path leads out of the current directory, or the files exceed `MOST_BYTES`.
    """
    paths = [path for path in dict.fromkeys(_relative_paths(space)) if Path(path).exists()]
    for path in paths:
        if ".." in PurePosixPath(path).parts:
            raise UsageError(
                f"{file}: {path} lies outside the current directory and cannot travel with the "
                "job. Start from the folder above it, or give an absolute path on the cluster"
            )
    num_bytes = sum(_num_bytes(Path(path)) for path in paths)
    if num_bytes > MOST_BYTES:
        raise UsageError(
            f"{file}: {', '.join(paths)}: {num_bytes / 2**20:.0f} MiB are too much to travel with "
            f"the job (allowed: {MOST_BYTES // 2**20}). Give an absolute path on the cluster"
        )
    shutil.copyfile(file, into / SPACE_NAME)
    for path in paths:
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_dir():
            shutil.copytree(path, target, dirs_exist_ok=True, ignore=_UNSAID)
        else:
            shutil.copyfile(path, target)
    return paths


def _relative_paths(space: SearchSpace) -> Iterator[str]:
    """Yield the relative paths of images, weights and user code; they may not exist as files."""
    section = space.dataset
    given = [
        getattr(section, name)
        for name in type(section).model_fields
        if type(section).setting(name).text is Text.PATH
    ]
    weights = [name.partition("@")[2] for name in backbones(space)]
    weights += [custom.weights for custom in space.custom.values() if custom.weights]
    given += [str(split_part(path)[0]) for path in weights]
    for custom in space.custom.values():
        top = custom.module.partition(":")[0].partition(".")[0]
        given += [top, f"{top}.py"]
    for path in given:
        if path and path != "." and not Path(path).expanduser().is_absolute():
            yield path


def _num_bytes(path: Path) -> int:
    files = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files)
