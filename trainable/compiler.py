"""PyTorch's compiler, left on the disk by processes that compile nothing.

torchvision's operators and every optimizer import `torch._dynamo`, two seconds of a processor's
time in each process of a sweep, to ask whether they could be compiled and to say that they need not
be. `defer` puts a stand-in in its place that answers just that; whoever asks it for anything else
gets the real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_PACKAGE = "torch._dynamo"
_UTILS = f"{_PACKAGE}.utils"


def defer() -> None:
    """Import the compiler when something needs it, where it is not here already."""
    if _PACKAGE not in sys.modules:
        _Deferred().install()


class _Deferred:
    """Stands for the compiler until it is asked for."""

    def __init__(self) -> None:
        self._real: ModuleType | None = None
        self._disabled: list[_Disabled] = []
        self._standins = {
            _PACKAGE: _Standin(
                _PACKAGE, self.load, {"disable": self._disable, "graph_break": _nothing}
            ),
            _UTILS: _Standin(_UTILS, self.load, {"is_compile_supported": self._is_supported}),
        }

    def install(self) -> None:
        """Take the compiler's place."""
        sys.modules.update(self._standins)
        sys.meta_path.insert(0, self)

    def load(self) -> ModuleType:
        """Give the place to the real one.

        Several threads may come here at once: no step minds, and imports have locks of their own.
        """
        if self._real is None:
            for name, standin in self._standins.items():
                if sys.modules.get(name) is standin:
                    sys.modules.pop(name, None)
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            real = importlib.import_module(_PACKAGE)
            for each in self._disabled:
                each.disable(real)
            self._real = real
        return self._real

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Part of the import system: a module of the compiler's is wanted."""
        if not name.startswith(f"{_PACKAGE}."):
            return None
        path = self.load().__path__
        loaded = sys.modules.get(name)
        if loaded is None:
            return PathFinder.find_spec(name, path, target)
        return ModuleSpec(name, _Loaded(loaded))

    def _disable(self, fn: Callable[..., Any] | None = None, *args: Any, **options: Any) -> Any:
        if fn is None or options != {"wrapping": False}:  # not how an optimizer asks
            return self.load().disable(fn, *args, **options)
        disabled = _Disabled(fn, *args)
        self._disabled.append(disabled)
        return disabled

    def _is_supported(self, device: Any) -> Any:
        return self.load().utils.is_compile_supported(device)


class _Standin(ModuleType):
    """A module with few names of its own; for any other it is replaced."""

    def __init__(self, name: str, load: Callable[[], ModuleType], names: dict[str, Any]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # its modules are searched for, too
        self.__dict__.update(names)
        self._load = load

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # those who look through all modules
            raise AttributeError(name)
        self._load()
        return getattr(sys.modules[self.__name__], name)


class _Disabled:
    """A function that is not to be compiled: as it is, until there is a compiler."""

    def __init__(self, fn: Callable[..., Any], *args: Any) -> None:
        self._fn = self._run = fn
        self._args = args

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(*args, **kwargs)

    def disable(self, compiler: ModuleType) -> None:
        """Tell the compiler."""
        self._run = compiler.disable(self._fn, *self._args, wrapping=False)


class _Loaded(Loader):
    """Finds a module that is there already, and does not load it twice."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def create_module(self, _: ModuleSpec) -> ModuleType:
        """The module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing more to do."""


def _nothing(_: str = "") -> None:
    """Stand for the mark of a place where the compiler would start anew."""
