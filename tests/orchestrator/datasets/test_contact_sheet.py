import numpy as np

from orchestrator.datasets import digits
from orchestrator.datasets.contact_sheet import TILE, contact_sheet
from trainable.data.labelled_examples import LabelledExamples, Split


def test_every_class_has_a_line_with_its_first_images() -> None:
    images = digits.load(test=None, seed=0)
    sheet = contact_sheet(images, images.indices(Split.POOL), per_class=4)
    assert sheet.height >= 10 * TILE
    pixels = np.asarray(sheet)
    first_of = images.indices(Split.POOL)
    zero = first_of[images.labels[first_of] == 0][0]
    shown = pixels[:TILE, 160 : 160 + TILE, 0]
    raw = np.frombuffer(images.encoded(int(zero))[-64:], dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(shown[::9, ::9], raw)


def test_names_that_do_not_print_do_no_harm() -> None:
    image = b"P5 2 2 255\n" + bytes(4)
    images = LabelledExamples.from_bytes(
        [image, image],
        labels=[0, 1],
        split=[Split.POOL, Split.POOL],
        class_names=["a\nb\x1b[2J" + "x" * 90, "käse"],
        paths=["0", "1"],
    )
    assert contact_sheet(images, np.arange(2)).size[1] == 2 * (TILE + 4)
    assert contact_sheet(images, np.arange(0)).size[1] == TILE + 4
