"""The image's Dockerfile, by hadolint and by what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cluster.files import CLUSTER, ROOT, documents, every
from tests.cluster.linters import lint
from trainable.errors import BackboneError

DOCKERFILE = CLUSTER / "Dockerfile"
TEXT = DOCKERFILE.read_text().replace("\\\n", " ")
"""Its instructions, one a line."""


def allowed() -> set[str]:
    """What of the repository reaches the build."""
    lines = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in lines
    return {line[1:] for line in lines if line.startswith("!")}


def test_hadolint_finds_nothing() -> None:
    assert lint("hadolint", "--no-color", DOCKERFILE) == ""


def test_hadolint_finds_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("python:${PYTHON}\n", "python:latest\n"))
    assert "DL3007" in lint("hadolint", "--no-color", wrong)


def test_the_base_is_one_version_and_slim() -> None:
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-slim-\w+$", TEXT, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)) == {"python:${PYTHON}"}


def test_every_installation_is_by_the_versions_that_were_tried() -> None:
    installs = re.findall(r"pip install [^&\n]*", TEXT)
    assert len(installs) == 2
    assert all(re.search(r"-c \S*constraints\.txt ", install) for install in installs)


def test_the_image_runs_as_the_user_that_kubernetes_expects() -> None:
    users = re.findall(r"^USER (\S+)$", TEXT, re.MULTILINE)
    manifests = [d for path in (CLUSTER / "kuberay").glob("*.yaml") for d in documents(path)]
    assert users == ["1000"]
    assert set(every(manifests, "runAsUser")) == {int(users[0])}
    assert "useradd --uid 1000 " in TEXT


def test_no_node_starts_without_authentication() -> None:
    assert re.search(r"^ENV .*\bRAY_AUTH_MODE=token\b", TEXT, re.MULTILINE)


def test_no_secret_is_built_in() -> None:
    named = re.findall(r"^(?:ARG|ENV) (.*)$", TEXT, re.MULTILINE)
    assert named
    assert not re.search(r"(?i)secret|password|api_?key|auth_token", " ".join(named))
    assert not {name for name in allowed() if name.startswith(".") or name == "runs"}


def test_what_is_copied_gets_past_the_ignore_file() -> None:
    for sources in re.findall(r"^COPY (?!--)(.+) \S+$", TEXT, re.MULTILINE):
        for source in sources.split():
            assert source == "." or source in allowed(), source


def test_what_gets_past_the_ignore_file_exists() -> None:
    assert all((ROOT / name).exists() for name in allowed())
    assert {"pyproject.toml", "constraints.txt", "orchestrator", "trainable"} <= allowed()


def bake(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the build's step that fetches weights."""
    (code,) = re.findall(r'^RUN python -c "([^"]*)" "\$\{BACKBONES\}"$', TEXT, re.MULTILINE)
    monkeypatch.setattr(sys, "argv", ["-c", names])
    exec(code, {})


def test_weights_are_baked_in_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r'^ARG BACKBONES=""$', TEXT, re.MULTILINE)
    bake("", monkeypatch)
    bake("tiny_strokes tiny_fractals", monkeypatch)


def test_a_backbone_that_there_is_not_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackboneError, match="resnet_50"):
        bake("tiny_strokes resnet_50", monkeypatch)
