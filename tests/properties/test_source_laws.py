"""Laws of the test split: it goes by content or by groups alone."""

from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.datasets.image_reader import Demand, Reading, touch_all_drawn
from orchestrator.datasets.listing import Ints, Listing
from orchestrator.datasets.split_assigner import SplitAssigner
from tests.orchestrator.datasets.conftest import encoded
from trainable.data.labelled_examples import LabelledExamples, Split
from trainable.data.subsets import draw_subset
from trainable.errors import DataError
from trainable.spec.trial_spec import LabelBudget

laws = settings(deadline=None, max_examples=40)


def listing_of(
    names: Sequence[str], groups: Sequence[str] | None = None, *, broken: frozenset[str]
) -> Listing:
    """An image for each name `<class>/<number>`: a digit, or nonsense where it is broken."""

    def content(name: str) -> bytes:
        number = int(name.split("/")[1])
        return b"broken %d" % number if name in broken else encoded(number)

    def read(rows: Ints) -> Iterator[bytes | DataError]:
        yield from (content(names[row]) for row in rows)

    return Listing.of(
        paths=tuple(names),
        labels=[name.split("/")[0] for name in names],
        splits=None,
        groups=groups,
        read=read,
        class_names=["a", "b"],
    )


def read_all(
    names: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    broken: frozenset[str] = frozenset(),
    budget: LabelBudget | None = None,
    seed: int = 0,
) -> LabelledExamples:
    listing = listing_of(names, groups, broken=broken)
    assigner = SplitAssigner(listing, share=0.3, seed=seed, keep_val=False)
    reading = Reading(listing)
    reading.hash_all(assigner.place)
    demand = Demand(budgets=(budget or LabelBudget(),), repeats=2, seed=seed)
    touch_all_drawn(reading, assigner.split, demand, stop=lambda: False)
    return reading.finish(assigner.split)


names_of_images = st.lists(
    st.builds(lambda label, number: f"{label}/{number}", st.sampled_from("ab"), st.integers(0, 99)),
    min_size=1,
    max_size=25,
    unique_by=lambda name: name.split("/")[1],
)


@laws
@given(names=names_of_images, data=st.data(), seed=st.integers(0, 3))
def test_an_image_keeps_its_split_whatever_the_order_and_the_others(
    names: list[str], data: st.DataObject, seed: int
) -> None:
    before = read_all(names, seed=seed)
    split = dict(zip(before.paths, before.split, strict=True))
    some = data.draw(st.permutations(names))[: data.draw(st.integers(1, len(names)))]
    after = read_all(some, seed=seed)
    assert all(split[path] == one for path, one in zip(after.paths, after.split, strict=True))


@laws
@given(names=names_of_images, data=st.data(), seed=st.integers(0, 3))
def test_the_test_split_never_separates_a_group_and_a_group_keeps_its_side(
    names: list[str], data: st.DataObject, seed: int
) -> None:
    groups = data.draw(st.lists(st.sampled_from("pqrst"), min_size=len(names), max_size=len(names)))
    images = read_all(names, groups, seed=seed)
    sides: dict[str, set[int]] = {}
    for group, split in zip(groups, images.split.tolist(), strict=True):
        sides.setdefault(group, set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    alone = read_all(["a/0"], ["p"], seed=seed)
    assert sides.get("p", {int(alone.split[0])}) == {int(alone.split[0])}


@laws
@given(data=st.data(), budget=st.sampled_from([LabelBudget(2), LabelBudget(total=5)]))
def test_broken_images_change_neither_the_order_nor_the_split_of_the_others(
    data: st.DataObject, budget: LabelBudget
) -> None:
    names = [f"{'ab'[number % 2]}/{number}" for number in range(40)]
    extra = [f"a/{number}" for number in range(100, 106)]
    broken = frozenset(data.draw(st.sets(st.sampled_from(extra))))
    clean = read_all(names, budget=budget)
    mixed = read_all([*extra, *names], broken=frozenset(extra), budget=budget)
    some = read_all([*sorted(broken), *names], broken=broken, budget=budget)
    for repeat in range(2):
        expected = _drawn(clean, LabelBudget(2), repeat)
        assert _drawn(some, LabelBudget(2), repeat) == expected
        if budget.per_class is not None:
            assert _drawn(mixed, budget, repeat) == expected
    for images in (mixed, some):
        read = np.flatnonzero(images.is_read())
        assert not {images.paths[row] for row in read} & set(extra)
        for repeat in range(2):
            rows = draw_subset(images, budget=budget, repeat=repeat, seed=0)
            assert images.is_read()[rows].all()
        assert images.is_read()[images.indices(Split.TEST)].all()


def _drawn(images: LabelledExamples, budget: LabelBudget, repeat: int) -> list[str]:
    known = images.at(np.flatnonzero([not path.startswith("a/10") for path in images.paths]))
    rows = draw_subset(known, budget=budget, repeat=repeat, seed=0)
    return [known.paths[row] for row in rows]
