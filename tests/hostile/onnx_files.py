"""Damaged and malicious ONNX files, made here so that each can be read with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper


def tensor(name: str = "w", dims: tuple[int, ...] = (2, 1, 3, 3), **fields: Any) -> Any:
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    made.raw_data = bytes(72)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def elsewhere(location: str) -> Any:
    made = tensor(raw_data=b"", data_location=TensorProto.EXTERNAL)
    made.ClearField("raw_data")
    for key, value in (("location", location), ("length", "72")):
        entry = made.external_data.add()
        entry.key, entry.value = key, value
    return made


def conv(**attributes: Any) -> Any:
    return helper.make_node("Conv", ["x", "w"], ["y"], **attributes)


def model(nodes: list[Any], weights: list[Any], opset: int = 17, shape: Any = (1, 1, 8, 8)) -> ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["?"] * 4)
    graph = helper.make_graph(nodes, "graph", [x], [y], weights)
    versions = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=9)


def doubling(first: Any, op: str, count: int, **attributes: Any) -> list[Any]:
    nodes = [helper.make_node(op, ["w", "w"], ["c0"], **attributes)]
    nodes += [helper.make_node(op, [f"c{i}", f"c{i}"], [f"c{i + 1}"], **attributes) for i in range(count)]
    return [*nodes, first]


def nested(depth: int) -> bytes:
    inner = GraphProto(name="g")
    for _ in range(depth):
        outer = GraphProto(name="g")
        attribute = outer.node.add(op_type="If").attribute.add(name="then_branch", type=5)
        attribute.g.CopyFrom(inner)
        inner = outer
    return ModelProto(ir_version=9, graph=inner, opset_import=[helper.make_opsetid("", 17)]).SerializeToString()


def number(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def relu(source: str = "x") -> Any:
    return helper.make_node("Relu", [source], ["y"])


SOUND = model([conv()], [tensor()]).SerializeToString()

FILES: dict[str, bytes | Callable[[], bytes]] = {
    "nothing": b"",
    "no protobuf": b"\xff" * 100,
    "text": b"PK\x03\x04 not a model \n\x1b[31m",
    "half a model": SOUND[: len(SOUND) // 2],
    "no nodes": model([], []).SerializeToString(),
    "an unknown operator of ONNX's own domain": model(
        [helper.make_node("Nothing", ["x"], ["y"])], []
    ).SerializeToString(),
    "an attribute that the operator lacks": model([conv(sides=3)], [tensor()]).SerializeToString(),
    "an attribute of another type": model([conv(strides=2.5)], [tensor()]).SerializeToString(),
    "an output that nobody makes": model(
        [helper.make_node("Relu", ["x"], ["z"])], [], shape=(1, 1, 8, 8)
    ).SerializeToString(),
    "an input that nobody makes": model([relu("z")], []).SerializeToString(),
    "nodes in a circle": model(
        [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Relu", ["b"], ["a"]), relu("b")], []
    ).SerializeToString(),
    "a tensor with too few bytes": model([conv()], [tensor(raw_data=bytes(8))]).SerializeToString(),
    "a tensor with too many bytes": model([conv()], [tensor(raw_data=bytes(80))]).SerializeToString(),
    "a tensor of negative size": model([conv()], [tensor(dims=(-1, 1, 3, 3))]).SerializeToString(),
    "a tensor whose size overflows": model([conv()], [tensor(dims=(2**40, 2**40, 3, 3))]).SerializeToString(),
    "an empty tensor of impossible shape": model(
        [conv()], [tensor(dims=(0, 2**62, 2**62, 3), raw_data=b"")]
    ).SerializeToString(),
    "a tensor with no type": model([conv()], [tensor(data_type=0)]).SerializeToString(),
    "a tensor of a type that is not there": model([conv()], [tensor(data_type=99)]).SerializeToString(),
    "weights in another file": model([conv()], [elsewhere("weights.bin")]).SerializeToString(),
    "weights in /etc/passwd": model([conv()], [elsewhere("/etc/passwd")]).SerializeToString(),
    "weights above the folder": model([conv()], [elsewhere("../../../../etc/passwd")]).SerializeToString(),
    "a constant in another file": model(
        [helper.make_node("Constant", [], ["w"], value=elsewhere("/etc/passwd")), conv()], []
    ).SerializeToString(),
    "a kernel that the weight does not have": model([conv(kernel_shape=[5, 5])], [tensor()]).SerializeToString(),
    "a stride of zero": model([conv(strides=[0, 1])], [tensor()]).SerializeToString(),
    "padding past 64 bits": model([conv(pads=[2**62] * 4)], [tensor()]).SerializeToString(),
    "negative padding": model([conv(pads=[-1, 0, 0, 0])], [tensor()]).SerializeToString(),
    "no group": model([conv(group=0)], [tensor()]).SerializeToString(),
    "groups past the channels": model([conv(group=3)], [tensor()]).SerializeToString(),
    "an unknown word for padding": model([conv(auto_pad="\x1b[31mALL")], [tensor()]).SerializeToString(),
    "a hundred thousand nodes": lambda: model(
        [helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(100_000)], []
    ).SerializeToString(),
    "graphs in graphs": lambda: nested(25),
    "graphs in graphs, deeper than the parser goes": lambda: _deep(),
}


def _deep() -> bytes:
    """A hundred thousand levels of one field, each holding the next."""
    inner = b""
    for _ in range(3000):  # Graph.node=1 -> Node.attribute=5 -> Attribute.g=6
        for field in (6, 5, 1):
            inner = bytes([field << 3 | 2]) + _varint(len(inner)) + inner
    return b"\x08\x09\x3a" + _varint(len(inner)) + inner


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


# Sound by the rules of ONNX; what konv does not do is refused, what would grow without end stays small.
UNSUPPORTED: dict[str, bytes] = {
    "a recurrent layer": model(
        [helper.make_node("LSTM", ["x", "w", "w"], ["y"], name="rnn", hidden_size=3)], [tensor()]
    ).SerializeToString(),
    "another domain": model(
        [helper.make_node("Magic", ["x"], ["y"], name="m", domain="com.example")], []
    ).SerializeToString(),
    "operators that are too old": model([relu()], [], opset=6).SerializeToString(),
    "weights that are computed": model(
        [helper.make_node("Relu", ["w"], ["v"]), helper.make_node("Conv", ["x", "v"], ["y"])], [tensor()]
    ).SerializeToString(),
    "a convolution of volumes": model([conv()], [tensor(dims=(2, 1, 1, 3, 3))]).SerializeToString(),
    "a shape that depends on data": model(
        [helper.make_node("Cast", ["x"], ["s"], to=7), helper.make_node("Reshape", ["x", "s"], ["y"])], []
    ).SerializeToString(),
    "a constant without end": model(
        [helper.make_node("ConstantOfShape", ["n"], ["w"]), helper.make_node("Add", ["x", "w"], ["y"])],
        [number("n", 2**20, 2**20)],
    ).SerializeToString(),
}
