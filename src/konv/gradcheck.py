"""Gradients checked against finite differences, in float64 or complex128.

Both sides are seen as functions of real numbers: a complex element is two of them. For the part of an output that is
asked for by ``g`` (1 for the real part, 1j for the imaginary one) the gradient of an input z is
dL/dRe(z) + 1j dL/dIm(z), which is what differences of the two parts of z measure.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import dtypes
from .engine import grad
from .errors import ArgumentError, AutogradError
from .modes import enable_grad, no_grad
from .tensor import Tensor


class GradcheckError(AutogradError):
    """A gradient and the finite differences disagree."""


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _parts(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A flat array of real numbers; a complex element gives two neighbours."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _outputs(func: Any, inputs: tuple[Any, ...]) -> list[Tensor]:
    made = [t for t in _tuple(func(*inputs)) if isinstance(t, Tensor)]
    return [t for t in made if t.dtype.is_floating_point or t.dtype.is_complex]


def _numerical(func: Any, inputs: tuple[Any, ...], i: int, eps: float) -> list[np.ndarray[Any, Any]]:
    """For each output, (parts of input i) x (parts of the output): central differences."""
    array = inputs[i]._array
    steps: list[Any] = [eps, eps * 1j] if array.dtype.kind == "c" else [eps]
    rows: list[list[np.ndarray[Any, Any]]] = []
    counter = inputs[i]._counter
    exported, counter.exported = counter.exported, True  # written below without a new version: nobody may cache it
    with no_grad():
        for index in np.ndindex(array.shape):
            kept = array[index]
            for step in steps:
                array[index] = kept + step
                after = [_parts(t._array).copy() for t in _outputs(func, inputs)]
                array[index] = kept - step
                before = [_parts(t._array).copy() for t in _outputs(func, inputs)]
                array[index] = kept
                rows.append([(a - b) / (2 * eps) for a, b in zip(after, before, strict=True)])
    counter.exported = exported
    return [np.stack(column) for column in zip(*rows, strict=True)]


def _analytical(output: Tensor, tensors: list[Tensor]) -> list[np.ndarray[Any, Any]]:
    """For each tensor, (parts of the tensor) x (parts of the output): one backward a part of the output."""
    columns: list[list[np.ndarray[Any, Any]]] = [[] for _ in tensors]
    for index in np.ndindex(output._array.shape):
        for unit in (1, 1j) if output.dtype.is_complex else (1,):
            seed = np.zeros(output._array.shape, output._array.dtype)
            seed[index] = unit
            found = grad(output, tensors, Tensor._wrap(seed), retain_graph=True, allow_unused=True)
            for column, tensor, value in zip(columns, tensors, found, strict=True):
                if value is None:
                    column.append(np.zeros_like(_parts(tensor._array)))
                    continue
                if value._array.shape != tensor._array.shape or value._dtype is not tensor._dtype:
                    raise GradcheckError(f"gradient of {list(value.shape)}, {value.dtype} for {list(tensor.shape)}")
                column.append(_parts(value._array).copy())
    return [np.stack(column, 1) for column in columns]


def gradcheck(
    func: Any,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
) -> bool:
    """Compare the gradients of ``func(*inputs)`` with finite differences.

    Args:
        func: Takes the inputs, returns a tensor or several.
        inputs: Tensors and other arguments; those that require grad are checked, in float64 or complex128.
        eps: The step of the differences.
        atol: How far the two may be apart.
        rtol: The same, as a share of the differences.
        raise_exception: False returns False where it would raise.
        nondet_tol: How far two backward passes may be apart.

    Raises:
        GradcheckError: They disagree; the message shows both.
        ArgumentError: No input requires grad, or one is not double precision or has overlapping memory.

    Example:
        >>> import konv
        >>> x = konv.linspace(0.1, 1, 3, dtype=konv.float64, requires_grad=True)
        >>> konv.autograd.gradcheck(lambda x: x.sin() * x, (x,))
        True
    """
    inputs = _tuple(inputs)
    checked = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]
    if not checked:
        raise ArgumentError("gradcheck expects at least one input tensor to require gradient, but none of them do")
    for i in checked:
        if inputs[i].dtype not in (dtypes.float64, dtypes.complex128):
            raise ArgumentError(f"gradcheck: input {i} is {inputs[i].dtype}; differences need double precision")
        if 0 in inputs[i]._array.strides and inputs[i].numel() > 1:
            raise ArgumentError(f"gradcheck: elements of input {i} share memory; pass a clone()")
    try:
        _check(func, inputs, checked, eps, atol, rtol, nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(
    func: Any, inputs: tuple[Any, ...], checked: list[int], eps: float, atol: float, rtol: float, nondet_tol: float
) -> None:
    with enable_grad():
        outputs = _outputs(func, inputs)
    tensors = [inputs[i] for i in checked]
    numerical = [_numerical(func, inputs, i, eps) for i in checked]
    for o, output in enumerate(outputs):
        if not output.requires_grad:
            if any(n and np.abs(n[o]).max(initial=0) > atol for n in numerical):
                raise GradcheckError(f"output {o} depends on the inputs but does not require grad")
            continue
        first, second = _analytical(output, tensors), _analytical(output, tensors)
        for place, i in enumerate(checked):
            if not np.allclose(first[place], second[place], rtol=0, atol=nondet_tol):
                raise GradcheckError(f"backward is not deterministic: output {o}, input {i}")
            if not first[place].size:
                continue
            expected = numerical[place][o]
            if not np.allclose(first[place], expected, rtol=rtol, atol=atol):
                raise GradcheckError(
                    f"Jacobian mismatch for output {o} with respect to input {i}, "
                    f"\nnumerical:\n{expected}\nanalytical:\n{first[place]}"
                )


def gradgradcheck(func: Any, inputs: Any, grad_outputs: Any = None, **options: Any) -> bool:
    """Check second derivatives: ``gradcheck`` of the gradients of ``func`` as functions of inputs and output gradients.

    Args:
        func: As in ``gradcheck``.
        inputs: As in ``gradcheck``.
        grad_outputs: Gradients of the outputs; random ones unless given.
        options: Passed to ``gradcheck``.

    Example:
        >>> import konv
        >>> x = konv.linspace(0.1, 1, 3, dtype=konv.float64, requires_grad=True)
        >>> konv.autograd.gradgradcheck(lambda x: x.sin() * x, (x,))
        True
    """
    inputs = _tuple(inputs)
    with enable_grad():
        outputs = [t for t in _outputs(func, inputs) if t.requires_grad]
    given = _random_like(outputs) if grad_outputs is None else _tuple(grad_outputs)
    for g in given:
        g.requires_grad = True
    count = len(inputs)
    checked = [i for i, t in enumerate(inputs) if isinstance(t, Tensor) and t.requires_grad]

    def gradients(*args: Any) -> tuple[Any, ...]:
        with enable_grad():
            kept = args[:count]
            made = [t for t in _outputs(func, kept) if t.requires_grad]
            found = grad(made, [kept[i] for i in checked], args[count:], create_graph=True, allow_unused=True)
        return tuple([g for g in found if g is not None])

    return gradcheck(gradients, (*inputs, *given), **options)


def _random_like(outputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the outputs' shapes; their own stream, so that checking does not change a user's random numbers."""
    stream = np.random.default_rng(0)
    made = []
    for t in outputs:
        values: Any = stream.standard_normal(t._array.shape)
        if t.dtype.is_complex:
            values = values + 1j * stream.standard_normal(t._array.shape)
        made.append(Tensor._wrap(np.asarray(values, t._array.dtype)))
    return tuple(made)
