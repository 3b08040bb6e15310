"""Tensors copied and pickled: memory, dtype, requires_grad, grad and the user's attributes; never the graph."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from . import dtypes
from .errors import AutogradError
from .tensor import Tensor, register

_OWN = frozenset(Tensor.__annotations__)  # what tensor.py itself keeps on a tensor


def _extras(self: Tensor) -> dict[str, Any]:
    """Attributes that the user or a subclass has set."""
    return {name: value for name, value in self.__dict__.items() if name not in _OWN}


def _rebuild(
    cls: type, memory: Any, dtype: dtypes.dtype, requires_grad: bool, grad: Tensor | None, extras: dict[str, Any]
) -> Any:
    """What ``pickle`` calls; ``memory`` is an array, or the shape of a meta tensor."""
    plain = Tensor._wrap_meta(memory, dtype) if isinstance(memory, tuple) else Tensor._wrap(memory, dtype)
    made = Tensor._make_subclass(cls, plain, requires_grad)
    made._grad = grad
    made.__dict__.update(extras)
    return made


def _reduce(self: Tensor, protocol: Any) -> Any:
    memory = tuple(self._array.shape) if self._meta else self._array
    return _rebuild, (type(self), memory, self._dtype, self.requires_grad, self._grad, _extras(self))


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Any:
    if id(self) in memo:
        return memo[id(self)]
    if self.grad_fn is not None:
        raise AutogradError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment; "
            "copy x.detach() or use x.clone()"
        )
    memory: Any = tuple(self._array.shape)
    if not self._meta:
        memory = np.array(self._array, order="C" if 0 in self._array.strides else "K")
    made = memo[id(self)] = _rebuild(type(self), memory, self._dtype, self._requires_grad, None, {})
    made._grad = copy.deepcopy(self._grad, memo)
    made.__dict__.update(copy.deepcopy(_extras(self), memo))
    return made


register({"__reduce_ex__": _reduce, "__deepcopy__": _deepcopy})
