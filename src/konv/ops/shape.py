"""Views and rearrangements: which elements, in which order; no arithmetic.

A view operation is one NumPy view and the gradient's way back. What a view shares (memory, version) is written once,
in ``View``; the recipe of how it was taken lets an in-place write to it reach the graph of what it is a view of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..autograd import Function
from ..errors import ArgumentRangeError, ArgumentTypeError, ShapeError, text
from ..geometry import INT64_MAX
from ..tensor import Tensor, distinct_dims, normalize_dim, register
from ._table import as_tensor_operand, named

__all__ = [
    "broadcast_to",
    "flatten",
    "moveaxis",
    "movedim",
    "permute",
    "ravel",
    "reshape",
    "squeeze",
    "swapaxes",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
]


def share(made: Tensor, source: Tensor) -> Tensor:
    """Mark ``made`` as a view of ``source``."""
    made._counter = source._counter
    made._base = source if source._base is None else source._base
    return made


class View(Function):
    """Base of all view operations: ``take`` is the view on an array, ``give`` the gradient's way back."""

    is_view = True
    fresh = True
    take: Any = None
    give: Any = None

    @staticmethod
    def forward(ctx: Any, x: Tensor, *params: Any) -> Tensor:
        array = ctx.take(x._array, *params)
        if True in ctx.needs_input_grad:
            ctx.shape, ctx.params = x._array.shape, params
        dtype = x._dtype if array.dtype is x._array.dtype else dtypes.from_numpy(array.dtype)  # real and imag halve it
        made = Tensor._wrap_meta(array.shape, dtype) if x._meta else Tensor._wrap(array, dtype)
        return share(made, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return (ctx.give(grads[0], ctx.shape, *ctx.params), *(None,) * len(ctx.params))


def view_function(name: str, take: Any, give: Any) -> Any:
    """The Function of one view operation."""
    members = {"take": staticmethod(take), "give": staticmethod(give), "node_name": f"{name}Backward0"}
    return type(name, (View,), members)


def _unpermute(g: Tensor, shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    return permute(g, np.argsort(dims).tolist())


def _expanded(a: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    view = np.broadcast_to(a, shape)
    if a.flags.writeable:  # NumPy guards cells that are seen twice; ``begin_write`` guards them here
        view.flags.writeable = True
    return view


Permute = view_function("Permute", lambda a, dims: a.transpose(dims), _unpermute)
Transpose = view_function("Transpose", lambda a, d0, d1: a.swapaxes(d0, d1), lambda g, s, d0, d1: transpose(g, d0, d1))
Squeeze = view_function("Squeeze", lambda a, dims: a.squeeze(dims), lambda g, shape, dims: g.reshape(shape))
Unsqueeze = view_function("Unsqueeze", np.expand_dims, lambda g, shape, dim: g.reshape(shape))
# The walk sums a gradient down to the shape of its input, so expand has nothing to do on the way back.
Expand = view_function("Expand", _expanded, lambda g, s, shape: g)


def _windows(a: np.ndarray[Any, Any], dim: int, size: int, step: int) -> np.ndarray[Any, Any]:
    windows = np.lib.stride_tricks.sliding_window_view(a, size, dim, writeable=a.flags.writeable)
    return windows[(slice(None),) * dim + (slice(None, None, step),)]


Unfold = view_function("Unfold", _windows, lambda g, shape, dim, size, step: Fold.apply(g, shape, dim, size, step))


class Fold(Function):
    """The gradient of ``unfold``: overlapping windows summed back to where they were taken."""

    fresh = True

    @staticmethod
    def forward(ctx: Any, g: Tensor, shape: tuple[int, ...], dim: int, size: int, step: int) -> Tensor:
        ctx.params = (dim, size, step)
        if g._meta:
            return Tensor._wrap_meta(shape, g._dtype)
        total = np.zeros(shape, g._array.dtype)
        stop = (g._array.shape[dim] - 1) * step + 1
        for k in range(size):
            total[(slice(None),) * dim + (slice(k, k + stop, step),)] += g._array[..., k]
        return Tensor._wrap(total, g._dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return unfold(grads[0], *ctx.params), None, None, None, None


# ---- reshaping -----------------------------------------------------------------------------------------------------


class Reshape(Function):
    """A view where the strides allow it, else a copy."""

    node_name = "ViewBackward0"
    is_view = True
    fresh = True

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        ctx.shape = x._array.shape
        if x._meta:
            return share(Tensor._wrap_meta(shape, x._dtype), x)
        array = x._array.reshape(shape)
        made = Tensor._wrap(array, x._dtype)
        if x._array.flags.c_contiguous or not array.size or np.may_share_memory(array, x._array):
            return share(made, x)
        ctx.node_name = "UnsafeViewBackward0"
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return grads[0].reshape(ctx.shape), None


def sizes_of(sizes: Any, who: str) -> tuple[int, ...]:
    """``(2, 3)``, ``((2, 3),)`` or ``[2, 3]`` as a tuple of ints."""
    if len(sizes) == 1 and isinstance(sizes[0], (Sequence, np.ndarray)) and not isinstance(sizes[0], str):
        sizes = sizes[0]
    try:
        return tuple([s.__index__() for s in sizes])
    except (AttributeError, TypeError):
        raise ArgumentTypeError(f"{who}: sizes must be ints, got {tuple(sizes)}") from None


def _infer(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """``shape`` with its -1 filled in."""
    unknown = [i for i, n in enumerate(shape) if n == -1]
    if len(unknown) > 1:
        raise ShapeError("only one dimension can be inferred")
    if any(n < -1 for n in shape):
        raise ShapeError(f"invalid shape dimension {min(shape)}")
    known = math.prod(n for n in shape if n != -1)
    if unknown:
        if known == 0:
            raise ShapeError(
                f"cannot reshape tensor of {numel} elements into shape {list(shape)} because the unspecified "
                "dimension size -1 can be any value and is ambiguous"
            )
        if numel % known == 0:
            return tuple([numel // known if n == -1 else n for n in shape])
    if unknown or known != numel:
        raise ShapeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return shape


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; a view where possible, else a copy. One size may be -1.

    Raises:
        ShapeError: The number of elements differs.

    Example:
        >>> import konv
        >>> konv.arange(6).reshape(2, -1)
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    input = as_tensor_operand(input, "reshape")
    return Reshape.apply(input, _infer(sizes_of(shape, "reshape"), input.numel()))


def view(input: Tensor, *shape: Any, dtype: Any = None) -> Tensor:
    """``reshape`` that never copies; or, given a dtype, the same bytes read as that dtype.

    Raises:
        ShapeError: The strides do not allow it.
    """
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], dtypes.dtype)):
        return _view_bytes(input, dtypes.as_dtype(dtype or shape[0]))
    target = _infer(sizes_of(shape, "view"), input.numel())
    array = input._array
    split = not input._meta and not array.flags.c_contiguous and array.size > 0
    if split and not np.may_share_memory(array.reshape(target), array):
        raise ShapeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across "
            "two contiguous subspaces). Use .reshape(...) instead."
        )
    return Reshape.apply(input, target)


def _view_bytes(input: Tensor, dtype: dtypes.dtype) -> Tensor:
    if input._meta:
        last = input._array.shape[-1:] and (input._array.shape[-1] * input._dtype.itemsize // dtype.itemsize,)
        return Tensor._wrap_meta((*input._array.shape[:-1], *last), dtype)
    try:
        return share(Tensor._wrap(input._array.view(dtype.numpy), dtype), input)
    except ValueError as error:
        raise ShapeError(f"view: {input._dtype} of strides {input.stride()} cannot be read as {dtype}") from error


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions ``start_dim`` to ``end_dim`` merged into one.

    Example:
        >>> import konv
        >>> konv.zeros(2, 3, 4).flatten(1).shape
        torch.Size([2, 12])
    """
    input = as_tensor_operand(input, "flatten")
    shape = input._array.shape
    start, end = normalize_dim(start_dim, len(shape)), normalize_dim(end_dim, len(shape))
    if start > end:
        raise ShapeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return input.reshape(1)
    if start == end:
        return input
    merged = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    return Reshape.apply(input, merged)


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Dimension ``dim`` split into ``sizes``; the inverse of ``flatten``."""
    shape, d = input._array.shape, normalize_dim(dim, input._array.ndim)
    if not shape:
        raise ShapeError("unflatten: a tensor of no dimensions has none to split; reshape it")
    return input.reshape(*shape[:d], *_infer(sizes_of((sizes,), "unflatten"), shape[d]), *shape[d + 1 :])


# ---- dimensions ----------------------------------------------------------------------------------------------------


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in the order ``dims``; a view.

    Example:
        >>> import konv
        >>> konv.zeros(2, 3, 4).permute(2, 0, 1).shape
        torch.Size([4, 2, 3])
    """
    input = as_tensor_operand(input, "permute")
    order = sizes_of(dims, "permute")
    ndim = input._array.ndim
    if len(order) != ndim:
        raise ShapeError(f"permute: got {len(order)} dims {list(order)} for a tensor of {ndim} dimensions")
    return Permute.apply(input, tuple(distinct_dims(order, ndim)))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped; a view."""
    ndim = input._array.ndim
    d0, d1 = normalize_dim(dim0, ndim), normalize_dim(dim1, ndim)
    return Transpose.apply(input, d0, d1) if ndim else input[...]


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimension ``source`` (or several) moved to ``destination``; a view."""
    ndim = input._array.ndim
    sources, places = distinct_dims(source, ndim), distinct_dims(destination, ndim)
    if len(sources) != len(places):
        raise ShapeError(f"movedim: got {len(sources)} sources and {len(places)} destinations; give as many of each")
    order = [d for d in range(ndim) if d not in sources]
    for place, d in sorted(zip(places, sources, strict=True)):
        order.insert(place, d)
    return permute(input, order[:ndim])  # of no dimensions, PyTorch too lets one be moved


def t(input: Tensor) -> Tensor:
    """A matrix transposed; fewer dimensions stay as they are."""
    if input._array.ndim > 2:
        raise ShapeError(f"t() expects a tensor with <= 2 dimensions, but self is {input._array.ndim}D")
    return named(transpose(input, 0, 1) if input._array.ndim == 2 else input[...], "TBackward0")


def _reversed(self: Tensor) -> Tensor:
    return permute(self, tuple(range(self._array.ndim))[::-1])


def _matrix_transposed(self: Tensor) -> Tensor:
    if self._array.ndim < 2:
        raise ShapeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self._array.ndim}-D")
    return transpose(self, -2, -1)


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Dimensions of size 1 removed: all, or those named by ``dim`` (an int or a tuple)."""
    shape = input._array.shape
    dims = range(len(shape)) if dim is None else distinct_dims(dim, len(shape))
    made: Tensor = Squeeze.apply(input, tuple([d for d in dims if d < len(shape) and shape[d] == 1]))
    return made if dim is None else named(made, f"SqueezeBackward{2 if isinstance(dim, (tuple, list)) else 1}")


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A dimension of size 1 put in at ``dim``; a view."""
    return Unsqueeze.apply(input, normalize_dim(dim, input._array.ndim + 1))


def expand(input: Tensor, *sizes: Any) -> Tensor:
    """Dimensions of size 1 repeated without copying; -1 keeps a size.

    Raises:
        ShapeError: A size other than 1 would have to change.
        ArgumentRangeError: The bytes would pass 64 bits.
    """
    want, have = sizes_of(sizes, "expand"), input._array.shape
    extra = len(want) - len(have)
    if extra < 0:
        raise ShapeError(f"expand: the number of sizes provided ({len(want)}) must be at least {len(have)}")
    shape = []
    for i, n in enumerate(want):
        old = have[i - extra] if i >= extra else 1
        if n == -1 and i >= extra:
            n = old
        if n < 0 or (old not in (1, n)):
            raise ShapeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({old}) at non-singleton "
                f"dimension {i}. Target sizes: {list(want)}. Tensor sizes: {list(have)}"
            )
        shape.append(n)
    if math.prod(max(n, 1) for n in shape) * input._dtype.itemsize > INT64_MAX:
        raise ArgumentRangeError(text("expand", f"a shape of {shape}", "its bytes must fit in 64 bits"))
    return Expand.apply(input, tuple(shape))


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """``expand`` to the shape of ``other``."""
    return expand(input, other.shape)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """All windows of ``size`` along ``dimension``, ``step`` apart, as a new last dimension; a view."""
    dim = normalize_dim(dimension, input._array.ndim)
    if not input._array.ndim:
        return unfold(input.reshape(1), 0, size, step)[0]
    length = input._array.shape[dim]
    if size > length or size < 0 or step < 1:
        raise ShapeError(f"unfold: size={size}, step={step}; size can be 0 to {length} and step at least 1")
    return Unfold.apply(input, dim, size, step)


swapaxes, moveaxis = transpose, movedim


def broadcast_to(input: Tensor, *shape: Any) -> Tensor:
    """``expand`` to ``shape``."""
    return expand(input, *shape)


def ravel(input: Tensor) -> Tensor:
    """One dimension: a view where possible."""
    return reshape(input, -1)


METHODS: dict[str, Any] = {
    f.__name__: f
    for f in (
        *(reshape, view, flatten, unflatten, permute, transpose, movedim, t),
        *(squeeze, unsqueeze, expand, expand_as, unfold, broadcast_to, ravel),
    )
}
METHODS.update(
    {
        "swapaxes": transpose,
        "moveaxis": movedim,
        "view_as": lambda self, other: view(self, other.shape),
        "reshape_as": lambda self, other: reshape(self, other.shape),
        "T": property(_reversed),
        "mT": property(_matrix_transposed),
        "H": property(lambda self: _matrix_transposed(self).conj()),
        "mH": property(lambda self: _matrix_transposed(self).conj()),
    }
)
register(METHODS)
