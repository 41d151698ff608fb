import gc
from collections.abc import Iterator

import pytest
import torch

from orchestrator.datasets import digits
from tests.trainable.families import FAMILIES, Case, case_of
from trainable.backbones import Backbone, load_weights
from trainable.data.labelled_examples import LabelledExamples


@pytest.fixture(scope="session")
def digit_images() -> LabelledExamples:
    """All 1,797 digits with their fixed test split."""
    return digits.load(test=None, seed=0)


@pytest.fixture(scope="session")
def strokes() -> Backbone:
    """The shipped backbone; a test that changes it breaks the others, which is the point."""
    return Backbone(load_weights("tiny_strokes"))


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    """A small model of each family; a test that changes it breaks the others."""
    family: str = request.param
    return case_of(family)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, where bits are compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_cycle_collector() -> Iterator[None]:
    """Without the collector of cycles, which would hide what waits for it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
