"""Graphs of ONNX in konv and in ONNX Runtime: the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

import konv

IMAGE = (2, 6, 13, 17)
Array = np.ndarray[Any, Any]


def noise(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def saved(path: Path, nodes: list[Any], weights: dict[str, Array], shapes: list[Any], opset: int = 17) -> Path:
    """A file of a graph from x (and x1, ...) to y."""
    inputs = [
        helper.make_tensor_value_info(f"x{i or ''}", TensorProto.FLOAT, list(shape)) for i, shape in enumerate(shapes)
    ]
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    output = helper.make_empty_tensor_value_info("y")
    output.type.tensor_type.elem_type = TensorProto.FLOAT
    output.type.tensor_type.shape.dim.add()  # checked by nobody but for being there
    graph = helper.make_graph(nodes, "graph", inputs, [output], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)
    return path


def compare(path: Path, *images: Array) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the output's shape is left open on purpose
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {entry.name: x for entry, x in zip(session.get_inputs(), images, strict=True)})
    model = konv.onnx.load(path)
    with konv.no_grad():
        found = model(*(konv.from_numpy(x) for x in images)).numpy()
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(wanted).max(initial=0))))
    if len(images) == 1:
        report = konv.explain(model, images[0].shape)
        assert tuple(report.output_shape) == wanted.shape
        if "Gather" not in [step.node.op for step in model.steps]:
            rows = getattr(report, "rows", ())
            assert all(hint.code != "unknown-operation" for row in rows for hint in row.hints)
    return model


def one(path: Path, op: str, *weights: Array | None, x: Array | None = None, opset: int = 17, **options: Any) -> Any:
    """One node, its first input the image."""
    x = noise(*IMAGE) if x is None else x
    held = {f"w{i}": array for i, array in enumerate(weights) if array is not None}
    names = ["x", *(f"w{i}" if array is not None else "" for i, array in enumerate(weights))]
    node = helper.make_node(op, names, ["y"], name="only", **options)
    return compare(saved(path / "one.onnx", [node], held, [x.shape], opset), x)


CONVS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 0, 2, 3], "strides": [2, 1]},
    {"dilations": [2, 3], "pads": [2, 2, 2, 2]},
    {"group": 2},
    {"group": 6},
    *({"auto_pad": how, "strides": s} for how in ("SAME_UPPER", "SAME_LOWER", "VALID") for s in ([1, 1], [2, 3])),
]


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (2, 4), (5, 3)])
@pytest.mark.parametrize("options", CONVS, ids=str)
def test_conv(tmp_path: Path, options: dict[str, Any], kernel: tuple[int, int]) -> None:
    weight = noise(12, 6 // options.get("group", 1), *kernel)
    one(tmp_path, "Conv", weight, noise(12), kernel_shape=list(kernel), **options)
    one(tmp_path, "Conv", weight, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 3]},
        {"strides": [2, 2], "pads": [1, 0, 2, 1], "output_padding": [1, 1]},
        {"dilations": [2, 1], "pads": [1, 1, 1, 1]},
        {"group": 3, "strides": [3, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 1]},
        {"auto_pad": "VALID", "strides": [2, 1]},
    ],
    ids=str,
)
def test_conv_transpose(tmp_path: Path, options: dict[str, Any]) -> None:
    one(tmp_path, "ConvTranspose", noise(6, 4, 3, 4), noise(4 * options.get("group", 1)), **options)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"strides": [2, 3], "pads": [1, 1, 1, 1]},
        {"strides": [2, 2], "pads": [0, 1, 1, 0]},
        {"strides": [2, 2], "ceil_mode": 1},
        {"strides": [2, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        {"strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "VALID", "strides": [2, 3]},
    ],
    ids=str,
)
def test_pools(tmp_path: Path, op: str, options: dict[str, Any]) -> None:
    one(tmp_path, op, kernel_shape=[3, 4], opset=19, **options)
    if op == "AveragePool":
        one(tmp_path, op, kernel_shape=[3, 4], count_include_pad=1, opset=19, **options)
    elif options.get("auto_pad") is None:
        one(tmp_path, op, kernel_shape=[3, 2], dilations=[2, 3], **options)


F32 = np.float32
SIMPLE: list[tuple[str, tuple[Array | None, ...], dict[str, Any]]] = [
    ("Relu", (), {}),
    ("LeakyRelu", (), {"alpha": 0.3}),
    ("PRelu", (noise(6, 1, 1),), {}),
    ("PRelu", (noise(1),), {}),
    ("Elu", (), {"alpha": 0.7}),
    ("Sigmoid", (), {}),
    ("Tanh", (), {}),
    ("Erf", (), {}),
    ("Exp", (), {}),
    ("Abs", (), {}),
    ("Neg", (), {}),
    ("Floor", (), {}),
    ("Ceil", (), {}),
    ("Reciprocal", (), {}),
    ("Softplus", (), {}),
    ("Clip", (np.array(-0.5, F32), np.array(0.7, F32)), {}),
    ("Clip", (None, np.array(0.7, F32)), {}),
    ("Clip", (), {}),
    ("HardSigmoid", (), {}),
    ("HardSigmoid", (), {"alpha": 1 / 6, "beta": 0.4}),
    ("HardSwish", (), {}),
    ("Softmax", (), {}),
    ("Softmax", (), {"axis": 1}),
    ("LogSoftmax", (), {"axis": 1}),
    ("GlobalAveragePool", (), {}),
    ("GlobalMaxPool", (), {}),
    ("Dropout", (), {}),
    ("Identity", (), {}),
    ("BatchNormalization", (noise(6), noise(6, seed=2), noise(6, seed=3), noise(6) ** 2), {"epsilon": 1e-3}),
    ("InstanceNormalization", (noise(6), noise(6, seed=2)), {"epsilon": 1e-3}),
    ("MatMul", (noise(17, 5),), {}),
    *((op, (noise(6, 1, 1) + 3,), {}) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum")),
    ("Pow", (np.array(2, F32),), {}),
    ("Concat", (noise(2, 3, 13, 17),), {"axis": 1}),
    ("Flatten", (), {}),
    ("Flatten", (), {"axis": -2}),
    ("Flatten", (), {"axis": 0}),
    ("Reshape", (ints(0, 3, -1),), {}),
    ("Transpose", (), {"perm": [0, 2, 3, 1]}),
    ("Transpose", (), {}),
    ("Unsqueeze", (ints(-1, 0),), {}),
    ("Pad", (ints(0, 0, 1, 2, 0, 0, 3, 0), np.array(0.5, F32)), {}),
    ("Pad", (ints(1, 0, 1, -2, 0, 1, 3, 0),), {}),
    ("Pad", (ints(0, 0, 1, 2, 0, 0, 3, 0),), {"mode": "reflect"}),
    ("Pad", (ints(0, 0, 1, 2, 0, 0, 3, 0),), {"mode": "edge"}),
    ("Pad", (ints(1, 2, 3, 0), None, ints(-1, 2)), {"opset": 18}),
    ("Slice", (ints(1, 2), ints(-1, 2**62), ints(2, -1)), {}),
    ("Slice", (ints(0, 1), ints(9, 9), ints(2, 3), ints(2, 3)), {}),
    ("Slice", (ints(-1, 12), ints(-(2**62), 3), ints(3, 2), ints(-1, -4)), {}),
    ("Slice", (ints(5), ints(3), ints(3)), {}),
    ("Gather", (ints(2, -1, 0),), {"axis": 1}),
    ("Gather", (np.array(1),), {"axis": 2}),
    ("Expand", (ints(3, 1, 1, 1, 1),), {}),
    ("ReduceMean", (), {"axes": [2, 3]}),
    ("ReduceMean", (), {"axes": [-1], "keepdims": 0}),
    ("ReduceMean", (), {}),
    ("ReduceMean", (ints(1),), {"opset": 18}),
    ("ReduceMean", (), {"opset": 18, "noop_with_empty_axes": 1}),
    ("ReduceSum", (ints(1, 2),), {}),
    ("ReduceMax", (), {"axes": [1]}),
    ("ReduceMin", (), {"axes": [3]}),
    ("Gelu", (), {"opset": 20}),
    ("Gelu", (), {"opset": 20, "approximate": "tanh"}),
    ("Mish", (), {"opset": 18}),
    ("Clip", (), {"opset": 7, "min": -0.2, "max": 0.4}),
    ("Softmax", (), {"opset": 11}),
    ("Unsqueeze", (), {"opset": 11, "axes": [0, 3]}),
    ("Pad", (), {"opset": 7, "pads": [0, 0, 1, 2, 0, 0, 3, 0], "value": 2.0}),
    ("Slice", (), {"opset": 9, "starts": [1, 2], "ends": [9, 5], "axes": [3, 1]}),
    ("Upsample", (np.array([1, 1, 2, 3], F32),), {"opset": 9}),
]


@pytest.mark.parametrize(("op", "weights", "options"), SIMPLE, ids=str)
def test_operators(tmp_path: Path, op: str, weights: tuple[Array | None, ...], options: dict[str, Any]) -> None:
    one(tmp_path, op, *weights, **options)


def test_operators_of_matrices(tmp_path: Path) -> None:
    x = noise(4, 7)
    one(tmp_path, "Gemm", noise(7, 3), noise(3), x=x)
    one(tmp_path, "Gemm", noise(3, 7), noise(3), x=x, transB=1)
    one(tmp_path, "Gemm", noise(3, 7), x=x, transB=1)
    one(tmp_path, "Gemm", noise(7, 3), noise(4, 1), x=x, alpha=0.5, beta=2.0)
    one(tmp_path, "Gemm", noise(4, 3), noise(1, 3), x=x, transA=1)
    one(tmp_path, "BatchNormalization", noise(7), noise(7), noise(7), noise(7) ** 2, x=x)
    one(tmp_path, "Squeeze", x=noise(2, 1, 3, 1))
    one(tmp_path, "Squeeze", ints(-1), x=noise(2, 1, 3, 1))


@pytest.mark.parametrize(
    ("where", "rounding"),
    [
        *((where, "floor") for where in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")),
        ("half_pixel", "round_prefer_floor"),
        ("half_pixel", "round_prefer_ceil"),
        ("asymmetric", "ceil"),
        ("half_pixel_symmetric", "floor"),
    ],
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize(tmp_path: Path, mode: str, where: str, rounding: str) -> None:
    how = {"mode": mode, "coordinate_transformation_mode": where, "nearest_mode": rounding, "opset": 19}
    for scales in ((2, 2), (1.5, 3), (0.61, 0.37)):
        one(tmp_path, "Resize", None, np.array([1, 1, *scales], F32), **how)
    for sizes in ((26, 17), (7, 40), (1, 1)):
        one(tmp_path, "Resize", None, None, ints(2, 6, *sizes), **how)


def test_a_graph_with_branches_and_shapes(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"], name="/stem.0/Conv", pads=[1, 1, 1, 1]),
        make("Sigmoid", ["a"], ["s"], name="gate"),
        make("Mul", ["a", "s"], ["silu"], name="silu"),
        make("MaxPool", ["silu"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Shape", ["silu"], ["shape"]),
        make("Constant", [], ["from"], value_ints=[2]),
        make("Constant", [], ["to"], value_ints=[4]),
        make("Slice", ["shape", "from", "to"], ["hw"]),
        make("Shape", ["p"], ["shape_p"]),
        make("Constant", [], ["zero"], value_ints=[0]),
        make("Slice", ["shape_p", "zero", "from"], ["nc"]),
        make("Concat", ["nc", "hw"], ["sizes"], axis=0),
        make("Resize", ["p", "", "", "sizes"], ["up"], name="up", mode="linear"),
        make("Add", ["up", "silu"], ["sum"], name="join"),
        make("Split", ["sum"], ["left", "right"], name="split", axis=1),
        make("Concat", ["right", "left", "silu"], ["cat"], name="cat", axis=1),
        make("Transpose", ["m"], ["mt"], perm=[1, 0]),
        make("GlobalAveragePool", ["cat"], ["g"], name="mean"),
        make("Gather", ["shape", "first"], ["n"], axis=0),
        make("Unsqueeze", ["n", "zero"], ["n1"]),
        make("Concat", ["n1", "rest"], ["flat"], axis=0),
        make("Reshape", ["g", "flat"], ["v"], name="flat"),
        make("Gemm", ["v", "mt", "bias"], ["y"], name="fc"),
    ]
    weights = {"w": noise(8, 6, 3, 3), "m": noise(5, 16), "bias": noise(5), "first": np.array(0), "rest": ints(-1)}
    path = saved(tmp_path / "net.onnx", nodes, weights, [("batch", 6, "h", "w")])
    model = compare(path, noise(*IMAGE))
    compare(path, noise(3, 6, 20, 21))
    names = [name for name, _ in model.named_children()]
    assert names == ["stem_0/Conv", "gate", "silu", "pool", "up", "join", "split", "cat", "mean", "flat", "fc"]
    assert sum(p.numel() for p in model.parameters()) == 8 * 6 * 9 + 5 * 16 + 5
    report = konv.explain(model, IMAGE)
    assert [row.name for row in report.rows] == names
    assert report.totals.parameters == 8 * 6 * 9 + 5 * 16 + 5
    field = konv.receptive_field(model, IMAGE, (0, 0))
    assert (field.rows, field.columns) == ((0, 12), (0, 16))


def test_two_inputs_and_shared_weights(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["a"]),
        make("Conv", ["x1", "w"], ["b"]),
        make("Concat", ["a", "b"], ["y"], axis=1),
    ]
    path = saved(tmp_path / "two.onnx", nodes, {"w": noise(4, 6, 3, 3)}, [IMAGE, IMAGE])
    model = compare(path, noise(*IMAGE), noise(*IMAGE, seed=2))
    assert len(list(model.parameters())) == 1


class Mobile(torch.nn.Module):
    """What PyTorch's exporter makes of common idioms: hard swish, squeeze and excitation, resizing, padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16), torch.nn.Hardswish()
        )
        self.depthwise = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 5, 2, 2, groups=16), torch.nn.SiLU())
        self.squeeze, self.excite = torch.nn.Conv2d(16, 4, 1), torch.nn.Conv2d(4, 16, 1)
        self.up, self.norm = torch.nn.ConvTranspose2d(16, 16, 2, 2), torch.nn.GroupNorm(4, 16)
        self.pool, self.slope = torch.nn.MaxPool2d(3, 2, 1, ceil_mode=True), torch.nn.PReLU(16)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.stem(x)
        b = self.depthwise(a)
        b = b * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(b, 1)))))
        up = self.norm(self.up(b))[:, :, : a.shape[2], : a.shape[3]]
        left, right = torch.cat([a, up], 1).chunk(2, 1)
        c = self.slope(left) + right * F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)
        c = F.pad(F.gelu(self.pool(c)), (1, 0, 2, 1))
        c = F.leaky_relu(c, 0.2).clamp(-1, 6).mean((2, 3))
        return F.softmax(self.head(c.view(c.shape[0], -1)), 1)


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("free", [False, True])
def test_what_pytorch_exports(tmp_path: Path, opset: int, free: bool) -> None:
    torch.manual_seed(0)
    net, x = Mobile().eval(), torch.randn(2, 3, 50, 62)
    path = tmp_path / "mobile.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}} if free else None
    torch.onnx.export(net, (x,), path, input_names=["x"], dynamo=False, opset_version=opset, dynamic_axes=axes)
    model = konv.onnx.load(path)
    images = [x, torch.randn(1, 3, 37, 41)] if free else [x]
    for image in images:
        with konv.no_grad():
            found = model(konv.from_numpy(image.numpy())).numpy()
        np.testing.assert_allclose(found, net(image).detach().numpy(), rtol=1e-4, atol=1e-6)
        report = konv.explain(model, tuple(image.shape))
        assert report.output_shape == found.shape
        assert not [hint for row in report.rows for hint in row.hints if hint.code == "unknown-operation"]
    if not free:
        assert model.inputs[0].shape == (2, 3, 50, 62)
