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
from ..errors import DeviceError, DtypeError
from ..interop import from_foreign
from ..tensor import Tensor, register
from ._operands import (
    NUMBERS as NUMBERS,
    any_meta as any_meta,
    array_of as array_of,
    as_tensor_operand as as_tensor_operand,
    begin_write as begin_write,
    broadcast_shape as broadcast_shape,
    cast as cast,
    check_target as check_target,
    common_dtype as common_dtype,
    maybe_cast as maybe_cast,
    operand as operand,
    refuse_overflow as refuse_overflow,
    refuse_to_fill as refuse_to_fill,
    shape_of as shape_of,
)
from ._quiet import quiet

_OPERANDS = "abcd"


class Pointwise(Function):
    """Base of all rows: promotes, computes, keeps what the gradients name."""

    fresh = True
    compute: Any = None
    rule: Any = None  # common dtype -> dtype to compute in
    result: Any = None  # dtype computed in -> dtype of the result
    check: Any = None  # operands, common dtype -> nothing, or an error about the operands
    wide: bool = False  # half types are computed in float32: the function is not a single NumPy ufunc
    scales: bool = False  # ... or where one operand is a number, which may be beyond their range when the result is not
    gradients: tuple[Any, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()
    inplace: bool = False

    @staticmethod
    def forward(ctx: Any, *operands: Any) -> Tensor:
        dtype = common_dtype(operands)
        if ctx.check is not None:
            ctx.check(operands, dtype)
        if ctx.rule is not None:
            dtype = ctx.rule(dtype)
        out_dtype = dtype if ctx.result is None else ctx.result(dtype)
        meta = any_meta(operands)
        if ctx.inplace:
            return (_write_meta if meta else _write)(ctx, operands, dtype, out_dtype)
        if meta:
            made = Tensor._wrap_meta(broadcast_shape([shape_of(o) for o in operands]), out_dtype)
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


def _work_dtype(ctx: Any, operands: tuple[Any, ...], dtype: dtypes.dtype) -> dtypes.dtype:
    """The dtype to compute in, which for the half types may be float32."""
    if not (ctx.wide or ctx.scales) or not dtype.is_half:
        return dtype
    if ctx.wide or any(not isinstance(o, Tensor) or (not o._array.ndim and o._dtype is not dtype) for o in operands):
        return dtypes.float32
    return dtype


def _compute(ctx: Pointwise, operands: tuple[Any, ...], dtype: dtypes.dtype, out_dtype: dtypes.dtype) -> Any:
    work = _work_dtype(ctx, operands, dtype)
    arrays = [o._array if isinstance(o, Tensor) and o._dtype is work else array_of(o, work) for o in operands]
    try:
        out = quiet.run(ctx.compute, *arrays)
    except ValueError:
        broadcast_shape([shape_of(o) for o in operands])  # says which sizes do not fit, if that is the reason
        raise
    except TypeError:
        raise DtypeError(f"{ctx.node_name.removesuffix('Backward0').lower()}: not implemented for {dtype}") from None
    return maybe_cast(out, out_dtype)


def _keep(ctx: Any, operands: tuple[Any, ...], made: Tensor) -> None:
    """Save the tensors that the gradients asked for will name, and note the numbers."""
    wanted = {n for names, need in zip(ctx.names, ctx.needs_input_grad, strict=False) if need for n in names}
    values = {**dict(zip(_OPERANDS, operands, strict=False)), "y": made}
    ctx.kept = [n for n, v in values.items() if n in wanted and isinstance(v, Tensor)]
    ctx.numbers = {n: v for n, v in values.items() if n in wanted and not isinstance(v, Tensor)}
    ctx.save_for_backward(*[values[n] for n in ctx.kept])


# ---- writing in place ----------------------------------------------------------------------------------------------


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
    same = out_dtype is target._dtype and _work_dtype(ctx, operands, dtype) is out_dtype
    if same and isinstance(ctx.compute, np.ufunc):
        quiet.run(ctx.compute, *[array_of(o, dtype) for o in operands], out=target._array)
    else:
        np.copyto(target._array, cast(_compute(ctx, operands, dtype, out_dtype), target._dtype))
    target._counter.value += 1
    ctx.mark_dirty(target)
    return target


def _write_meta(ctx: Any, operands: tuple[Any, ...], dtype: dtypes.dtype, out_dtype: dtypes.dtype) -> Tensor:
    target: Tensor = operands[0]
    if not target._meta:
        raise DeviceError(
            "Expected all tensors to be on the same device, but found at least two devices, cpu and meta!"
        )
    check_target(target, broadcast_shape([shape_of(o) for o in operands]), out_dtype)
    if True in ctx.needs_input_grad:
        _keep(ctx, operands, target)
    target._counter.value += 1
    ctx.mark_dirty(target)
    return target


def named(made: Tensor, node: str) -> Tensor:
    """``made``, its node called ``node``, as PyTorch calls what is composed of other operations here."""
    if made._grad_fn is not None:
        made._grad_fn.node_name = node
    return made


# ---- rows ----------------------------------------------------------------------------------------------------------


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
    check: Any = None,
    node: str = "",
    doc: str = "",
    method: bool = True,
    inplace: bool = True,
    wide: bool | None = None,
    scales: bool = False,
) -> Any:
    """Make one operation from its row: the function, its method ``name`` and its in-place method ``name_``."""
    count = len(gradients) or _operand_count(compute)
    members = {
        "compute": staticmethod(compute) if not isinstance(compute, np.ufunc) else compute,
        "rule": None if rule is None else staticmethod(rule),
        "result": None if result is None else staticmethod(result),
        "check": None if check is None else staticmethod(check),
        "wide": not isinstance(compute, np.ufunc) if wide is None else wide,
        "scales": scales,
        "gradients": gradients or (None,) * count,
        "names": tuple([() if f is None else tuple(inspect.signature(f).parameters) for f in gradients]),
        "node_name": node or "".join(part.title() for part in name.split("_")) + "Backward0",
        "__module__": __name__,
    }
    made: Any = type(name, (Pointwise,), members)
    function = _caller(made, name, count)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc or f"``{name}`` of each element."
    writing = INPLACE[name + "_"] = _inplace_caller(
        type(name + "_", (made,), {"inplace": True, "node_name": made.node_name}), name
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
