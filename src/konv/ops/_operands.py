"""What goes into operations and what may be written to: operands, promotion, broadcasting, devices."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentRangeError, ArgumentTypeError, AutogradError, DeviceError, DtypeError, ShapeError
from ..interop import from_foreign
from ..modes import _mode
from ..tensor import Tensor

NUMBERS = (bool, int, float, complex, np.generic)


def operand(value: Any, who: str) -> Any:
    """An operand as it is worked with: a Tensor, or a Python number (which takes part weakly in promotion)."""
    if isinstance(value, (Tensor, NUMBERS)):
        return value
    return from_foreign(value, who)


def as_tensor_operand(value: Any, who: str) -> Tensor:
    """``value`` as a Tensor: itself, or a NumPy array or another library's tensor looked at without a copy."""
    return value if isinstance(value, Tensor) else from_foreign(value, who)


def common_dtype(operands: tuple[Any, ...]) -> dtypes.dtype:
    """The dtype that the operands meet in."""
    first = operands[0]
    if isinstance(first, Tensor) and len(operands) <= 2:
        if len(operands) == 1:
            return first._dtype
        second = operands[1]
        if isinstance(second, Tensor):
            if first._dtype is second._dtype:
                return first._dtype
        elif type(second) is float and first._dtype.kind >= dtypes.FLOATING:
            return first._dtype
    return dtypes.result_of([_typed(o) for o in operands if o is not None])


def _typed(value: Any) -> tuple[dtypes.dtype, int]:
    if isinstance(value, Tensor):
        return value._dtype, 0 if value._array.ndim else 1
    return dtypes.of_scalar(value), 2


def array_of(value: Any, dtype: dtypes.dtype) -> Any:
    """The array of an operand, cast to ``dtype``."""
    if isinstance(value, Tensor):
        return value._array if value._dtype is dtype else cast(value._array, dtype)
    if dtype.kind == dtypes.FLOATING and type(value) is float and -60000.0 < value < 60000.0:
        return dtype.numpy.type(value)  # the quick way, for what overflows no floating type
    number = np.asarray(value)
    if dtype.kind == dtypes.INTEGER and number.dtype.kind in "iuO":
        return np.asarray(int(value) & (2 ** (8 * dtype.itemsize) - 1), np.uint64).astype(dtype.numpy)
    return cast(number, dtype)


def cast(array: np.ndarray[Any, Any], dtype: dtypes.dtype) -> np.ndarray[Any, Any]:
    """``array`` as ``dtype``, with C's conversions and no warning for what they lose."""
    if array.dtype.kind == "c" and not dtype.is_complex and dtype is not dtypes.bool:
        array = array.real
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy)


def refuse_overflow(value: Any, dtype: dtypes.dtype, who: str) -> None:
    """Refuse a Python number that is out of the range of ``dtype``; operands that are not numbers pass.

    Raises:
        ArgumentRangeError: The number does not fit.
    """
    if isinstance(value, NUMBERS) and not dtypes.holds(dtype, value):
        raise ArgumentRangeError(
            f"{who}: value cannot be converted to type {dtype.name} without overflow: got {value}; "
            "give a number in its range, or a tensor of a wider dtype"
        )


def refuse_to_fill(value: Any, dtype: dtypes.dtype, who: str) -> None:
    """``refuse_overflow`` of the operations that fill; they round what is beyond the half types to infinity."""
    if not dtype.is_half:
        refuse_overflow(value, dtype, who)


def maybe_cast(array: Any, dtype: dtypes.dtype) -> Any:
    """``cast`` where the dtype differs."""
    have, want = array.dtype, dtype.numpy
    return array if have is want or have == want else cast(np.asarray(array), dtype)


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an operand; a number has none."""
    return value._array.shape if isinstance(value, Tensor) else ()


def broadcast_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape that ``shapes`` broadcast to.

    Raises:
        ShapeError: Two sizes of one dimension differ and neither is 1.
    """
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        pass
    ndim = max(len(s) for s in shapes)
    padded = [(1,) * (ndim - len(s)) + s for s in shapes]
    for dim in range(ndim - 1, -1, -1):
        sizes = [p[dim] for p in padded if p[dim] != 1]
        if len(set(sizes)) > 1:
            raise ShapeError(
                f"The size of tensor a ({sizes[0]}) must match the size of tensor b ({sizes[1]}) "
                f"at non-singleton dimension {dim}; the shapes are {' and '.join(str(list(s)) for s in shapes)}"
            )
    # NumPy cannot speak of shapes with more than 2**63 elements; the rule itself is easy.
    return tuple([next((p[dim] for p in padded if p[dim] != 1), 1) for dim in range(ndim)])


def any_meta(operands: tuple[Any, ...]) -> bool:
    """True if one of the operands is on the meta device; then all others are too, or are numbers."""
    for value in operands:
        if isinstance(value, Tensor) and value._meta:
            break
    else:
        return False
    for value in operands:
        if isinstance(value, Tensor) and not value._meta and value._array.ndim:
            raise DeviceError(
                "Expected all tensors to be on the same device, but found at least two devices, cpu and meta!"
            )
    return True


def begin_write(target: Tensor, who: str, fills: bool = False) -> None:
    """Refuse a write that would break the graph or memory that is not ours to change.

    ``fills`` tells that every element gets the same value, so that elements may share memory.

    Raises:
        AutogradError: A leaf that requires grad, or a view of one, is written to in grad mode.
        ShapeError: Elements of ``target`` share memory, as after ``expand``.
        ArgumentTypeError: The memory is read-only.
    """
    base = target._base
    tracked = _mode.grad and (target.requires_grad or (base is not None and base._requires_grad))
    # A view of a leaf, or a leaf that is itself a view of plain memory (and its views): their base is a leaf.
    if tracked and (target if base is None else base)._grad_fn is None:
        of = "" if base is None else "view of a "
        raise AutogradError(
            f"{who}: a {of}leaf Variable that requires grad is being used in an in-place operation; "
            "write under konv.no_grad(), or to a clone()"
        )
    if target._meta:
        return
    array = target._array
    repeated = [s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)]
    if array.size and True in repeated and not fills:
        raise ShapeError(
            f"{who}: unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location; clone() the tensor before writing"
        )
    if not array.flags.writeable:
        raise ArgumentTypeError(
            f"{who}: the tensor shares read-only memory (of a NumPy array or another library); write to a clone()"
        )


def check_target(target: Tensor, shape: tuple[int, ...], dtype: dtypes.dtype) -> None:
    """Refuse a result that ``target`` cannot hold."""
    if shape != target._array.shape:
        raise ShapeError(
            f"output with shape {list(target._array.shape)} doesn't match the broadcast shape {list(shape)}"
        )
    if not dtypes.can_cast(dtype, target._dtype):
        raise DtypeError(f"result type {dtype.label} can't be cast to the desired output type {target._dtype.label}")
