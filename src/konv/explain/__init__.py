"""What a layer or a model does, in words and numbers: shapes, cost, receptive fields, hints.

What tracing needs is imported when it is first asked for, so that ``import konv`` stays quick.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .solve import solve

if TYPE_CHECKING:
    from .trace import Field, LayerReport, ModelReport

__all__ = ["explain", "receptive_field", "solve"]


def explain(x: Any, input_shape: Any, *, dtype: Any = None, measure: bool = False) -> LayerReport | ModelReport:
    """Say what a layer or a model makes of an input: sizes step by step, cost, receptive fields, hints.

    Nothing is computed (unless ``measure``) and no memory is used: the model's copy runs on the meta device, so an
    input of any size may be asked about. The model itself stays as it is.

    Args:
        x: a Module, or text such as ``"Conv2d(3, 64, 5, stride=2, padding=2)"``, which is parsed, never evaluated.
        input_shape: sizes of the input, (N, C, H, W) or (C, H, W) for images.
        dtype: of the input; by default that of the model's weights.
        measure: also time a single layer here, against this machine's measured peaks.

    Returns:
        A ``LayerReport`` for one convolution or pooling layer, else a ``ModelReport``: frozen dataclasses with
        ``to_dict()``, ``to_json()`` and ``to_html()``; ``str()`` is a report to read.

    Raises:
        ArgumentError: the text is no layer. ShapeError: the input does not fit, with the layer and a hint.

    Example:
        >>> import konv
        >>> report = konv.explain("Conv2d(3, 64, 5, stride=2, padding=2)", (8, 3, 28, 28))
        >>> report.output_shape, report.cost.parameters, report.cost.multiply_adds
        ((8, 64, 14, 14), 4864, 7526400)
        >>> print(report.axes[0].steps[2])
        output = floor((padded - extent) / stride) + 1 = floor((32 - 5) / 2) + 1 = floor(13.5) + 1 = 14
    """
    from .entry import explained

    return explained(x, input_shape, dtype, measure)


def receptive_field(model: Any, input_shape: Any, output_index: Any = None) -> Field:
    """The exact rectangle of input pixels that one unit of a model's output depends on.

    The unit's cells are followed backwards through every operation, with padding modes and edges; at a join the
    rectangle that holds all branches is meant. Statistics of normalisations are not counted.

    Args:
        model: a Module, or text that describes a layer.
        input_shape: (N, C, H, W) or (C, H, W).
        output_index: index of the unit in the output, negative from the end; shorter ones name the last axes, so
            ``(y, x)`` is a place in every image and channel. By default the middle of the last two axes.

    Raises:
        IndexRangeError: the output has no such unit.

    Example:
        >>> import konv
        >>> down = konv.nn.Conv2d(1, 1, 3, stride=2, padding=((1, 0), (1, 0)))
        >>> net = konv.nn.Sequential(down, konv.nn.Conv2d(1, 1, 3))
        >>> field = konv.receptive_field(net, (1, 1, 28, 28), (0, 0, 0, 2))
        >>> field.rows, field.columns
        ((0, 5), (3, 9))
    """
    from .receptive import receptive_field as found

    return found(model, input_shape, output_index)


class _Package(ModuleType):
    """``konv.explain`` names this package and the function: whichever of them an import finds, it can be called."""

    def __call__(self, x: Any, input_shape: Any, **options: Any) -> LayerReport | ModelReport:
        return explain(x, input_shape, **options)


sys.modules[__name__].__class__ = _Package
