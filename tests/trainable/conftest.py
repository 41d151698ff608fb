import gc
from collections.abc import Iterator

import pytest

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
    """The shipped backbone, shared so that a test that changes it makes other tests fail."""
    return Backbone(load_weights("tiny_strokes"))


@pytest.fixture(scope="module", params=list(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    """A small model of each family, shared so that a test that changes it makes others fail."""
    family: str = request.param
    return case_of(family)


@pytest.fixture
def no_cycle_collector() -> Iterator[None]:
    """Switch off the cycle collector, which would hide objects that only it frees."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
