"""cluster/README.md: short walks, through files that are there."""

from __future__ import annotations

import re

import pytest

from tests.cluster.files import CLUSTER, ROOT

README = (CLUSTER / "README.md").read_text()
SECTIONS = {
    section.split("\n", 1)[0]: section for section in re.split(r"^## ", README, flags=re.MULTILINE)
}
WALKS = [title for title in SECTIONS if re.search(r"`[\w./]+`$", title)]


def commands(title: str) -> list[str]:
    return [line.strip() for line in SECTIONS[title].splitlines() if line.startswith("    ")]


def test_every_way_has_a_walk() -> None:
    files = {re.findall(r"`([\w./]+)`$", title)[0] for title in WALKS}
    assert files == {"ssh.yaml", "slurm/launch.sh", "Dockerfile", "kuberay/"}
    assert all((CLUSTER / name).exists() for name in files)


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_takes_less_than_ten_lines(title: str) -> None:
    assert 0 < len(commands(title)) < 10


@pytest.mark.parametrize("title", WALKS)
def test_the_files_of_a_walk_exist(title: str) -> None:
    named = re.findall(r"(?<![\w/])(?:cluster|search_spaces)/[\w./-]+", " ".join(commands(title)))
    assert named
    assert all((ROOT / name).is_file() for name in named), named


def test_what_was_not_run_is_said() -> None:
    told = SECTIONS["What was tried, and what was validated only"]
    assert {"Slurm", "Docker", "Kubernetes"} == set(re.findall(r"\*\*Not \w+ \w+ (\w+)\*\*", told))
