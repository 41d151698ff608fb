from collections.abc import Iterator

import pytest

from orchestrator.running.cluster import LOCAL
from orchestrator.running.ray_tune.cluster import cluster


@pytest.fixture(scope="package")
def local_ray() -> Iterator[None]:
    """One Ray of two processors for all tests here, as starting it takes seconds.

    It ends with them: its threads read this user's token again, which others put elsewhere.
    """
    with cluster(LOCAL, num_cpus=2):
        yield
