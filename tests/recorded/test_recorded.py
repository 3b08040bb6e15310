"""Replays what PyTorch 2.13 computed (see record.py); needs no PyTorch."""

from __future__ import annotations

import builtins
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import konv
from konv import nn
from konv.nn import functional as F

HERE = Path(__file__).parent
CALLS = json.loads((HERE / "calls.json").read_text())

# Largest error as a share of the largest result. The records are whole numbers: direct sums meet them exactly, and
# only the rounding of a transform, or of a half-precision result, may stand between.
TOLERANCES = {"float32": 1e-5, "float64": 1e-12, "complex64": 1e-5, "complex128": 1e-12}
TOLERANCES |= {"float16": 2**-11, "bfloat16": 2**-8}


def load_cases() -> list[dict[str, Any]]:
    with np.load(HERE / "conv2d.npz") as file:
        cases, flat, results = json.loads(file["cases"].tobytes()), file["inputs"], file["results"]
    position = {"inputs": 0, "results": 0}

    def cut(name: str, shape: tuple[int, ...], parts: int) -> np.ndarray[Any, Any]:
        array = {"inputs": flat, "results": results}[name]
        start = position[name]
        position[name] += math.prod(shape) * parts
        whole = array[start : position[name]].astype(np.float64)
        return (whole.view(np.complex128) if parts == 2 else whole).reshape(shape)

    for case in cases:
        parts = 2 if case["dtype"].startswith("complex") else 1
        differentiable = case["dtype"].startswith(("float", "bfloat", "complex"))
        weight = (case["out_channels"], case["in_channels"] // case["groups"], *case["kernel_size"])
        shapes = [tuple(case["input"]), weight, *([(case["out_channels"],)] if case["bias"] else [])]
        layer = nn.Conv2d(**options(case), device="meta")
        out = tuple(layer(konv.zeros(case["input"], device="meta")).shape)
        assert math.prod(out) * parts == case["output"], case
        case["arrays"] = [cut("inputs", shape, parts) for shape in [*shapes, out]]
        case["expected"] = [cut("results", shape, parts) for shape in [out, *(shapes if differentiable else [])]]
    assert position == {"inputs": flat.size, "results": results.size}
    return cases


def options(case: dict[str, Any]) -> dict[str, Any]:
    names = "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode"
    return {name: case[name] for name in names.split()}


@pytest.fixture(scope="module")
def cases() -> list[dict[str, Any]]:
    return load_cases()


def compute(case: dict[str, Any]) -> list[konv.Tensor]:
    """Output, then the gradients of input, weight and bias where there are any."""
    dtype = getattr(konv, case["dtype"])
    *leaves, grad = (konv.from_numpy(array.copy()).to(dtype) for array in case["arrays"])
    layer = nn.Conv2d(**options(case))
    if not (dtype.is_floating_point or dtype.is_complex):
        for name, leaf in zip(["weight", "bias"], leaves[1:], strict=False):
            setattr(layer, name, nn.Parameter(leaf, requires_grad=False))
        return [layer(leaves[0])]
    layer.to(dtype)
    layer.load_state_dict(dict(zip(["weight", "bias"], leaves[1:], strict=False)))
    x = leaves[0].requires_grad_()
    y = layer(x)
    return [y, *konv.autograd.grad(y, (x, *layer.parameters()), grad)]


def test_conv2d_forward_and_gradients(cases: list[dict[str, Any]]) -> None:
    wrong = []
    for index, case in enumerate(cases):
        results = compute(case)
        assert len(results) == len(case["expected"])
        for name, result, expected in zip(("y", "dx", "dw", "db"), results, case["expected"], strict=False):
            assert result.dtype == getattr(konv, case["dtype"])
            wide = konv.complex128 if np.iscomplexobj(expected) else konv.float64
            difference = np.abs(result.detach().to(wide).numpy() - expected)
            limit = TOLERANCES.get(case["dtype"], 0.0) * np.abs(expected).max(initial=0.0)
            if difference.max(initial=0.0) > limit:
                wrong.append((index, name, case["dtype"], float(difference.max()), options(case), case["input"]))
    assert not wrong, f"{len(wrong)} of {len(cases)} cases: {wrong[:5]}"


def test_records_are_not_trivial(cases: list[dict[str, Any]]) -> None:
    assert len(cases) >= 300
    assert {case["padding_mode"] for case in cases} == {"zeros", "reflect", "replicate", "circular"}
    assert len({case["dtype"] for case in cases}) == 10
    assert np.mean([np.count_nonzero(case["expected"][0]) / case["expected"][0].size for case in cases]) > 0.8


@pytest.mark.parametrize("call", CALLS)
def test_calls(call: str) -> None:
    recorded = CALLS[call]
    names = {"torch": konv, "nn": nn, "F": F}
    kind = getattr(builtins, recorded[0]) if len(recorded) == 1 and recorded[0] != "made" else None
    if kind is not None:
        with pytest.raises(kind) as caught:
            eval(call, names)
        assert len(str(caught.value)) > 10
        assert isinstance(caught.value, konv.KonvError) or "argument" in str(caught.value)
        return
    result = eval(call, names)
    if recorded != ["made"]:
        assert [list(result.shape), str(result.dtype)] == recorded
