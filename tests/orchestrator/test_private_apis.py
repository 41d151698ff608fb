"""Private names of Optuna and Ray stand in one module each, where a new version can be met."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWNERS = {
    "orchestrator/recording/optuna_internals.py",
    "orchestrator/running/ray_tune/ray_internals.py",
}
ATTRIBUTES = {"_storage", "_study_id", "_trial_id", "_resetting_trials"}
"""Private attributes of Optuna's and Tune's objects that this program reads."""


def private_names(text: str) -> list[str]:
    """Private modules of Optuna and Ray that a program imports, and private attributes it reads."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            modules = []
        found += [name for name in modules if is_private(name)]
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            found += [] if own else [node.attr]
    return found


def is_private(module: str) -> bool:
    package, *parts = module.split(".")
    hidden = any(part.startswith("_") for part in parts) or parts[:2] == ["core", "generated"]
    return package in {"optuna", "ray"} and hidden


@pytest.mark.parametrize(
    "line",
    [
        "from ray._private.state import state",
        "import ray._raylet",
        "from ray.core.generated import ray_client_pb2",
        "from optuna.storages.journal._storage import JournalOperation",
        "study._storage",
    ],
)
def test_private_names_are_found(line: str) -> None:
    assert private_names(line)


def test_private_names_of_optuna_and_ray_stand_in_one_module_each() -> None:
    files = {
        path.relative_to(ROOT).as_posix(): private_names(path.read_text(encoding="utf-8"))
        for package in ("orchestrator", "trainable")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {file for file, names in files.items() if names} == OWNERS
