"""How a pointwise operation is made from one row: a NumPy function and a gradient expression for each operand.

A gradient is a function of ``g`` (the gradient of the result) and of whatever it names among the operands ``a``,
``b``, ``c`` and the result ``y``; only what is named is kept for backward. It is written with differentiable
operations, so that it can be differentiated again. Summing over broadcast dimensions, casting and taking the real
part is done once for all operations by the backward walk.

Complex numbers follow the usual convention of the field: the gradient of a holomorphic f is g * conj(f').
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentTypeError, AutogradError, DeviceError, DtypeError, ShapeError
from ..interop import from_foreign
from ..modes import _mode
from ..tensor import Tensor, register

NUMBERS = (bool, int, float, complex, np.generic)
_OPERANDS = "abcd"


def operand(value: Any, who: str) -> Any:
    """An operand as it is worked with: a Tensor, or a Python number (which takes part weakly in promotion)."""
    if isinstance(value, Tensor) or isinstance(value, NUMBERS):
        return value
    return from_foreign(value, who)


def as_tensor_operand(value: Any, who: str) -> Tensor:
    """``value`` as a Tensor: itself, or a NumPy array or another library's tensor looked at without a copy."""
    return value if isinstance(value, Tensor) else from_foreign(value, who)


def common_dtype(operands: tuple[Any, ...]) -> dtypes.dtype:
    """The dtype that the operands meet in."""
    first = operands[0]
    if isinstance(first, Tensor):
        if len(operands) == 1:
            return first._dtype
        second = operands[1]
        if isinstance(second, Tensor) and first._dtype is second._dtype and len(operands) == 2:
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
    number = np.asarray(value)
    if dtype.kind == dtypes.INTEGER and number.dtype.kind in "iu":
        return np.asarray(int(value) & (2 ** (8 * dtype.itemsize) - 1), np.uint64).astype(dtype.numpy)
    return cast(number, dtype)


def cast(array: np.ndarray[Any, Any], dtype: dtypes.dtype) -> np.ndarray[Any, Any]:
    """``array`` as ``dtype``, with C's conversions and no warning for what they lose."""
    if array.dtype.kind == "c" and not dtype.is_complex and dtype is not dtypes.bool:
        array = array.real
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy)


def maybe_cast(array: Any, dtype: dtypes.dtype) -> Any:
    """``cast`` where the dtype differs."""
    return array if array.dtype == dtype.numpy else cast(np.asarray(array), dtype)


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
    found = False
    for value in operands:
        if isinstance(value, Tensor) and value._meta:
            found = True
    if found:
        for value in operands:
            if isinstance(value, Tensor) and not value._meta and value._array.ndim:
                raise DeviceError(
                    "Expected all tensors to be on the same device, but found at least two devices, cpu and meta!"
                )
    return found


class Pointwise(Function):
    """Base of all rows: promotes, computes, keeps what the gradients name."""

    fresh = True
    compute: Any = None
    rule: Any = None  # common dtype -> dtype to compute in
    result: Any = None  # dtype computed in -> dtype of the result
    wide: bool = False  # half types are computed in float32: the function is not a single NumPy ufunc
    gradients: tuple[Any, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()
    inplace: bool = False

    @staticmethod
    def forward(ctx: Any, *operands: Any) -> Tensor:
        dtype = common_dtype(operands)
        if ctx.rule is not None:
            dtype = ctx.rule(dtype)
        out_dtype = dtype if ctx.result is None else ctx.result(dtype)
        if any_meta(operands):
            shape = broadcast_shape([shape_of(o) for o in operands])
            if ctx.inplace:
                return _write_meta(ctx, operands, shape, out_dtype)
            made = Tensor._wrap_meta(shape, out_dtype)
        elif ctx.inplace:
            return _write(ctx, operands, dtype, out_dtype)
        else:
            made = Tensor._wrap(_compute(ctx, operands, dtype, out_dtype), out_dtype)
        if True in ctx.needs_input_grad:
            _keep(ctx, operands, made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values: dict[str, Any] = {"g": grads[0]}
        values.update(zip(ctx.kept, ctx.saved_tensors, strict=True))
        values.update(ctx.numbers)
        return tuple(
            [
                gradient(*[values[n] for n in names]) if need and gradient is not None else None
                for gradient, names, need in zip(ctx.gradients, ctx.names, ctx.needs_input_grad, strict=False)
            ]
        )


def _compute(ctx: Pointwise, operands: tuple[Any, ...], dtype: dtypes.dtype, out_dtype: dtypes.dtype) -> Any:
    work = dtypes.float32 if ctx.wide and dtype.is_half else dtype
    arrays = [array_of(o, work) for o in operands]
    try:
        with np.errstate(all="ignore"):
            out = ctx.compute(*arrays)
    except ValueError:
        broadcast_shape([shape_of(o) for o in operands])  # says which sizes do not fit, if that is the reason
        raise
    return maybe_cast(out, out_dtype)


def _keep(ctx: Any, operands: tuple[Any, ...], made: Tensor) -> None:
    """Save the tensors that the gradients asked for will name, and note the numbers."""
    wanted = {n for names, need in zip(ctx.names, ctx.needs_input_grad, strict=False) if need for n in names}
    values = {**dict(zip(_OPERANDS, operands, strict=False)), "y": made}
    ctx.kept = [n for n, v in values.items() if n in wanted and isinstance(v, Tensor)]
    ctx.numbers = {n: v for n, v in values.items() if n in wanted and not isinstance(v, Tensor)}
    ctx.save_for_backward(*[values[n] for n in ctx.kept])


# ---- writing in place -------------------------------------------------------------------------------------------------


def begin_write(target: Tensor, who: str) -> None:
    """Refuse a write that would break the graph or memory that is not ours to change.

    Raises:
        AutogradError: A leaf that requires grad (or a view of one) is written to in grad mode.
        ShapeError: Elements of ``target`` share memory, as after ``expand``.
        ArgumentTypeError: The memory is read-only.
    """
    if _mode.grad and target.requires_grad:
        if target._grad_fn is None:
            raise AutogradError(
                f"{who}: a leaf Variable that requires grad is being used in an in-place operation; "
                "write under konv.no_grad(), or to a clone()"
            )
        base = target._base
        if base is not None and base._requires_grad and base._grad_fn is None:
            raise AutogradError(
                f"{who}: a view of a leaf Variable that requires grad is being used in an in-place operation; "
                "write under konv.no_grad(), or to a clone()"
            )
    elif _mode.grad and target._base is not None and target._base._requires_grad and target._base._grad_fn is None:
        raise AutogradError(
            f"{who}: a view of a leaf Variable that requires grad is being used in an in-place operation; "
            "write under konv.no_grad(), or to a clone()"
        )
    if target._meta:
        return
    array = target._array
    if 0 in array.strides and any([s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)]):
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


def _original(ctx: Any, target: Tensor) -> Tensor:
    """A copy of what ``target`` holds before the write, at its place in the graph."""
    before = Tensor._wrap(target._array.copy(), target._dtype)
    before._requires_grad, before._grad_fn, before._output_nr = (
        target._requires_grad,
        target._grad_fn,
        target._output_nr,
    )
    return before


def _write(ctx: Any, operands: tuple[Any, ...], dtype: dtypes.dtype, out_dtype: dtypes.dtype) -> Tensor:
    target = operands[0]
    check_target(target, broadcast_shape([shape_of(o) for o in operands]), out_dtype)
    record = True in ctx.needs_input_grad
    if record:
        needs = zip(ctx.names, ctx.needs_input_grad, strict=False)
        needed = any("a" in names for names, need in needs if need)
        _keep(ctx, (_original(ctx, target) if needed else None, *operands[1:]), target)
        ctx.numbers.pop("a", None)
    if out_dtype is target._dtype and dtype is out_dtype and isinstance(ctx.compute, np.ufunc):
        with np.errstate(all="ignore"):
            ctx.compute(*[array_of(o, dtype) for o in operands], out=target._array)
    else:
        np.copyto(target._array, cast(_compute(ctx, operands, dtype, out_dtype), target._dtype))
    target._counter.value += 1
    ctx.mark_dirty(target)
    return target


def _write_meta(ctx: Any, operands: tuple[Any, ...], shape: tuple[int, ...], out_dtype: dtypes.dtype) -> Tensor:
    target: Tensor = operands[0]
    if not target._meta:
        raise DeviceError(
            "Expected all tensors to be on the same device, but found at least two devices, cpu and meta!"
        )
    check_target(target, shape, out_dtype)
    if True in ctx.needs_input_grad:
        _keep(ctx, operands, target)
    target._counter.value += 1
    ctx.mark_dirty(target)
    return target


# ---- rows -------------------------------------------------------------------------------------------------------------


def to_float(dtype: dtypes.dtype) -> dtypes.dtype:
    """Integers are computed in the default floating dtype."""
    return dtype if dtype.kind >= dtypes.FLOATING else dtypes.get_default_dtype()


def to_bool(dtype: dtypes.dtype) -> dtypes.dtype:
    """Comparisons give bool."""
    return dtypes.bool


def refuse_bool(who: str, fix: str) -> Any:
    """The rule of an operation that bool tensors do not have."""

    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype is dtypes.bool:
            raise DtypeError(f"{who}: bool tensors are not supported; {fix}")
        return dtype

    return rule


def refuse_complex(who: str) -> Any:
    """The rule of an operation that needs an order."""

    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype.is_complex:
            raise DtypeError(f"{who}: complex numbers have no order; {dtype} is not supported")
        return dtype

    return rule


def integers(who: str) -> Any:
    """The rule of an operation on bits."""

    def rule(dtype: dtypes.dtype) -> dtypes.dtype:
        if dtype.kind > dtypes.INTEGER:
            raise DtypeError(f"{who}: bits of {dtype} cannot be combined; use integer or bool tensors")
        return dtype

    return rule


def flat(g: Tensor) -> Tensor:
    """The gradient of a step function: zero, where defined."""
    return g * 0


INPLACE: dict[str, Any] = {}  # the in-place form of every row, whether it became a method or not


def pointwise(
    name: str,
    compute: Callable[..., Any],
    *gradients: Callable[..., Any] | None,
    rule: Any = None,
    result: Any = None,
    node: str = "",
    doc: str = "",
    method: bool = True,
    inplace: bool = True,
) -> Any:
    """Make one operation from its row: the function, its method ``name`` and its in-place method ``name_``."""
    count = len(gradients) or _operand_count(compute)
    members = {
        "compute": staticmethod(compute) if not isinstance(compute, np.ufunc) else compute,
        "rule": None if rule is None else staticmethod(rule),
        "result": None if result is None else staticmethod(result),
        "wide": not isinstance(compute, np.ufunc),
        "gradients": gradients or (None,) * count,
        "names": tuple([() if f is None else tuple(inspect.signature(f).parameters) for f in gradients]),
        "name": node or "".join(part.title() for part in name.split("_")) + "Backward0",
        "__module__": __name__,
    }
    made = type(name, (Pointwise,), members)
    function = _caller(made, name, count)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc or f"``{name}`` of each element."
    writing = INPLACE[name + "_"] = _inplace_caller(
        type(name + "_", (made,), {"inplace": True, "name": made.name}), name
    )
    if method:
        register({name: function, **({name + "_": writing} if inplace else {})})
    return function


def _operand_count(compute: Any) -> int:
    return compute.nin if isinstance(compute, np.ufunc) else len(inspect.signature(compute).parameters)


def _caller(made: Any, name: str, count: int) -> Any:
    apply = made.apply
    if count == 1:

        def unary(input: Any) -> Tensor:
            return apply(input if isinstance(input, Tensor) else from_foreign(input, name))

        return unary
    if count == 2:

        def binary(input: Any, other: Any) -> Tensor:
            if not isinstance(input, Tensor):
                input = operand(input, name)
            if not isinstance(other, Tensor):
                other = operand(other, name)
            return apply(input, other)

        return binary

    def general(*operands: Any) -> Tensor:
        return apply(*[operand(o, name) for o in operands])

    return general


def _inplace_caller(made: Any, name: str) -> Any:
    name += "_"
    apply = made.apply

    def write(input: Tensor, *others: Any) -> Tensor:
        begin_write(input, name)
        apply(input, *[operand(o, name) for o in others])
        return input

    write.__name__ = write.__qualname__ = name
    write.__doc__ = f"``{name[:-1]}``, written into this tensor."
    return write
