"""Images and search spaces that are read in one call, for tests that need no single step of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.datasets.dataset import read_dataset
from orchestrator.datasets.image_reader import Demand
from orchestrator.planning.preparation import Prepared, prepare_space, read_space
from orchestrator.space import DatasetSection
from trainable.data.labelled_examples import LabelledExamples
from trainable.spec.trial_spec import LabelBudget


def load_images(dataset: DatasetSection, *, seed: int, keep_val: bool = False) -> LabelledExamples:
    """All images of a search-space file's `dataset:`, read and checked; see `read_dataset`."""
    demand = Demand(budgets=(LabelBudget(),), repeats=1, seed=seed)
    return read_dataset(dataset, demand=demand, where="dataset", keep_val=keep_val).images


def prepare(path: Path, *, overrides: Sequence[str] = ()) -> Prepared:
    """A sweep of a search-space file that is ready to start; see `prepare_space`."""
    return prepare_space(read_space(path, overrides), path=path)
