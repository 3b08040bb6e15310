"""The kernels, on plain arrays: the only importer of the compiled core.

Arrays go in as they are: any strides, read-only too; only a foreign byte order or elements off their alignment are
copied. Results are new, contiguous and 64-byte aligned. Shapes and dtypes are checked here and once more at the border
to C++; what has a meaning to a user is checked by the layers above.
"""

from __future__ import annotations

from . import choices, layers
from .arrays import zeros
from .candidates import candidates, contender
from .conv import conv2d, plan, prepare, run
from .gradients import (
    conv2d_grad_bias,
    conv2d_grad_input,
    conv2d_grad_weight,
    grad_input_plan,
    pack_grad_input,
)
from .limits import fma_peak, fma_rates, lanes
from .plans import ConvPlan, describe
from .settings import (
    available_isas,
    current_isa,
    force_plan,
    get_float32_precision,
    set_float32_precision,
    settings_version,
    use_isa,
)
from .threads import cores, get_num_threads, set_num_threads

__all__ = [
    "choices",
    "layers",
    "ConvPlan",
    "candidates",
    "contender",
    "conv2d",
    "conv2d_grad_bias",
    "conv2d_grad_input",
    "conv2d_grad_weight",
    "cores",
    "describe",
    "grad_input_plan",
    "pack_grad_input",
    "fma_peak",
    "fma_rates",
    "lanes",
    "plan",
    "prepare",
    "run",
    "zeros",
    "available_isas",
    "current_isa",
    "force_plan",
    "get_float32_precision",
    "get_num_threads",
    "set_float32_precision",
    "set_num_threads",
    "settings_version",
    "use_isa",
]
