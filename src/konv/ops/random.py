"""Random tensors: what ``random.Generator`` draws, in the dtypes, shapes and memory orders of tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import ArgumentRangeError, ArgumentTypeError, ShapeError, UnsupportedError, text
from ..random import Generator, chosen, whole
from ..tensor import Tensor, device, memory_order, register
from ._table import begin_write
from .creation import empty_like
from .shape import sizes_of

__all__ = ["bernoulli", "normal", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"]

Array = np.ndarray[Any, Any]


# --- values ---


def _uniform(count: int, low: float, high: float, dtype: dtypes.dtype, generator: Generator) -> Array:
    if dtype.is_complex:
        return _uniform(2 * count, low, high, dtype.to_real(), generator).view(dtype.numpy)
    values = generator.uniform(count, low, high, double=dtype is dtypes.float64)
    if not dtype.is_half:
        return values
    values = values.astype(dtype.numpy)
    # Rounding to 16 bits can reach the open end of the range; PyTorch starts again at the closed one.
    values[values >= np.asarray(high).astype(dtype.numpy)] = low
    return values


def _normal(count: int, mean: Any, std: float, dtype: dtypes.dtype, generator: Generator, block: bool = True) -> Array:
    if dtype.is_complex:
        parts = np.empty((count, 2), dtype.to_real().numpy)
        drawn = generator.normal(2 * count, 0.0, std / math.sqrt(2.0), dtype.to_real().name, block)
        parts[...] = drawn.reshape(count, 2)
        return (parts.reshape(-1).view(dtype.numpy) + mean).astype(dtype.numpy)
    return generator.normal(count, mean, std, dtype.name, block).astype(dtype.numpy, copy=False)


def _need_floating(dtype: dtypes.dtype, who: str, complex_too: bool = True) -> None:
    if not (dtype.is_floating_point or (complex_too and dtype.is_complex)):
        rule = "it draws floating point numbers"
        raise UnsupportedError(text(who, f"not implemented for {dtype}", rule, "use randint for integers"))


def _check_range(low: float, high: float, dtype: dtypes.dtype) -> None:
    limit = float(dtypes.finfo(dtype).max)
    for name, value in (("from", low), ("to", high)):
        if not -limit <= value <= limit:
            raise ArgumentRangeError(text("uniform_", f"{name}={value} is out of bounds for {dtype}", ""))
    if low > high:
        raise ArgumentRangeError(text("uniform_", f"from={low} > to={high}", "it returns a [from, to) range"))
    if high - low > limit:
        raise ArgumentRangeError(text("uniform_", f"to - from = {high - low}", f"{dtype} holds {limit} at most"))


def _check_std(std: float) -> None:
    if not std >= 0:
        raise ArgumentRangeError(text("normal", f"std={std}", "expects std >= 0.0"))


def _check_integers(low: int, high: int, dtype: dtypes.dtype) -> None:
    if low >= high:
        rule = "random_ expects 'from' to be less than 'to'"
        raise ArgumentRangeError(text("randint", f"from={low} >= to={high}", rule))
    if dtype.is_complex:
        raise UnsupportedError(text("randint", f"not implemented for {dtype}", "use a real dtype"))
    if dtype is dtypes.bool:
        least, most = 0, 1
    elif dtype.is_floating_point:
        most = int(float(dtypes.finfo(dtype).max))
        least = -most
    else:
        least, most = int(dtypes.iinfo(dtype).min), int(dtypes.iinfo(dtype).max)
    for name, value in (("from", low), ("to - 1", high - 1)):
        if not least <= value <= most:
            raise ArgumentRangeError(text("randint", f"{name} = {value} is out of bounds for {dtype}", ""))


# --- new tensors ---


def _made(shape: tuple[int, ...], dtype: dtypes.dtype, where: Any, requires_grad: bool, draw: Any) -> Tensor:
    """A tensor of values ``draw(count)``; on the meta device nothing is drawn."""
    if any(size < 0 for size in shape):
        raise ShapeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    if where is not None and device(where).type == "meta":
        made = Tensor._wrap_meta(shape, dtype)
    else:
        made = Tensor._wrap(draw(math.prod(shape)).astype(dtype.numpy, copy=False).reshape(shape), dtype)
    if requires_grad:
        made.requires_grad = True
    return made


def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: dtypes.dtype | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers of U[0, 1), bit for bit PyTorch's after the same seed.

    Args:
        size: the shape, as numbers or one sequence.
        generator: where they come from; the shared stream if None.
        dtype: floating or complex; the default dtype if None.
        device: 'cpu' or 'meta'.
        requires_grad: whether gradients are recorded.

    Raises:
        UnsupportedError: for integer dtypes.

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> konv.rand(2, 2)
        tensor([[0.4963, 0.7682],
                [0.0885, 0.1320]])
    """
    kind = dtypes.get_default_dtype() if dtype is None else dtype
    _need_floating(kind, "rand")
    stream = chosen(generator)
    shape = sizes_of(size, "rand")
    return _made(shape, kind, device, requires_grad, lambda count: _uniform(count, 0.0, 1.0, kind, stream))


def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: dtypes.dtype | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Numbers of N(0, 1), PyTorch's after the same seed up to the rounding of sines and logarithms.

    Args:
        size: the shape, as numbers or one sequence.
        generator: where they come from; the shared stream if None.
        dtype: floating or complex; the default dtype if None.
        device: 'cpu' or 'meta'.
        requires_grad: whether gradients are recorded.

    Raises:
        UnsupportedError: for integer dtypes.

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> konv.randn(3)
        tensor([ 1.5410, -0.2934, -2.1788])
    """
    kind = dtypes.get_default_dtype() if dtype is None else dtype
    _need_floating(kind, "randn")
    stream = chosen(generator)
    shape = sizes_of(size, "randn")
    return _made(shape, kind, device, requires_grad, lambda count: _normal(count, 0.0, 1.0, kind, stream))


def randint(
    *args: Any,
    low: int | None = None,
    high: int | None = None,
    size: Any = None,
    generator: Generator | None = None,
    dtype: dtypes.dtype | None = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Whole numbers in [low, high): ``randint(high, size)`` or ``randint(low, high, size)``.

    Args:
        args: high and size, or low, high and size.
        low: the least number, 0 if not given.
        high: one more than the greatest.
        size: the shape, a sequence.
        generator: where they come from; the shared stream if None.
        dtype: int64 if None.
        device: 'cpu' or 'meta'.
        requires_grad: whether gradients are recorded (floating dtypes).

    Raises:
        ArgumentRangeError: if low >= high, or a bound is not in the dtype's range.

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> konv.randint(10, (5,))
        tensor([4, 9, 3, 0, 3])
    """
    given = list(args)
    size = given.pop() if size is None and given else size
    high = given.pop() if high is None and given else high
    low = given.pop() if low is None and given else low
    if given or size is None or high is None or isinstance(size, int):
        rule = "randint(high, size) or randint(low, high, size), size a sequence"
        raise ArgumentTypeError(text("randint", f"got {args}", rule))
    least, end = whole(0 if low is None else low, "randint", "low"), whole(high, "randint", "high")
    kind = dtypes.int64 if dtype is None else dtype
    _check_integers(least, end, kind)
    stream = chosen(generator)
    shape = sizes_of((size,), "randint")
    return _made(shape, kind, device, requires_grad, lambda count: stream.integers(count, least, end))


def randperm(
    n: int, *, generator: Generator | None = None, dtype: dtypes.dtype = dtypes.int64, device: Any = None
) -> Tensor:
    """The numbers 0 ... n - 1 in random order.

    Args:
        n: how many.
        generator: where the order comes from; the shared stream if None.
        dtype: one that holds n - 1.
        device: 'cpu' or 'meta'.

    Returns:
        (n,) int64, or of the dtype asked for.

    Example:
        >>> import konv
        >>> _ = konv.manual_seed(0)
        >>> konv.randperm(5)
        tensor([4, 0, 1, 3, 2])
    """
    count = whole(n, "randperm", "n")
    if count < 0:
        raise ShapeError(text("randperm", f"n={count}", "n must be non-negative"))
    if count:
        _check_integers(0, count, dtype)
    stream = chosen(generator)
    return _made((count,), dtype, device, False, stream.permutation)


def empty_like_in_memory(input: Tensor, dtype: dtypes.dtype | None = None, where: Any = None) -> Tensor:
    """A new tensor that lies in memory in the order of ``input``: numbers are drawn in that order."""
    if not isinstance(input, Tensor):
        raise ArgumentTypeError(text("*_like", f"input is a {type(input).__name__}", "it must be a Tensor"))
    kind = dtype or input._dtype
    if (input.device if where is None else device(where)).type == "meta":
        return Tensor._wrap_meta(input._array.shape, kind)
    shape, order = input._array.shape, _order(input)
    return Tensor._wrap(np.empty([shape[axis] for axis in order], kind.numpy).transpose(np.argsort(order)), kind)


def rand_like(
    input: Tensor, *, dtype: dtypes.dtype | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``rand`` with the shape, dtype, device and order in memory of ``input``."""
    return uniform_(empty_like_in_memory(input, dtype, device)).requires_grad_(requires_grad)


def randn_like(
    input: Tensor, *, dtype: dtypes.dtype | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``randn`` with the shape, dtype, device and order in memory of ``input``."""
    return normal_(empty_like_in_memory(input, dtype, device)).requires_grad_(requires_grad)


def randint_like(
    input: Tensor, *bounds: int, dtype: dtypes.dtype | None = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """``randint(high)`` or ``randint(low, high)`` with the shape, dtype, device and order in memory of ``input``."""
    if len(bounds) not in (1, 2):
        rule = "randint_like(input, high) or randint_like(input, low, high)"
        raise ArgumentTypeError(text("randint_like", f"got {bounds}", rule))
    ends = [whole(bound, "randint_like", "a bound") for bound in (0, *bounds)[-2:]]
    return random_(empty_like_in_memory(input, dtype, device), *ends).requires_grad_(requires_grad)


def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None) -> Tensor:
    """Numbers of N(mean, std**2): mean and std are tensors that broadcast, or numbers with a size.

    Raises:
        ArgumentRangeError: if std is negative.
    """
    if size is not None:
        made = Tensor._wrap(np.empty(sizes_of((size,), "normal"), dtypes.get_default_dtype().numpy))
        return normal_(made, mean, std, generator=generator)
    tensors = [value for value in (mean, std) if isinstance(value, Tensor)]
    if not tensors:
        raise ArgumentTypeError(text("normal", "mean and std are numbers", "a size is needed", "pass size=(...)"))
    if isinstance(std, Tensor) and not std._meta and (std._array < 0).any():
        raise ArgumentRangeError(text("normal", "std has negative values", "expects all elements of std >= 0.0"))
    shape = np.broadcast_shapes(*(tensor._array.shape for tensor in tensors))
    drawn = randn(shape, generator=generator, dtype=tensors[0]._dtype, device=tensors[0].device)
    return drawn * std + mean


def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """Zeros and ones of the shape and dtype of ``input``; one with the probability in ``input``, or p if given."""
    # The result is in C order, whatever the input's.
    return bernoulli_(empty_like(input), input if p is None else p, generator=generator)


# --- in place ---


def _store(target: Tensor, values: Array) -> Tensor:
    """Write ``values`` into the tensor in the order of its memory, as PyTorch fills transposed tensors."""
    order = _order(target)
    values = values.reshape([target._array.shape[axis] for axis in order]).transpose(np.argsort(order))
    return target.copy_(Tensor._wrap(values))


def _order(tensor: Tensor) -> list[int]:
    """The axes from the one whose elements lie farthest apart in memory to the nearest."""
    return memory_order(tensor._array.shape, tensor._array.strides)


def uniform_(self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with numbers of U[from, to).

    Raises:
        ArgumentRangeError: if from > to, or the range does not fit the dtype.
        UnsupportedError: for integer dtypes.
    """
    _need_floating(self._dtype, "uniform_")
    low, high = float(from_), float(to)
    _check_range(low, high, self._dtype)
    begin_write(self, "uniform_")
    if self._meta:
        return self
    return _store(self, _uniform(self.numel(), low, high, self._dtype, chosen(generator)))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with numbers of N(mean, std**2).

    Raises:
        ArgumentRangeError: if std is negative.
        UnsupportedError: for integer dtypes.
    """
    _need_floating(self._dtype, "normal_")
    _check_std(std)
    begin_write(self, "normal_")
    if self._meta:
        return self
    block = bool(self._array.flags.c_contiguous)
    return _store(self, _normal(self.numel(), mean, std, self._dtype, chosen(generator), block))


def random_(
    self: Tensor, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """Fill the tensor with whole numbers: ``random_(to)``, or ``random_(from, to)``.

    Without bounds the numbers reach from 0 to the greatest that the dtype holds exactly.
    """
    low, high = (0, from_) if to is None else (from_ or 0, to)
    if high is None:
        high = _whole_numbers(self._dtype)
    _check_integers(low, high, self._dtype)
    begin_write(self, "random_")
    if self._meta:
        return self
    stream, count = chosen(generator), self.numel()
    if from_ is not None or to is not None:
        return _store(self, stream.integers(count, low, high))
    words = stream.words64 if self._dtype in (dtypes.int64, dtypes.float64) else stream.words32
    return _store(self, (words(count) % np.uint64(high)).astype(np.int64))


def _whole_numbers(dtype: dtypes.dtype) -> int:
    """How many whole numbers from 0 on the dtype holds without a gap."""
    if dtype is dtypes.bool:
        return 2
    if dtype.is_floating_point:
        digits = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype.name]
        return 2**digits + 1
    return int(dtypes.iinfo(dtype).max) + 1


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill the tensor with ones (with probability p, a number or a tensor that broadcasts) and zeros.

    Raises:
        ArgumentRangeError: if p is not in [0, 1].
    """
    inside = bool(((p._array >= 0) & (p._array <= 1)).all()) if isinstance(p, Tensor) else 0 <= p <= 1
    if not inside and not (isinstance(p, Tensor) and p._meta):
        raise ArgumentRangeError(text("bernoulli_", f"p={p}", "expects p to be in [0, 1]"))
    begin_write(self, "bernoulli_")
    if self._meta:
        return self
    if isinstance(p, Tensor):
        p = np.broadcast_to(p._array, self._array.shape).transpose(_order(self)).reshape(-1)
    drawn = chosen(generator).bernoulli(self.numel(), p)
    return _store(self, drawn.astype(self._dtype.numpy))


register({f.__name__: f for f in (uniform_, normal_, random_, bernoulli_, bernoulli)})
