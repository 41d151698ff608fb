from collections.abc import Iterator

import pytest

from orchestrator.running.cluster import LOCAL
from orchestrator.running.ray_tune.cluster import cluster


@pytest.fixture(scope="package")
def local_ray() -> Iterator[None]:
    """A Ray cluster of two processors for all tests here, because its start takes seconds.

    It ends after these tests. Its threads read this user's token again and again, and other tests
    change the place of the token.
    """
    with cluster(LOCAL, num_cpus=2):
        yield
