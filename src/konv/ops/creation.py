"""New tensors: from Python data, filled with one value, counted, or like another."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import (
    ArgumentError,
    ArgumentRangeError,
    ArgumentTypeError,
    DtypeError,
    KonvError,
    MemoryShortError,
    ShapeError,
    text,
)
from ..interop import from_foreign
from ..tensor import Tensor, device as _Device, register
from ._table import cast, refuse_overflow, refuse_to_fill
from .convert import contiguous
from .shape import sizes_of

__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "tensor",
    "zeros",
    "zeros_like",
]

_CPU = _Device("cpu")
_NUMBERS = {bool, int, float, complex}


def _on(device: Any) -> _Device:
    if device is None:
        return _CPU
    return device if isinstance(device, _Device) else _Device(device)


def _finish(made: Tensor, device: Any, requires_grad: bool) -> Tensor:
    if _on(device).type == "meta" and not made._meta:
        made = Tensor._wrap_meta(made._array.shape, made._dtype)
    if requires_grad:
        made.requires_grad = True
    return made


def tensor(
    data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with a copy of ``data``: numbers, nested sequences, arrays or tensors.

    Python floats become the default dtype, ints int64; arrays keep theirs.

    Raises:
        ArgumentError: Sequences of uneven length.
        ArgumentTypeError: Something that is not a number.

    Example:
        >>> import konv
        >>> konv.tensor([[1, 2], [3, 4]], dtype=konv.float32)
        tensor([[1., 2.],
                [3., 4.]])
    """
    if isinstance(data, Tensor):
        made = data.detach().clone()
        made = made if dtype is None else made.to(dtype)
        return _finish(made, device, requires_grad)
    array = _array_from(data)
    target = _natural_dtype(data, array) if dtype is None else dtypes.as_dtype(dtype)
    if target.kind == dtypes.INTEGER and array.size and array.dtype.kind in "iuf" and not isinstance(data, np.ndarray):
        for extreme in (array.min(), array.max()):
            refuse_overflow(extreme, target, "tensor")
    return _finish(Tensor._wrap(_checked_cast(array, target), target), device, requires_grad)


def _checked_cast(array: np.ndarray[Any, Any], target: dtypes.dtype) -> np.ndarray[Any, Any]:
    if array.dtype == target.numpy:
        return array.copy("C")
    if array.dtype.kind == "c" and not target.is_complex and target is not dtypes.bool:
        raise ArgumentTypeError(f"tensor: complex numbers cannot become {target}")
    return cast(array, target).copy("C") if array.ndim else cast(array, target)


def _array_from(data: Any) -> np.ndarray[Any, Any]:
    if isinstance(data, np.ndarray):
        return np.asarray(data)
    if isinstance(data, (list, tuple, range)):
        data = _plain(data)
    elif hasattr(data, "__dlpack__") or hasattr(data, "__array__"):
        return from_foreign(data, "tensor")._array
    try:
        array = np.asarray(data)
    except ValueError:
        raise ArgumentError(f"tensor: {_uneven(data)}") from None
    if array.dtype.kind == "O" and not array.size:
        return array.astype(np.float64)
    if array.dtype.kind not in "biufc":
        if array.dtype.kind == "O" and isinstance(array.flat[0], int):
            raise ArgumentRangeError("Overflow when unpacking long long")
        if isinstance(data, str):
            raise ArgumentTypeError("tensor: invalid data type 'str'; expected numbers")
        if array.dtype.kind in "US":
            raise ArgumentError("tensor: too many dimensions 'str'; expected numbers")
        raise DtypeError(f"tensor: could not infer dtype of {type(array.flat[0]).__name__}; expected numbers")
    return array


def _plain(data: Any) -> Any:
    """Nested sequences with the tensors in them as arrays, those of no dimension as numbers."""
    if isinstance(data, Tensor) or (hasattr(data, "__dlpack__") and not isinstance(data, np.ndarray)):
        array = from_foreign(data.detach(), "tensor")._array
        return array if array.ndim else array.item()
    if isinstance(data, (list, tuple)) and not _NUMBERS.issuperset(map(type, data)):
        return [_plain(part) for part in data]
    return data


def _uneven(data: Any, dim: int = 0) -> str:
    """Where nested sequences stop being even."""
    sizes = [len(part) if isinstance(part, (Sequence, np.ndarray)) else None for part in data]
    for size in sizes:
        if size != sizes[0]:
            return f"expected sequence of length {sizes[0]} at dim {dim + 1} (got {size})"
    for part in data:
        if isinstance(part, Sequence):
            return _uneven(part, dim + 1)
    return "sequences of uneven length"


def _natural_dtype(data: Any, array: np.ndarray[Any, Any]) -> dtypes.dtype:
    """What all elements promote to: arrays, tensors and NumPy scalars by their dtype, Python numbers by the default."""
    if array.dtype == np.uint64:
        raise ArgumentRangeError("Overflow when unpacking long long")
    return functools.reduce(dtypes.promote, _dtypes_in(data) or {dtypes.get_default_dtype()})


def _dtypes_in(data: Any) -> set[dtypes.dtype]:
    if isinstance(data, (list, tuple)):
        kinds = set(map(type, data))
        known = {kind for kind in kinds if kind in _NUMBERS or issubclass(kind, np.generic)}
        found = {dtypes.of_scalar(k()) if k in _NUMBERS else dtypes.from_numpy(np.dtype(k)) for k in known}
        return found.union(*[_dtypes_in(part) for part in data if type(part) not in known]) if kinds > known else found
    if hasattr(data, "dtype"):
        return {dtypes.as_dtype(data.dtype)}
    if isinstance(data, (int, float, complex)):
        return {dtypes.of_scalar(data)}
    return {dtypes.from_numpy(np.asarray(data).dtype)}


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """``data`` as a tensor, sharing memory where it can: arrays and other libraries' tensors are not copied."""
    if isinstance(data, (Tensor, np.ndarray)) or hasattr(data, "__dlpack__"):
        made = from_foreign(data, "as_tensor")
    else:
        made = tensor(data, dtype=dtype)
    return made if dtype is None and device is None else made.to(dtype=dtype, device=device)


asarray = as_tensor


# ---- one value -----------------------------------------------------------------------------------------------------


def _filled(
    shape: tuple[int, ...],
    value: Any,
    dtype: Any,
    device: Any,
    requires_grad: bool,
    who: str,
    memory_format: Any = None,
) -> Tensor:
    if any(n < 0 for n in shape):
        raise ShapeError(f"{who}: Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if _on(device).type == "meta":
        return _finish(contiguous(Tensor._wrap_meta(shape, target), memory_format), None, requires_grad)
    refuse_to_fill(value, target, who)
    try:
        array = _array(shape, value, target)
    except (MemoryError, ValueError) as error:  # NumPy's ValueError: more bytes than addresses
        if isinstance(error, KonvError):
            raise
        got = f"a tensor of shape {list(shape)} and {target!r}"
        raise MemoryShortError(text(who, got, "there is not enough memory", "ask device='meta' for shapes")) from error
    return _finish(contiguous(Tensor._wrap(array, target), memory_format), None, requires_grad)


def _array(shape: tuple[int, ...], value: Any, target: dtypes.dtype) -> np.ndarray[Any, Any]:
    if value is None:
        return np.empty(shape, target.numpy)
    if not isinstance(value, Tensor) and value == 0:
        return np.zeros(shape, target.numpy)
    number = value._array if isinstance(value, Tensor) else np.asarray(value)
    return np.full(shape, cast(number, target))


def _maker(name: str, value: Any, what: str) -> Any:
    def make(
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        layout: Any = None,
        memory_format: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        if "size" in kwargs:
            size = (kwargs.pop("size"),)
        kwargs.pop("pin_memory", None)
        if kwargs:
            raise ArgumentTypeError(f"{name}() got an unexpected keyword argument {next(iter(kwargs))!r}")
        return _filled(sizes_of(size, name), value, dtype, device, requires_grad, name, memory_format)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"""A new tensor {what}; sizes as ints or as one sequence.

    Args:
        size: The shape.
        dtype: Element type; the default floating type unless given.
        device: 'cpu' or 'meta'.
        requires_grad: Whether gradients are collected.

    Example:
        >>> import konv
        >>> konv.{name}(2, 3).shape
        torch.Size([2, 3])
    """
    return make


zeros = _maker("zeros", 0, "of zeros")
ones = _maker("ones", 1, "of ones")
empty = _maker("empty", None, "whose values are whatever was in memory")


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor of ``fill_value``; its dtype follows the value unless given.

    Example:
        >>> import konv
        >>> konv.full((2,), 7)
        tensor([7, 7])
    """
    if dtype is None:
        dtype = fill_value._dtype if isinstance(fill_value, Tensor) else dtypes.of_scalar(fill_value)
    return _filled(sizes_of((size,), "full"), fill_value, dtype, device, requires_grad, "full")


def _like_maker(name: str, value: Any) -> Any:
    def make(
        input: Tensor,
        *,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        if kwargs:
            raise ArgumentTypeError(f"{name}() got an unexpected keyword argument {next(iter(kwargs))!r}")
        input = from_foreign(input, name)
        where = input.device if device is None else device
        return _filled(input._array.shape, value, dtype or input._dtype, where, requires_grad, name, memory_format)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = (
        f"``{name[:-5]}`` of the shape, dtype and device of ``input``, unless given; in C order, or as asked."
    )
    return make


zeros_like, ones_like, empty_like = (
    _like_maker("zeros_like", 0),
    _like_maker("ones_like", 1),
    _like_maker("empty_like", None),
)


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """``fill_value`` in the shape, dtype and device of ``input``, unless given."""
    where = input.device if device is None else device
    kind = dtype or input._dtype
    return _filled(input._array.shape, fill_value, kind, where, requires_grad, "full_like", memory_format)


# ---- counted -------------------------------------------------------------------------------------------------------


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``start, start + step, ...`` up to but without ``end``; whole numbers give int64.

    Raises:
        ArgumentRangeError: A zero step, or bounds on the wrong side of each other.

    Example:
        >>> import konv
        >>> konv.arange(3), konv.arange(1, 2, 0.5)
        (tensor([0, 1, 2]), tensor([1.0000, 1.5000]))
    """
    start, end = (0, start) if end is None else (start, end)
    start, end, step = [v.item() if isinstance(v, (Tensor, np.generic)) else v for v in (start, end, step)]
    if dtype is None:
        whole = all(isinstance(v, int) for v in (start, end, step))
        dtype = dtypes.int64 if whole else dtypes.get_default_dtype()
    target = dtypes.as_dtype(dtype)
    if step == 0:
        raise ArgumentRangeError("step must be nonzero")
    if (end - start) / step < 0:
        raise ArgumentRangeError("upper bound and lower bound inconsistent with step sign")
    count = math.ceil((end - start) / step)
    if _on(device).type == "meta":
        return _finish(Tensor._wrap_meta((count,), target), None, requires_grad)
    wide = np.float64 if any(isinstance(v, float) for v in (start, end, step)) else np.int64
    array = np.asarray(start, wide) + np.arange(count).astype(wide) * np.asarray(step, wide)
    return _finish(Tensor._wrap(cast(np.asarray(array), target), target), None, requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` values from ``start`` to ``end``, both included, evenly apart."""
    if steps < 0:
        raise ArgumentRangeError(f"number of steps must be non-negative, got {steps}")
    start, end = [v.item() if isinstance(v, Tensor) else v for v in (start, end)]
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if _on(device).type == "meta":
        return _finish(Tensor._wrap_meta((steps,), target), None, requires_grad)
    return _finish(Tensor._wrap(cast(np.linspace(start, end, steps), target), target), None, requires_grad)


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """(n, m) with ones on the diagonal and zeros elsewhere."""
    m = n if m is None else m
    if n < 0 or m < 0:
        raise ShapeError(f"eye: sizes must be greater or equal to 0, got {n} and {m}")
    target = dtypes.get_default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if _on(device).type == "meta":
        return _finish(Tensor._wrap_meta((n, m), target), None, requires_grad)
    return _finish(Tensor._wrap(np.eye(n, m).astype(target.numpy), target), None, requires_grad)


def _like_dtype(function: Any) -> Any:
    def method(self: Tensor, *args: Any, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
        where = self.device if device is None else device
        return function(*args, dtype=dtype or self._dtype, device=where, **kwargs)

    method.__doc__ = f"``konv.{function.__name__}`` with the dtype and device of this tensor."
    return method


def _legacy(cls: type, *args: Any, device: Any = None, **kwargs: Any) -> Any:
    """``Tensor(data)`` or ``Tensor(2, 3)``: float32, PyTorch's old constructor."""
    if len(args) == 1 and not isinstance(args[0], int):
        made = args[0].detach() if isinstance(args[0], Tensor) else tensor(args[0], dtype=dtypes.get_default_dtype())
    else:
        made = empty(*args) if args else empty(0)
    return Tensor._make_subclass(cls, _finish(made, device, False))


register(
    {
        "new_zeros": _like_dtype(zeros),
        "new_ones": _like_dtype(ones),
        "new_empty": _like_dtype(empty),
        "new_full": _like_dtype(full),
        "new_tensor": _like_dtype(tensor),
        "__new__": staticmethod(_legacy),
    }
)
