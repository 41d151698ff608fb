import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainable.data import examples_file
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.errors import DataError


def made(
    encoded: Sequence[bytes],
    labels: Sequence[int],
    *,
    split: Sequence[int] | None = None,
    class_names: Sequence[str] = ("no", "yes", "1"),
    groups: Sequence[int] | None = None,
    max_shard_bytes: int = 1000,
) -> LabelledExamples:
    return LabelledExamples.from_bytes(
        encoded,
        labels=labels,
        split=[Split.POOL] * len(labels) if split is None else split,
        class_names=class_names,
        paths=[f"photos/{i}.png" for i in range(len(labels))],
        groups=groups,
        max_shard_bytes=max_shard_bytes,
    )


rows = st.lists(
    st.tuples(st.binary(max_size=30), st.integers(0, 2), st.sampled_from([0, 2])), max_size=12
)


@settings(deadline=None, max_examples=40)
@given(rows=rows, max_shard_bytes=st.integers(1, 60))
def test_images_come_back_from_a_file_as_they_were(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[bytes, int, int]],
    max_shard_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    images = made(
        [row[0] for row in rows],
        [row[1] for row in rows],
        split=[row[2] for row in rows],
        max_shard_bytes=max_shard_bytes,
    )
    examples_file.save(images, path)

    back = examples_file.load(path)

    assert [back.encoded(i) for i in range(len(back))] == [row[0] for row in rows]
    assert back.labels.tolist() == [row[1] for row in rows]
    assert back.split.tolist() == [row[2] for row in rows]
    assert back.class_names == ("no", "yes", "1")
    assert back.paths == images.paths
    assert np.array_equal(back.digests, images.digests)
    assert back.fingerprint() == images.fingerprint()


@given(encoded=st.lists(st.binary(max_size=30), min_size=1, max_size=20), limit=st.integers(1, 60))
def test_shards_hold_every_image_in_order_and_stay_within_the_limit(
    encoded: list[bytes], limit: int
) -> None:
    images = made(encoded, [0] * len(encoded), max_shard_bytes=limit)
    assert [images.encoded(i) for i in range(len(images))] == encoded
    assert sum(len(shard) for shard in images.shards) == sum(map(len, encoded))
    for number, shard in enumerate(images.shards):
        alone = (images.shard_of == number).sum() == 1
        assert len(shard) <= limit or alone
    for left, right in zip(images.shards, images.shards[1:], strict=False):
        assert len(left) + len(right) > limit


def test_shard_takes_an_image_that_just_fits_and_leaves_the_next() -> None:
    images = made([b"12345", b"67890", b"a"], [0, 0, 0], max_shard_bytes=10)
    assert [len(shard) for shard in images.shards] == [10, 1]


def test_image_ids_are_unique_and_number_exact_duplicates() -> None:
    ids = made([b"cat", b"dog", b"cat", b"cat"], [0, 1, 0, 1]).image_ids()
    assert len(set(ids)) == 4
    assert ids[2] == f"{ids[0]}-1"
    assert ids[3] == f"{ids[0]}-2"


def test_image_ids_depend_on_the_content_alone() -> None:
    first = made([b"cat", b"dog"], [0, 1]).image_ids()
    second = made([b"dog", b"cow", b"cat"], [2, 2, 2]).image_ids()
    assert (second[2], second[0]) == (first[0], first[1])


@given(rows=rows, data=st.data())
def test_fingerprint_ignores_the_order_of_rows(
    rows: list[tuple[bytes, int, int]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    prints = {
        made(
            [row[0] for row in order],
            [row[1] for row in order],
            split=[row[2] for row in order],
        ).fingerprint()
        for order in (rows, shuffled)
    }
    assert len(prints) == 1


@pytest.mark.parametrize(
    "other",
    [
        made([b"cat", b"cow"], [0, 1]),
        made([b"cat", b"dog"], [0, 2]),
        made([b"cat", b"dog"], [0, 1], split=[0, 2]),
        made([b"cat", b"dog"], [0, 1], class_names=["no", "nay"]),
        made([b"cat"], [0]),
    ],
    ids=["content", "label", "split", "class_name", "fewer"],
)
def test_fingerprint_sees_every_change(other: LabelledExamples) -> None:
    assert other.fingerprint() != made([b"cat", b"dog"], [0, 1]).fingerprint()


def test_fingerprint_depends_on_class_names_and_not_on_class_ids() -> None:
    one = made([b"cat", b"dog"], [0, 1], class_names=["cat", "dog"])
    other = made([b"cat", b"dog"], [1, 0], class_names=["dog", "cat"])
    assert one.fingerprint() == other.fingerprint()


def test_indices_of_a_split_ascend_and_num_classes_counts_empty_classes() -> None:
    images = made([b"a", b"b", b"c"], [0, 0, 1], split=[2, 0, 2])
    assert images.indices(Split.TEST).tolist() == [0, 2]
    assert images.indices(Split.POOL).tolist() == [1]
    assert images.num_classes == 3


def test_as_many_labels_as_images_are_required() -> None:
    with pytest.raises(DataError, match=r"differ in number: 2, 1, 1, 1"):
        made([b"a", b"b"], [0])


@pytest.mark.parametrize("label", [-1, 3])
def test_label_without_a_class_name_is_refused_with_its_path(label: int) -> None:
    with pytest.raises(DataError, match=rf"label {label} of photos/1\.png: allowed are 0 to 2"):
        made([b"a", b"b"], [0, label])


def test_unknown_split_is_refused_with_its_path() -> None:
    with pytest.raises(DataError, match=r"split 3 of photos/1\.png"):
        made([b"a", b"b"], [0, 0], split=[0, 3])


def test_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: no such file; write one with"):
        examples_file.load(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and then nothing"])
def test_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images\.npz: not a file written by trainable"):
        examples_file.load(path)


def test_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    examples_file.save(made([b"a" * 500, b"b" * 400], [0, 1]), path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"images\.npz: not a file written by trainable"):
        examples_file.load(path)


def test_plain_npy_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, np.arange(3))
    with pytest.raises(DataError, match=r"images\.npy: not a file written by trainable"):
        examples_file.load(path)


def saved_with(path: Path, **changed: object) -> Path:
    """Write a file of two images with some arrays replaced, or left out if they are None."""
    examples_file.save(made([b"cat", b"doggy"], [0, 1]), path)
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in arrays.files if name not in changed}
    replaced = {name: np.asarray(value) for name, value in changed.items() if value is not None}
    np.savez(path, **kept, **replaced)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"labels": None}, "labels"),
        ({"format": 1}, "format 1; this version reads 2"),
        ({"lengths": [3, 6]}, "lengths of the examples do not add up"),
        ({"lengths": [9, -1]}, "lengths of the examples do not add up"),
        ({"lengths": [10, -2]}, "lengths of the examples do not add up"),
        ({"lengths": [4, 4]}, "the bytes of an example are not those of its hash"),
        ({"lengths": [3, 4, 1]}, "boolean index did not match"),
        ({"labels": ["a", "b"]}, "invalid literal"),
        ({"class_names": "alone"}, "0-d"),
    ],
)
def test_file_with_wrong_arrays_is_refused(
    tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    path = saved_with(tmp_path / "images.npz", **changed)
    with pytest.raises(
        DataError, match=rf"not a file written by trainable.data.examples_file.save: .*{reason}"
    ):
        examples_file.load(path)


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("the file ran code",))


def test_pickles_in_a_file_are_refused_and_never_run(tmp_path: Path) -> None:
    trap = np.empty(2, dtype=object)
    trap[:] = _Trap()
    path = saved_with(tmp_path / "images.npz", paths=trap)
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        examples_file.load(path)
    with pytest.raises(pytest.fail.Exception, match="the file ran code"):
        pickle.loads(pickle.dumps(_Trap()))  # shows that the trap works


def test_replacing_a_field_checks_again() -> None:
    images = made([b"a", b"b"], [0, 1])
    with pytest.raises(DataError, match="label 7"):
        replace(images, labels=np.asarray([0, 7]))


def unread(images: LabelledExamples, row: int) -> LabelledExamples:
    """The same images, one of them unread."""
    shard_of = images.shard_of.copy()
    shard_of[row] = -1
    return replace(images, shard_of=shard_of)


def test_unread_image_keeps_its_row_and_says_why_it_has_no_bytes() -> None:
    images = unread(made([b"cat", b"dog", b"cow"], [0, 1, 2]), 1)
    assert images.is_read().tolist() == [True, False, True]
    assert images.encoded(2) == b"cow"
    with pytest.raises(DataError, match=r"^photos/1\.png: was not read, for no draw"):
        images.encoded(1)


def test_unread_images_change_neither_ids_nor_fingerprint() -> None:
    images = made([b"cat", b"dog", b"cow"], [0, 1, 2])
    assert unread(images, 1).fingerprint() == images.fingerprint()
    assert unread(images, 1).image_ids() == images.image_ids()


def test_unread_images_groups_and_val_split_come_back_from_a_file(tmp_path: Path) -> None:
    whole = made([b"cat", b"dog", b"cow"], [0, 1, 2], split=[0, 1, 2], groups=[7, 7, 1])
    images = unread(whole, 1)
    examples_file.save(images, tmp_path / "images.npz")
    back = examples_file.load(tmp_path / "images.npz")
    assert back.is_read().tolist() == [True, False, True]
    assert [back.encoded(0), back.encoded(2)] == [b"cat", b"cow"]
    assert back.groups is not None
    assert back.groups.tolist() == [7, 7, 1]
    assert back.split.tolist() == [Split.POOL, Split.VAL, Split.TEST]
    assert np.array_equal(back.digests, whole.digests)
    assert back.fingerprint() == whole.fingerprint()


def test_some_of_the_images_keep_their_bytes_labels_and_groups() -> None:
    images = made([b"cat", b"dog", b"cow"], [0, 1, 2], groups=[7, 8, 9]).at(np.asarray([2, 0]))
    assert [images.encoded(0), images.encoded(1)] == [b"cow", b"cat"]
    assert images.labels.tolist() == [2, 0]
    assert images.paths == ("photos/2.png", "photos/0.png")
    assert images.groups is not None
    assert images.groups.tolist() == [9, 7]


def test_fingerprint_depends_on_the_members_of_groups_and_not_on_their_ids() -> None:
    def fingerprint(groups: list[int] | None) -> str:
        return made([b"cat", b"dog", b"cow"], [0, 1, 2], groups=groups).fingerprint()

    assert fingerprint([0, 0, 1]) == fingerprint([5, 5, 2])
    assert len({fingerprint(g) for g in (None, [0, 0, 1], [0, 1, 1], [0, 1, 2])}) == 4


def test_as_many_groups_as_images_are_required() -> None:
    with pytest.raises(DataError, match="1 groups for 2 examples"):
        made([b"a", b"b"], [0, 1], groups=[0])
