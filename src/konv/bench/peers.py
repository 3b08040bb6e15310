"""The engines that are compared: each turns one problem into a call, and its result into NumPy.

Every peer gets what it likes best within one rule: the input and the output are plain NCHW arrays of the engine's own
tensor type (channels-last only where the name says so), the weights are constant between calls, and everything that
an engine can prepare once (packing, graph compilation) is done before the first timed call.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from .layers import Layer

Array = np.ndarray[Any, Any]
FORWARD, TRAINING = "forward", "training"


@dataclass(frozen=True)
class Problem:
    """One layer with its numbers, float32; a peer converts them to ``dtype`` by its own means."""

    layer: Layer
    x: Array
    weight: Array
    bias: Array
    grad: Array  # of the output, for training
    dtype: str
    mode: str
    threads: int


@dataclass(frozen=True)
class Prepared:
    """A call to be timed, and how its result becomes arrays: (output,) or (d input, d weight, d bias)."""

    run: Callable[[], Any]
    arrays: Callable[[Any], tuple[Array, ...]]


@dataclass(frozen=True)
class Peer:
    """One engine: how it is named, which module proves that it is there, and what it can do."""

    name: str
    module: str
    prepare: Callable[[ModuleType, Problem], Prepared]
    dtypes: tuple[str, ...] = ("float32",)
    modes: tuple[str, ...] = (FORWARD,)

    def load(self) -> ModuleType:
        """The engine's module.

        Raises:
            ImportError: it is not installed.
        """
        return importlib.import_module(self.module)

    def refuses(self, dtype: str, mode: str) -> str:
        """Why this engine is left out of such a run, or an empty text."""
        if mode not in self.modes:
            return f"computes no {mode}"
        return "" if dtype in self.dtypes else f"is not measured in {dtype}"


def _torch_like(framework: Any, problem: Problem, channels_last: bool = False) -> Prepared:
    """Konv and PyTorch have one interface; this is the public call that a user writes."""
    framework.set_num_threads(problem.threads)
    dtype = getattr(framework, problem.dtype)
    g = problem.layer.geometry
    padding = tuple(before for before, _ in g.pads(problem.layer.height, problem.layer.width))
    layer = framework.nn.Conv2d(
        g.in_channels, g.out_channels, g.kernel_size, g.stride, padding, g.dilation, g.groups, dtype=dtype
    )
    state = {"weight": problem.weight, "bias": problem.bias}
    layer.load_state_dict({name: framework.from_numpy(array) for name, array in state.items()})
    x, grad = (framework.from_numpy(array).to(dtype) for array in (problem.x, problem.grad))
    if channels_last:
        layer = layer.to(memory_format=framework.channels_last)
        x, grad = (tensor.contiguous(memory_format=framework.channels_last) for tensor in (x, grad))

    def forward() -> Any:
        with framework.no_grad():
            return layer(x)

    def training() -> Any:
        return framework.autograd.grad(layer(x), (x, layer.weight, layer.bias), grad)

    def arrays(result: Any) -> tuple[Array, ...]:
        results = result if isinstance(result, tuple) else (result,)
        return tuple(np.asarray(tensor.detach().to(framework.float64).numpy()) for tensor in results)

    if problem.mode == TRAINING:
        x.requires_grad_()
        return Prepared(training, arrays)
    return Prepared(forward, arrays)


def _onnx_model(problem: Problem) -> bytes:
    """The layer as an ONNX model of one node."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kind = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}[problem.dtype]
    layer, g = problem.layer, problem.layer.geometry
    pads = g.pads(layer.height, layer.width)
    node = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        kernel_shape=g.kernel_size,
        strides=g.stride,
        dilations=g.dilation,
        group=g.groups,
        pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
    )
    constants = [
        numpy_helper.from_array(array.astype(problem.dtype), name)
        for name, array in (("w", problem.weight), ("b", problem.bias))
    ]
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", kind, layer.input_shape)],
        [helper.make_tensor_value_info("y", kind, layer.output_shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _onnxruntime(ort: Any, problem: Problem) -> Prepared:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = problem.threads, 1
    session = ort.InferenceSession(_onnx_model(problem), options, providers=["CPUExecutionProvider"])
    x = problem.x.astype(problem.dtype)
    return Prepared(lambda: session.run(None, {"x": x}), lambda result: (np.asarray(result[0], dtype=np.float64),))


def _openvino(ov: Any, problem: Problem) -> Prepared:
    core = ov.Core()
    model = core.read_model(_onnx_model(problem))
    compiled = core.compile_model(
        model,
        "CPU",
        # One call at a time, all threads in it, and true float32 also where the CPU has bfloat16.
        {
            "INFERENCE_NUM_THREADS": problem.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(np.ascontiguousarray(problem.x)))
    return Prepared(request.infer, lambda _: (np.array(request.get_output_tensor().data, dtype=np.float64),))


def _ncnn(ncnn: Any, problem: Problem) -> Prepared:
    """Ncnn has no batch: a call runs the images one after another, each on all threads."""
    layer, g = problem.layer, problem.layer.geometry
    (top, bottom), (left, right) = g.pads(layer.height, layer.width)
    numbers = {0: g.out_channels, 1: g.kernel_size[1], 11: g.kernel_size[0], 2: g.dilation[1], 12: g.dilation[0]}
    numbers |= {3: g.stride[1], 13: g.stride[0], 4: left, 15: right, 14: top, 16: bottom, 5: 1, 6: problem.weight.size}
    numbers |= {7: g.groups} if g.groups > 1 else {}
    kind = "ConvolutionDepthWise" if g.groups > 1 else "Convolution"
    param = "7767517\n2 2\nInput x 0 1 x\n" + f"{kind} conv 1 1 x y " + " ".join(f"{k}={v}" for k, v in numbers.items())
    net = ncnn.Net()
    net.opt.num_threads = problem.threads
    net.opt.use_vulkan_compute = False
    for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
        if hasattr(net.opt, f"use_{half}"):
            setattr(net.opt, f"use_{half}", False)
    _ncnn_load(net, param + "\n", problem)
    images = [ncnn.Mat(np.ascontiguousarray(image)).clone() for image in problem.x]

    def run() -> list[Any]:
        outputs = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("x", image)
            outputs.append(extractor.extract("y")[1])
        return outputs

    def arrays(outputs: list[Any]) -> tuple[Array, ...]:
        return (np.stack([np.array(output, dtype=np.float64) for output in outputs]).reshape(layer.output_shape),)

    return Prepared(run, arrays)


def _ncnn_load(net: Any, param: str, problem: Problem) -> None:
    """Ncnn reads its weights from a file: a zero for "float32", the weights, then the bias."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "layer.param"), Path(folder, "layer.bin")
        paths[0].write_text(param)
        paths[1].write_bytes(b"\0\0\0\0" + problem.weight.tobytes() + problem.bias.tobytes())
        if net.load_param(str(paths[0])) or net.load_model(str(paths[1])):
            raise RuntimeError("ncnn could not load the layer")


ALL_FLOATS = ("float32", "float64", "float16", "bfloat16")
BOTH = (FORWARD, TRAINING)

# konv comes first: every ratio is another peer's time over its time.
PEERS: tuple[Peer, ...] = (
    Peer("konv", "konv", _torch_like, ALL_FLOATS, BOTH),
    Peer("torch", "torch", _torch_like, ALL_FLOATS, BOTH),
    Peer("torch_cl", "torch", partial(_torch_like, channels_last=True), ALL_FLOATS, BOTH),
    Peer("onnxruntime", "onnxruntime", _onnxruntime, ("float32", "float64")),
    Peer("openvino", "openvino", _openvino),
    Peer("ncnn", "ncnn", _ncnn),
)
