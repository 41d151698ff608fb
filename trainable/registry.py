"""Registries: entries by name, our own and those that other installed packages add.

Another package adds an entry to a registry by an entry point of the registry's group. Every process
finds the entry points of the packages that are installed on its own machine.
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
    """Entries by name, our own first; an entry is loaded only when it is asked for.

    Args:
        group: group of the entry points by which other packages add entries.
        what: kind of the entries with its article, for messages, such as `a pruner`.
        own: our entries: name -> function that loads the entry.
        problem: takes the name and the loaded object of an entry point; returns what is wrong with
            the object, or None.
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
        """Load the entry of this name.

        Raises:
            PluginError: no installed package has such an entry, or the entry cannot be used.
        """
        self.check(name)
        return self._own[name]() if name in self._own else self._loaded(self._added()[name])

    def check(self, name: str) -> None:
        """Make sure that an installed package has the entry, without loading it.

        Raises:
            PluginError: no installed package has it.
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
        """Return the entry points of other packages, by name.

        Raises:
            PluginError: two entries have the same name.
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
    """Return a function that loads `package.module:name`, the notation of entry points."""
    return EntryPoint(name=value, value=value, group="").load


@functools.lru_cache(maxsize=16)
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group, sorted by name and without duplicates.

    Args:
        group: the group.
        path: `sys.path`. It is part of the cache's key, because what is installed depends on it; a
            folder may be on it twice.
    """
    del path
    found = {
        (point.name, point.value, _package(point)): point for point in entry_points(group=group)
    }
    return tuple(found[key] for key in sorted(found))


def _package(point: EntryPoint) -> str:
    return _ANYWHERE if point.dist is None else f"{point.dist.name} {point.dist.version}"
