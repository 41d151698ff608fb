from collections.abc import Iterator

from orchestrator.datasets.listing import Ints, Listing, Note
from trainable.data.labelled_examples import Split
from trainable.errors import DataError


def nothing(rows: Ints) -> Iterator[bytes | DataError]:
    yield from (b"" for _ in rows)


def test_a_note_shows_as_many_details_as_asked_and_counts_the_rest() -> None:
    note = Note("three files", ("a", "b", "c"))
    assert note.lines() == ["three files", "  a", "  b", "  c"]
    assert note.lines(3) == note.lines()
    assert note.lines(1) == ["three files", "  a", "  ... and 2 more"]


def test_a_note_keeps_each_detail_on_a_line_whatever_a_file_is_called() -> None:
    assert Note("odd", ("a\nb", "\udcff", "é")).lines() == [
        "odd",
        r"  'a\nb'",
        r"  '\udcff'",
        "  é",
    ]


def test_classes_and_groups_are_numbered_in_the_order_of_their_names() -> None:
    listing = Listing.of(
        paths=["x", "y", "z"],
        labels=["no", "=1", "no"],
        splits=[Split.POOL, Split.TEST, Split.VAL],
        groups=["q", "p", "p"],
        read=nothing,
    )
    assert listing.class_names == ("=1", "no")
    assert listing.labels.tolist() == [1, 0, 1]
    assert listing.split is not None
    assert listing.split.tolist() == [0, 2, 1]
    assert listing.groups is not None
    assert listing.groups.tolist() == [1, 0, 0]
    assert listing.group_names == ("p", "q")


def test_an_order_of_the_sources_own_is_kept() -> None:
    listing = Listing.of(
        paths=["x", "y"],
        labels=["10", "9"],
        splits=None,
        groups=None,
        read=nothing,
        class_names=["9", "10"],
    )
    assert listing.class_names == ("9", "10")
    assert listing.labels.tolist() == [1, 0]
    assert listing.split is listing.groups is None
