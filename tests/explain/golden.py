"""Reports pinned as text: what people read changes only on purpose.

``python tests/explain/golden.py`` writes the files anew; look at the difference before committing it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import konv
from konv import nn
from konv.models import SimpleCNN

FOLDER = Path(__file__).parents[1] / "golden" / "explain"


class Bottleneck(nn.Module):
    """A residual block with a path of its own for the identity."""

    def __init__(self, channels: int, inner: int, made: int, stride: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.conv = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, made, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, made, 1, stride=stride, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Any) -> Any:
        y = self.act(self.norm(self.conv(self.act(self.reduce(x)))))
        return self.act(self.expand(y) + self.shortcut(x))


class UNet(nn.Module):
    """Down, up, and a concatenation across."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1 = nn.Conv2d(1, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.enc2 = nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.dec = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Any) -> Any:
        a = self.enc1(x).relu()
        b = self.enc2(self.pool(a)).relu()
        return self.dec(konv.cat([a, self.up(b)], 1)).sigmoid()


def mobile() -> nn.Module:
    """Depthwise and pointwise layers, squeeze and excitation left out."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.Hardswish(),
        nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False),
        nn.Conv2d(16, 33, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(33, 10),
    )


LAYERS = {
    "conv_stride": ("Conv2d(3, 64, 5, stride=2, padding=2)", (8, 3, 28, 28)),
    "conv_same_even": ("Conv2d(4, 6, (4, 3), padding='same', dilation=(2, 1))", (1, 4, 15, 20)),
    "conv_same_upper": ("Conv2d(8, 8, 3, stride=2, padding='same_upper')", (1, 8, 224, 224)),
    "conv_same_lower": ("Conv2d(4, 8, (3, 2), stride=(2, 3), padding='same_lower', groups=4)", (4, 28, 31)),
    "conv_asymmetric": ("Conv2d(1, 2, 3, stride=3, padding=((2, 0), (0, 1)), bias=False)", (1, 1, 9, 9)),
    "conv_groups": ("Conv2d(12, 24, 3, groups=12, padding_mode='reflect', padding=1)", (2, 12, 32, 32)),
    "conv_skips": ("Conv2d(16, 33, 2, stride=(3, 4), padding=(3, 0))", (20, 16, 50, 103)),
    "conv_transposed": ("ConvTranspose2d(16, 33, 3, stride=2, padding=1, output_padding=1)", (1, 16, 14, 14)),
    "max_pool_ceil": ("MaxPool2d(3, stride=2, ceil_mode=True)", (1, 64, 111, 111)),
    "avg_pool": ("AvgPool2d((2, 3))", (1, 8, 9, 9)),
}
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "model_simple_cnn": (SimpleCNN, (4, 1, 28, 28)),
    "model_bottleneck": (lambda: nn.Sequential(Bottleneck(16, 8, 32, 2), Bottleneck(32, 8, 32, 1)), (1, 16, 31, 31)),
    "model_unet": (UNet, (1, 1, 32, 48)),
    "model_mobile": (mobile, (1, 3, 96, 96)),
}


def text(name: str) -> str:
    """A report without what depends on the machine: no plan, and vectors of 16 numbers."""
    marks = importlib.import_module("konv.explain.marks")
    with mock.patch.object(marks, "lanes", return_value=16):
        if name in LAYERS:
            report = konv.explain(*LAYERS[name])
            return str(replace(report, plan=None)) + "\n"
        make, shape = MODELS[name]
        return str(konv.explain(make(), shape)) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in (*LAYERS, *MODELS):
        (FOLDER / f"{each}.txt").write_text(text(each), encoding="utf-8")
    print(f"{len(LAYERS) + len(MODELS)} files in {FOLDER}")
