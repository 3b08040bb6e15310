"""konv: two-dimensional convolution on the CPU, with everything around it that a network needs.

PyTorch's names and meanings: ``import konv as torch`` runs what was written for it, as far as konv goes. What stands
in ``_LATER`` is loaded when it is first asked for, so that a program that needs a part of konv starts at once.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING

from . import (
    autograd as autograd,
    backends as backends,
    errors as errors,
    geometry as geometry,
    random as random,
)
from ._version import __version__ as __version__
from .autograd import (
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    is_grad_enabled as is_grad_enabled,
    is_inference_mode_enabled as is_inference_mode_enabled,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)
from .dtypes import (
    bfloat16 as bfloat16,
    bool as bool,
    can_cast as can_cast,
    cdouble as cdouble,
    cfloat as cfloat,
    complex64 as complex64,
    complex128 as complex128,
    double as double,
    dtype as dtype,
    finfo as finfo,
    float as float,
    float16 as float16,
    float32 as float32,
    float64 as float64,
    get_default_dtype as get_default_dtype,
    half as half,
    iinfo as iinfo,
    int as int,
    int8 as int8,
    int16 as int16,
    int32 as int32,
    int64 as int64,
    long as long,
    promote as promote_types,  # noqa: F401
    set_default_dtype as set_default_dtype,
    short as short,
    uint8 as uint8,
)
from .errors import KonvError as KonvError
from .interop import from_dlpack as from_dlpack, from_numpy as from_numpy
from .kernels import (
    get_float32_precision as get_float32_precision,
    get_num_threads as get_num_threads,
    set_float32_precision as set_float32_precision,
    set_num_threads as set_num_threads,
)
from .ops.activation import *  # noqa: F403
from .ops.choose import *  # noqa: F403
from .ops.compare import *  # noqa: F403
from .ops.convert import *  # noqa: F403
from .ops.creation import *  # noqa: F403
from .ops.elementary import *  # noqa: F403
from .ops.index import *  # noqa: F403
from .ops.join import *  # noqa: F403
from .ops.linear import *  # noqa: F403
from .ops.order import *  # noqa: F403
from .ops.parts import *  # noqa: F403
from .ops.pointwise import *  # noqa: F403
from .ops.random import *  # noqa: F403
from .ops.reduce import *  # noqa: F403
from .ops.shape import *  # noqa: F403
from .ops.variance import *  # noqa: F403
from .printing import set_printoptions as set_printoptions
from .random import (
    Generator as Generator,
    fork_rng as fork_rng,
    get_rng_state as get_rng_state,
    initial_seed as initial_seed,
    manual_seed as manual_seed,
    seed as seed,
    set_rng_state as set_rng_state,
)
from .sizes import (
    channels_last as channels_last,
    contiguous_format as contiguous_format,
    preserve_format as preserve_format,
)
from .tensor import Size as Size, Tensor as Tensor, device as device

# Name -> the module that has it, or, for a whole module, itself.
_LATER = {
    **{name: name for name in ("nn", "optim", "explain", "bench", "data", "models", "onnx")},
    "receptive_field": "explain",
    "solve": "explain",
    "load": "io",
    "save": "io",
    "autotune": "tuning",
}

if TYPE_CHECKING:
    from . import bench as bench, data as data, models as models, nn as nn, onnx as onnx, optim as optim
    from .explain import explain as explain, receptive_field as receptive_field, solve as solve
    from .io import load as load, save as save
    from .tuning import autotune as autotune
else:  # a type checker would let every name pass

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module 'konv' has no attribute {name!r}")
        module = _importlib.import_module(f"{__name__}.{_LATER[name]}")
        return globals().setdefault(name, module if name == _LATER[name] else getattr(module, name))


def _teach(error: KonvError) -> str:
    from .explain.hints import hint

    return hint(error)


errors.teacher = _teach


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
