"""Element types: one table (name, NumPy type, kind), one promotion rule, one default.

Promotion has PyTorch's three categories: tensors with dimensions decide first, then 0-dim tensors, then Python
numbers; a lower category only counts when it is of a higher kind (bool < integer < floating < complex).
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import ArgumentTypeError, DtypeError, UnsupportedError


class dtype:
    """The element type of a tensor; one object a type, so ``is`` compares.

    Attributes:
        name: ``'float32'`` and so on.
        itemsize: Bytes an element.
        is_floating_point, is_complex, is_signed: What PyTorch's attributes of these names say.
        numpy: The ``np.dtype`` (bfloat16's comes from ml_dtypes, imported when first asked for).

    Example:
        >>> import konv
        >>> konv.float32, konv.float32.itemsize, konv.half is konv.float16
        (torch.float32, 4, True)
    """

    __slots__ = ("is_complex", "is_floating_point", "is_signed", "itemsize", "kind", "label", "name", "numpy")

    name: str
    label: str
    itemsize: builtins.int
    kind: builtins.int
    is_floating_point: builtins.bool
    is_complex: builtins.bool
    is_signed: builtins.bool
    numpy: np.dtype[Any]

    def __init__(
        self, name: str, label: str, itemsize: builtins.int, kind: builtins.int, is_signed: builtins.bool
    ) -> None:
        fields = {
            "name": name,
            "label": label,
            "itemsize": itemsize,
            "kind": kind,
            "is_floating_point": kind == FLOATING,
            "is_complex": kind == COMPLEX,
            "is_signed": is_signed,
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)
        if name != "bfloat16":
            object.__setattr__(self, "numpy", np.dtype(name))

    def __getattr__(self, name: str) -> Any:
        # Reached only for the one slot left empty: bfloat16's NumPy type, which needs a package that may be missing.
        if name != "numpy":
            raise AttributeError(f"dtype has no attribute {name!r}")
        try:
            import ml_dtypes
        except ImportError as error:
            raise UnsupportedError("bfloat16: NumPy has no such type by itself; pip install ml_dtypes") from error
        numpy_type = np.dtype(ml_dtypes.bfloat16)
        object.__setattr__(self, "numpy", numpy_type)
        _BY_NUMPY[numpy_type] = self
        return numpy_type

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a dtype cannot be changed")

    def __repr__(self) -> str:
        # The documents that people learn from print PyTorch's prefix.
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self.name,)

    def __copy__(self) -> dtype:
        return self

    def __deepcopy__(self, memo: Any) -> dtype:
        return self

    def to_real(self) -> dtype:
        """complex64 -> float32, complex128 -> float64, anything else itself."""
        return _REAL.get(self, self)

    def to_complex(self) -> dtype:
        """float32 -> complex64, float64 -> complex128, half types -> complex64, complex itself."""
        return _COMPLEX.get(self, self)

    @property
    def is_half(self) -> builtins.bool:
        """True for the two 16-bit floating types, whose sums are kept in float32."""
        return self.kind == FLOATING and self.itemsize == 2


BOOL, INTEGER, FLOATING, COMPLEX = range(4)

# name, the word in PyTorch's messages, bytes, kind, signed; integers and floats in promotion order
float32 = dtype("float32", "Float", 4, FLOATING, True)
float64 = dtype("float64", "Double", 8, FLOATING, True)
float16 = dtype("float16", "Half", 2, FLOATING, True)
bfloat16 = dtype("bfloat16", "BFloat16", 2, FLOATING, True)
complex64 = dtype("complex64", "ComplexFloat", 8, COMPLEX, True)
complex128 = dtype("complex128", "ComplexDouble", 16, COMPLEX, True)
uint8 = dtype("uint8", "Byte", 1, INTEGER, False)
int8 = dtype("int8", "Char", 1, INTEGER, True)
int16 = dtype("int16", "Short", 2, INTEGER, True)
int32 = dtype("int32", "Int", 4, INTEGER, True)
int64 = dtype("int64", "Long", 8, INTEGER, True)
bool = dtype("bool", "Bool", 1, BOOL, False)

float = float32
double = float64
half = float16
cfloat = complex64
cdouble = complex128
short = int16
int = int32
long = int64

ALL = (float32, float64, float16, bfloat16, complex64, complex128, uint8, int8, int16, int32, int64, bool)
_REAL = {complex64: float32, complex128: float64}
_COMPLEX = {float16: complex64, bfloat16: complex64, float32: complex64, float64: complex128}
_BY_NUMPY: dict[np.dtype[Any], dtype] = {d.numpy: d for d in ALL if d is not bfloat16}
_BY_PYTHON = {builtins.bool: bool, builtins.int: int64, builtins.float: float64, complex: complex128}
_default: dtype = float32


def _by_name(name: str) -> dtype:
    return {d.name: d for d in ALL}[name]


def from_numpy(numpy_dtype: Any) -> dtype:
    """The konv dtype of a NumPy one.

    Raises:
        ArgumentTypeError: NumPy types without a counterpart (uint16, float128, strings, objects, big-endian).
    """
    numpy_dtype = np.dtype(numpy_dtype)
    found = _BY_NUMPY.get(numpy_dtype)
    if found is not None:
        return found
    if numpy_dtype.name == "bfloat16":
        _ = bfloat16.numpy
        return _BY_NUMPY[numpy_dtype]
    names = ", ".join(d.name for d in ALL)
    raise ArgumentTypeError(f"konv has no dtype for NumPy's {numpy_dtype.str!r} ({numpy_dtype}); it has {names}")


def as_dtype(value: Any) -> dtype:
    """``value`` as a dtype: a konv dtype, a NumPy or PyTorch one, or Python's float, int, bool, complex."""
    if isinstance(value, dtype):
        return value
    if isinstance(value, type) and value in _BY_PYTHON:
        return _BY_PYTHON[value]
    if isinstance(value, (np.dtype, type)):
        return from_numpy(value)
    if type(value).__module__ == "torch" and str(value).startswith("torch."):
        return _by_name(str(value)[len("torch.") :])
    raise ArgumentTypeError(f"dtype: got {value!r}, expected a konv.dtype such as konv.float32")


def get_default_dtype() -> dtype:
    """The floating type of new tensors made from Python floats; float32 unless set."""
    return _default


def set_default_dtype(d: Any) -> None:
    """Set the dtype that ``get_default_dtype`` returns; floating types only.

    Example:
        >>> import konv
        >>> konv.set_default_dtype(konv.float64); konv.tensor([1.5]).dtype
        torch.float64
        >>> konv.set_default_dtype(konv.float32)
    """
    global _default
    d = as_dtype(d)
    if not d.is_floating_point:
        raise ArgumentTypeError(f"set_default_dtype: got {d}; only floating-point types are supported as the default")
    _default = d


def of_scalar(value: Any) -> dtype:
    """The dtype that a Python number stands for: bool, int64, the default floating type or its complex one."""
    if isinstance(value, (builtins.bool, np.bool_)):
        return bool
    if isinstance(value, (builtins.int, np.integer)):
        return int64
    if isinstance(value, (builtins.float, np.floating)):
        return _default
    if isinstance(value, (complex, np.complexfloating)):
        return _default.to_complex()
    raise ArgumentTypeError(f"expected a number, got {type(value).__name__}")


_promoted: dict[tuple[dtype, dtype], dtype] = {}
_SIGNED = (int8, int16, int32, int64)


def promote(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that both go into (PyTorch's ``promote_types``).

    Example:
        >>> import konv
        >>> konv.promote_types(konv.uint8, konv.int8), konv.promote_types(konv.int64, konv.float16)
        (torch.int16, torch.float16)
    """
    if a is b:
        return a
    found = _promoted.get((a, b))
    if found is None:
        found = _promoted[a, b] = _promote(a, b)
    return found


def _promote(a: dtype, b: dtype) -> dtype:
    if a.kind < b.kind:
        a, b = b, a
    if a.kind == COMPLEX:
        return complex128 if b in (float64, complex128) else a
    if a.kind > b.kind:
        return a
    if a.kind == FLOATING:  # the two half types meet in float32
        return float32 if a.itemsize == b.itemsize else max(a, b, key=lambda d: d.itemsize)
    if uint8 in (a, b):
        signed = a if b is uint8 else b
        return int16 if signed is int8 else signed
    return max(a, b, key=_SIGNED.index)


def combine(higher: dtype | None, lower: dtype | None) -> dtype | None:
    """The result when ``lower`` comes from a lower category (0-dim tensor or number) than ``higher``."""
    if higher is None or lower is None:
        return higher or lower
    if higher.kind == COMPLEX:
        return higher
    if higher.kind == FLOATING:
        return higher.to_complex() if lower.kind == COMPLEX else higher
    if higher.kind == BOOL or lower.kind >= FLOATING:
        return promote(higher, lower)
    return higher


def result_of(operands: Iterable[tuple[dtype, Any]]) -> dtype:
    """The dtype of an operation over (dtype, category) pairs; category 0 has dimensions, 1 is 0-dim, 2 a number."""
    kept: list[dtype | None] = [None, None, None]
    for d, category in operands:
        held = kept[category]
        kept[category] = d if held is None else promote(held, d)
    result = combine(kept[0], combine(kept[1], kept[2]))
    if result is None:
        raise DtypeError("result_type: at least one operand is needed")
    return result


def can_cast(source: dtype, target: dtype) -> Any:
    """True if an in-place result of ``source`` may be written into ``target``: its kind is not higher.

    Example:
        >>> import konv
        >>> konv.can_cast(konv.float64, konv.float16), konv.can_cast(konv.float32, konv.int64)
        (True, False)
    """
    return source.kind <= target.kind


def holds(d: dtype, value: Any) -> builtins.bool:
    """True if the number ``value`` is in the range of ``d``; unsigned types take negative whole numbers and wrap."""
    if type(value) in (builtins.int, builtins.float) and 0 <= value <= 127:
        return True
    if d.kind == BOOL:
        return True
    if isinstance(value, (complex, np.complexfloating)):
        return holds(d, value.real) and (holds(d, value.imag) if d.kind == COMPLEX else value.imag == 0)
    if d.kind == INTEGER:
        low, high = iinfo(d).min, iinfo(d).max
        wraps = not d.is_signed and isinstance(value, (builtins.int, np.integer))
        return builtins.bool((-high if wraps else low) <= value <= high)
    return value in (np.inf, -np.inf) or not abs(value) > builtins.float(finfo(d).max)


def finfo(d: dtype | None = None) -> Any:
    """The limits of a floating type (default: the default dtype): ``eps``, ``min``, ``max``, ``tiny``, ``bits``."""
    d = (d or _default).to_real()
    if not d.is_floating_point:
        raise ArgumentTypeError(f"finfo: got {d}; ask iinfo for integer types")
    if d is bfloat16:
        import ml_dtypes

        return ml_dtypes.finfo(d.numpy)
    return np.finfo(d.numpy)


def iinfo(d: dtype) -> Any:
    """The limits of an integer type: ``min``, ``max``, ``bits``."""
    if d.kind != INTEGER:
        raise ArgumentTypeError(f"iinfo: got {d}; ask finfo for floating types")
    return np.iinfo(d.numpy)
