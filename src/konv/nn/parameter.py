"""Tensors that a module notices when they are assigned to it."""

from __future__ import annotations

from typing import Any

from ..errors import ArgumentTypeError, text
from ..tensor import Tensor


class Parameter(Tensor):
    """A tensor that is learned: assigned to a ``Module``, it appears among its parameters.

    Args:
        data: the tensor whose memory it takes, any shape; None for an empty one.
        requires_grad: whether gradients are recorded for it.

    Raises:
        ArgumentTypeError: if data is not a Tensor.

    Example:
        >>> import konv
        >>> konv.nn.Parameter(konv.zeros(2))
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        return Tensor._make_subclass(cls, _checked(cls, data), requires_grad)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.data.clone(), self._requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.data, self._requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not learned; assigned to a ``Module``, it is a buffer.

    Args:
        data: the tensor whose memory it takes, any shape; None for an empty one.
        persistent: whether it goes into the state dict.

    Example:
        >>> import konv
        >>> module = konv.nn.Module()
        >>> module.steps = konv.nn.Buffer(konv.zeros(1))
        >>> list(module.state_dict())
        ['steps']
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        made = Tensor._make_subclass(cls, _checked(cls, data))
        made.persistent = persistent
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.data.clone(), persistent=self.persistent)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _buffer, (self.data, self.persistent)


def _buffer(data: Tensor, persistent: bool) -> Buffer:
    return Buffer(data, persistent=persistent)


def _checked(cls: type, data: Any) -> Tensor:
    if data is None:
        from ..ops.creation import empty

        return empty(0)
    if not isinstance(data, Tensor):
        fix = "make one with konv.tensor(...) or konv.as_tensor(...)"
        raise ArgumentTypeError(text(cls.__name__, f"data is a {type(data).__name__}", "it must be a Tensor", fix))
    return data
