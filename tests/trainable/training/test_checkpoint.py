import hashlib
import json
import pickle
import re
from typing import Any

import pytest
import torch

from trainable.errors import CheckpointError
from trainable.training.checkpoint import Checkpoint

VALUES: dict[str, Any] = {
    "step": 3,
    "elapsed_s": 0.1 + 0.2,
    "nothing": None,
    "fold0": {"each_once": True, "text": "ü\n"},
}
TENSORS = {
    "loss": torch.tensor(0.1, dtype=torch.float64),
    "weight": torch.tensor([[1.5, torch.nan], [-0.0, torch.inf]]),
    "half": torch.tensor([1.0, 3e-5], dtype=torch.bfloat16),
    "count": torch.tensor([2**60, -1]),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "fold0/weight": torch.arange(6.0).view(2, 3),
}


def bits(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[Any, ...]]:
    return {
        name: (value.dtype, tuple(value.shape), value.reshape(-1).view(torch.uint8).tolist())
        for name, value in tensors.items()
    }


def test_a_checkpoint_comes_back_from_its_files_to_the_bit() -> None:
    for checkpoint in (Checkpoint(VALUES, TENSORS), Checkpoint({}, {})):
        text, content = checkpoint.to_files()
        found = Checkpoint.from_files(text, content)
        assert found.values == checkpoint.values
        assert bits(found.tensors) == bits(checkpoint.tensors)


def test_values_are_one_line_whatever_their_content() -> None:
    text, _ = Checkpoint(VALUES, {}).to_files()
    assert "\n" not in text
    assert text.isascii()


def test_a_file_of_tensors_is_little_larger_than_its_tensors() -> None:
    tensors = {f"layer{i}": torch.randn(100, 100) for i in range(10)}
    _, content = Checkpoint({}, tensors).to_files()
    assert 400_000 < len(content) < 401_000


def test_parts_are_given_back_by_name() -> None:
    whole = Checkpoint.of_parts(
        {
            "fold1": Checkpoint({"step": 1}, {"weight": torch.ones(1)}),
            "fold10": Checkpoint({"step": 2}, {"weight": torch.zeros(2), "a/b": torch.zeros(3)}),
        }
    )
    part = Checkpoint.from_files(*whole.to_files()).part("fold10")
    assert part.values == {"step": 2}
    assert {name: len(value) for name, value in part.tensors.items()} == {"weight": 2, "a/b": 3}
    assert list(whole.part("fold1").tensors) == ["weight"]
    with pytest.raises(CheckpointError, match=r"^fold2: missing in the checkpoint; start from"):
        whole.part("fold2")


def changed(**head: Any) -> tuple[str, bytes]:
    text, content = Checkpoint(VALUES, TENSORS).to_files()
    return json.dumps({**json.loads(text), **head}), content


PAYLOAD = pickle.dumps(Checkpoint)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("", b""), "damaged: JSONDecodeError"),
        (("{", b""), "damaged: JSONDecodeError"),
        (("[1]", b""), "damaged: its values are not a JSON object"),
        (("[" * 100_000, b""), "damaged: RecursionError"),
        (("1" * 10_000, b""), "damaged: ValueError"),
        (("{}", b""), "got format None; this version reads 1"),
        (changed(format=2), "got format 2; this version reads 1"),
        (changed(format="x" * 500), "got format x{40};"),
        (changed(values={"step": 4}), "damaged: its values are not those of their hash"),
        (changed(values=[]), "damaged: its values are not those of their hash"),
        (changed(values_sha256=None), "damaged: its values are not those of their hash"),
        (changed(tensors_sha256="0" * 64), "damaged: its tensors are not those of their hash"),
        ((changed()[0], PAYLOAD), "damaged: its tensors are not those of their hash"),
    ],
)
def test_incomplete_files_are_refused(files: tuple[str, bytes], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^checkpoint: {message}.*start from scratch$"):
        Checkpoint.from_files(*files)


@pytest.mark.parametrize("content", [b"", PAYLOAD, b"\xff" * 64, b"\x08" + bytes(7) + b"[1, 2]  "])
def test_content_that_is_no_safetensors_file_is_refused_even_with_its_hash(content: bytes) -> None:
    text, _ = changed(tensors_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(CheckpointError, match=r"damaged: SafetensorError.*start from scratch$"):
        Checkpoint.from_files(text, content)


@pytest.mark.parametrize("value", [None, -1, 6, 2.0, True, "3", [3]])
def test_a_count_is_a_whole_number_within_its_limit(value: object) -> None:
    message = re.escape(f"step: the checkpoint has {value!r}; allowed: 0 to 5; start from scratch")
    with pytest.raises(CheckpointError, match=f"^{message}$"):
        Checkpoint({"step": value}, {}).count("step", most=5)
    assert Checkpoint({"step": 5}, {}).count("step", most=5) == 5
