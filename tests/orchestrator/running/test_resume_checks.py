from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import UsageError
from orchestrator.planning.preparation import Prepared
from orchestrator.recording.sweep_directory import Run
from orchestrator.running import resume_checks
from orchestrator.running.resume_checks import (
    check_data,
    check_release,
    check_space,
    check_versions,
    differences,
    provenance,
)
from orchestrator.space import SearchSpace, load_space
from tests.builders.prepared import prepare

SPACE: dict[str, Any] = {
    "name": "pets",
    "dataset": {"source": "digits"},
    "search": {
        "backbone": ["tiny_strokes"],
        "lr": {"low": 1.0e-4, "high": 3.0e-2, "log": True},
        "label_budget": [2],
    },
    "objective": {"metric": "accuracy"},
    "trials": 3,
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    path = tmp_path_factory.mktemp("space") / "pets.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return prepare(path)


@pytest.fixture
def space(tmp_path: Path) -> Callable[..., SearchSpace]:
    def space(**changes: Any) -> SearchSpace:
        path = tmp_path / "pets.yaml"
        path.write_text(yaml.safe_dump(SPACE | changes))
        return load_space(path)

    return space


def test_a_sweep_with_the_same_space_data_and_versions_is_accepted(
    prepared: Prepared, tmp_path: Path
) -> None:
    manifest = provenance(prepared)
    check_space(Run(tmp_path), manifest, prepared.space)
    check_versions(Run(tmp_path), manifest, accept=False)
    check_data(Run(tmp_path), manifest, provenance(prepared))


def test_another_space_is_refused_and_its_differences_are_listed(
    prepared: Prepared, tmp_path: Path, space: Callable[..., SearchSpace]
) -> None:
    search = SPACE["search"] | {"lr": {"low": 1.0e-4, "high": 0.1, "log": True}}
    with pytest.raises(UsageError) as told:
        check_space(Run(tmp_path), provenance(prepared), space(search=search, trials=4))
    lines = str(told.value).splitlines()
    assert lines[0] == f"{tmp_path}/space.yaml: not as when the sweep began or ran last:"
    assert set(lines[1:3]) == {
        "  search.lr.high: was 0.03, is 0.1",
        "  trials: was 3, is 4",
    }
    assert "sft-sweep launch" in lines[3]
    assert "--accept-changes" not in lines[3]


def test_changed_limits_resources_and_caching_are_accepted(
    prepared: Prepared, tmp_path: Path, space: Callable[..., SearchSpace]
) -> None:
    other = space(limits={"hours": 9}, resources={"max_concurrent": 1}, cache="never")
    check_space(Run(tmp_path), provenance(prepared), other)


def test_other_versions_are_refused_unless_they_are_accepted(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = provenance(prepared)
    now = resume_checks.result_versions()
    monkeypatch.setattr(
        resume_checks, "result_versions", lambda: now | {"torch": "9.9", "timm": None}
    )
    check_versions(Run(tmp_path), manifest, accept=True)
    with pytest.raises(UsageError, match=r"torch: was \S+, is 9\.9\n") as told:
        check_versions(Run(tmp_path), manifest, accept=False)
    assert "--accept-changes" in str(told.value)


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ("0.1.0", "0.2.0", True),
        ("0.1.9", "0.2.0.dev3", True),
        ("0.3.0", "0.2.0", True),
        ("1.2.0", "0.2.0", True),
        ("unknown", "0.2.0", True),
        ("0.2.0", "0.2.0", False),
        ("0.2.0", "0.2.7", False),
        ("0.2.0rc1", "0.2.0", False),
        (None, "0.2.0", False),
        ("0.2.0", None, False),
    ],
)
def test_another_minor_version_is_refused(
    before: str | None,
    now: str | None,
    refused: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resume_checks, "result_versions", lambda: {"sft-sweep": now})
    manifest = {} if before is None else {"tool_version": before}
    if not refused:
        check_release(Run(tmp_path), manifest)
        return
    with pytest.raises(UsageError, match=f"a sweep of sft-sweep {before}, and this is {now}"):
        check_release(Run(tmp_path), manifest)


def test_a_manifest_without_versions_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was not there"):
        check_versions(Run(tmp_path), {}, accept=False)


def test_other_images_and_weights_are_refused(prepared: Prepared, tmp_path: Path) -> None:
    manifest = provenance(prepared)
    labels = prepared.images.labels.copy()
    labels[0], labels[1] = labels[1], labels[0]
    relabelled = replace(prepared, images=replace(prepared.images, labels=labels))
    with pytest.raises(UsageError, match="images"):
        check_data(Run(tmp_path), manifest, provenance(relabelled))
    (name,) = prepared.weights
    other = replace(prepared.weights[name], digest="ab" * 32)
    moved = replace(prepared, weights={name: other})
    with pytest.raises(UsageError, match=rf"weights\.{name}: was \w+\S*, is abab"):
        check_data(Run(tmp_path), manifest, provenance(moved))


def test_images_that_only_joined_or_left_are_counted(prepared: Prepared, tmp_path: Path) -> None:
    manifest = provenance(prepared)
    before = manifest["images"] | {"pool": manifest["images"]["pool"] | {"7": 1}}
    stale = manifest | {"images": before, "dataset_fingerprint": "0"}
    with pytest.raises(UsageError, match=r"images\.pool\.7: was 1, is \d+"):
        check_data(Run(tmp_path), stale, provenance(prepared))


def test_differences_of_nested_values_have_their_path() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "gone": True}
    now = {"a": {"b": 2, "c": [1, 2]}, "new": "x" * 100}
    assert differences(before, now) == [
        "a.b: was 1, is 2",
        "gone: was True, is not there",
        f"new: was not there, is {'x' * 57}...",
    ]
    assert differences(None, {"a": 1}) == ["all: was not there, is {'a': 1}"]
    assert differences(before, before) == []


def test_some_of_many_differences_are_listed_and_the_others_counted(tmp_path: Path) -> None:
    manifest = {"result_versions": {str(number): "1" for number in range(20)}}
    with pytest.raises(UsageError, match=r"and \d+ more"):
        check_versions(Run(tmp_path), manifest, accept=False)
