"""The classes of masks: which value of a pixel stands for which, and what contradicts that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.space.problems import Problems, some
from trainable.data.masks import IGNORED, Mask

_CLASSES, _VALUES, _IGNORE = ("dataset", "classes"), ("dataset", "values"), ("dataset", "ignore")

_WHITE = 255

MOST_CLASSES = IGNORED
"""Most classes of masks."""

MANY = 40
"""Number of values from which they look like numbers of objects, where no class has a name."""


class ClassTable:
    """Class ids of pixels by their values.

    Args:
        names: names of the classes; None for their values.
        values: value of each class; None for 0, 1, 2 and so on.
        ignore: value of pixels without a class, or None.
    """

    def __init__(
        self, *, names: Sequence[str] | None, values: Sequence[int] | None, ignore: int | None
    ) -> None:
        self._names = names
        self._values = values
        self._ignore = ignore
        self._pixels: Counter[int] = Counter()
        self._first: dict[int, str] = {}
        self._empty: list[str] = []

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their ids."""
        if self._names is not None:
            return tuple(self._names)
        return tuple(str(value) for value in self._known())

    def classed(self, values: npt.NDArray[np.int64], path: str) -> Mask:
        """Return the class ids of a mask.

        Args:
            values: (H, W) values of its pixels.
            path: of the mask, for messages.
        """
        found, counts = np.unique(values, return_counts=True)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True):
            self._pixels[value] += count
            self._first.setdefault(value, path)
        if found.tolist() == [self._ignore]:
            self._empty.append(path)
        ids = np.full(int(found[-1]) + 1, IGNORED, dtype=np.uint8)
        places = range(len(ids)) if self._values is None else self._values
        for number, value in enumerate(places[:MOST_CLASSES]):
            if value < len(ids):
                ids[value] = number
        if self._ignore is not None:
            ids[self._ignore : self._ignore + 1] = IGNORED
        return ids[values]

    def shares(self) -> dict[str, float]:
        """Return the share of the pixels of each class, those without one aside."""
        counts = [self._pixels[value] for value in self._known()]
        total = max(1, sum(counts))
        return dict(zip(self.class_names, (count / total for count in counts), strict=True))

    def complain(self, problems: Problems) -> None:
        """Add what contradicts the classes in the masks that were read."""
        found = sorted(set(self._pixels) - {self._ignore})
        if self._empty:
            problems.add(
                _IGNORE,
                f"got {self._ignore}, which leaves {len(self._empty):,} masks without a pixel of a "
                f"class: {some(self._empty)}. Take them and their images away",
            )
        if self._names and self._values and len(self._names) != len(self._values):
            problems.add(_VALUES, f"got {len(self._values)} values for {len(self._names)} classes")
        elif (number := len(self._names or self._values or ())) > MOST_CLASSES:
            problems.add(
                _CLASSES if self._names else _VALUES,
                f"got {number:,} classes; allowed: at most {MOST_CLASSES}",
            )
        elif self._ignore is not None and self._ignore in (self._values or ()):
            problems.add(_IGNORE, f"got {self._ignore}, which is the value of a class, too")
        elif not self._is_doubtful(found, problems):
            self._complain_of_classes(found, problems)

    def _complain_of_classes(self, found: Sequence[int], problems: Problems) -> None:
        """Add values that stand for no class, and classes without a value in the masks."""
        known = self._known()
        beyond = [f"{value} in {self._first[value]}" for value in found if value not in known]
        if beyond:
            problems.add(
                _CLASSES if self._values is None else _VALUES,
                f"values of no class in the masks: {some(beyond)}; allowed: "
                f"{', '.join(map(str, known))}. Give the names of all classes, or values for them, "
                "or say ignore for the value of pixels without one",
            )
            return
        names = zip(self.class_names, known, strict=True)
        absent = [name for name, value in names if not self._pixels[value]]
        if absent and found:
            problems.add(_CLASSES, f"in no mask: {some(absent)}. Take them out, or mend the masks")

    def _known(self) -> list[int]:
        """The value of each class."""
        if self._values is not None:
            return list(self._values)
        if self._names is not None:
            return list(range(len(self._names)))
        return list(range(max((*(set(self._pixels) - {self._ignore}), 0)) + 1))

    def _is_doubtful(self, found: Sequence[int], problems: Problems) -> bool:
        """Add a problem where values may mean several things; return whether they do."""
        if self._values is not None:
            return False
        if found == [0, _WHITE]:
            problems.add(
                _VALUES,
                "missing; the masks hold 0 and 255 alone. Where 255 is a class, say values: "
                "[0, 255]; where its pixels have no class, say ignore: 255",
            )
        elif self._names is None and len(found) > MANY:
            problems.add(
                _CLASSES,
                f"missing; the masks hold {len(found):,} values, which look like numbers of "
                "objects. Allowed: masks of classes. If these are classes, give their names",
            )
        elif self._names is None and found[-1:] == [_WHITE] and len(found) <= MANY:
            others = [str(value) for value in found[:-1]]
            problems.add(
                _IGNORE,
                f"missing; the masks hold 255 beside {some(others)}. Where its pixels have no "
                "class, say ignore: 255; where it is a class, give values",
            )
        else:
            return False
        return True
