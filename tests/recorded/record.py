"""Records what PyTorch 2.13 computes, so that `make test` can compare without it.

    pip install torch==2.13.0 && python tests/recorded/record.py

Inputs are small whole numbers: every sum is exact in every dtype's accumulator, so the records hold whole numbers too
and stay small. `conv2d.npz` has two flat arrays, inputs (int8) and results (int32), and `cases`, a JSON list that says
how to cut them. `calls.json` has calls as text, with the exception or the shape and dtype that PyTorch gives.
(`record_random.py` records the random stream.)
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
CASES = 400
DTYPES = ("float32", "float64", "complex64", "complex128", "float16", "bfloat16", "int64", "int32", "int16", "uint8")


def random_case(rng: random.Random) -> dict[str, Any]:
    """Options of one layer and one input that fit each other."""
    groups = rng.choice([1, 1, 1, 2, 3, 4])
    per_group = rng.choice([1, 1, 2, 3])
    depthwise = rng.random() < 0.2
    if depthwise:
        groups, per_group = rng.choice([2, 5, 8]), 1
    case: dict[str, Any] = {
        "in_channels": groups * per_group,
        "out_channels": groups * rng.choice([1, 2, 3]),
        "kernel_size": [rng.choice([1, 2, 3, 3, 5]), rng.choice([1, 2, 3, 3, 4, 7])],
        "stride": [rng.choice([1, 1, 2, 3]), rng.choice([1, 1, 2])],
        "padding": [rng.choice([0, 1, 2]), rng.choice([0, 1, 3])],
        "dilation": [rng.choice([1, 1, 1, 2, 3]), rng.choice([1, 1, 2])],
        "groups": groups,
        "bias": rng.random() < 0.7,
        "padding_mode": rng.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]),
    }
    if rng.random() < 0.15:
        case["stride"], case["padding"] = [1, 1], rng.choice(["same", "valid"])
    case["dtype"] = rng.choice(DTYPES[:2] * 4 + DTYPES)
    batch = rng.choice([None, 1, 2, 3])
    size = [rng.randint(1, 11), rng.randint(1, 13)]
    case["input"] = ([] if batch is None else [batch]) + [case["in_channels"], *size]
    return case


def whole(rng: np.random.Generator, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[np.ndarray, torch.Tensor]:
    """Whole numbers from -4 to 4 (0 to 4 unsigned; real and imaginary part for complex) as int8 and as a tensor."""
    parts = (*shape, 2) if dtype.is_complex else shape
    numbers = rng.integers(0 if dtype == torch.uint8 else -4, 5, parts).astype(np.int8)
    tensor = torch.from_numpy(numbers.astype(np.float64))
    return numbers, (torch.view_as_complex(tensor) if dtype.is_complex else tensor).to(dtype)


def as_whole(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().resolve_conj()
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    numbers = real.to(torch.float64).numpy()
    assert (numbers == np.rint(numbers)).all()
    return numbers.astype(np.int32).ravel()


def record_case(case: dict[str, Any], seed: int) -> tuple[list[np.ndarray], list[np.ndarray]] | None:
    """Inputs (x, weight, bias, grad) and results (y, dx, dweight, dbias); None where PyTorch refuses."""
    rng = np.random.default_rng(seed)
    dtype = getattr(torch, case["dtype"])
    options = {name: value for name, value in case.items() if name not in ("dtype", "input")}
    floating = dtype.is_floating_point or dtype.is_complex
    try:
        layer = nn.Conv2d(**options, dtype=torch.float32, device="meta")
        out_shape = layer(torch.empty(case["input"], device="meta")).shape
        # The layer itself makes no integer parameters; PyTorch's function takes them.
        parameters = [whole(rng, tuple(p.shape), dtype) for p in layer.parameters()]
        x8, x = whole(rng, tuple(case["input"]), dtype)
        weight, bias = parameters[0][1], (parameters[1][1] if case["bias"] else None)
        leaves = [t.requires_grad_(floating) for t in (x, weight, bias) if t is not None]
        layer = layer.to_empty(device="cpu")
        y = layer._conv_forward(x, weight, bias)
        assert y.shape == out_shape
        grad8, grad = whole(rng, tuple(y.shape), dtype)
        grads = torch.autograd.grad(y, leaves, grad) if floating else ()
    except (RuntimeError, ValueError):
        return None
    inputs = [x8, *(numbers for numbers, _ in parameters), grad8]
    return [array.ravel() for array in inputs], [as_whole(tensor) for tensor in (y, *grads)]


def record_conv2d() -> None:
    rng = random.Random(20)
    cases, inputs, results = [], [], []
    while len(cases) < CASES:
        case = random_case(rng)
        recorded = record_case(case, len(cases))
        if recorded is None:
            continue
        case["output"] = int(recorded[1][0].size)
        cases.append(case)
        inputs += recorded[0]
        results += recorded[1]
    np.savez_compressed(
        HERE / "conv2d.npz",
        cases=np.frombuffer(json.dumps(cases).encode(), np.uint8),
        inputs=np.concatenate(inputs),
        results=np.concatenate(results),
    )


# Calls on small things, right and wrong, as text; `torch`, `nn` and `F` stand for PyTorch or for konv.
CALLS = [
    *(f"nn.Conv2d({arguments})" for arguments in (
        "3, 8, 3, groups=2", "4, 6, 3, groups=4", "3, 8, 3, groups=0", "3, 8, 3, groups=-1", "3, 8, 3, padding='full'",
        "3, 8, 3, stride=2, padding='same'", "3, 8, 3, padding_mode='mirror'", "3, 8, 3.5", "'3', 8, 3", "3, 8, None",
        "3, -8, 3", "3, 8", "3, 8, 3, device='nowhere'", "3, 8, 3, dtype=torch.int64",
    )),
    *(f"nn.Conv2d(3, 8, 3)(torch.zeros({shape}))" for shape in (
        "1, 3, 8, 8", "3, 8, 8", "8, 8", "1, 1, 3, 8, 8", "1, 1, 8, 8", "1, 3, 2, 8", "0, 3, 8, 8", "1, 3, 0, 8",
    )),
    "nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 8, 8, dtype=torch.float64))",
    "nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 8, 8, dtype=torch.int64))",
    "nn.Conv2d(3, 8, 3)([1, 2])",
    "nn.Conv2d(3, 8, 3, dtype=torch.float64)(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, 3, padding_mode='reflect', padding=8)(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, 3, padding_mode='circular', padding=9)(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, 3, padding_mode='reflect', padding=7)(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, 3, padding_mode='circular', padding=8)(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, 3, padding='same', dilation=3)(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, (2, 4), padding='same')(torch.zeros(1, 3, 8, 8))",
    "nn.Conv2d(3, 8, 3, device='meta')(torch.zeros(1, 3, 8, 8, device='meta'))",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), torch.zeros(7))",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3))",
    "F.conv2d(torch.zeros(1, 4, 8, 8), torch.zeros(8, 3, 3, 3))",
    "F.conv2d(torch.zeros(1, 4, 8, 8), torch.zeros(8, 2, 3, 3), groups=2)",
    "F.conv2d(torch.zeros(1, 4, 8, 8), torch.zeros(9, 2, 3, 3), groups=2)",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), stride=0)",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), padding=-1)",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), dilation=0)",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), stride=(1, 2, 3))",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), padding='same', stride=2)",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3), padding='wide')",
    "F.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(8, 3, 3, 3, dtype=torch.float64))",
    "F.max_pool2d(torch.zeros(1, 3, 8, 8), 3, 2)",
    "F.max_pool2d(torch.zeros(1, 3, 8, 8), 3, padding=2)",
    "F.avg_pool2d(torch.zeros(1, 3, 8, 8), 9)",
    "nn.Linear(4, 5)(torch.zeros(2, 3))",
    "nn.BatchNorm2d(4)(torch.zeros(2, 3, 4, 4))",
    "nn.BatchNorm2d(3)(torch.zeros(2, 3, 4))",
    "nn.CrossEntropyLoss()(torch.zeros(2, 3), torch.tensor([0, 3]))",
    "torch.zeros(2, 3) @ torch.zeros(2, 3)",
    "torch.zeros(2, 3) + torch.zeros(4)",
    "torch.zeros(2, 3).view(5)",
    "torch.zeros(2, 3).reshape(-1, 4)",
    "torch.cat([torch.zeros(2, 3), torch.zeros(3, 3)], 1)",
    "torch.zeros(2, 3).permute(0, 0)",
    "torch.zeros(2)[2]",
    "torch.zeros(2, requires_grad=True).numpy()",
    "torch.zeros(2).backward()",
    "torch.ones(2, dtype=torch.int64).requires_grad_()",
    "torch.ones(2, dtype=torch.int64) + 1.5",
    "torch.ones(2, dtype=torch.float16) + torch.ones(2, dtype=torch.bfloat16)",
    "torch.ones(2, dtype=torch.uint8) * torch.ones(2, dtype=torch.int8)",
]  # fmt: skip


def outcome(call: str) -> list[Any]:
    """[exception's built-in type] or [shape, dtype]."""
    try:
        result = eval(call, {"torch": torch, "nn": nn, "F": F})
    except Exception as error:
        return [next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")]
    return [list(result.shape), str(result.dtype)] if isinstance(result, torch.Tensor) else ["made"]


if __name__ == "__main__":
    assert torch.__version__.startswith("2.13."), torch.__version__
    record_conv2d()
    lines = [f"  {json.dumps(call)}: {json.dumps(outcome(call))}" for call in CALLS]
    (HERE / "calls.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
