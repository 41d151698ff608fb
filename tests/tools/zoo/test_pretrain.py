from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.zoo.pretrain import GENERATORS, main
from trainable.backbones.zoo import ENTRIES, weights_path


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def written(folder: Path, *arguments: str) -> dict[str, Tensor]:
    main([*arguments, "--output", str(folder), "--threads", "1"])
    (file,) = folder.iterdir()
    weights: dict[str, Tensor] = load_file(file)
    return weights


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_untrained_weights_are_reproduced_to_the_bit(tmp_path: Path) -> None:
    again = written(tmp_path / "again", "untrained")

    assert equal(again, load_file(weights_path("tiny_untrained")))


@pytest.mark.parametrize("name", GENERATORS)
def test_short_pretraining_is_reproducible_and_moves_the_weights(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = written(tmp_path / "first", name, "--steps", "3")
    torch.manual_seed(99)
    second = written(tmp_path / "second", name, "--steps", "3")
    untrained = load_file(weights_path("tiny_untrained"))

    assert equal(first, second)
    assert not equal(first, untrained)
    assert "step 3/3" in capsys.readouterr().err


def test_every_generator_has_an_entry() -> None:
    assert {f"tiny_{name}" for name in [*GENERATORS, "untrained"]} == set(ENTRIES)
