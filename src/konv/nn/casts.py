"""The part of ``Module`` that changes the dtype or the device of everything in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..autograd import no_grad
from ..dtypes import bfloat16, dtype, float16, float32, float64
from ..errors import ArgumentTypeError, text
from ..sizes import memory_format
from ..tensor import Tensor, device

Self = TypeVar("Self", bound="Casts")


class Casts:
    """Casts and moves; parameters stay the same objects, so an optimiser goes on holding them."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    children: Callable[[], Iterator[Any]]

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Put ``fn(tensor)`` in the place of every parameter, gradient and buffer; parameters stay the same objects."""
        if recurse:
            for module in self.children():
                module._apply(fn, recurse)
        with no_grad():
            for parameter in self._parameters.values():
                if parameter is not None:
                    grad = parameter.grad
                    parameter.grad = None
                    parameter.data = fn(parameter.data)
                    parameter.grad = None if grad is None else fn(grad)
            for name, buffer in self._buffers.items():
                if buffer is not None:
                    self._buffers[name] = fn(buffer)
        return self

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """``to(device)``, ``to(dtype)``, ``to(device, dtype)`` or ``to(tensor)``: floating tensors change their dtype.

        ``memory_format`` is taken and changes nothing: layers pack their weights from C order.

        Raises:
            ArgumentTypeError: if the dtype is neither floating nor complex, or memory_format is none.
        """
        where, kind = kwargs.pop("device", None), kwargs.pop("dtype", None)
        kwargs.pop("non_blocking", None)
        order = kwargs.pop("memory_format", None)
        if order is not None and not isinstance(order, memory_format):
            rule = "memory_format is konv.channels_last or konv.contiguous_format"
            raise ArgumentTypeError(text("Module.to", f"got memory_format={order!r}", rule))
        for arg in (*args, *kwargs.values()):
            if isinstance(arg, Tensor):
                where, kind = arg.device, arg.dtype
            elif isinstance(arg, dtype):
                kind = arg
            elif arg is not None and not isinstance(arg, bool):
                where = device(arg)
        if kind is not None and not (kind.is_floating_point or kind.is_complex):
            rule = "a module becomes a floating point or complex dtype"
            raise ArgumentTypeError(text("Module.to", f"got dtype {kind}", rule))

        def convert(tensor: Tensor) -> Tensor:
            wanted = kind if kind and (tensor.dtype.is_floating_point or tensor.dtype.is_complex) else tensor.dtype
            return tensor.to(wanted) if where is None else tensor.to(where, wanted)

        return self._apply(convert)

    def to_empty(self: Self, *, device: Any, recurse: bool = True) -> Self:
        """Move to a device without the values: memory for a module that was made on ``'meta'``."""
        from ..ops.creation import empty_like

        return self._apply(lambda tensor: empty_like(tensor, device=device), recurse)

    def type(self: Self, dst_type: Any) -> Self:
        """Cast every parameter and buffer, integers too."""
        return self._apply(lambda tensor: tensor.to(dst_type))

    def _cast(self: Self, kind: dtype) -> Self:
        return self._apply(lambda tensor: tensor.to(kind) if tensor.dtype.is_floating_point else tensor)

    def float(self: Self) -> Self:
        """Floating tensors as float32."""
        return self._cast(float32)

    def double(self: Self) -> Self:
        """Floating tensors as float64."""
        return self._cast(float64)

    def half(self: Self) -> Self:
        """Floating tensors as float16."""
        return self._cast(float16)

    def bfloat16(self: Self) -> Self:
        """Floating tensors as bfloat16."""
        return self._cast(bfloat16)

    def cpu(self: Self) -> Self:
        """Everything on the CPU, where it is already."""
        return self.to("cpu")
