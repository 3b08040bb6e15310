"""Modules that hold modules: in order to be called, in a list, in a dict."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, TypeVar

from ..errors import ArgumentError, ArgumentTypeError, IndexRangeError, text
from .module import Module, indent

Self = TypeVar("Self", bound="_Numbered")


class _Numbered(Module):
    """What Sequential and ModuleList share: children under the names '0', '1', ..."""

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def _key(self, idx: Any) -> str:
        try:
            number = operator.index(idx)
        except TypeError:
            kind = type(idx).__name__
            raise ArgumentTypeError(
                text(self._get_name(), f"index is a {kind}", "it must be an int or slice")
            ) from None
        if not -len(self) <= number < len(self):
            rule = f"there are {len(self)} modules"
            raise IndexRangeError(text(self._get_name(), f"index {number} is out of range", rule))
        return list(self._modules)[number]

    def __setitem__(self, idx: int, module: Module) -> None:
        setattr(self, self._key(idx), module)

    def __delitem__(self, idx: int | slice) -> None:
        for key in list(self._modules)[idx] if isinstance(idx, slice) else [self._key(idx)]:
            del self._modules[key]
        self._number(list(self._modules.values()))

    def _number(self, modules: list[Any]) -> None:
        self.__dict__["_modules"] = {str(i): module for i, module in enumerate(modules)}

    def append(self: Self, module: Module) -> Self:
        """Put a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self: Self, modules: Any) -> Self:
        """Put several modules at the end."""
        if not isinstance(modules, Iterable):
            got = f"extend got {type(modules).__name__}"
            raise ArgumentTypeError(text(self._get_name(), got, "it must be an iterable of modules"))
        for module in list(modules):
            self.append(module)
        return self

    def insert(self: Self, index: int, module: Any) -> Self:
        """Put a module before the one at ``index``."""
        if not isinstance(module, Module):
            got = f"insert got {type(module).__name__}"
            raise ArgumentTypeError(text(self._get_name(), got, "it must be a Module"))
        if not -len(self) <= index <= len(self):
            raise IndexRangeError(
                text(self._get_name(), f"Index out of range: {index}", f"0 to {len(self)} is possible")
            )
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._number(modules)
        return self

    def pop(self, key: int | slice) -> Any:
        """Take a module (or a slice) out and return it."""
        taken = self[key]  # type: ignore[index]
        del self[key]
        return taken


class Sequential(_Numbered):
    """Modules called one after another, each on the output of the one before.

    Args:
        args: modules in order, or one OrderedDict of named modules.

    Example:
        >>> import konv
        >>> konv.nn.Sequential(konv.nn.Linear(4, 2), konv.nn.ReLU())
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): ReLU()
        )
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], OrderedDict) else enumerate(args)
        for name, module in named:
            self.add_module(str(name) if isinstance(name, int) else name, module)

    def forward(self, input: Any) -> Any:
        """Every module in order on ``input``, of whatever shape the first one takes."""
        for module in self._modules.values():
            input = module(input)  # type: ignore[misc]
        return input

    def __getitem__(self, idx: int | slice) -> Any:
        if isinstance(idx, slice):
            return type(self)(OrderedDict(list(self._modules.items())[idx]))
        return self._modules[self._key(idx)]

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *self._other(other))

    def __iadd__(self, other: Sequential) -> Sequential:
        return self.extend(list(self._other(other)))

    def _other(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ArgumentError(text("Sequential", f"+ got {type(other).__name__}", "it adds a Sequential alone"))
        return other

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*(list(self) * self._times(other)))

    __rmul__ = __mul__

    def __imul__(self, other: int) -> Sequential:
        return self.extend(list(self) * (self._times(other) - 1))

    def _times(self, other: Any) -> int:
        if not isinstance(other, int):
            raise ArgumentTypeError(text("Sequential", f"* got {type(other).__name__}", "it multiplies by an int"))
        if other <= 0:
            raise ArgumentError(text("Sequential", f"* got {other}", "the factor must be at least 1"))
        return other


class ModuleList(_Numbered):
    """Modules in a list; it calls none of them itself.

    Args:
        modules: what is in it at first.

    Example:
        >>> import konv
        >>> konv.nn.ModuleList(konv.nn.Linear(2, 2) for _ in range(3))
        ModuleList(
          (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)
        )
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, idx: int | slice) -> Any:
        if isinstance(idx, slice):
            return type(self)(list(self)[idx])
        return self._modules[self._key(idx)]

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList(list(self)).extend(other)

    def __repr__(self) -> str:
        runs: list[tuple[int, int, str]] = []  # first, last, what: neighbours that look the same share a line
        for i, module in enumerate(self):
            shown = repr(module)
            if runs and runs[-1][2] == shown:
                runs[-1] = (runs[-1][0], i, shown)
            else:
                runs.append((i, i, shown))
        if not runs:
            return f"{self._get_name()}()"
        lines = [
            indent(f"({first}): {shown}" if first == last else f"({first}-{last}): {last - first + 1} x {shown}")
            for first, last, shown in runs
        ]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """Modules under names; it calls none of them itself.

    Args:
        modules: a mapping, or an iterable of pairs.

    Example:
        >>> import konv
        >>> choices = konv.nn.ModuleDict({"relu": konv.nn.ReLU(), "none": konv.nn.Identity()})
        >>> list(choices), choices["relu"]
        (['relu', 'none'], ReLU())
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Take everything out."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Take the module under ``key`` out and return it."""
        return self._modules.pop(key)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._modules.keys()

    def items(self) -> ItemsView[str, Any]:
        """Names with modules."""
        return self._modules.items()

    def values(self) -> ValuesView[Any]:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Put in the pairs of a mapping or an iterable, over those with the same names."""
        if not isinstance(modules, (Mapping, Iterable)):
            got = f"update got {type(modules).__name__}"
            raise ArgumentTypeError(text("ModuleDict", got, "it must be a mapping or an iterable of pairs"))
        pairs = modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules
        for i, pair in enumerate(pairs):
            rule = "every element must be a pair (name, module)"
            if not isinstance(pair, Iterable):
                raise ArgumentTypeError(text("ModuleDict", f"element {i} is {pair!r}", rule))
            named = tuple(pair)
            if len(named) != 2:
                raise ArgumentError(text("ModuleDict", f"element {i} has {len(named)} parts", rule))
            self[named[0]] = named[1]
