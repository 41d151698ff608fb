from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from orchestrator.cli.main import run
from orchestrator.datasets.canvases import CLASSES
from orchestrator.datasets.checks import FEW_TEST_MASKS
from orchestrator.datasets.mask_classes import MANY
from orchestrator.datasets.mask_pairs import guess_folders
from orchestrator.datasets.mask_sections import MasksSection
from tests.builders.mask_folders import (
    HEIGHT,
    WIDTH,
    Ids,
    save,
    save_image,
    save_mask,
    stripes,
    write_masks,
)
from tests.orchestrator.datasets.conftest import dataset_of, notes_of, problems_of
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.masks import IGNORED
from trainable.data.subsets import draw_subset
from trainable.spec.trial_spec import LabelBudget


def section(path: Path, **options: object) -> MasksSection:
    return MasksSection.model_validate({"path": str(path), **options})


def images_of(path: Path, **options: object) -> LabelledExamples:
    return dataset_of(section(path, **options)).images


def mask_of(examples: LabelledExamples, path: str) -> Ids:
    assert examples.masks is not None
    return examples.masks.mask(examples.paths.index(path))


def splits_of(examples: LabelledExamples) -> dict[str, Split]:
    return {
        path: Split(one) for path, one in zip(examples.paths, examples.split.tolist(), strict=True)
    }


def test_images_and_masks_belong_together_by_their_names(tmp_path: Path) -> None:
    examples = images_of(write_masks(tmp_path))
    assert examples.task == "segmentation"
    assert examples.class_names == ("0", "1", "2")
    assert sorted(examples.paths) == [f"images/{place:02d}.png" for place in range(30)]
    for place in range(30):
        found = mask_of(examples, f"images/{place:02d}.png")
        assert np.array_equal(found, stripes(0, 1, 2, number=place))
    held = {Split(one) for one in examples.split.tolist()}
    assert held == {Split.POOL, Split.TEST}


@pytest.mark.parametrize("suffix", ["_mask", "-mask", "_gt", "_labels"])
def test_masks_may_have_a_suffix_behind_the_name_of_their_image(
    tmp_path: Path, suffix: str
) -> None:
    write_masks(tmp_path)
    for path in sorted((tmp_path / "masks").iterdir())[::2]:
        path.rename(path.with_stem(path.stem + suffix))
    examples = images_of(tmp_path)
    assert len(examples) == 30
    assert np.array_equal(mask_of(examples, "images/04.png"), stripes(0, 1, 2, number=4))


def test_folders_below_images_and_masks_tell_equal_names_apart(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 1, number=15, folder="{kind}/left/near")
    write_masks(tmp_path, 1, 0, number=15, folder="{kind}/right")
    for path in (tmp_path / "images" / "right").iterdir():
        save_image(path, 100 + int(path.stem))
    examples = images_of(tmp_path)
    assert len(examples) == 30
    assert mask_of(examples, "images/left/near/07.png")[0, -1] == 1
    assert mask_of(examples, "images/right/07.png")[0, -1] == 0


@pytest.mark.parametrize("folder", ["{split}/{{kind}}", "{{kind}}/{split}"])
@pytest.mark.parametrize("val", ["val", "Valid"])
def test_folders_of_splits_may_lie_above_or_below_those_of_images(
    tmp_path: Path, folder: str, val: str
) -> None:
    for number, (split, count) in enumerate([("train", 12), (val, 4), ("test", 8)]):
        place = folder.format(split=split)
        write_masks(tmp_path, number=count, start=20 * number, folder=place)
    dataset = dataset_of(section(tmp_path))
    counts = [list(dataset.images.split).count(split) for split in Split]
    assert counts == [16, 0, 8]
    assert "test split: the data's own, 8 images" in notes_of(dataset)
    found = splits_of(dataset.images)
    assert found[f"{folder.format(split='train').format(kind='images')}/00.png"] is Split.POOL
    assert found[f"{folder.format(split='test').format(kind='images')}/40.png"] is Split.TEST
    kept = dataset_of(section(tmp_path), keep_val=True).images
    assert [list(kept.split).count(split) for split in Split] == [12, 4, 8]


def test_folders_and_classes_may_have_names_of_their_own(tmp_path: Path) -> None:
    write_masks(tmp_path)
    (tmp_path / "images").rename(tmp_path / "photos")
    (tmp_path / "masks").rename(tmp_path / "truth")
    names = ["sky", "road", "a car"]
    examples = images_of(tmp_path, images="photos", masks="truth", classes=names)
    assert examples.class_names == tuple(names)
    assert "photos/00.png" in examples.paths


def test_usual_names_of_folders_are_found(tmp_path: Path) -> None:
    assert guess_folders(tmp_path / "no") is None
    assert guess_folders(write_masks(tmp_path)) == {}
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    assert guess_folders(tmp_path) == {"images": "JPEGImages"}
    (tmp_path / "masks").rename(tmp_path / "SegmentationClass")
    assert guess_folders(tmp_path) == {"images": "JPEGImages", "masks": "SegmentationClass"}
    (tmp_path / "SegmentationClass").rename(tmp_path / "others")
    assert guess_folders(tmp_path) is None


def _palette(ids: Ids) -> Image.Image:
    picture = Image.fromarray(ids.astype(np.uint8), mode=None).convert("L")
    indexed = Image.frombytes("P", picture.size, picture.tobytes())
    indexed.putpalette([9, 8, 7, 200, 0, 0, 0, 200, 0])
    return indexed


def _grey_of_three(ids: Ids) -> Image.Image:
    return Image.fromarray(np.repeat(ids.astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize("form", [_palette, _grey_of_three], ids=["palette", "grey RGB"])
def test_palettes_and_grey_in_three_channels_are_ids(tmp_path: Path, form: Any) -> None:
    write_masks(tmp_path)
    for place in range(30):
        save(tmp_path / "masks" / f"{place:02d}.png", form(stripes(0, 1, 2, number=place)))
    examples = images_of(tmp_path)
    assert np.array_equal(mask_of(examples, "images/05.png"), stripes(0, 1, 2, number=5))


def test_black_and_white_of_one_bit_is_two_classes(tmp_path: Path) -> None:
    write_masks(tmp_path)
    for place in range(30):
        picture = Image.fromarray(stripes(0, 1, number=place).astype(np.bool_))
        assert picture.mode == "1"
        save(tmp_path / "masks" / f"{place:02d}.png", picture)
    assert images_of(tmp_path).class_names == ("0", "1")


def test_values_of_16_bits_stand_for_classes(tmp_path: Path) -> None:
    write_masks(tmp_path, 300, 0, 40000)
    with Image.open(tmp_path / "masks" / "00.png") as opened:
        assert opened.mode == "I;16"
    examples = images_of(tmp_path, values=[0, 300, 40000], classes=["ground", "low", "high"])
    assert examples.class_names == ("ground", "low", "high")
    assert np.array_equal(mask_of(examples, "images/05.png"), stripes(1, 0, 2, number=5))


def test_values_in_another_order_number_the_classes_anew(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 255)
    examples = images_of(tmp_path, values=[255, 0])
    assert examples.class_names == ("255", "0")
    assert np.array_equal(mask_of(examples, "images/05.png"), stripes(1, 0, number=5))


@pytest.mark.parametrize("void", [255, 7])
def test_pixels_of_the_ignored_value_have_no_class_and_no_share(tmp_path: Path, void: int) -> None:
    write_masks(tmp_path, 0, 1, 0, void)
    dataset = dataset_of(section(tmp_path, ignore=void, classes=["a", "b"]))
    found = mask_of(dataset.images, "images/05.png")
    assert np.array_equal(found, stripes(0, 1, 0, IGNORED, number=5))
    assert dataset.images.class_names == ("a", "b")
    given = np.concatenate([stripes(0, 1, 0, void, number=place).ravel() for place in range(30)])
    share = float((given == 1).sum() / (given != void).sum())
    notes = notes_of(dataset)
    assert "classes, by their share of the pixels\n" in notes
    assert f"\n  a: {100 * (1 - share):.1f} %\n  b: {100 * share:.1f} %" in notes


def test_classes_of_few_test_masks_are_noted(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 1, number=20, folder="{kind}/train")
    write_masks(tmp_path, 0, 1, number=FEW_TEST_MASKS, start=20, folder="{kind}/test")
    save_mask(tmp_path / "masks" / "test" / "20.png", stripes(0, number=20))
    notes = notes_of(dataset_of(section(tmp_path)))
    assert f"classes in fewer than {FEW_TEST_MASKS} test masks, whose scores say little" in notes
    assert notes.endswith("whose scores say little\n  1: 4")


def test_budgets_draw_images_in_all_and_draws_nest(tmp_path: Path) -> None:
    examples = images_of(write_masks(tmp_path))
    for repeat in range(3):
        drawn = [
            draw_subset(examples, budget=LabelBudget(number), repeat=repeat, seed=0).tolist()
            for number in (2, 5, 12)
        ]
        assert [len(one) for one in drawn] == [2, 5, 12]
        assert drawn[2][:5] == drawn[1]
        assert drawn[1][:2] == drawn[0]
        assert not set(drawn[2]) & set(examples.indices(Split.TEST).tolist())
    first, second = (
        draw_subset(examples, budget=LabelBudget(12), repeat=repeat, seed=0) for repeat in (0, 1)
    )
    assert set(first.tolist()) != set(second.tolist())


def test_images_that_no_draw_holds_are_not_kept(tmp_path: Path) -> None:
    write_masks(tmp_path, number=60)
    examples = dataset_of(section(tmp_path), LabelBudget(2), repeats=1).images
    pool = examples.indices(Split.POOL)
    assert examples.is_read()[pool].sum() == 2
    assert examples.is_read()[examples.indices(Split.TEST)].all()


def test_all_that_is_wrong_with_files_is_told_at_once(tmp_path: Path) -> None:
    write_masks(tmp_path)
    masks = tmp_path / "masks"
    save(masks / "00.png", Image.fromarray(np.zeros((4, 6), dtype=np.uint8)))
    (masks / "01.png").unlink()
    save(masks / "01.jpg", Image.fromarray(stripes(0, 1, 2).astype(np.uint8)))
    colours = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colours[..., 0] = 128
    save(masks / "02.png", Image.fromarray(colours))
    (masks / "03.png").write_bytes(b"\x89PNG and no more")
    (masks / "04.png").unlink()
    save_mask(masks / "lonely.png", stripes(0, 1))
    save_mask(masks / "05.png", stripes(0, 9))
    lines = problems_of(section(tmp_path, classes=["a", "b", "c"]))
    assert len(lines) == 7
    told = "\n".join(lines)
    assert "dataset.path: 1 image without a mask of its name: 'images/04.png'" in told
    assert "dataset.path: 1 mask without an image of its name: 'masks/lonely.png'" in told
    assert (
        "dataset.path: 1 mask of another size than the image: 'masks/00.png (6 x 4, not 12 x 8)'"
        in told
    )
    assert "dataset.path: 1 mask in JPEG, which changes the values of pixels; allowed: PNG" in told
    assert "without loss: 'masks/01.jpg'" in told
    assert (
        "dataset.path: 1 mask in colours; allowed: the ids of classes as grey values, or a "
        "palette: 'masks/02.png'" in told
    )
    assert "dataset.path: 1 mask that cannot be read: 'masks/03.png (no image)'" in told
    assert (
        "dataset.classes: values of no class in the masks: '9 in masks/05.png'; allowed: 0, 1, 2. "
        "Give the names of all classes, or values for them, or say ignore" in told
    )


@pytest.mark.parametrize(
    "value", [np.int32(-1), np.int32(70_000), np.int32(2_000_000_000), np.float32(1.5)]
)
def test_values_that_can_be_no_ids_are_refused(tmp_path: Path, value: Any) -> None:
    write_masks(tmp_path)
    (tmp_path / "masks" / "03.png").unlink()
    pixels = np.full((HEIGHT, WIDTH), value)
    save(tmp_path / "masks" / "03.tif", Image.fromarray(pixels))
    (line,) = problems_of(section(tmp_path))
    assert line == (
        "dataset.path: 1 mask with other values than whole numbers from 0 to 65535: 'masks/03.tif'"
    )


def test_the_command_line_says_so_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_masks(tmp_path / "cells", 0, 255)
    (root / "masks" / "04.png").unlink()
    save_mask(root / "masks" / "05.png", stripes(0, 255)[:, :3])
    space = tmp_path / "space.yaml"
    search = {"backbone": "tiny_strokes", "label_budget": 4}
    content = {"dataset": {"source": "masks", "path": str(root)}, "search": search}
    space.write_text(yaml.safe_dump(content))
    assert run(["validate", str(space)]) == 2
    told = capsys.readouterr().err
    assert f"{space}: 3 problems\n" in told
    assert "image without a mask of its name: 'images/04.png'" in told
    assert "of another size than the image: 'masks/05.png (3 x 8, not 12 x 8)'" in told
    assert "dataset.values: missing; the masks hold 0 and 255 alone" in told
    assert "Traceback" not in told


def test_0_and_255_alone_are_asked_about(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 255)
    (line,) = problems_of(section(tmp_path))
    assert line == (
        "dataset.values: missing; the masks hold 0 and 255 alone. Where 255 is a class, say "
        "values: [0, 255]; where its pixels have no class, say ignore: 255"
    )
    assert images_of(tmp_path, values=[0, 255]).class_names == ("0", "255")
    (line,) = problems_of(section(tmp_path, ignore=255))
    assert line == "dataset: the only class is '0'; allowed: 2 classes or more"


def test_255_beside_others_is_asked_about(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 1, 255)
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.ignore: missing; the masks hold 255 beside '0', '1'. Where its")
    assert images_of(tmp_path, ignore=255).class_names == ("0", "1")
    assert images_of(tmp_path, values=[0, 1, 255]).class_names == ("0", "1", "255")
    (line,) = problems_of(section(tmp_path, classes=["a", "b"]))
    assert "values of no class in the masks: '255 in masks/00.png'; allowed: 0, 1." in line


def test_numbers_of_objects_are_no_classes(tmp_path: Path) -> None:
    write_masks(tmp_path)
    for place in range(30):
        objects = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % (MANY + 1)
        save_mask(tmp_path / "masks" / f"{place:02d}.png", objects)
    (line,) = problems_of(section(tmp_path))
    assert line.startswith(
        f"dataset.classes: missing; the masks hold {MANY + 1} values, which look like numbers of "
        "objects. Allowed: masks of classes"
    )
    names = [f"class {number}" for number in range(MANY + 1)]
    assert images_of(tmp_path, classes=names).num_classes == MANY + 1
    for place in range(30):
        objects = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % MANY
        save_mask(tmp_path / "masks" / f"{place:02d}.png", objects)
    assert images_of(tmp_path).num_classes == MANY


def test_values_of_no_class_are_listed_with_a_file_each(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 1)
    for place, value in ((3, 5), (4, 5), (6, 2), (7, 300)):
        save_mask(tmp_path / "masks" / f"{place:02d}.png", stripes(0, value))
    (line,) = problems_of(section(tmp_path, classes=["a", "b"]))
    assert "'2 in masks/06.png', '5 in masks/03.png', '300 in masks/07.png'; allowed: 0, 1" in line
    (line,) = problems_of(section(tmp_path, values=[0, 5], ignore=1))
    assert line.startswith("dataset.values: values of no class in the masks: '2 in masks/06.png'")
    assert "allowed: 0, 5" in line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"classes": ["a", "b", "c"], "values": [0, 1]},
            "dataset.values: got 2 values for 3 classes",
        ),
        (
            {"values": [0, 1, 2], "ignore": 2},
            "dataset.ignore: got 2, which is the value of a class, too",
        ),
        (
            {"classes": ["a", "b", "c", "d e"]},
            "dataset.classes: in no mask: 'd e'. Take them out, or mend the masks",
        ),
        (
            {"values": [0, 1, 2, 9]},
            "dataset.classes: in no mask: '9'. Take them out, or mend the masks",
        ),
        (
            {"classes": [f"class {number}" for number in range(256)]},
            "dataset.classes: got 256 classes; allowed: at most 255",
        ),
        (
            {"values": list(range(300))},
            "dataset.values: got 300 classes; allowed: at most 255",
        ),
        ({"classes": ["a", "A", "c"]}, "dataset: class names that look alike"),
    ],
)
def test_classes_that_do_not_fit_the_masks_are_refused(
    tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    (told,) = problems_of(section(write_masks(tmp_path), **options))
    assert told.startswith(line)


def test_masks_without_a_pixel_of_a_class_are_refused(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 1, 255)
    for place in (3, 8):
        save_mask(tmp_path / "masks" / f"{place:02d}.png", stripes(255))
    (line,) = problems_of(section(tmp_path, ignore=255))
    assert line == (
        "dataset.ignore: got 255, which leaves 2 masks without a pixel of a class: "
        "'masks/03.png', 'masks/08.png'. Take them and their images away"
    )


def test_a_class_of_test_masks_alone_is_refused(tmp_path: Path) -> None:
    write_masks(tmp_path, 0, 1, number=12, folder="train/{kind}")
    write_masks(tmp_path, 0, 1, 2, number=6, start=12, folder="test/{kind}")
    (line,) = problems_of(section(tmp_path, classes=["a", "b", "c"]))
    assert line == (
        "dataset: classes in no mask outside the test split: 'c'. Add masks of them, or choose "
        "another dataset.test or seed"
    )


def turned(root: Path, orientation: int, *, size: tuple[int, int]) -> Path:
    """Masks of the size given, which show 1 in the corner at the top left, and photographs."""
    for place in range(20):
        save_image(root / "images" / f"{place:02d}.jpg", place, orientation=orientation)
        ids = np.zeros((size[1], size[0]), dtype=np.uint8)
        ids[0, : 2 + place % 3] = 1
        save_mask(root / "masks" / f"{place:02d}.png", ids)
    return root


def test_masks_of_the_stored_size_are_turned_as_their_photographs(tmp_path: Path) -> None:
    dataset = dataset_of(section(turned(tmp_path, 6, size=(WIDTH, HEIGHT))))
    found = mask_of(dataset.images, "images/00.jpg")
    assert found.shape == (WIDTH, HEIGHT)
    # Orientation 6: the photograph is turned by 90 degrees clockwise to be upright.
    assert found[:3, -1].tolist() == [1, 1, 0]
    assert found[:, :-1].sum() == 0
    notes = notes_of(dataset)
    assert "masks turned as EXIF turns their photographs\n  masks/00.png" in notes


def test_masks_of_the_upright_size_stay_as_they_are(tmp_path: Path) -> None:
    dataset = dataset_of(section(turned(tmp_path, 6, size=(HEIGHT, WIDTH))))
    found = mask_of(dataset.images, "images/00.jpg")
    assert found.shape == (WIDTH, HEIGHT)
    assert found[0, :3].tolist() == [1, 1, 0]
    assert "EXIF" not in notes_of(dataset)


def test_masks_that_fit_their_turned_photographs_both_ways_are_asked_about(tmp_path: Path) -> None:
    turned(tmp_path, 3, size=(WIDTH, HEIGHT))
    (line,) = problems_of(section(tmp_path))
    assert line.startswith(
        "dataset.exif: missing; EXIF turns 20 photographs, and their masks fit both ways: "
        "'images/00.jpg', "
    )
    assert "and 15 more. Allowed: stored, where masks were drawn on the photographs" in line
    stored = mask_of(images_of(tmp_path, exif="stored"), "images/00.jpg")
    assert stored[-1, -3:].tolist() == [0, 1, 1]
    upright = mask_of(images_of(tmp_path, exif="upright"), "images/00.jpg")
    assert upright[0, :3].tolist() == [1, 1, 0]


def test_masks_that_contradict_what_the_file_says_of_them_are_refused(tmp_path: Path) -> None:
    (line,) = problems_of(section(turned(tmp_path, 6, size=(WIDTH, HEIGHT)), exif="upright"))
    assert "20 masks of another size than the image: 'masks/00.png (12 x 8, not 8 x 12)'" in line


def test_folders_that_are_not_there_are_told_with_what_there_is(tmp_path: Path) -> None:
    write_masks(tmp_path)
    lines = problems_of(section(tmp_path, images="photos", masks="truth"))
    assert lines == [
        f"dataset.path: {tmp_path} has no images in a folder {name}/; it holds 'images', 'masks'. "
        f"Say dataset.{key} if it has another name"
        for key, name in (("images", "photos"), ("masks", "truth"))
    ]


def test_a_file_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    file = save_image(tmp_path / "one.png", 0)
    (line,) = problems_of(section(file))
    assert line == (
        f"dataset.path: {file}: is a file; allowed: a folder that holds images/ and masks/, or a "
        "table: .csv, .tsv, .txt, .jsonl, .ndjson, .json, .parquet, .pq"
    )
    (line,) = problems_of(section(tmp_path / "no", images="photos"))
    assert line.endswith("no such folder; allowed: one that holds photos/ and masks/, or a table")


def test_broken_images_are_left_out_with_their_masks(tmp_path: Path) -> None:
    write_masks(tmp_path)
    (tmp_path / "images" / "03.png").write_bytes(b"\x89PNG and no more")
    (line,) = problems_of(section(tmp_path))
    assert line.startswith("dataset.max_bad_fraction: got 0.01; 1 of 30 images cannot be used")
    dataset = dataset_of(section(tmp_path, max_bad_fraction=0.1))
    assert "images/03.png" not in dataset.images.paths
    assert np.array_equal(mask_of(dataset.images, "images/04.png"), stripes(0, 1, 2, number=4))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_masks(tmp_path)
    save_image(tmp_path / "images" / "03.bmp", 333)
    save_mask(tmp_path / "masks" / "04.tif", stripes(0, 1))
    (line,) = problems_of(section(tmp_path))
    assert line == (
        "dataset.path: 2 files beside another of its name: 'images/03.png', 'masks/04.tif'"
    )


def test_the_built_in_set_needs_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = tmp_path / "space.yaml"
    search = {"backbone": "tiny_strokes", "label_budget": 4}
    space.write_text(yaml.safe_dump({"dataset": {"source": "canvases"}, "search": search}))
    assert run(["validate", str(space)]) == 0
    shown = capsys.readouterr().out
    assert f"{space}: fine" in shown
    assert f"classes: {len(CLASSES)}: 'background', '0'" in shown


def test_a_table_names_images_and_masks_by_their_paths(tmp_path: Path) -> None:
    write_masks(tmp_path)
    pairs = [(path.name, path.stem) for path in sorted((tmp_path / "images").iterdir())]
    rows = [
        f"images/{name},masks/{stem}.png,{'test' if number % 3 == 0 else 'train'}"
        for number, (name, stem) in enumerate(pairs)
    ]
    table = tmp_path / "cells.csv"
    table.write_text("\n".join(["photo,truth,part", *rows]))
    columns = {"path_column": "photo", "mask_column": "truth", "split_column": "part"}
    by_table = dataset_of(section(table, **columns)).images
    by_folders = dataset_of(section(tmp_path)).images
    assert by_table.paths == by_folders.paths
    assert by_table.masks is not None
    assert by_folders.masks is not None
    assert np.array_equal(by_table.masks.digests, by_folders.masks.digests)
    assert np.flatnonzero(by_table.split == Split.TEST).tolist() == [*range(0, len(pairs), 3)]
    table.write_text("\n".join(["photo,truth,part", *rows, "images/none.png,masks/none.png,train"]))
    lines = problems_of(section(table, **columns))
    assert [line.partition(":")[0] for line in lines[:2]] == [
        "dataset.path_column",
        "dataset.mask_column",
    ]
    assert "'masks/none.png'" in lines[1]
