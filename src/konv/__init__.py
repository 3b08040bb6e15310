"""konv: two-dimensional convolution on the CPU, with everything around it that a network needs."""

from __future__ import annotations

from . import autograd as autograd, ops as ops
from .autograd import (
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    is_grad_enabled as is_grad_enabled,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)
from .dtypes import (
    bfloat16 as bfloat16,
    bool as bool,
    can_cast as can_cast,
    cdouble as cdouble,
    cfloat as cfloat,
    complex128 as complex128,
    complex64 as complex64,
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
    int16 as int16,
    int32 as int32,
    int64 as int64,
    int8 as int8,
    long as long,
    set_default_dtype as set_default_dtype,
    short as short,
    uint8 as uint8,
    promote as promote_types,
)
from .interop import from_dlpack as from_dlpack, from_numpy as from_numpy
from .ops import *  # noqa: F403
from .printing import set_printoptions as set_printoptions
from .tensor import Size as Size, Tensor as Tensor, device as device
