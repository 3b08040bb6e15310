"""Pooling and normalisation against PyTorch over the space of their options, errors included."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import konv
import konv.nn.functional as F

TF = torch.nn.functional
WIDE = settings(max_examples=150)
DTYPES = ["float64", "float32", "float16"]

sizes = st.integers(-1, 5)
pairs = st.one_of(sizes, st.tuples(sizes, sizes), st.lists(sizes, min_size=0, max_size=3))


def outcome(function: Any, *args: Any, **options: Any) -> Any:
    """The result, or the error."""
    try:
        return function(*args, **options)
    except Exception as error:
        return error


def both(name: str, x: Any, *args: Any, **options: Any) -> tuple[Any, Any] | None:
    """What konv and PyTorch give; None when both refuse, with an error of PyTorch's type."""
    mine = outcome(getattr(F, name), konv.from_numpy(x.copy()).requires_grad_(x.dtype.kind == "f"), *args, **options)
    theirs = outcome(
        getattr(TF, name), torch.from_numpy(x.copy()).requires_grad_(x.dtype.kind == "f"), *args, **options
    )
    if isinstance(theirs, Exception):
        assert isinstance(mine, Exception), f"PyTorch refuses: {theirs!r}"
        builtin = next(t for t in type(theirs).__mro__ if t.__module__ == "builtins")
        assert isinstance(mine, builtin), f"{mine!r} instead of {theirs!r}"
        assert len(str(mine)) > 20
        return None
    assert not isinstance(mine, Exception), f"PyTorch allows it: {mine!r}"
    return mine, theirs


def compare(mine: Any, theirs: Any, tolerance: float) -> None:
    assert tuple(mine.shape) == tuple(theirs.shape)
    assert repr(mine.dtype) == repr(theirs.dtype)
    np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def arrays(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Values in steps of an eighth: sums of a few are exact even in float16, and maxima meet ties."""
    return (np.random.default_rng(seed).integers(-16, 17, shape) / 8).astype(dtype)


TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "int64": 0}
shapes = st.one_of(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 19), st.integers(1, 19)),
    st.tuples(st.integers(1, 3), st.integers(1, 19), st.integers(1, 19)),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
)


def gradients_agree(mine: Any, theirs: Any, x: Any, again: Any, tolerance: float) -> None:
    """The gradients of the input under the same random gradient of the output."""
    if not theirs.numel() or not theirs.requires_grad:
        return
    gy = arrays(tuple(theirs.shape), str(theirs.dtype).split(".")[1], 9)
    (found,) = konv.autograd.grad(mine, again[0], konv.from_numpy(gy))
    (expected,) = torch.autograd.grad(theirs, again[1], torch.from_numpy(gy))
    compare(found, expected, tolerance)


def windows_without_cells(x: Any, kernel: Any, padding: Any, dilation: Any) -> bool:
    """Dilation can leave a window nothing but padding; PyTorch then gives a place outside the image."""
    dilated = dilation if isinstance(dilation, int) else max(dilation, default=1)
    return dilated > 1 and padding != 0


@WIDE
@given(
    shape=shapes, dtype=st.sampled_from([*DTYPES, "int64"]), kernel=pairs, stride=st.one_of(st.none(), pairs),
    padding=st.one_of(st.just(0), pairs), dilation=st.one_of(st.just(1), pairs), ceil=st.booleans(),
)  # fmt: skip
def test_max_pool2d(shape: Any, dtype: str, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool):
    x = arrays(shape, dtype, 0)
    pair = both("max_pool2d", x, kernel, stride, padding, dilation, ceil, return_indices=True)
    if pair is None:
        return
    (y, at), (expected, places) = pair
    compare(y, expected, 0)
    if windows_without_cells(x, kernel, padding, dilation):
        at = konv.where(at < 0, konv.from_numpy(places.numpy()), at)
    compare(at, places, 0)


@WIDE
@given(
    shape=shapes, dtype=st.sampled_from([*DTYPES, "int64"]), kernel=pairs, stride=st.one_of(st.none(), pairs),
    padding=st.one_of(st.just(0), pairs), ceil=st.booleans(), count=st.booleans(),
    divisor=st.sampled_from([None, None, 3, -2, 0]),
)  # fmt: skip
def test_avg_pool2d(
    shape: Any, dtype: str, kernel: Any, stride: Any, padding: Any, ceil: bool, count: bool, divisor: Any
):
    if len(shape) == 2:
        return  # PyTorch: an IndexError about dimensions; konv: a ShapeError
    pair = both("avg_pool2d", arrays(shape, dtype, 0), kernel, stride, padding, ceil, count, divisor)
    if pair is not None:
        compare(*pair, TOLERANCE[dtype])


@WIDE
@given(
    name=st.sampled_from(["adaptive_avg_pool2d", "adaptive_max_pool2d"]), shape=shapes,
    dtype=st.sampled_from([*DTYPES, "int64"]), size=st.one_of(
        st.integers(-1, 12), st.tuples(*[st.one_of(st.none(), st.integers(0, 12))] * 2), st.tuples(st.integers(1, 3)),
        st.tuples(*[st.integers(1, 3)] * 3),
    ),
)  # fmt: skip
def test_adaptive(name: str, shape: Any, dtype: str, size: Any):
    if isinstance(size, tuple) and len(size) != 2 and name == "adaptive_max_pool2d":
        return  # PyTorch: an internal assertion
    if name == "adaptive_avg_pool2d" and (size == 1 or size == (1, 1)) and (0 in shape[-2:] or dtype == "int64"):
        return  # PyTorch takes the mean there, which is NaN for no cells
    nothing = size == 0 or (isinstance(size, tuple) and 0 in size)
    if (0 in shape and nothing) or (dtype == "int64" and (0 in shape or nothing)):
        return  # PyTorch has no objection where there is nothing to compute
    if len(shape) == 2 and (name == "adaptive_avg_pool2d" or (isinstance(size, tuple) and None in size)):
        return  # PyTorch takes some of them, and refuses others as ValueError
    pair = both(name, arrays(shape, dtype, 0), size)
    if pair is not None:
        compare(*pair, TOLERANCE[dtype])


@WIDE
@given(
    name=st.sampled_from(["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"]),
    dtype=st.sampled_from(DTYPES[:2]), h=st.integers(5, 20), w=st.integers(5, 20), data=st.data(),
)  # fmt: skip
def test_gradients_of_pooling(name: str, dtype: str, h: int, w: int, data: Any):
    x = arrays((2, 3, h, w), dtype, 1)
    few = st.tuples(st.integers(1, 3), st.integers(1, 3))
    options: list[Any] = [data.draw(few), data.draw(few), data.draw(st.tuples(*[st.integers(0, 0)] * 2))]
    if name.startswith("adaptive"):
        options = [data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))]
    else:
        options[2] = tuple(data.draw(st.integers(0, k // 2)) for k in options[0])
        options += [data.draw(st.sampled_from([1, (1, 2)]))] if name == "max_pool2d" else []
        options += [data.draw(st.booleans())]
    mine, theirs = konv.from_numpy(x).requires_grad_(), torch.from_numpy(x).requires_grad_()
    y, expected = getattr(F, name)(mine, *options), getattr(TF, name)(theirs, *options)
    gradients_agree(y, expected, x, (mine, theirs), TOLERANCE[dtype] * 10)


vectors = st.sampled_from(["right", "right", "right", "none", "long", "double"])


def vector(kind: str, channels: int, dtype: str, seed: int) -> Any:
    if kind == "none":
        return None
    length, kept = (channels + 1, dtype) if kind == "long" else (channels, "float64" if kind == "double" else dtype)
    return np.abs(arrays((length,), kept, seed)) + np.asarray(0.5, kept)


def tensors(module: Any, values: list[Any]) -> list[Any]:
    return [None if v is None else module.from_numpy(v.copy()) for v in values]


def normalised(call: Any, x: Any, values: list[Any], dtype: str) -> None:
    """``call(functional, input, *vectors)`` by both, and the vectors afterwards."""
    mine, theirs = tensors(konv, [x, *values]), tensors(torch, [x, *values])
    found, expected = outcome(call, F, *mine), outcome(call, TF, *theirs)
    if isinstance(expected, Exception):
        builtin = next(t for t in type(expected).__mro__ if t.__module__ == "builtins")
        assert isinstance(found, builtin), f"{found!r} instead of {expected!r}"
        return
    assert not isinstance(found, Exception), f"PyTorch allows it: {found!r}"
    tolerance = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2}[dtype]
    compare(found, expected, tolerance)
    for one, other in zip(mine[1:], theirs[1:], strict=True):
        if one is not None:
            compare(one, other, tolerance)


channels_first = st.one_of(
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)),
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
)


@WIDE
@given(
    shape=channels_first, dtype=st.sampled_from(DTYPES), kinds=st.tuples(*[vectors] * 3), training=st.booleans(),
    momentum=st.sampled_from([0.1, 1.0, 0.0]), eps=st.sampled_from([1e-5, 1e-2]),
)  # fmt: skip
def test_batch_norm(shape: Any, dtype: str, kinds: Any, training: bool, momentum: float, eps: float):
    running, weight, bias = kinds
    if dtype == "float16" and "double" in kinds:
        return  # PyTorch mixes these without a word
    x = arrays(shape, dtype, 0)
    values = [vector(k, shape[1], dtype, i) for i, k in enumerate((running, running, weight, bias))]
    normalised(
        lambda f, x, m, v, w, b: f.batch_norm(x, m, v, w, b, training=training, momentum=momentum, eps=eps),
        x, values, dtype,
    )  # fmt: skip


@WIDE
@given(shape=channels_first, dtype=st.sampled_from(DTYPES), kinds=st.tuples(*[vectors] * 2), groups=st.integers(1, 4))
def test_group_norm(shape: Any, dtype: str, kinds: Any, groups: int):
    if dtype == "float16" and "double" in kinds:
        return
    values = [vector(k, shape[1], dtype, i) for i, k in enumerate(kinds)]
    normalised(lambda f, x, w, b: f.group_norm(x, groups, w, b), arrays(shape, dtype, 0), values, dtype)


@WIDE
@given(shape=channels_first, groups=st.sampled_from([None, 1, 2]), training=st.booleans())
def test_gradients_of_normalisation(shape: Any, groups: int | None, training: bool):
    c = shape[1]
    if (groups and c % groups) or np.prod(shape) // (groups or c) < 3:
        return
    values = [np.random.default_rng(i).standard_normal(s) for i, s in enumerate((shape, (c,), (c,), (c,), shape))]
    values[3] = values[3] ** 2 + 0.5

    def run(module: Any, functional: Any) -> list[Any]:
        x, w, b, var, gy = (module.from_numpy(v.copy()) for v in values)
        for leaf in (x, w, b):
            leaf.requires_grad_()
        mean = b.detach().clone()
        y = functional.group_norm(x, groups, w, b) if groups else functional.batch_norm(x, mean, var, w, b, training)
        first = module.autograd.grad(y, (x, w, b), gy, create_graph=True)
        second = module.autograd.grad((first[0] * gy).sum() + (first[1] * first[1]).sum(), (x, w))
        return [y, *first, *second]

    for mine, theirs in zip(run(konv, F), run(torch, TF), strict=True):
        scale = float(theirs.detach().abs().max()) + 1
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), atol=1e-7 * scale)


LAYERS = ["MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "BatchNorm1d", "BatchNorm2d", "GroupNorm"]


@pytest.mark.parametrize("name", LAYERS)
def test_signatures(name: str):
    mine, theirs = (inspect.signature(getattr(m.nn, name)).parameters for m in (konv, torch))
    assert list(mine) == list(theirs)
    assert [p.default for p in mine.values()] == [p.default for p in theirs.values()]


@pytest.mark.parametrize(
    "name", ["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "batch_norm", "group_norm"]
)
def test_function_arguments_have_the_same_names(name: str):
    x = {"input": np.ones((2, 4, 6, 6), np.float32)}
    options: dict[str, Any] = {
        "max_pool2d": {
            "kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": True, "return_indices": False,
        },
        "avg_pool2d": {
            "kernel_size": 2, "stride": 2, "padding": 0, "ceil_mode": True, "count_include_pad": True,
            "divisor_override": None,
        },
        "adaptive_avg_pool2d": {"output_size": 2},
        "adaptive_max_pool2d": {"output_size": 2, "return_indices": False},
        "batch_norm": {
            "running_mean": None, "running_var": None, "weight": None, "bias": None, "training": True, "momentum": 0.1,
            "eps": 1e-5,
        },
        "group_norm": {"num_groups": 2, "weight": None, "bias": None, "eps": 1e-5},
    }[name]  # fmt: skip
    mine = getattr(F, name)(konv.from_numpy(x["input"]), **options)
    theirs = getattr(TF, name)(torch.from_numpy(x["input"]), **options)
    compare(mine, theirs, 1e-6)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_layer_follows_pytorchs_over_batches(momentum: float | None):
    mine, theirs = konv.nn.BatchNorm2d(3, momentum=momentum), torch.nn.BatchNorm2d(3, momentum=momentum)
    for seed in range(4):
        x = arrays((4, 3, 5, 5), "float32", seed)
        compare(mine(konv.from_numpy(x)), theirs(torch.from_numpy(x)), 1e-4)
    mine.eval(), theirs.eval()
    compare(mine(konv.from_numpy(x)), theirs(torch.from_numpy(x)), 1e-4)
    for (name, one), (other_name, other) in zip(mine.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == other_name
        compare(one, other, 1e-5)
    assert repr(mine) == repr(theirs)


def test_relu_of_special_values():
    x = np.array([np.nan, -np.inf, np.inf, -1.0, 0.0, 2.0], np.float32)
    compare(konv.relu(konv.from_numpy(x)), torch.relu(torch.from_numpy(x)), 0)
