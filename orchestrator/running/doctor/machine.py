"""Facts about this machine, gathered without importing Ray."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import stat
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from orchestrator.errors import StorageError
from orchestrator.processors import usable_processors
from orchestrator.running.cluster import sessions_folder, token_file
from trainable.backbones.transformers_models.hub import cached_repositories
from trainable.cache_folder import default_folder
from trainable.errors import CacheError

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only its free space is read
"""The folder of Ray's object store."""

TEXT_EXTRA = "transformers"
"""Extra of this package with what backbones of texts need."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder that a sweep writes to.

    Attributes:
        name: its purpose, such as `sweeps`.
        path: the folder; it may not exist yet.
        free_bytes: free space on its disk.
        writable: whether this user may write there.
    """

    name: str
    path: Path
    free_bytes: int
    writable: bool


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """What backbones of texts need beside.

    Attributes:
        packages: requirement and installed version of each package of the extra; see
            `MachineFacts`.
        hub: cache of the Hugging Face hub's client, where their weights are kept; None if the
            client is not installed.
        models: number of backbones of texts in it.
    """

    packages: dict[str, tuple[Requirement, str | None]]
    hub: Place | None
    models: int


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """Facts about this machine.

    Attributes:
        python: version of Python.
        packages: requirement and installed version of each dependency; the version is None if the
            package is not installed.
        texts: what is there for backbones of texts.
        device: description of torch's default device.
        has_gpu: whether torch finds a GPU.
        cpus: processors that this process may use.
        memory_bytes: physical memory of the machine.
        shared_memory_bytes: free bytes in `SHARED_MEMORY`; None if that folder does not exist.
        places: folders that a sweep writes to.
        token_mode: permission bits of the token file; None if there is no file.
        token_file: path of the Ray token; None if the user has no home.
        sessions: folder of Ray's sockets and logs.
    """

    python: str
    packages: dict[str, tuple[Requirement, str | None]]
    texts: TextFacts
    device: str
    has_gpu: bool
    cpus: int
    memory_bytes: int
    shared_memory_bytes: int | None
    places: tuple[Place, ...]
    token_mode: int | None
    token_file: Path | None
    sessions: Path


def gather(*, runs: Path) -> MachineFacts:
    """The facts about this machine.

    Args:
        runs: folder in which sweep directories are made.
    """
    import torch

    token, sessions = _token_file(), sessions_folder()
    shared = SHARED_MEMORY
    return MachineFacts(
        python=platform.python_version(),
        packages=dict(_packages()),
        texts=_texts(),
        device=_device(),
        has_gpu=torch.cuda.is_available(),
        cpus=usable_processors(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        shared_memory_bytes=shutil.disk_usage(shared).free if shared.is_dir() else None,
        places=(
            _place("sweeps", runs),
            *(_place("features", folder) for folder in _cache_folders()),
            _place("weights", Path(torch.hub.get_dir())),
            _place("Ray's sessions", sessions),
        ),
        token_mode=stat.S_IMODE(token.stat().st_mode) if token and token.is_file() else None,
        token_file=token,
        sessions=sessions,
    )


def _token_file() -> Path | None:
    try:
        return token_file()
    except StorageError:  # the user has no home
        return None


def _cache_folders() -> list[Path]:
    try:
        return [default_folder()]
    except CacheError:  # the user has no home
        return []


def _device() -> str:
    """Name of torch's default device; for GPUs also their number and whether they support bf16."""
    import torch

    from trainable import device as devices

    words = devices.describe(devices.default_device())
    if not torch.cuda.is_available():
        return words
    count = torch.cuda.device_count()
    precision = "bf16" if torch.cuda.is_bf16_supported() else "no bf16: set training.precision fp32"
    return f"{count} x {words}, {precision}"


def _texts() -> TextFacts:
    packages = dict(_packages(extra=TEXT_EXTRA))
    if TEXT_EXTRA not in packages:  # the metadata are of an installation older than this code
        packages[TEXT_EXTRA] = Requirement(TEXT_EXTRA), _version(TEXT_EXTRA)
    if importlib.util.find_spec("huggingface_hub") is None:
        return TextFacts(packages=packages, hub=None, models=0)
    from huggingface_hub import constants

    return TextFacts(
        packages=packages,
        hub=_place("weights of texts", Path(constants.HF_HUB_CACHE)),
        models=len(cached_repositories()),
    )


def _packages(*, extra: str = "") -> list[tuple[str, tuple[Requirement, str | None]]]:
    """The dependencies of this package, or those that an extra of it adds."""
    found = []
    for line in metadata.requires("sft-sweep") or []:
        requirement = Requirement(line)
        marker = requirement.marker
        needed = marker is None or marker.evaluate({"extra": ""})
        if extra:
            needed = not needed and marker is not None and marker.evaluate({"extra": extra})
        if needed:
            found.append((requirement.name, (requirement, _version(requirement.name))))
    return found


def _version(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _place(name: str, path: Path) -> Place:
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return Place(
        name=name,
        path=path,
        free_bytes=shutil.disk_usage(existing).free,
        writable=os.access(existing, os.W_OK),
    )
