"""Layers drawn by chance, of the shapes that networks have: what a rule is fitted to and tried on."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from ..geometry import ConvGeometry
from .layers import Layer

BATCHES: Final = (1, 1, 1, 2, 4, 8, 16, 32)
SIDES: Final = (
    5, 7, 8, 9, 10, 12, 13, 14, 15, 16, 19, 20, 24, 26, 27, 28, 32, 35, 38, 40, 48, 52, 56, 60, 64, 75, 76, 80, 96, 100,
    112, 120, 128, 150, 160, 192, 224, 256, 320,
)  # fmt: skip
CHANNELS: Final = (
    3, 8, 10, 12, 16, 20, 24, 30, 32, 36, 40, 48, 56, 64, 72, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 288, 320,
    384, 448, 512, 640, 768,
)  # fmt: skip
OF_A_GROUP: Final = (4, 8, 16, 24, 32, 40, 64)
KERNELS: Final = (
    (1, 1), (3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (2, 2), (4, 4),
)  # fmt: skip
PRODUCTS: Final = (2e6, 600e6)
MOST_BYTES: Final = 40e6  # of image and output


def drawn(seed: int = 0) -> Iterator[Layer]:
    """Layers without end, the same for the same seed: 2 to 600 million products, up to 40 MB.

    Example:
        >>> from itertools import islice
        >>> from konv.bench.drawn import drawn
        >>> [layer.name for layer in islice(drawn(), 2)] == [layer.name for layer in islice(drawn(), 2)]
        True
    """
    pick = random.Random(seed)
    while True:
        layer = _layer(pick)
        products, bytes_ = layer.flops / 2, 4 * layer.batch * _cells(layer)
        if PRODUCTS[0] < products < PRODUCTS[1] and bytes_ < MOST_BYTES:
            yield layer


def _layer(pick: random.Random) -> Layer:
    kernel, batch = pick.choice(KERNELS), pick.choice(BATCHES)
    stride, dilation = pick.choice((1, 1, 1, 2)), pick.choice((1,) * 9 + (2, 3, 4))
    if stride > 1 or kernel == (1, 1):
        dilation = 1
    groups = pick.choice((1,) * 6 + (2, 4, 8, 16, 32)) if kernel == (3, 3) else 1
    inputs, outputs = pick.choice(CHANNELS), pick.choice(CHANNELS)
    if groups > 1:
        inputs, outputs = groups * pick.choice(OF_A_GROUP), groups * pick.choice(OF_A_GROUP)
    padding = tuple(dilation * (k - 1) // 2 for k in kernel)
    reach = max(dilation * (k - 1) + 1 for k in kernel)
    sides = [side for side in SIDES if side >= reach]
    height = pick.choice(sides)
    width = height if pick.random() < 0.7 else pick.choice(sides)
    geometry = ConvGeometry.of(inputs, outputs, kernel, stride, padding, dilation, groups)
    words = f"{batch} {inputs} {height} {width} {outputs} {kernel[0]} {kernel[1]} {stride} {dilation} {groups}"
    return Layer(words.replace(" ", "-"), batch, height, width, geometry)


def _cells(layer: Layer) -> int:
    _, c, h, w = layer.input_shape
    _, oc, oh, ow = layer.output_shape
    return c * h * w + oc * oh * ow
