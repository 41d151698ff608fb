"""The command lines of docs/quickstart.md, from the sweep to a model and to images of one's own."""

from __future__ import annotations

import shlex
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from orchestrator.cli.main import run as run_cli
from orchestrator.datasets import digits
from tests.docs.pages import commands
from tests.integration.conftest import LOWDATA, REPOSITORY, Launched
from tests.orchestrator.datasets.conftest import encoded, scans, write
from trainable.data.labelled_examples import Split
from trainable.export import written_model

LAUNCH = f"sft-sweep launch {LOWDATA.relative_to(REPOSITORY)}"


def test_every_line_of_the_quickstart_runs(
    small_sweep: Launched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights here"))
    monkeypatch.setattr("trainable.backbones.torchvision_files.reachable", lambda **_: False)
    # These take long; they are written in the tests of `export`.
    monkeypatch.setattr(written_model, "write_portable", lambda *_args, **_options: [])
    (tmp_path / "search_spaces").symlink_to(REPOSITORY / "search_spaces")
    images = digits.load(test=None, seed=0)
    first = int(images.indices(Split.TEST)[0])
    (tmp_path / "digit.png").write_bytes(images.encoded(first))
    target = scans()[1]
    for label, name in enumerate(("cat", "dog")):
        for row in np.flatnonzero(target == label)[:10]:
            write(tmp_path / "photos" / name / f"{row}.png", encoded(int(row)))
    lines = commands("quickstart.md")
    assert LAUNCH in lines
    for line in lines:
        if line == LAUNCH:  # the shared sweep stands for it: the same file, made small
            copytree(small_sweep.path, tmp_path / "runs" / small_sweep.path.name)
        else:
            assert run_cli(shlex.split(line)[1:]) == 0, line
    for made in ("report.html", "model/README.md", "photos.yaml", "photos.png"):
        assert (tmp_path / made).is_file(), made
