"""The directories of sweeps: creation, search, and manifests."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.errors import StorageError, UsageError
from orchestrator.recording import stores
from orchestrator.recording.stores import Place
from orchestrator.recording.table_schemas import SCHEMA_VERSION
from trainable.atomic_files import atomic_write, failpoint, unwritable

DEFAULT_ROOT = Path("runs")

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "pyarrow")


@dataclass(frozen=True)
class Run:
    """The directory of one sweep.

    Attributes:
        path: path of the directory.
    """

    path: Path

    @property
    def space(self) -> Path:
        """The search-space file with everything resolved."""
        return self.path / "space.yaml"

    @property
    def manifest(self) -> Path:
        """The identity, environment and provenance of the sweep."""
        return self.path / "manifest.json"

    @property
    def journal(self) -> Path:
        """Optuna's journal, the source of truth."""
        return self.path / "journal.log"

    @property
    def log(self) -> Path:
        """Messages, warnings and tracebacks."""
        return self.path / "sweep.log"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints of running work."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def given(self) -> str:
        """The sweep as users name it: its URL if it belongs to a store, else its path."""
        return str(stores.home_of(self.path) or self.path)

    @property
    def argument(self) -> str:
        """The same as a shell argument for RUN."""
        home = stores.home_of(self.path)
        return str(self.path) if home is None else home.argument

    def read_manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises:
            UsageError: this is not a sweep directory, or the manifest is damaged.
        """
        try:
            data = json.loads(self.manifest.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(
                f"{self.path}: no sweep here (manifest.json is missing); see: sft-sweep list"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{self.manifest}: cannot be read: {error}") from error
        if not isinstance(data, dict):
            raise UsageError(f"{self.manifest}: not a manifest")
        return data

    @property
    def sweep_id(self) -> str:
        """The id in all rows: the directory's name when it was created."""
        return str(self.read_manifest()["sweep_id"])


def check_root(root: Path | Place) -> None:
    """Make sure that a sweep directory can be created in `root`; nothing is left there.

    Raises:
        UsageError: it cannot.
        StorageError: the store cannot be used.
    """
    if isinstance(root, Place):
        stores.check_store(root)
        root = stores.work_folder(root)
    problem = unwritable(root)
    if problem is not None:
        raise UsageError(f"--out {root}: {problem}; give another with --out DIR")


def create_run(root: Path | Place, name: str, *, now: datetime) -> Run:
    """Create the directory of a new sweep: `<name>-<UTC time>`, with a suffix if that exists.

    For a sweep in a store it is a directory of this machine, which is mirrored.

    Raises:
        StorageError: it cannot be created.
    """
    taken: list[str] = []
    if isinstance(root, Place):
        taken, root = stores.names_in(root), stores.work_folder(root)
    stem = f"{name}-{now.astimezone(UTC):%Y%m%d-%H%M%S}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for suffix in range(1000):
            path = root / (f"{stem}-{suffix + 1}" if suffix else stem)
            if path.name in taken:
                continue
            try:
                path.mkdir()
            except FileExistsError:
                continue
            failpoint(f"{name}: directory made")
            return Run(path)
    except OSError as error:
        raise StorageError(
            f"{root}: no sweep directory can be made here: {error.strerror}"
        ) from error
    raise StorageError(f"{root}: there are too many directories named {stem}")


def write_manifest(run: Run, provenance: Mapping[str, Any]) -> None:
    """Write the manifest of a new sweep.

    Args:
        run: the sweep.
        provenance: hashes and facts that determine its results.

    Raises:
        StorageError: it cannot be written.
    """
    _write_manifest(
        run,
        {
            "schema_version": SCHEMA_VERSION,
            "sweep_id": run.path.name,
            **_environment(),
            "git_commit": _git_commit(),
            "hosts": [platform.node()],
            "created_at": datetime.now(tz=UTC).isoformat(),
            **provenance,
        },
    )


def update_manifest(run: Run, manifest: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Update the manifest of a resumed sweep; its id and time of creation stay.

    Raises:
        StorageError: it cannot be written.
    """
    hosts = list(dict.fromkeys([*manifest.get("hosts", []), platform.node()]))
    changed = {**manifest, **_environment(), **provenance, "hosts": hosts}
    if changed != manifest:
        _write_manifest(run, changed)


def _environment() -> dict[str, Any]:
    return {
        "tool_version": metadata.version("sft-sweep"),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "python": platform.python_version(),
    }


def _write_manifest(run: Run, manifest: Mapping[str, Any]) -> None:
    write_text(run.manifest, json.dumps(manifest, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a small text file as a whole.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with atomic_write(path, "w") as sink:
            sink.write(text)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from error


def find_runs(root: Path | Place) -> list[Run]:
    """Return the sweeps in a directory, oldest first; those with a damaged manifest come first.

    Raises:
        StorageError: the store cannot be read.
    """
    if isinstance(root, Place):
        paths = [stores.pull(root / name) for name in stores.names_in(root)]
    else:
        paths = list(root.iterdir()) if root.is_dir() else []
    runs = [Run(path) for path in paths if (path / "manifest.json").is_file()]
    return sorted(runs, key=lambda run: (_created_at(run), run.path.name))


def find_run(given: str | Path | None, *, root: Path = DEFAULT_ROOT, resuming: bool = False) -> Run:
    """Return the sweep in a directory or a store, or the newest in `root`.

    Args:
        given: a path or a URL; a sweep in a store is fetched into its directory on this machine.
        root: directory to search for the newest sweep if nothing is given.
        resuming: whether the sweep will be resumed.

    Raises:
        UsageError: there is none; or it is to be resumed and runs on another machine.
        StorageError: the store cannot be used.
    """
    if given is not None:
        run = Run(_fetched(stores.locate(given), resuming=resuming))
        run.read_manifest()
        return run
    runs = find_runs(root)
    if not runs:
        raise UsageError(f"{root}: no sweep here; start one with: sft-sweep launch SPACE")
    return runs[-1]


def _fetched(found: Path | Place, *, resuming: bool) -> Path:
    """Return the directory of a sweep, fetched from its store if that is needed."""
    home = stores.home_of(found) if isinstance(found, Path) else found
    if home is None or (isinstance(found, Path) and not resuming):
        assert isinstance(found, Path)
        return found
    if resuming:
        stores.check_no_driver(home)
    return stores.pull(home, checkpoints=resuming)


def _created_at(run: Run) -> str:
    try:
        return str(run.read_manifest().get("created_at", ""))
    except UsageError:
        return ""


def _git_commit() -> str | None:
    """Return the commit of the checkout that this program runs from, or None."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
