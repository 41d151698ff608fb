from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainable.backbones import Backbone, Weights, known_problem, load_weights, zoo
from trainable.errors import BackboneError


def build(weights: Weights) -> torch.nn.Module:
    return Backbone(weights).traced(8).module


def test_shipped_backbones_load_with_what_they_were_trained_on() -> None:
    weights = load_weights("tiny_strokes")
    assert (weights.backbone, weights.version) == ("tiny_strokes", "tiny_strokes")
    assert weights.preprocessing.size == 8
    assert not any(name.startswith("head.") for name in weights.arrays)


def test_digest_tells_weights_apart_and_stays() -> None:
    digests = {name: load_weights(name).digest for name in zoo.ENTRIES}
    assert len(set(digests.values())) == len(zoo.ENTRIES)
    assert load_weights("tiny_strokes").digest == digests["tiny_strokes"]


def test_unknown_backbone_is_told_the_nearest_name() -> None:
    with pytest.raises(BackboneError, match=r"'tiny_stroke'; unknown .*did you mean tiny_strokes"):
        load_weights("tiny_stroke")


def test_name_with_weights_of_a_backbone_that_has_one_set_is_refused() -> None:
    with pytest.raises(BackboneError, match="write tiny_strokes alone, not tiny_strokes@none"):
        load_weights("tiny_strokes@none")


def test_known_names_have_no_problem() -> None:
    assert [known_problem(name) for name in zoo.ENTRIES] == [None] * len(zoo.ENTRIES)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_damaged_weights_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(zoo, "WEIGHTS_FOLDER", tmp_path)
    (tmp_path / "tiny_strokes.safetensors").write_bytes(content)
    with pytest.raises(BackboneError, match=r"tiny_strokes\.safetensors: "):
        load_weights("tiny_strokes")


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "WEIGHTS_FOLDER", tmp_path)
    with pytest.raises(BackboneError, match=r"tiny_strokes\.safetensors: no such file"):
        load_weights("tiny_strokes")


def test_model_is_in_eval_mode_and_owns_its_weights() -> None:
    weights = load_weights("tiny_strokes")
    before = {name: array.copy() for name, array in weights.arrays.items()}
    model = build(weights)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(np.array_equal(weights.arrays[name], before[name]) for name in before)


def test_weights_mapped_read_only_can_be_built_from_without_a_warning() -> None:
    weights = load_weights("tiny_strokes")
    for array in weights.arrays.values():
        array.setflags(write=False)
    name, parameter = next(build(weights).named_parameters())
    assert np.array_equal(parameter.detach().numpy(), weights.arrays[name])


def test_weights_that_lack_or_add_an_entry_do_not_fit() -> None:
    weights = load_weights("tiny_strokes")
    arrays = dict(weights.arrays)
    arrays["extra"] = arrays.pop("stem.0.weight")
    message = (
        "do not fit the architecture: missing: stem.0.weight; left over: extra. Name the backbone"
    )
    with pytest.raises(BackboneError, match=message):
        build(replace(weights, arrays=arrays))


def test_weights_of_another_shape_do_not_fit() -> None:
    weights = load_weights("tiny_strokes")
    arrays = {**weights.arrays, "stem.0.weight": np.zeros((2, 3, 3, 3), np.float32)}
    with pytest.raises(BackboneError, match=r"stem.0.weight is \(2, 3, 3, 3\) instead of"):
        build(replace(weights, arrays=arrays))


def test_backbone_is_traced_once_for_each_size(strokes: Backbone) -> None:
    assert strokes.traced(8) is strokes.traced(8)
    assert strokes.traced(8) is not strokes.traced(12)
