from __future__ import annotations

import pytest

from benchmarks.recipes import CURRENT
from orchestrator.datasets.sections import FolderSection, TableSection
from orchestrator.errors import UsageError
from orchestrator.space import SearchSpace, parse_space
from orchestrator.space.axes import Range
from orchestrator.space.template import FOR_TEXTS, Folder, template_text
from trainable.spec.augmentation import Augmentation
from trainable.spec.trial_spec import LabelBudget


def read(folder: Folder, *, gpu: bool = False, missing: tuple[str, ...] = ()) -> SearchSpace:
    text = template_text(folder, name="pets", backbones=["resnet18"], missing=missing, gpu=gpu)
    return parse_space(text, where="pets.yaml")


def folder(own_test: bool = False, **counts: int) -> Folder:
    return Folder(path="/data/pets", counts=counts, own_test=own_test)


def test_the_file_is_a_search_space_for_the_folder() -> None:
    space = read(folder(cats=40, dogs=30))
    assert isinstance(space.dataset, FolderSection)
    assert (space.dataset.path, space.dataset.test) == ("/data/pets", 0.2)
    assert space.name == "pets"
    assert space.limits.hours == 2


@pytest.mark.parametrize(
    ("smallest", "own_test", "budgets"),
    [
        (3, False, [2]),
        (12, False, [2, 5]),
        (13, False, [2, 5, 10]),
        (10, True, [2, 5, 10]),
        (1000, False, [2, 5, 10, 20, 50]),
    ],
)
def test_budgets_are_those_that_the_smallest_class_allows(
    smallest: int, own_test: bool, budgets: list[int]
) -> None:
    space = read(folder(own_test, cats=1000, dogs=smallest))
    assert list(space.label_budgets) == [LabelBudget(per_class=budget) for budget in budgets]


def test_vision_transformers_have_rates_of_their_own() -> None:
    text = template_text(
        folder(a=9, b=9), name="x", backbones=["resnet50", "vit_b_16"], missing=[], gpu=True
    )
    axes = parse_space(text, where="x.yaml").axes
    rates = [axes["lr"].resolve({"backbone": name}) for name in ("resnet50", "vit_b_16")]
    assert [(each.low, each.high) for each in rates if isinstance(each, Range)] == [
        CURRENT.lr,
        (1e-5, 5e-4),
    ]
    assert axes["layer_decay"].resolve({"backbone": "resnet50"}) is None


def test_without_a_gpu_less_is_trained_and_with_one_all_may_be() -> None:
    depths = {gpu: read(folder(a=9, b=9), gpu=gpu).axes["freeze_depth"] for gpu in (False, True)}
    assert depths[False].domains[0].grid() == (0.25, 0.5, 0.75)
    assert depths[True].domains[0].grid() == (0.0, 0.25, 0.5, 0.75)


def test_the_axes_are_those_that_the_recipe_was_measured_with() -> None:
    """The benchmark of recipes searches what people are given to search."""
    space = read(folder(a=9, b=9), gpu=False)
    assert space.augment is not None
    assert space.augment == Augmentation.parse(CURRENT.training["augment"])
    assert space.axes["freeze_depth"].domains[0].grid() == CURRENT.freeze_depth
    rates = space.axes["lr"].domains[0]
    assert isinstance(rates, Range)
    assert (rates.low, rates.high, rates.log) == (*CURRENT.lr, True)
    assert {name: space.training[name] for name in ("steps", "batch_size")} == {
        name: CURRENT.training[name] for name in ("steps", "batch_size")
    }


def test_missing_weights_are_named_in_a_comment() -> None:
    text = template_text(
        folder(a=9, b=9), name="x", backbones=["tiny_strokes"], missing=["resnet50"], gpu=True
    )
    assert "# not here, and no network to fetch them: resnet50" in text


def test_class_names_and_paths_cannot_break_the_file() -> None:
    odd = Folder(
        path='/data/"a": [\n#', counts={'x"\n: [': 9, "=cmd": 9, "käse": 9}, own_test=False
    )
    space = read(odd)
    assert isinstance(space.dataset, FolderSection)
    assert space.dataset.path == odd.path


def test_a_class_too_small_for_any_budget_is_named() -> None:
    with pytest.raises(UsageError, match="class 'dogs' has 2 images; a label budget of 2 needs 2"):
        read(folder(cats=40, dogs=2))


def test_a_file_for_texts_names_an_encoder_and_no_views_of_images() -> None:
    texts = Folder(
        path="/data/questions.csv",
        counts={"a": 40, "b": 30},
        own_test=False,
        source="table",
        keys={"text_column": "question", "label_column": "intent"},
        modality="text",
    )
    text = template_text(texts, name="questions", backbones=FOR_TEXTS, missing=[], gpu=False)
    space = parse_space(text, where="questions.yaml")
    assert isinstance(space.dataset, TableSection)
    assert (space.dataset.text_column, space.dataset.label_column) == ("question", "intent")
    assert space.augment is None
    assert space.baselines == ("tfidf", "probe")
    assert "# 70 texts; the smallest class has 30" in text
    assert "image" not in text
