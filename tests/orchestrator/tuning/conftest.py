from collections.abc import Iterator

import pytest

from orchestrator.tuning.cluster import LOCAL, cluster


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray of two processors for all tests here: starting it takes seconds."""
    with cluster(LOCAL, num_cpus=2):
        yield
