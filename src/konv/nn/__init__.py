"""Layers, containers, losses, and what initialises and clips their parameters."""

from . import functional as functional, init as init, utils as utils
from .activation import (
    ELU as ELU,
    GELU as GELU,
    Hardsigmoid as Hardsigmoid,
    Hardswish as Hardswish,
    LeakyReLU as LeakyReLU,
    LogSoftmax as LogSoftmax,
    Mish as Mish,
    PReLU as PReLU,
    ReLU as ReLU,
    ReLU6 as ReLU6,
    Sigmoid as Sigmoid,
    SiLU as SiLU,
    Softmax as Softmax,
    Softplus as Softplus,
    Tanh as Tanh,
)
from .container import ModuleDict as ModuleDict, ModuleList as ModuleList, Sequential as Sequential
from .conv import Conv2d as Conv2d, ConvTranspose2d as ConvTranspose2d
from .dropout import Dropout as Dropout, Dropout2d as Dropout2d
from .linear import Identity as Identity, Linear as Linear
from .loss import (
    BCELoss as BCELoss,
    BCEWithLogitsLoss as BCEWithLogitsLoss,
    CrossEntropyLoss as CrossEntropyLoss,
    L1Loss as L1Loss,
    MSELoss as MSELoss,
    NLLLoss as NLLLoss,
    SmoothL1Loss as SmoothL1Loss,
)
from .module import Module as Module
from .norm import BatchNorm1d as BatchNorm1d, BatchNorm2d as BatchNorm2d, GroupNorm as GroupNorm
from .padding import (
    CircularPad2d as CircularPad2d,
    ConstantPad2d as ConstantPad2d,
    ReflectionPad2d as ReflectionPad2d,
    ReplicationPad2d as ReplicationPad2d,
    ZeroPad2d as ZeroPad2d,
)
from .parameter import Buffer as Buffer, Parameter as Parameter
from .pool import (
    AdaptiveAvgPool2d as AdaptiveAvgPool2d,
    AdaptiveMaxPool2d as AdaptiveMaxPool2d,
    AvgPool2d as AvgPool2d,
    MaxPool2d as MaxPool2d,
)
from .shape import Flatten as Flatten, Unflatten as Unflatten, Upsample as Upsample
