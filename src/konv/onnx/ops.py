"""One table: an ONNX operator, and the function of konv's operations that computes it.

A function gets the node and its inputs in order, None for those left out. The first ``data`` inputs are tensors; the
others are arguments (axes, sizes, bounds), which must be known before any data is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from .. import dtypes
from ..nn import functional as F
from ..ops import activation, creation, elementary, join, linear, order, pointwise, reduce
from ..ops.choose import where
from ..tensor import Tensor
from .file import package
from .node import Node, known
from .pool import average_pool, max_pool
from .resize import resize, upsample

ANY: Final = 10**9
MAX_FILLED: Final = 2**20
MAX_GAP: Final = 2**31  # a bound of Slice past any size


@dataclass(frozen=True)
class Op:
    """How one operator runs.

    ``folds``: whether it is computed while reading where all of its inputs are known: ``'view'`` always (the result is
    hardly larger than the input), ``'small'`` for a few numbers, such as those that make a shape.
    """

    run: Callable[..., Any]
    data: int = ANY
    folds: str = ""
    statistics: tuple[int, ...] = ()  # inputs that are not learned


def like(x: Tensor, value: Tensor) -> Tensor:
    """A tensor computed beside the data, on the device of the data."""
    return Tensor._wrap_meta(value._array.shape, value._dtype) if x._meta and not value._meta else value


# ---- shapes --------------------------------------------------------------------------------------------------------


def shape(node: Node, x: Tensor) -> Tensor:
    """Shape, or a part of it."""
    sizes = list(x._array.shape)[node.get("start", 0) : node.get("end", MAX_GAP)]
    return Tensor._wrap(np.array(sizes, np.int64))


def reshape(node: Node, x: Tensor, sizes: Any) -> Tensor:
    """Reshape: 0 keeps a size, -1 takes what is left."""
    wanted = known(sizes)
    if not node.get("allowzero", 0):
        wanted = [x.shape[i] if size == 0 and i < x.ndim else size for i, size in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(node: Node, x: Tensor) -> Tensor:
    """Flatten: a matrix, cut before an axis."""
    sizes, axis = tuple(x.shape), node.get("axis", 1)
    axis = axis if axis == x.ndim else node.axis(axis, x.ndim)  # after the last one too
    return x.reshape([math.prod(sizes[:axis]), math.prod(sizes[axis:])])


def transpose(node: Node, x: Tensor) -> Tensor:
    """Transpose."""
    return x.permute(*node.get("perm", tuple(range(x.ndim))[::-1]))


def squeeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    """Squeeze."""
    named = node.numbers("axes", axes)
    if named is None:
        return x.squeeze()
    for axis in named:
        size = x.shape[node.axis(axis, x.ndim)]
        if size != 1:
            raise node.damage(f"axis {axis} of {size} cells", "an axis that goes has one")
    return x.squeeze(tuple(named))


def unsqueeze(node: Node, x: Tensor, axes: Any = None) -> Tensor:
    """Unsqueeze: axes count in the result."""
    named = node.numbers("axes", axes, [])
    rank = x.ndim + len(named)
    places = sorted(node.axis(axis, rank) for axis in named)
    if len(set(places)) < len(places):
        raise node.damage(f"axes={named}", "each axis is named once")
    for axis in places:
        x = x.unsqueeze(axis)
    return x


def expand(node: Node, x: Tensor, sizes: Any) -> Tensor:
    """Expand: both shapes broadcast."""
    return x.expand(*np.broadcast_shapes(tuple(x.shape), tuple(known(sizes))))


def concat(node: Node, *tensors: Tensor) -> Tensor:
    """Concat."""
    return join.cat(list(tensors), node.get("axis", 1))


def split(node: Node, x: Tensor, sizes: Any = None) -> Any:
    """Split: sizes, or equal parts of which the last may be smaller."""
    axis, parts = node.get("axis", 0), len(node.outputs)
    wanted = node.numbers("split", sizes)
    return join.split(x, wanted or max(1, -(-x.shape[axis] // parts)), axis)


def slice_(node: Node, x: Tensor, *given: Any) -> Tensor:
    """Slice; an axis with a negative step is turned round first."""
    starts, ends, axes, steps = (*given, None, None, None, None)[:4]
    starts, ends = node.numbers("starts", starts, []), node.numbers("ends", ends, [])
    axes = node.numbers("axes", axes) or list(range(len(starts)))
    key = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, known(steps) or [1] * len(starts), strict=True):
        size = x.shape[axis]
        first, stop, _ = slice(start, end, step).indices(size)
        if step < 0:
            x = x.flip(axis)
            first, stop, step = size - 1 - first, size - 1 - stop, -step
        key[axis] = slice(first, max(first, stop), step)
    return x[tuple(key)]


def gather(node: Node, x: Tensor, index: Any) -> Tensor:
    """Gather: slices of an axis, by number."""
    axis, cells = node.get("axis", 0), known(index)
    if isinstance(cells, int):
        return x.select(axis, cells)
    if index.ndim != 1:
        raise node.refusal(f"indices have {index.ndim} dimensions", "konv takes one number or a list of them")
    size = x.shape[node.axis(axis, x.ndim)]
    for cell in cells:
        if not -size <= cell < size:
            raise node.damage(f"index {cell}", f"axis {axis} has {size} cells")
    return x.index_select(axis, creation.tensor([cell % size for cell in cells], dtype=dtypes.int64))


def cast(node: Node, x: Tensor) -> Tensor:
    """Cast."""
    try:
        kind = dtypes.from_numpy(np.dtype(package().helper.tensor_dtype_to_np_dtype(node.get("to", 1))))
    except (KeyError, TypeError, ValueError):
        raise node.refusal(f"to={node.get('to', 1)}", "konv has no such numbers") from None
    return x.to(kind)


def filled(node: Node, sizes: Any) -> Tensor:
    """ConstantOfShape."""
    if math.prod(max(size, 1) for size in known(sizes)) > MAX_FILLED:
        raise node.refusal(f"a constant of {known(sizes)}", f"at most {MAX_FILLED} cells are filled")
    value = node.attributes.get("value")
    return creation.zeros(known(sizes)) if value is None else Tensor._wrap(np.full(known(sizes), value.reshape(-1)[0]))


def pad(node: Node, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    """Pad: all starts, then all ends, first axis first."""
    amounts = node.numbers("pads", pads, [])
    named = (
        [node.axis(axis, x.ndim) for axis in known(axes) or range(x.ndim)] if axes is not None else list(range(x.ndim))
    )
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = node.get("mode", "constant")
    if mode not in modes or len(amounts) != 2 * len(named):
        raise node.damage(f"mode={mode!r} with {len(amounts)} pads", f"{len(named)} axes have two each")
    pairs = [(0, 0)] * x.ndim
    for i, axis in enumerate(named):
        pairs[axis] = (amounts[i], amounts[len(named) + i])
    while pairs and pairs[0] == (0, 0):
        pairs.pop(0)
    flat = [int(amount) for pair in reversed(pairs) for amount in pair]
    fill = known(value) if value is not None else node.get("value", 0.0)
    fill = fill[0] if isinstance(fill, list) else fill
    return F.pad(x, flat, modes[mode], fill if mode == "constant" else None) if flat else x


# ---- numbers -------------------------------------------------------------------------------------------------------


def divided(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Div: whole numbers stay whole."""
    whole = not (a.dtype.is_floating_point or a.dtype.is_complex)
    return pointwise.div(a, b, rounding_mode="trunc" if whole else None)


def power(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Pow: the result is of the base's type; whole numbers go to broken powers by way of float64."""
    wide = a.double() if b.dtype.is_floating_point and not a.dtype.is_floating_point else a
    return pointwise.pow(wide, b).to(a.dtype)


def clip(node: Node, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Clip."""
    low, high = node.numbers("min", low), node.numbers("max", high)
    return x if low is None and high is None else elementary.clamp(x, low, high)


def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """HardSigmoid: a line, cut at 0 and 1."""
    return elementary.clamp(x * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1)


def soft(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Softmax: of an axis, or in older versions of all axes from one on, taken together."""

    def run(node: Node, x: Tensor) -> Tensor:
        if node.opset >= 13:
            return function(x, node.get("axis", -1))
        flat = flatten(node, x)
        return function(flat, 1).reshape(list(x.shape))

    return run


def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm in general."""
    left, right = a.t() if node.get("transA", 0) else a, b.t() if node.get("transB", 0) else b
    made = linear.matmul(left, right)
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    made = made if alpha == 1 else made * alpha
    if c is None:
        return made
    return made + (c if beta == 1 else c * beta)


def batch_norm(node: Node, x: Tensor, scale: Any, shift: Any, mean: Any, var: Any) -> Tensor:
    """BatchNormalization by the statistics of the file."""
    if node.get("training_mode", 0) or node.used_outputs > 1:
        raise node.refusal("it is exported for training", "konv runs files for inference")
    return F.batch_norm(x, mean, var, scale, shift, False, 0.1, node.get("epsilon", 1e-5))


def dropout(node: Node, x: Tensor, ratio: Any = None, training: Any = None) -> Any:
    """Dropout: nothing is dropped in inference, and the mask says so."""
    if known(training):
        raise node.refusal("it is exported for training", "konv runs files for inference")
    return (x, creation.ones_like(x, dtype=dtypes.bool)) if node.used_outputs > 1 else x


def instance_norm(node: Node, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """InstanceNormalization: each channel of each image by itself."""
    return F.group_norm(x, x.shape[1], scale, shift, node.get("epsilon", 1e-5))


def reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """ReduceMean and its like."""

    def run(node: Node, x: Tensor, axes: Any = None) -> Tensor:
        named = node.numbers("axes", axes)
        if not named:
            if node.get("noop_with_empty_axes", 0):
                return x
            named = list(range(x.ndim))
        return function(x, tuple(named), bool(node.get("keepdims", 1)))

    return run


def arg_max(node: Node, x: Tensor) -> Tensor:
    """ArgMax: the first of the largest cells, or the last."""
    axis, keep = node.axis(node.get("axis", 0), x.ndim), bool(node.get("keepdims", 1))
    if not node.get("select_last_index", 0):
        return order.argmax(x, axis, keep)
    return x.shape[axis] - 1 - order.argmax(x.flip(axis), axis, keep)


def every(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator of any number of inputs, two by two."""

    def run(node: Node, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return run


def plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator without options."""
    return lambda node, *tensors: function(*tensors)


OPS: Final[dict[str, Op]] = {
    "Shape": Op(shape),
    "Size": Op(lambda node, x: Tensor._wrap(np.array(x.numel(), np.int64))),
    "Reshape": Op(reshape, 1, "view"),
    "Flatten": Op(flatten, folds="view"),
    "Transpose": Op(transpose, folds="view"),
    "Squeeze": Op(squeeze, 1, "view"),
    "Unsqueeze": Op(unsqueeze, 1, "view"),
    "Identity": Op(lambda node, x: x, folds="view"),
    "Dropout": Op(dropout, 1, "view"),
    "Expand": Op(expand, 1),
    "Concat": Op(concat, folds="small"),
    "Split": Op(split, 1),
    "Slice": Op(slice_, 1, "view"),
    "Gather": Op(gather, 1, "small"),
    "Cast": Op(cast, folds="view"),
    "ConstantOfShape": Op(filled, 0, "small"),
    "Pad": Op(pad, 1),
    "Resize": Op(resize, 1),
    "Upsample": Op(upsample, 1),
    "Add": Op(plain(pointwise.add), folds="small"),
    "Sub": Op(plain(pointwise.sub), folds="small"),
    "Mul": Op(plain(pointwise.mul), folds="small"),
    "Div": Op(divided, folds="small"),
    "Pow": Op(power, folds="small"),
    "Equal": Op(plain(pointwise.eq), folds="small"),
    "Where": Op(plain(where), folds="small"),
    "Floor": Op(plain(elementary.floor), folds="small"),
    "Ceil": Op(plain(elementary.ceil), folds="small"),
    "Neg": Op(plain(elementary.neg), folds="small"),
    "Sqrt": Op(plain(elementary.sqrt), folds="small"),
    "Min": Op(every(pointwise.minimum), folds="small"),
    "Max": Op(every(pointwise.maximum), folds="small"),
    "Sum": Op(every(pointwise.add)),
    "Abs": Op(plain(elementary.abs)),
    "Exp": Op(plain(elementary.exp)),
    "Log": Op(plain(elementary.log)),
    "Reciprocal": Op(plain(elementary.reciprocal)),
    "Erf": Op(plain(activation.erf)),
    "Relu": Op(plain(activation.relu)),
    "Sigmoid": Op(plain(elementary.sigmoid)),
    "Tanh": Op(plain(elementary.tanh)),
    "LeakyRelu": Op(lambda node, x: activation.leaky_relu(x, node.get("alpha", 0.01))),
    "PRelu": Op(lambda node, x, slope: activation.prelu_row(x, slope)),
    "Elu": Op(lambda node, x: activation.elu(x, node.get("alpha", 1.0))),
    "Clip": Op(clip, 1),
    "HardSigmoid": Op(hard_sigmoid),
    "HardSwish": Op(plain(activation.hardswish)),
    "Gelu": Op(lambda node, x: activation.gelu(x, node.get("approximate", "none"))),
    "Mish": Op(plain(activation.mish)),
    "Softplus": Op(plain(activation.softplus)),
    "Softmax": Op(soft(activation.softmax)),
    "LogSoftmax": Op(soft(activation.log_softmax)),
    "MaxPool": Op(max_pool),
    "AveragePool": Op(average_pool),
    "GlobalAveragePool": Op(lambda node, x: F.adaptive_avg_pool2d(x, 1)),
    "GlobalMaxPool": Op(lambda node, x: F.adaptive_max_pool2d(x, 1)),
    "BatchNormalization": Op(batch_norm, statistics=(3, 4)),
    "InstanceNormalization": Op(instance_norm),
    "Gemm": Op(gemm),
    "MatMul": Op(plain(linear.matmul)),
    "ReduceMean": Op(reduced(reduce.mean), 1),
    "ReduceSum": Op(reduced(reduce.sum), 1),
    "ReduceMax": Op(reduced(reduce.amax), 1),
    "ReduceMin": Op(reduced(reduce.amin), 1),
    "ArgMax": Op(arg_max),
}
