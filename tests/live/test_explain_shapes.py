"""What konv.explain says of sizes and weights against PyTorch's own layers on its meta device."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

import konv
from konv.errors import KonvError


def options(rng: random.Random) -> dict[str, Any]:
    groups = rng.choice([1, 1, 2, 4])
    chosen: dict[str, Any] = {
        "in_channels": groups * rng.randint(1, 3),
        "out_channels": groups * rng.randint(1, 3),
        "kernel_size": (rng.randint(1, 7), rng.randint(1, 7)),
        "stride": (rng.randint(1, 4), rng.randint(1, 4)),
        "padding": (rng.randint(0, 5), rng.randint(0, 5)),
        "dilation": (rng.randint(1, 3), rng.randint(1, 3)),
        "groups": groups,
        "bias": rng.random() < 0.5,
    }
    if rng.random() < 0.2:
        chosen |= {"padding": "same", "stride": 1}
    return chosen


def spec(name: str, chosen: dict[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in chosen.items())})"


def compare(name: str, chosen: dict[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether PyTorch took it; konv must then agree, and refuse what PyTorch refuses."""
    layer = getattr(torch.nn, name)(**chosen, **({"device": "meta"} if "Pool" not in name else {}))
    try:
        made = layer(torch.empty(shape, device="meta"))
    except RuntimeError:
        with pytest.raises(KonvError):
            konv.explain(spec(name, chosen), shape)
        return False
    if 0 in made.shape[-2:]:  # the meta device lets pass what the CPU refuses
        return False
    report = konv.explain(spec(name, chosen), shape)
    assert report.output_shape == tuple(made.shape)
    if "Pool" not in name:
        assert report.weight.shape == tuple(layer.weight.shape)
        assert report.cost.parameters == sum(p.numel() for p in layer.parameters())
    return True


@pytest.mark.parametrize("seed", range(10))
def test_conv2d(seed: int) -> None:
    rng = random.Random(seed)
    taken = 0
    for _ in range(200):
        chosen = options(rng)
        shape = (rng.randint(0, 3), chosen["in_channels"], rng.randint(1, 40), rng.randint(1, 40))[rng.randint(0, 1) :]
        taken += compare("Conv2d", chosen, shape)
    assert taken > 100


@pytest.mark.parametrize("seed", range(5))
def test_conv_transpose2d(seed: int) -> None:
    rng = random.Random(seed)
    taken = 0
    for _ in range(200):
        chosen = options(rng)
        chosen["padding"] = chosen["padding"] if isinstance(chosen["padding"], tuple) else 1
        chosen["output_padding"] = rng.randint(0, 1)
        stride, dilation = chosen["stride"], chosen["dilation"]
        if isinstance(stride, int) or any(max(s, d) < 2 for s, d in zip(stride, dilation, strict=True)):
            chosen["output_padding"] = 0
        shape = (rng.randint(1, 3), chosen["in_channels"], rng.randint(1, 20), rng.randint(1, 20))
        taken += compare("ConvTranspose2d", chosen, shape)
    assert taken > 100


@pytest.mark.parametrize("name", ["MaxPool2d", "AvgPool2d"])
def test_pooling(name: str) -> None:
    rng = random.Random(3)
    taken = 0
    for _ in range(1000):
        kernel = (rng.randint(1, 5), rng.randint(1, 5))
        chosen: dict[str, Any] = {"kernel_size": kernel, "stride": (rng.randint(1, 4), rng.randint(1, 4))}
        chosen |= {"padding": rng.randint(0, min(kernel) // 2), "ceil_mode": rng.random() < 0.5}
        taken += compare(name, chosen, (2, 3, rng.randint(1, 24), rng.randint(1, 24)))
    assert taken > 500


def test_solve_gives_layers_that_pytorch_agrees_with() -> None:
    rng = random.Random(4)
    for _ in range(60):
        size, wanted, transposed = rng.randint(1, 64), rng.randint(1, 64), rng.random() < 0.4
        for answer in konv.solve(size, wanted, transposed=transposed, limit=20):
            name, _, rest = answer.call(2, 3).partition("(")
            layer = eval(f"torch.nn.{name}({rest[:-1]}, device='meta')")
            assert layer(torch.empty(1, 2, size, size, device="meta")).shape == (1, 3, wanted, wanted)
