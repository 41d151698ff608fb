"""Stored activations equal computed ones, and every part of a key matters."""

import importlib
import linecache
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import pytest
import torch
from torch import Tensor

from tests.trainable.families import Case
from trainable.backbones import Backbone, Preprocessing, load_weights
from trainable.backbones.cutting.boundaries import boundaries
from trainable.backbones.cutting.split import split
from trainable.backbones.graphs.graph import trace
from trainable.data.labelled_examples import LabelledExamples
from trainable.features import feature_keys
from trainable.features.cache import FeatureCache, cache_levels
from trainable.features.cost_model import Speeds
from trainable.features.reader import FeatureCounts, FeatureReader
from trainable.features.store import FeatureStore
from trainable.modalities.image import inputs as image_inputs
from trainable.modalities.image.preprocessing import decode, normalize
from trainable.spec.augmentation import Augmentation
from trainable.spec.trial_spec import CacheMode

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
FAST = Speeds(flops=1e9, values=1e30, read_bytes=1e12, write_bytes=1e12)
VIEWS = Augmentation.parse({"ops": ["horizontal_flip", "resized_crop"], "views": 3})
SOME = np.asarray([5, 900, 17, 3, 1200, 44, 6], dtype=np.int64)
Rows = npt.NDArray[np.int64]


def cache(folder: Path, mode: CacheMode = CacheMode.ALWAYS, **options: Any) -> FeatureCache:
    settings: dict[str, Any] = {"speeds": FAST, "num_images": 1797, **options}
    return FeatureCache(store=FeatureStore(folder), mode=mode, **settings)


def reader(images: LabelledExamples, backbone: Backbone, **options: Any) -> FeatureReader:
    settings: dict[str, Any] = {"size": 8, "device": CPU, "precision": "fp32", **options}
    return FeatureReader(images, backbone, **settings)


def test_activations_equal_the_output_of_the_prefix(
    digit_images: LabelledExamples, strokes: Backbone
) -> None:
    preprocessing = strokes.weights.image_preprocessing
    pixels = normalize(decode(digit_images, SOME, preprocessing), preprocessing)
    for frozen in (0, 3, 7):
        prefix = split(strokes.traced(8), frozen=frozen, num_classes=10).prefix
        found = reader(digit_images, strokes).read(SOME, frozen=frozen)
        assert torch.allclose(found, prefix(pixels), atol=1e-5)
        assert found.dtype == torch.float32


@pytest.mark.parametrize("augmentation", [None, VIEWS])
@pytest.mark.parametrize("frozen", [0, 2, 5, 7])
def test_cached_equals_uncached_to_the_bit(
    digit_images: LabelledExamples,
    strokes: Backbone,
    tmp_path: Path,
    frozen: int,
    augmentation: Augmentation | None,
) -> None:
    views = {"augmentation": augmentation, "seed": 3}
    plain = reader(digit_images, strokes, **views).read(SOME, frozen=frozen)
    kept = cache(tmp_path)
    cold = reader(digit_images, strokes, cache=kept, **views).read(SOME, frozen=frozen)
    counts = FeatureCounts()
    again = reader(digit_images, strokes, cache=cache(tmp_path), counts=counts, **views)
    warm = again.read(SOME, frozen=frozen)
    assert plain.shape[: 2 if augmentation else 1] == ((7, 3) if augmentation else (7,))
    assert torch.equal(plain, cold)
    assert torch.equal(plain, warm)
    assert (counts.hits, counts.misses, counts.computed_flops) == (7, 0, 0.0)


def test_a_row_does_not_depend_on_other_images_or_its_place_among_them(
    case: Case, digit_images: LabelledExamples
) -> None:
    """Stored rows can replace computed ones only if this holds for every family of networks."""
    size = case.size
    weights = replace(load_weights("tiny_strokes"), preprocessing=Preprocessing(size, size))
    backbone = Backbone(weights)
    backbone._traced["", size] = case.traced
    rows = np.arange(image_inputs.BATCH + 9, dtype=np.int64)
    for frozen in sorted({1, len(boundaries(backbone.traced(size)))}):
        together = reader(digit_images, backbone, size=size).read(rows, frozen=frozen)
        for some in (rows[::-1], rows[4:11], rows[-1:]):
            found = reader(digit_images, backbone, size=size).read(
                np.ascontiguousarray(some), frozen=frozen
            )
            assert torch.equal(found, together[some.copy()])


def test_a_deeper_boundary_is_computed_from_the_nearest_stored_one(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    cuts = boundaries(strokes.traced(8))
    plain = reader(digit_images, strokes).read(SOME, frozen=6)
    for frozen in (2, 4):
        reader(digit_images, strokes, cache=cache(tmp_path)).read(SOME, frozen=frozen)
    counts = FeatureCounts()
    found = reader(digit_images, strokes, cache=cache(tmp_path), counts=counts).read(SOME, frozen=6)
    assert torch.equal(found, plain)
    assert counts.computed_flops == pytest.approx(7 * (cuts[5].flops - cuts[3].flops))
    assert counts.asked_flops == pytest.approx(7 * cuts[5].flops)
    assert (counts.hits, counts.misses) == (0, 7)


def test_pixels_are_decoded_once_for_all_boundaries(
    digit_images: LabelledExamples,
    strokes: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []

    def watched(images: LabelledExamples, rows: Rows, preprocessing: Any) -> Tensor:
        decoded.extend(rows.tolist())
        return decode(images, rows, preprocessing)

    monkeypatch.setattr(image_inputs, "decode", watched)
    other = Backbone(load_weights("tiny_untrained"))
    for backbone, frozen in ((strokes, 3), (strokes, 0), (other, 7), (strokes, 7)):
        reader(digit_images, backbone, cache=cache(tmp_path)).read(SOME, frozen=frozen)
    assert sorted(decoded) == sorted(SOME.tolist())


def rescaled(backbone: Backbone) -> Backbone:
    preprocessing = replace(backbone.weights.image_preprocessing, mean=(0.1, 0.2, 0.3))
    return Backbone(replace(backbone.weights, preprocessing=preprocessing))


def retouched(backbone: Backbone) -> Backbone:
    """Weights of which one number and the digest differ."""
    arrays = {name: array.copy() for name, array in backbone.weights.arrays.items()}
    name = next(name for name, array in arrays.items() if array.ndim == 4)
    arrays[name] = arrays[name] * 2
    return Backbone(replace(backbone.weights, arrays=arrays, digest="other"))


CHANGES: dict[str, Callable[[Backbone], tuple[Backbone, dict[str, Any]]]] = {
    "weights": lambda b: (retouched(b), {}),
    "scale": lambda b: (rescaled(b), {}),
    "resolution": lambda b: (b, {"size": 16}),
    "precision": lambda b: (b, {"precision": "bf16"}),
    "views": lambda b: (b, {"augmentation": VIEWS}),
    "architecture": lambda b: (
        Backbone(replace(b.weights, version="x", architecture="tiny_fractals")),
        {},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changing_a_part_of_the_key_misses_the_cache(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path, change: str
) -> None:
    reader(digit_images, strokes, cache=cache(tmp_path)).read(SOME, frozen=3)
    backbone, options = CHANGES[change](strokes)
    counts = FeatureCounts()
    found = reader(digit_images, backbone, cache=cache(tmp_path), counts=counts, **options).read(
        SOME, frozen=3
    )
    assert (counts.hits, counts.misses) == (0, 7)
    assert torch.equal(found, reader(digit_images, backbone, **options).read(SOME, frozen=3))


def test_other_boundaries_views_and_images_miss_the_cache(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    views = {"augmentation": VIEWS, "seed": 0}
    reader(digit_images, strokes, cache=cache(tmp_path), **views).read(SOME, frozen=3)
    more = Augmentation.parse({"ops": ["horizontal_flip", "resized_crop"], "views": 2})
    for rows, frozen, options in (
        (SOME, 4, views),
        (SOME, 3, {**views, "seed": 1}),
        (SOME, 3, {**views, "augmentation": more}),
        (SOME + 100, 3, views),
    ):
        counts = FeatureCounts()
        one = reader(digit_images, strokes, cache=cache(tmp_path), counts=counts, **options)
        one.read(rows, frozen=frozen)
        assert counts.misses == 7, (frozen, options)


def test_another_image_size_misses_the_cache_where_its_rows_have_the_same_shape(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    pooled = len(boundaries(strokes.traced(8)))
    small = reader(digit_images, strokes, cache=cache(tmp_path)).read(SOME, frozen=pooled)
    counts = FeatureCounts()
    large = reader(digit_images, strokes, cache=cache(tmp_path), counts=counts, size=16)
    assert large.read(SOME, frozen=pooled).shape == small.shape
    assert (counts.hits, counts.misses) == (0, 7)


SURROUNDINGS: dict[str, tuple[object, str, object]] = {
    "torch": (torch, "__version__", "0.0.1"),
    "pillow": (PIL, "__version__", "0.0.1"),
    "processor": (feature_keys, "describe", lambda device: "another one"),
    "images per pass": (image_inputs.PixelInputs, "batch", 8),
    "graph": (feature_keys, "graph_digest", lambda traced: "another one"),
}


@pytest.mark.parametrize("what", SURROUNDINGS)
def test_rows_that_were_computed_under_other_conditions_miss_the_cache(
    digit_images: LabelledExamples,
    strokes: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    reader(digit_images, strokes, cache=cache(tmp_path)).read(SOME, frozen=1)
    monkeypatch.setattr(*SURROUNDINGS[what])
    counts = FeatureCounts()
    reader(digit_images, strokes, cache=cache(tmp_path), counts=counts).read(SOME, frozen=1)
    assert (counts.hits, counts.misses) == (0, 7)


def test_a_boundary_that_does_not_pay_is_computed_and_not_stored(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    slow_disk = Speeds(flops=1e15, values=1e30, read_bytes=1.0, write_bytes=1.0)
    counts = FeatureCounts()
    kept = cache(tmp_path, CacheMode.AUTO, speeds=slow_disk)
    for _ in range(2):
        reader(digit_images, strokes, cache=kept, counts=counts).read(SOME, frozen=3)
    assert (counts.hits, counts.misses) == (0, 14)
    assert kept.store.info().collections == 1  # only the pixels


def test_a_boundary_that_is_not_kept_is_computed_by_way_of_the_kept_one_below(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    cuts = boundaries(strokes.traced(8))
    kept = cache(tmp_path, CacheMode.AUTO, speeds=replace(FAST, read_bytes=1e6))
    assert [level.kept for level in cache_levels(cuts, kept)] == [False] * 4 + [True, False, True]
    plain = reader(digit_images, strokes).read(SOME, frozen=6)
    first, second = FeatureCounts(), FeatureCounts()
    for counts in (first, second):
        found = reader(digit_images, strokes, cache=kept, counts=counts).read(SOME, frozen=6)
        assert torch.equal(found, plain)
    assert first.computed_flops == pytest.approx(7 * cuts[5].flops)
    assert second.computed_flops == pytest.approx(7 * (cuts[5].flops - cuts[4].flops))


def test_never_keeps_nothing(
    digit_images: LabelledExamples, strokes: Backbone, tmp_path: Path
) -> None:
    kept = cache(tmp_path, CacheMode.NEVER)
    plain = reader(digit_images, strokes).read(SOME, frozen=3)
    assert torch.equal(reader(digit_images, strokes, cache=kept).read(SOME, frozen=3), plain)
    assert kept.store.info().files == 0


def test_no_images_give_no_rows(digit_images: LabelledExamples, strokes: Backbone) -> None:
    none = np.empty(0, dtype=np.int64)
    for frozen, shape in ((0, (0, 3, 8, 8)), (7, (0, 96))):
        assert reader(digit_images, strokes).read(none, frozen=frozen).shape == shape


def test_the_source_of_user_code_that_the_graph_calls_is_part_of_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both versions have the same graph, which only calls `scaled`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    digests = []
    for factor in (2, 2, 3):
        (tmp_path / "my_layers.py").write_text(MY_LAYERS.format(factor=factor))
        sys.modules.pop("my_layers", None)
        importlib.invalidate_caches()
        linecache.clearcache()
        model = importlib.import_module("my_layers").Net()
        traced = trace(model.eval(), image_size=8)
        assert "scaled(" in traced.module.code
        digests.append(feature_keys.graph_digest(traced))
    sys.modules.pop("my_layers", None)
    assert digests[0] == digests[1] != digests[2]


MY_LAYERS = """
import torch
from torch import nn


@torch.fx.wrap
def scaled(x):
    return x * {factor}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(scaled(self.conv(x)).mean(dim=(2, 3)))
"""
