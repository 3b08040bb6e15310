"""Tensors to other dtypes, devices, layouts and Python values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentRangeError, ArgumentTypeError, UnsupportedError
from ..tensor import Tensor, device, refuse_meta, register
from ._table import begin_write, broadcast_shape, cast, check_target, operand, refuse_to_fill, shape_of

__all__ = [
    "clone",
]


class ToCopy(Function):
    """A copy in another dtype, or a meta tensor of the same shape."""

    fresh = True
    node_name = "ToCopyBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: dtypes.dtype, meta: bool) -> Tensor:
        if meta:
            return Tensor._wrap_meta(x._array.shape, dtype)
        array = x._array.copy("K") if x._dtype is dtype else cast(x._array, dtype)
        return Tensor._wrap(array, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0], None, None  # the walk casts a gradient to the dtype of what it belongs to


class Clone(Function):
    fresh = True
    node_name = "CloneBackward0"

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: str) -> Tensor:
        if x._meta:
            return Tensor._wrap_meta(x._array.shape, x._dtype)
        if order == "channels_last":
            return Tensor._wrap(x._array.transpose(0, 2, 3, 1).copy("C").transpose(0, 3, 1, 2), x._dtype)
        if order == "C" or 0 in x._array.strides:  # repeated elements have no order to preserve
            return Tensor._wrap(x._array.copy("C"), x._dtype)
        return Tensor._wrap(x._array.copy("K"), x._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0], None


def _order(memory_format: Any, ndim: int, default: str) -> str:
    if memory_format is None:
        return default
    text = str(memory_format)
    if text == "torch.contiguous_format":
        return "C"
    if text == "torch.preserve_format":
        return "K"
    if text == "torch.channels_last":
        if ndim != 4:
            raise ArgumentRangeError("required rank 4 tensor to use channels_last format")
        return "channels_last"
    raise ArgumentTypeError(f"memory_format: got {memory_format!r}; use konv.contiguous_format or konv.channels_last")


def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy that gradients flow through."""
    return Clone.apply(input, _order(memory_format, input._array.ndim, "K"))


def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor itself if its elements lie in C order (or the order asked for), else a copy that is so."""
    order = _order(memory_format, input._array.ndim, "C")
    return input if input.is_contiguous(memory_format) else Clone.apply(input, order)


def to(
    input: Tensor,
    *args: Any,
    device: Any = None,
    dtype: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """The tensor in another dtype or on another device: ``to(dtype)``, ``to(device, dtype)`` or ``to(other)``.

    Returns the tensor itself when nothing changes and ``copy`` is not set.

    Example:
        >>> import konv
        >>> konv.tensor([1, 2]).to(konv.float64)
        tensor([1., 2.], dtype=torch.float64)
    """
    for arg in args:
        if isinstance(arg, Tensor):
            device, dtype = arg.device, arg.dtype
        elif isinstance(arg, bool):
            copy = copy or (arg and arg is args[-1] and len(args) > 2)
        elif isinstance(arg, (str, _Device)):
            device = arg
        elif arg is not None:
            dtype = arg
    target = input._dtype if dtype is None else dtypes.as_dtype(dtype)
    meta = input._meta if device is None else _as_device(device).type == "meta"
    if input._meta and not meta:
        raise UnsupportedError("Cannot copy out of meta tensor; no data! Make the tensor on 'cpu' instead")
    if target is input._dtype and meta == input._meta and not copy:
        return input if memory_format is None else contiguous(input, memory_format)
    made: Tensor = ToCopy.apply(input, target, meta)
    return made if memory_format is None else contiguous(made, memory_format)


_Device = device


def _as_device(value: Any) -> device:
    return value if isinstance(value, device) else device(value)


def type_as(input: Tensor, other: Tensor) -> Tensor:
    """``to`` the dtype of ``other``."""
    return to(input, other._dtype)


def type(input: Tensor, dtype: Any = None) -> Any:
    """``to(dtype)``; without a dtype, the name that PyTorch gives this kind of tensor."""
    return f"torch.{input._dtype.label}Tensor" if dtype is None else to(input, dtypes.as_dtype(dtype))


def _caster(dtype: dtypes.dtype) -> Any:
    def method(self: Tensor) -> Tensor:
        return to(self, dtype)

    method.__doc__ = f"``to(konv.{dtype.name})``."
    return method


# ---- values --------------------------------------------------------------------------------------------------------


def item(input: Tensor) -> Any:
    """The one element as a Python number.

    Raises:
        ArgumentRangeError: There is not exactly one.
    """
    if input._meta:
        raise refuse_meta("item()")
    if input._array.size != 1:
        raise ArgumentRangeError(f"a Tensor with {input._array.size} elements cannot be converted to Scalar")
    return _python(input).item()


def tolist(input: Tensor) -> Any:
    """Nested lists of Python numbers."""
    if input._meta:
        raise refuse_meta("tolist()")
    return _python(input).tolist()


def _python(input: Tensor) -> np.ndarray[Any, Any]:
    return input._array.astype(np.float32) if input._dtype is dtypes.bfloat16 else input._array


def _bool(self: Tensor) -> bool:
    if self._meta:
        raise refuse_meta("bool()")
    if self._array.size != 1:
        many = "more than one value" if self._array.size else "no values"
        raise ArgumentRangeError(f"Boolean value of Tensor with {many} is ambiguous; use any() or all()")
    return bool(self._array.reshape(()).item())


def _index(self: Tensor) -> int:
    if self._dtype.kind > dtypes.INTEGER or self._array.size != 1:
        raise ArgumentTypeError("only integer tensors of a single element can be converted to an index")
    return int(item(self))


# ---- writes --------------------------------------------------------------------------------------------------------


class Copy(Function):
    """``b`` written over ``a``: nothing of a's gradient is left."""

    fresh = True
    node_name = "CopyBackwards"

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Any) -> Tensor:
        if not a._meta:
            value = b._array if isinstance(b, Tensor) else np.asarray(b)
            np.copyto(a._array, value if value.dtype == a._array.dtype else cast(value, a._dtype))
        a._counter.value += 1
        ctx.mark_dirty(a)
        return a

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        g, (first, second) = grads[0], ctx.needs_input_grad
        return g.new_zeros(g._array.shape) if first else None, g if second else None


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write ``src`` (broadcast, cast) into this tensor."""
    begin_write(self, "copy_")
    src = operand(src, "copy_")
    if isinstance(src, Tensor) and src._meta and not self._meta:
        raise UnsupportedError("Cannot copy out of meta tensor; no data!")
    check_target(self, broadcast_shape([self._array.shape, shape_of(src)]), self._dtype)
    Copy.apply(self, src)
    return self


def fill_(self: Tensor, value: Any) -> Tensor:
    """Write one number into every element."""
    value = operand(value, "fill_")
    # A gradient of a number that many places of one cell got would count it once for each.
    begin_write(self, "fill_", fills=not (isinstance(value, Tensor) and value.requires_grad))
    if isinstance(value, Tensor) and value._array.ndim:
        raise ArgumentRangeError(
            f"fill_ only supports 0-dimension value tensor but got tensor with {value._array.ndim} dimensions."
        )
    refuse_to_fill(value, self._dtype, "fill_")
    Copy.apply(self, value)
    return self


def zero_(self: Tensor) -> Tensor:
    """Write zeros."""
    return fill_(self, 0)


METHODS: dict[str, Any] = {
    f.__name__: f for f in (clone, contiguous, to, type, type_as, item, tolist, copy_, fill_, zero_)
}
METHODS.update(
    {
        "float": _caster(dtypes.float32),
        "double": _caster(dtypes.float64),
        "bfloat16": _caster(dtypes.bfloat16),
        "bool": _caster(dtypes.bool),
        "half": _caster(dtypes.float16),
        "long": _caster(dtypes.int64),
        "int": _caster(dtypes.int32),
        "short": _caster(dtypes.int16),
        "char": _caster(dtypes.int8),
        "byte": _caster(dtypes.uint8),
        "cfloat": _caster(dtypes.complex64),
        "cdouble": _caster(dtypes.complex128),
        "cpu": lambda self: to(self, device="cpu"),
        "__contains__": lambda self, value: bool((self == value).any()),
        "__bool__": _bool,
        "__float__": lambda self: float(item(self)),
        "__int__": lambda self: int(item(self)),
        "__complex__": lambda self: complex(item(self)),
        "__index__": _index,
    }
)
register(METHODS)
