"""Nodes that are a layer of konv: what has weights of its own, and pooling whose padding konv's layers know.

Each builder gives a module that takes the node's first input, or None where only the operation fits (``ops``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from .. import nn
from ..nn.module import Module
from ..nn.parameter import Parameter
from ..tensor import Tensor
from .node import Node


class Weights:
    """The numbers of a file by name, as parameters; who asks twice for one gets the same."""

    def __init__(self, constants: dict[str, Tensor]) -> None:
        self.constants = constants
        self.made: dict[tuple[str, bool], Parameter] = {}

    def parameter(self, name: str, turned: bool = False) -> Parameter:
        """The parameter of a name; ``turned``: a matrix, with its axes exchanged."""
        if (name, turned) not in self.made:
            data = self.constants[name]
            parameter = Parameter(data.t().detach() if turned else data, data.dtype.is_floating_point)
            self.made[name, turned] = parameter
        return self.made[name, turned]


Builder = Callable[[Node, Weights], Module | None]


def _weights(node: Node, weights: Weights) -> tuple[Parameter, Parameter | None]:
    """Weight and bias of a convolution.

    Raises:
        UnsupportedError: the graph computes them.
        FileError: a shape that is none of a convolution's.
    """
    for name in node.inputs[1:]:
        if name and name not in weights.constants:
            raise node.refusal(f"its weight {name!r} is computed", "konv reads layers whose weights stand in the file")
    weight = weights.parameter(node.inputs[1])
    if weight.ndim != 4:
        raise node.refusal(f"its weight has {weight.ndim} dimensions", "konv convolves images: weights have four")
    kernel = tuple(weight.shape[2:])
    if node.get("kernel_shape", kernel) != kernel:
        raise node.damage(f"kernel_shape={node.get('kernel_shape', kernel)}", f"the weight's is {kernel}")
    return weight, weights.parameter(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None


def _with(layer: Any, weight: Parameter, bias: Parameter | None) -> Module:
    layer.weight, layer.bias = weight, bias
    return layer


def conv(node: Node, weights: Weights) -> Module:
    """Conv."""
    weight, bias = _weights(node, weights)
    made, each, *kernel = weight.shape
    groups = node.get("group", 1)
    options = {"stride": node.pair("strides", 1), "padding": node.padding(), "dilation": node.pair("dilations", 1)}
    layer = nn.Conv2d(
        each * groups, made, tuple(kernel), groups=groups, bias=bias is not None, device="meta", **options
    )
    return _with(layer, weight, bias)


def conv_transpose(node: Node, weights: Weights) -> Module | None:
    """ConvTranspose, but for an output shape that is given instead of padding."""
    weight, bias = _weights(node, weights)
    given, each, *kernel = weight.shape
    stride, dilation, extra = node.pair("strides", 1), node.pair("dilations", 1), node.pair("output_padding", 0)
    if "output_shape" in node.attributes:
        raise node.refusal("output_shape is set", "konv reads pads and output_padding", "export it with those")
    padding: Any = node.padding()
    if isinstance(padding, str):  # the output is stride times the input: what is over is cut from both sides
        pads = []
        for axis in range(2):
            over = dilation[axis] * (kernel[axis] - 1) + 1 + extra[axis] - stride[axis]
            if over < 0:
                raise node.refusal(f"auto_pad with stride {stride} past the kernel", "there is nothing to cut")
            less, more = over // 2, over - over // 2
            pads.append((less, more) if padding == "same_upper" else (more, less))
        padding = tuple(pads)
    groups = node.get("group", 1)
    layer = nn.ConvTranspose2d(
        given, each * groups, tuple(kernel), stride, padding, extra, groups, bias is not None, dilation, device="meta"
    )
    return _with(layer, weight, bias)


def gemm(node: Node, weights: Weights) -> Module | None:
    """Gemm that multiplies by a matrix of the file and adds a vector of it."""
    matrix, *rest = node.inputs[1:]
    vector = rest[0] if rest else ""
    plain = node.get("alpha", 1.0) == 1 and node.get("beta", 1.0) == 1 and not node.get("transA", 0)
    constants = weights.constants
    if not plain or matrix not in constants or (vector and vector not in constants) or constants[matrix].ndim != 2:
        return None
    weight = weights.parameter(matrix, turned=not node.get("transB", 0))
    made, given = weight.shape
    if vector and tuple(constants[vector].shape) != (made,):
        return None
    layer = nn.Linear(given, made, bool(vector), device="meta")
    return _with(layer, weight, weights.parameter(vector) if vector else None)


def pool(kind: Any) -> Builder:
    """MaxPool and AveragePool with the same padding on both sides, at most half the window."""

    def build(node: Node, weights: Weights) -> Module | None:
        kernel, padding = node.pair("kernel_shape", 0), node.padding()
        if isinstance(padding, str) or node.used_outputs > 1:
            return None
        if any(before != after or 2 * before > k for (before, after), k in zip(padding, kernel, strict=True)):
            return None
        options: dict[str, Any] = {"stride": node.pair("strides", 1), "padding": tuple(side for side, _ in padding)}
        options["ceil_mode"] = bool(node.get("ceil_mode", 0))
        dilation = node.pair("dilations", 1)
        if kind is nn.MaxPool2d:
            options["dilation"] = dilation
        elif dilation != (1, 1):
            return None
        else:
            options["count_include_pad"] = bool(node.get("count_include_pad", 0))
        return kind(kernel, **options)

    return build


BUILDERS: Final[dict[str, Builder]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MaxPool": pool(nn.MaxPool2d),
    "AveragePool": pool(nn.AvgPool2d),
}
