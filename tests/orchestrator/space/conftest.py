from collections.abc import Callable
from typing import Any

import pytest
import yaml

from orchestrator.errors import SpaceError
from orchestrator.space import SearchSpace, parse_space


@pytest.fixture
def read() -> Callable[..., SearchSpace]:
    """Reads a space of two backbones and one label budget with `search` and top keys changed."""

    def read(
        search: dict[str, Any] | None = None, overrides: tuple[str, ...] = (), **top: Any
    ) -> SearchSpace:
        return parse_space(_text(search, top), where="pets.yaml", overrides=overrides)

    return read


@pytest.fixture
def problems(read: Callable[..., SearchSpace]) -> Callable[..., list[str]]:
    """The problem lines of the space that `read` would read, without their indentation."""

    def problems(*args: Any, **kwargs: Any) -> list[str]:
        with pytest.raises(SpaceError, match=r"^pets\.yaml: \d+ problem") as caught:
            read(*args, **kwargs)
        first, *lines, last = str(caught.value).splitlines()
        plural = "" if len(lines) == 1 else "s"
        assert first == f"pets.yaml: {len(lines)} problem{plural}"
        assert last == "Check again with: sft-sweep validate pets.yaml"
        assert all(line.startswith("  ") for line in lines)
        return [line[2:] for line in lines]

    return problems


def _text(search: dict[str, Any] | None, top: dict[str, Any]) -> str:
    values = {
        "dataset": {"source": "digits"},
        "search": {"backbone": ["vit_tiny", "resnet_tiny"], "label_budget": 5} | (search or {}),
    } | top
    return yaml.safe_dump(values, sort_keys=False)
