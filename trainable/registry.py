"""What can be named, by its name: our own, and what other installed packages add.

Another package adds to a registry by an entry point of its group. Every process, on every machine,
finds entry points by itself among the packages that are installed there.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from trainable.errors import PluginError

T = TypeVar("T")
_ANYWHERE = "a package"


class Registry(Mapping[str, T], Generic[T]):
    """Entries by name, ours first; each is loaded when it is asked for, never before.

    Args:
        group: of the entry points by which other packages add to it.
        what: what one entry is, with its article, for messages: `a pruner`.
        own: our entries, by name: what loads them.
        problem: what is wrong with what an entry point gave, from its name and that; else None.
    """

    def __init__(
        self,
        group: str,
        *,
        what: str,
        own: Mapping[str, Callable[[], T]],
        problem: Callable[[str, object], str | None],
    ) -> None:
        self._group = group
        self._what = what
        self._own = own
        self._problem = problem

    def __getitem__(self, name: str) -> T:
        """The entry of this name.

        Raises:
            PluginError: no installed package has it, or the one that has cannot be used.
        """
        self.check(name)
        return self._own[name]() if name in self._own else self._loaded(self._added()[name])

    def check(self, name: str) -> None:
        """Load nothing, but make sure that an installed package has the entry.

        Raises:
            PluginError: none has.
        """
        if name not in self:
            raise PluginError(
                f"{self._what} called {name!r} is not known on {platform.node()}; known here: "
                f"{', '.join(self)}. Where another package adds it, by an entry point of "
                f"{self._group}, install that package on every machine"
            )

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._added()))

    def __len__(self) -> int:
        return len(self._own) + len(self._added())

    def __contains__(self, name: object) -> bool:
        return name in self._added() or name in self._own

    def _added(self) -> Mapping[str, EntryPoint]:
        """The entry points of other packages, by name.

        Raises:
            PluginError: two things have one name.
        """
        added: dict[str, EntryPoint] = {}
        for point in _installed(self._group, tuple(sys.path)):
            if point.name in self._own:
                raise self._refusal(point, "this name is taken by sft-sweep itself; rename it")
            if point.name in added:
                other = _package(added[point.name])
                raise self._refusal(
                    point, f"this name is taken by {other}, too; uninstall one of the two"
                )
            added[point.name] = point
        return added

    def _loaded(self, point: EntryPoint) -> T:
        try:
            found: Any = point.load()
        except Exception as error:
            raise self._refusal(
                point, f"it cannot be imported: {type(error).__name__}: {error}"
            ) from error
        problem = self._problem(point.name, found)
        if problem is not None:
            raise self._refusal(point, problem)
        return cast("T", found)

    def _refusal(self, point: EntryPoint, reason: str) -> PluginError:
        return PluginError(
            f"{_package(point)} adds {self._what} by its entry point {point.name} = {point.value} "
            f"of {self._group}: {reason}"
        )


def named(value: str) -> Callable[[], Any]:
    """What loads `package.module:name`, written as entry points are."""
    return EntryPoint(name=value, value=value, group="").load


@functools.lru_cache(maxsize=16)
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group, sorted by name; a place on two paths counts once."""
    del path  # what is found depends on it
    found = {
        (point.name, point.value, _package(point)): point for point in entry_points(group=group)
    }
    return tuple(found[key] for key in sorted(found))


def _package(point: EntryPoint) -> str:
    return _ANYWHERE if point.dist is None else f"{point.dist.name} {point.dist.version}"
