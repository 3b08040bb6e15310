"""Tensor: NumPy memory with a dtype, a device, a version and a place in the autograd graph.

Tensor knows no operation. Each file of ``ops/`` hands it a table of methods (``register``) when it is imported,
so this file stays below all of them. What is here is the memory itself: who shares it, who has written to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import dtypes
from .errors import ArgumentTypeError, AutogradError, UnsupportedError
from .modes import enable_grad
from .sizes import (
    _CPU as _CPU,
    _META as _META,
    Size as Size,
    contiguous_strides as contiguous_strides,
    device as device,
    distinct_dims as distinct_dims,
    memory_order as memory_order,
    meta_array as meta_array,
    normalize_dim as normalize_dim,
)


class VersionCounter:
    """How often one memory has been written to; shared by every tensor that views it.

    Attributes:
        value: Goes up by one at each in-place operation.
        exported: The memory came from outside or was handed out, so it can change without ``value`` going up.
        rebases: How often an in-place operation changed the graph of this memory, so that views must look again.
    """

    # Class attributes as defaults: a counter is made for every tensor, and most are never written to.
    value: int = 0
    exported: bool = False
    rebases: int = 0


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    Made by ``konv.tensor``, ``konv.zeros``, ``konv.from_numpy``, ...; operations are methods and functions with
    PyTorch's names.

    Example:
        >>> import konv
        >>> x = konv.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([[2., 4.],
                [6., 8.]])
    """

    # Defaults stand on the class, so that ``_wrap`` writes only what differs: it runs for every operation.
    _array: np.ndarray[Any, Any]
    _dtype: dtypes.dtype
    _counter: VersionCounter
    _meta: bool = False
    _requires_grad: bool = False
    _grad: Tensor | None = None
    _grad_fn: Any = None
    _output_nr: int = 0
    _packed: dict[Any, Any] | None = None
    _hooks: dict[int, Any] | None = None
    _base: Tensor | None = None  # the tensor whose memory this is a view of
    _recipe: tuple[Any, ...] | None = None  # the view operations that lead from _base to here
    _rebases_seen: int = 0
    __array_priority__ = 1000  # ndarray * Tensor is left to Tensor

    # ---- making tensors --------------------------------------------------------------------------------------------

    @staticmethod
    def _wrap(array: Any, dtype: dtypes.dtype | None = None) -> Tensor:
        """A tensor over ``array``, which nobody else writes to. The hot path of every operation."""
        if type(array) is not np.ndarray:
            array = np.asarray(array)
        made: Tensor = _new(Tensor)
        made._array = array
        made._dtype = dtype or dtypes._BY_NUMPY[array.dtype]
        made._counter = VersionCounter()
        return made

    @staticmethod
    def _wrap_meta(shape: tuple[int, ...], dtype: dtypes.dtype) -> Tensor:
        """A tensor of the meta device: one element seen through zero strides, whatever the shape."""
        made: Tensor = _new(Tensor)
        made._array = meta_array(shape, dtype)
        made._dtype = dtype
        made._counter = VersionCounter()
        made._meta = True
        return made

    @staticmethod
    def _make_subclass(cls: type, data: Tensor, requires_grad: bool = False) -> Any:
        """A leaf of class ``cls`` over the memory of ``data``."""
        made = _new(cls)
        made._array, made._dtype, made._counter, made._meta = data._array, data._dtype, data._counter, data._meta
        if requires_grad:
            made.requires_grad = True
        return made

    def _alias(self) -> Tensor:
        """Another tensor over the same memory and version, outside the graph."""
        made: Tensor = _new(Tensor)
        made._array, made._dtype, made._counter = self._array, self._dtype, self._counter
        if self._meta:
            made._meta = True
        return made

    # ---- what a tensor is ------------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """The size of each dimension."""
        return Size(self._array.shape)

    def size(self, dim: int | None = None) -> Any:
        """``shape``, or the size of dimension ``dim``."""
        shape = self._array.shape
        return Size(shape) if dim is None else shape[normalize_dim(dim, len(shape))]

    def dim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self._array.shape)

    nelement = numel

    @property
    def dtype(self) -> dtypes.dtype:
        """The element type."""
        return self._dtype

    @property
    def device(self) -> device:
        """``cpu`` or ``meta``."""
        return _META if self._meta else _CPU

    @property
    def is_meta(self) -> bool:
        """True for a tensor without data."""
        return self._meta

    is_cuda = False
    is_sparse = False
    is_quantized = False
    layout = "torch.strided"

    def element_size(self) -> int:
        """Bytes an element."""
        return self._dtype.itemsize

    @property
    def itemsize(self) -> int:
        """Bytes an element."""
        return self._dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.numel() * self._dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Elements to step over in memory for the next index of each dimension (or of ``dim``)."""
        array = self._array
        if self._meta or not array.size:
            strides = contiguous_strides(array.shape)
        else:
            strides = tuple([s // array.itemsize for s in array.strides])
        return strides if dim is None else strides[normalize_dim(dim, array.ndim)]

    def storage_offset(self) -> int:
        """Elements between the start of the memory this is a view of and the first element."""
        if self._meta or self._base is None:
            return 0
        return (self.data_ptr() - self._base.data_ptr()) // self._dtype.itemsize

    def data_ptr(self) -> int:
        """The address of the first element; 0 on the meta device."""
        return 0 if self._meta else int(self._array.__array_interface__["data"][0])

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """True if the elements lie in C order (or, for ``konv.channels_last``, in N, H, W, C order) without gaps."""
        if memory_format is not None and str(memory_format) == "torch.channels_last":
            if self._array.ndim != 4:
                return False
            return self._meta is False and bool(self._array.transpose(0, 2, 3, 1).flags.c_contiguous)
        return self._meta or bool(self._array.flags.c_contiguous)

    def is_floating_point(self) -> bool:
        """True for float16, bfloat16, float32 and float64."""
        return self._dtype.is_floating_point

    def is_complex(self) -> bool:
        """True for complex64 and complex128."""
        return self._dtype.is_complex

    def is_signed(self) -> bool:
        """True unless the dtype is uint8 or bool."""
        return self._dtype.is_signed

    # ---- its place in the graph ------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """For a view whose memory's graph changed after it was made: take the view again, on the graph alone."""
        base = self._base
        if base is None or self._rebases_seen == self._counter.rebases:
            return
        self._rebases_seen = self._counter.rebases
        if self._recipe is None or not base._requires_grad:
            return
        with enable_grad():
            again = base
            for function, arguments in self._recipe:
                again = function.apply(again, *arguments)
        self._requires_grad, self._grad_fn, self._output_nr = True, again._grad_fn, again._output_nr

    @property
    def requires_grad(self) -> bool:
        """True if gradients flow through this tensor."""
        self._refresh()
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.grad_fn is not None:
            if not value:
                raise AutogradError(
                    "you can only change requires_grad flags of leaf variables; to use a computed value in a subgraph "
                    "that isn't differentiated, use y = x.detach()"
                )
        elif value and self._dtype.kind < dtypes.FLOATING:
            raise AutogradError(
                f"only Tensors of floating point and complex dtype can require gradients; this one is {self._dtype}"
            )
        self._requires_grad = bool(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad_fn(self) -> Any:
        """The node of the graph that made this tensor; None for a leaf."""
        self._refresh()
        return self._grad_fn

    @property
    def output_nr(self) -> int:
        """Which output of ``grad_fn`` this tensor is."""
        return self._output_nr

    @property
    def is_leaf(self) -> bool:
        """True if the user made this tensor, or if it needs no gradient."""
        return self.grad_fn is None

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward`` has summed up here; None before the first."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise ArgumentTypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
            if value is self:
                raise AutogradError("can't assign Variable as its own grad")
            if value._array.shape != self._array.shape or value._dtype is not self._dtype:
                raise AutogradError(
                    f"assigned grad has data of shape {list(value.shape)} and {value._dtype}; "
                    f"the tensor has {list(self.shape)} and {self._dtype}"
                )
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def _version(self) -> int:
        return self._counter.value

    def _is_view(self) -> bool:
        return self._base is not None

    def detach(self) -> Tensor:
        """The same memory outside the graph: a write to one is seen in the other."""
        return self._alias()

    def detach_(self) -> Tensor:
        """Take this tensor itself out of the graph."""
        if self._base is not None:
            raise AutogradError("Can't detach views in-place. Use detach() instead")
        self._grad_fn, self._requires_grad, self._output_nr = None, False, 0
        return self

    @property
    def data(self) -> Tensor:
        """The same memory outside the graph. Writes through it are counted, unlike in PyTorch: nothing goes stale."""
        return self._alias()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"data: expected a Tensor, got {type(value).__name__}")
        if value._dtype is not self._dtype and self._grad_fn is not None:
            raise AutogradError("data: the dtype of a computed tensor cannot be changed")
        self._array, self._dtype, self._meta = value._array, value._dtype, value._meta
        self._counter = value._counter  # the counter is the memory's: whoever saved this tensor sees another one
        self._packed = self._base = self._recipe = None

    # ---- Python's protocols ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if not self._array.ndim:
            raise ArgumentTypeError("len() of a 0-d tensor")
        return self._array.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if not self._array.ndim:
            raise ArgumentTypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __hash__(self) -> int:
        return id(self)

    def __format__(self, spec: str) -> str:
        if not self._array.ndim and not self._meta:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def __dir__(self) -> list[str]:
        return sorted(set(object.__dir__(self)))

    if TYPE_CHECKING:  # operations arrive through ``register``; type checkers cannot see that

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __bool__(self) -> bool: ...
        def __int__(self) -> int: ...
        def __float__(self) -> float: ...
        def __complex__(self) -> complex: ...
        def __index__(self) -> int: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def _binary(self, other: Any) -> Tensor: ...

        __lt__ = __le__ = __gt__ = __ge__ = _binary
        __add__ = __sub__ = __mul__ = __truediv__ = __floordiv__ = __mod__ = __pow__ = __matmul__ = _binary
        __radd__ = __rsub__ = __rmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __rpow__ = __rmatmul__ = _binary
        __iadd__ = __isub__ = __imul__ = __itruediv__ = __and__ = __or__ = __xor__ = _binary


_new: Any = object.__new__


def register(table: dict[str, Any]) -> None:
    """Give Tensor the methods of one family of operations: ``{name: function or property}``."""
    for name, function in table.items():
        setattr(Tensor, name, function)


def refuse_meta(who: str) -> UnsupportedError:
    """The error of an operation that needs values, on a tensor that has none."""
    return UnsupportedError(f"{who}: a tensor on the 'meta' device has a shape and no data; make it on 'cpu'")
