"""Description of the kept boundaries, and of the prefix computation that the cache saves."""

from pathlib import Path
from typing import Any

import optuna
import pytest

from orchestrator.datasets import digits
from orchestrator.planning.cache_plan import KeptBoundaries, kept_boundaries, lines_of
from orchestrator.planning.plan import make_plan
from orchestrator.recording import user_attributes
from orchestrator.recording.savings import Savings, measure_savings
from orchestrator.space.build_space import build_space
from trainable.backbones.cutting.boundaries import Boundary
from trainable.data.labelled_examples import LabelledExamples
from trainable.features.store import FOLDER_VARIABLE
from trainable.features.store.feature_store import SIZE_VARIABLE

CUTS = {
    ("net", 64): [
        Boundary(node="a", shape=(10**6,), params=0, flops=1.0, values=0),
        Boundary(node="b", shape=(512,), params=0, flops=1e12, values=0),
        Boundary(node="c", shape=(256,), params=0, flops=2e12, values=0),
    ]
}


def run(asked: float, computed: float, hits: int, warning: str | None = None) -> dict[str, Any]:
    return {
        "prefix_flops_asked": asked,
        "prefix_flops_computed": computed,
        "cache_hits": hits,
        "cache_misses": 2,
        "cache_warning": warning,
    }


def test_savings_are_summed_over_trials_finals_and_baselines() -> None:
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
    trial = study.ask()
    trial.set_user_attr(user_attributes.RUN, run(5e9, 5e9, 0))
    study.tell(trial, 1.0)
    study.ask()  # a running trial without any event
    study.set_user_attr("about", {"run": run(1e15, 1e15, 7)})
    study.set_user_attr("final/b2-0000/0", {"run": run(3e9, 0.0, 10, "disk full")})
    study.set_user_attr("baseline/pixels", {"run": {"duration_s": 1.0}})
    study.set_user_attr("baseline/probe/net", {"run": run(2e9, 1e9, 4, "disk full")})
    assert measure_savings([study, study]) == Savings(
        asked_flops=2e10, computed_flops=1.2e10, hits=28, misses=12, warnings=("disk full",)
    )


def test_the_line_says_what_was_asked_computed_and_saved() -> None:
    savings = Savings(asked_flops=2e12, computed_flops=5e11, hits=1, misses=1, warnings=())
    assert savings.text == ("Frozen prefixes: 2,000 GFLOP asked for, 500 computed, 75.0 % saved")
    nothing = Savings(asked_flops=0.0, computed_flops=0.0, hits=0, misses=0, warnings=())
    assert nothing.text == ""


def kept_of(images: LabelledExamples, **changed: object) -> tuple[list[KeptBoundaries], str | None]:
    given = {
        "name": "x",
        "dataset": {"source": "digits"},
        "search": {"backbone": "tiny_strokes", "label_budget": [2, 50]},
        **changed,
    }
    space = build_space(given)
    return kept_boundaries(space, images, CUTS, make_plan(space, images, where="x").studies)


@pytest.fixture(scope="module")
def images() -> LabelledExamples:
    return digits.load(test=None, seed=0)


def test_kept_boundaries_are_described(
    images: LabelledExamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    for cache, words in (
        ("auto", f"2 to 3 kept in {tmp_path}, 1.0 to 2.0 KiB an image"),
        ("always", f"1 to 3 kept in {tmp_path}, 1.0 to 3,906.2 KiB an image"),
        ("never", "none is kept between trials"),
    ):
        kept, problem = kept_of(images, cache=cache)
        assert problem is None
        assert lines_of(kept) == [f"net at 64 px: of 3 boundaries {words}"]


AUGMENT = {"ops": ["horizontal_flip"], "views": "auto"}


def test_views_that_are_kept_as_images_are_need_no_line(
    images: LabelledExamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    kept, _ = kept_of(images, augment=AUGMENT)
    assert [(one.study, one.num_views) for one in kept] == [(None, 1), ("b2", 64), ("b50", 8)]
    assert lines_of(kept) == [
        f"net at 64 px: of 3 boundaries 2 to 3 kept in {tmp_path}, 1.0 to 2.0 KiB an image"
    ]


@pytest.mark.parametrize(
    ("gib", "words"),
    [
        ("0.016", "3 kept in {folder}, 1.0 to 1.0 KiB a view"),
        ("0.015", "none is worth its bytes: prefixes are computed again from kept pixels"),
    ],
)
def test_the_views_of_a_study_are_those_of_its_labelled_images(
    images: LabelledExamples,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gib: str,
    words: str,
) -> None:
    """A boundary has a quarter of the cache for 1,797 images, 20 x 64 or 500 x 8 views."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv(SIZE_VARIABLE, gib)
    kept, _ = kept_of(images, augment=AUGMENT)
    assert lines_of(kept) == [
        "net at 64 px, images as they are and views of b2: of 3 boundaries 2 to 3 kept in "
        f"{tmp_path}, 1.0 to 2.0 KiB an image",
        f"net at 64 px, views of b50: of 3 boundaries {words.format(folder=tmp_path)}",
    ]


def test_kept_boundaries_are_listed_as_ranges_and_none_is_described() -> None:
    def kept(*numbers: int) -> KeptBoundaries:
        return KeptBoundaries(
            backbone="net",
            size=8,
            num_boundaries=9,
            kept=numbers,
            row_bytes=tuple(1024 for _ in numbers),
            folder="here",
        )

    assert " 1, 3 to 5, 9 kept in here" in "".join(lines_of([kept(1, 3, 4, 5, 9)]))
    assert "none is worth its bytes" in "".join(lines_of([kept()]))


def test_a_folder_that_cannot_be_used_is_a_problem_and_nothing_is_kept(
    images: LabelledExamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file"))
    (one,), problem = kept_of(images)
    assert one.kept == ()
    assert problem is not None
    assert FOLDER_VARIABLE in problem
