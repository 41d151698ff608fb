import io
import itertools

import numpy as np
from PIL import Image

from trainable.data.masks import IGNORED
from trainable.data.palette import colour_of, indexed, overlaid


def test_colours_of_classes_are_distinct_and_the_first_is_black() -> None:
    colours = [colour_of(number) for number in range(40)]
    assert colours[0] == (0, 0, 0)
    assert len(set(colours)) == 40
    for one, next_one in itertools.pairwise(colours[1:]):
        assert sum(abs(a - b) for a, b in zip(one, next_one, strict=True)) > 100


def test_a_mask_as_a_picture_holds_its_ids_after_saving() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    sink = io.BytesIO()
    indexed(mask).save(sink, format="PNG")
    with Image.open(sink) as opened:
        assert opened.mode == "P"
        assert opened.size == (32, 8)
        assert np.array_equal(np.asarray(opened), mask)
        assert np.asarray(opened.convert("RGB"))[0, 5].tolist() == list(colour_of(5))


def test_the_first_class_and_pixels_without_one_show_the_picture_below() -> None:
    picture = Image.fromarray(np.full((4, 6, 3), 100, dtype=np.uint8))
    mask = np.array([[0, 2], [IGNORED, 1]], dtype=np.uint8)
    found = np.asarray(overlaid(picture, mask))
    assert found.shape == (4, 6, 3)
    assert (found[:2, :3] == 100).all()
    assert (found[2:, :3] == 100).all()
    for number, part in ((2, found[:2, 3:]), (1, found[2:, 3:])):
        expected = 0.45 * 100 + 0.55 * np.asarray(colour_of(number))
        assert np.abs(part - expected).max() <= 1
