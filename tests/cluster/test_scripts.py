"""Shell scripts, by shellcheck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, ROOT
from tests.cluster.linters import lint

SCRIPTS = [*sorted(CLUSTER.rglob("*.sh")), ROOT / ".ci" / "check", ROOT / ".ci" / "run"]


def test_scripts_are_found() -> None:
    assert {script.name for script in SCRIPTS} == {
        "launch.sh",
        "launch-or-resume.sh",
        "check",
        "run",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert lint("shellcheck", "--external-sources", script) == ""


def test_shellcheck_finds_what_is_wrong(tmp_path: Path) -> None:
    script = tmp_path / "wrong.sh"
    script.write_text("#!/bin/bash\nfor file in $(ls *.yaml); do rm $file; done\n")
    assert "SC2086" in lint("shellcheck", script)
