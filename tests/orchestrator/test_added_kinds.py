"""A source of images, a sampler and a pruner that another installed package adds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import ThresholdPruner
from optuna.samplers import NSGAIISampler

from orchestrator.datasets.dataset import read_dataset
from orchestrator.datasets.image_reader import Demand
from orchestrator.errors import SpaceError
from orchestrator.running.broker.pruners import make_pruner
from orchestrator.running.broker.samplers import make_sampler
from orchestrator.space import SearchSpace
from orchestrator.space.build_space import build_space
from tests.builders.plugins import install
from trainable.errors import PluginError
from trainable.spec.trial_spec import LabelBudget

Add = Callable[..., None]

KINDS = '''
from typing import Annotated, Literal

from orchestrator.datasets.sections import Bits, ListedSource, MaxBad, TestShare
from orchestrator.space.dataset_sources import SourceName
from orchestrator.space.pruners import PrunerName, PrunerSection
from orchestrator.space.samplers import SamplerName, SamplerSection
from trainable.spec.setting import Setting


class Squares(ListedSource):
    """Grey squares, a class for each shade."""

    source: Annotated[Literal["squares"], SourceName] = "squares"
    shades: Annotated[int, Setting(help="classes", low=2, integer=True)] = 3
    test: TestShare = None
    bits: Bits = None
    max_bad_fraction: MaxBad = 0.01

    def list_images(self, problems):
        from orchestrator.datasets.listing import Listing

        if self.shades > 9:
            problems.add(("dataset", "shades"), "there are 9 shades at most")
            return None
        rows = [(shade, number) for shade in range(self.shades) for number in range(20)]
        return Listing.of(
            paths=[f"{shade}/{number}" for shade, number in rows],
            labels=[str(shade) for shade, _ in rows],
            splits=None,
            groups=None,
            read=lambda asked: (
                b"P5 8 8 255\\n" + bytes([20 * rows[i][0] + 1] * 63 + [rows[i][1]]) for i in asked
            ),
        )


class Spread(SamplerSection):
    """An evolution."""

    name: Annotated[Literal["spread"], SamplerName] = "spread"

    def make(self, *, seed):
        from optuna.samplers import NSGAIISampler

        return NSGAIISampler(seed=seed)


class Floor(PrunerSection):
    """Ends trials below a value."""

    name: Annotated[Literal["floor"], PrunerName] = "floor"
    lowest: Annotated[float, Setting(help="value below which a trial ends", low=0)] = 0.5

    def make(self, *, first, reports):
        from optuna.pruners import ThresholdPruner

        return ThresholdPruner(lower=self.lowest, n_warmup_steps=first)


class WithoutMake(PrunerSection):
    name: Annotated[Literal["lazy"], PrunerName] = "lazy"


class Misnamed(Floor):
    pass


class Loose(Floor):
    name: Annotated[Literal["loose"], PrunerName] = "loose"
    free: int = 3
'''
SPACE = {"search": {"backbone": "tiny_strokes", "label_budget": [2]}, "name": "added"}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    def added(modules: str = KINDS, **pruners: str) -> None:
        install(
            tmp_path,
            monkeypatch,
            adds={
                "dataset_sources": {"squares": "more_kinds:Squares"},
                "samplers": {"spread": "more_kinds:Spread"},
                "pruners": {"floor": "more_kinds:Floor", **pruners},
            },
            modules={"more_kinds": modules},
        )

    return added


def space(**top: Any) -> SearchSpace:
    return build_space({**SPACE, "dataset": {"source": "digits"}, **top})


def test_a_file_may_name_what_another_package_adds(add: Add) -> None:
    add()
    found = space(
        dataset={"source": "squares", "shades": 4},
        sampler={"name": "spread"},
        pruner={"name": "floor", "lowest": 0.25},
    )
    assert build_space(found.to_json()) == found
    demand = Demand(budgets=(LabelBudget(),), repeats=1, seed=0)
    images = read_dataset(found.dataset, demand=demand, where="added.yaml").images
    assert images.class_names == ("0", "1", "2", "3")
    assert len(images.labels) == 80
    assert isinstance(make_sampler(found, study="b2", number=3), NSGAIISampler)
    pruner = make_pruner(found, reports=4)
    assert isinstance(pruner, ThresholdPruner)
    assert (pruner._lower, pruner._n_warmup_steps) == (0.25, 2)


@pytest.mark.parametrize(
    ("top", "line"),
    [
        ({"pruner": {"name": "flor"}}, r"pruner.name: got 'flor'; allowed: .*none, floor; did you"),
        ({"pruner": {"lowest": 1}}, "pruner.lowest: belongs to floor; keys here: name, n_startup"),
        (
            {"dataset": {"source": "squares", "shades": 1}},
            "dataset.shades: got 1; allowed: a whole",
        ),
        ({"shades": 3}, r"shades: unknown key here; did you mean dataset.shades\?"),
    ],
)
def test_mistakes_in_added_keys_are_told_as_those_in_ours(
    add: Add, top: dict[str, Any], line: str
) -> None:
    add()
    with pytest.raises(SpaceError, match=line):
        space(**top)


def test_problems_of_added_images_are_told_as_those_of_ours(add: Add) -> None:
    add()
    demand = Demand(budgets=(LabelBudget(2),), repeats=1, seed=0)
    dataset = space(dataset={"source": "squares", "shades": 10}).dataset
    with pytest.raises(SpaceError, match=r"dataset\.shades: there are 9 shades at most"):
        read_dataset(dataset, demand=demand, where="added.yaml")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("odd", "more_kinds:KINDS", "cannot be imported: AttributeError"),
        ("odd", "more_kinds:Spread", "allowed: a subclass of orchestrator.space.pruners.PrunerSec"),
        ("lazy", "more_kinds:WithoutMake", "WithoutMake lacks make"),
        ("odd", "more_kinds:Misnamed", "Misnamed.name has to have the default 'odd', its own name"),
        ("loose", "more_kinds:Loose", "Loose: no Setting says what its keys may be: free"),
        ("none", "more_kinds:Floor", "this name is taken by sft-sweep itself; rename it"),
    ],
)
def test_a_bad_pruner_ends_in_one_message_that_names_its_package(
    add: Add, name: str, value: str, message: str
) -> None:
    add(**{name: value})
    with pytest.raises(PluginError, match=rf"^more-parts 1.0 adds a pruner by .*{message}"):
        space(pruner={"name": name})


def test_a_listed_source_without_the_keys_of_all_of_them_is_refused(add: Add) -> None:
    add(KINDS.replace("    test: TestShare = None\n", ""))
    with pytest.raises(PluginError, match=r"Squares lacks the keys test$"):
        space(dataset={"source": "squares"})


def test_checking_a_file_imports_nothing_that_reads_images_or_proposes_trials() -> None:
    program = (
        "import sys; from orchestrator.space.build_space import build_space;"
        f"build_space({SPACE | {'dataset': {'source': 'folder', 'path': 'x'}}!r});"
        "print({'torch', 'numpy', 'pyarrow', 'PIL', 'optuna'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
