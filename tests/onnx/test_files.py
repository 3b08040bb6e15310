"""ONNX files: what is read, what is refused, and what ``konv explain`` says of them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.hostile.onnx_files import FILES, SOUND, UNSUPPORTED, conv, doubling, model, number, relu, tensor

import konv
from konv import nn
from konv.cli import main
from konv.errors import FileError, MemoryShortError, UnsupportedError
from konv.onnx import file as onnx_file


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("reason", FILES)
def test_hostile_files(tmp_path: Path, reason: str) -> None:
    made = FILES[reason]
    path = written(tmp_path, made if isinstance(made, bytes) else made())
    with pytest.raises((FileError, UnsupportedError), match=r"^onnx(\.load)?: ") as caught:
        konv.onnx.load(path)
    message = str(caught.value)
    assert message.isprintable()  # one line, and no colours from the file
    assert len(message) < 1000


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_what_konv_does_not_do(tmp_path: Path, reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        konv.onnx.load(written(tmp_path, UNSUPPORTED[reason]))
    assert str(caught.value).isprintable()


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    cases = {
        "a recurrent layer": f"onnx.load: {path} has LSTM (node 'rnn'); konv lacks that operator",
        "another domain": f"onnx.load: {path} has com.example.Magic (node 'm'); konv lacks that operator",
        "operators that are too old": f"onnx.load: {path} has operators of version 6; konv reads version 7 and later; "
        "convert it with onnx.version_converter",
    }
    for reason, wanted in cases.items():
        with pytest.raises(UnsupportedError) as caught:
            konv.onnx.load(written(tmp_path, UNSUPPORTED[reason]))
        assert str(caught.value) == wanted
    external = FILES["weights in /etc/passwd"]
    assert isinstance(external, bytes)
    with pytest.raises(FileError) as refused:
        konv.onnx.load(written(tmp_path, external))
    wanted = f"onnx.load: {path} keeps 'w' in another file; konv opens no other file; save the model as one file"
    assert str(refused.value) == wanted


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path, tmp_path / "missing.onnx", Path("/dev/zero"), tmp_path / "pipe.onnx"):
        with pytest.raises(FileError, match=r"^onnx\.load: .* (is not a file|cannot be read)"):
            konv.onnx.load(path)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", len(SOUND) - 1)
    with pytest.raises(FileError, match="konv reads at most"):
        konv.onnx.load(written(tmp_path, SOUND))


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UnsupportedError) as caught:
        konv.onnx.load(written(tmp_path, SOUND))
    assert str(caught.value) == "onnx.load: the package onnx is not installed; pip install 'konv[onnx]' brings it"


def test_the_package_is_loaded_when_a_file_is_read() -> None:
    script = "import konv, konv.onnx, konv.cli, sys; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("op", "options"), [("Concat", {"axis": 0}), ("Add", {}), ("Mul", {}), ("MatMul", {}), ("Max", {})]
)
def test_constants_do_not_grow(tmp_path: Path, op: str, options: dict[str, Any]) -> None:
    last = helper.make_node("Add", ["x", "c60"], ["y"])
    weight = tensor(dims=(1, 2, 3, 3))
    if op == "MatMul":
        weight = tensor(dims=(3, 3), raw_data=bytes(36))
    path = written(tmp_path, model(doubling(last, op, 60, **options), [weight]).SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    konv.onnx.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_shapes_do_not_grow(tmp_path: Path) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["w"])]
    nodes += doubling(helper.make_node("Reshape", ["x", "c40"], ["y"]), "Concat", 40, axis=0)
    loaded = konv.onnx.load(written(tmp_path, model(nodes, []).SerializeToString()))
    with pytest.raises(UnsupportedError, match="arithmetic on shapes takes"):
        konv.explain(loaded, (1, 1, 8, 8))


def test_an_image_without_end(tmp_path: Path) -> None:
    resize = helper.make_node("Resize", ["x", "", "", "n"], ["y"])
    loaded = konv.onnx.load(written(tmp_path, model([resize], [number("n", 1, 1, 2**40, 2**40)]).SerializeToString()))
    with pytest.raises(UnsupportedError, match="it may become"):
        konv.explain(loaded, (1, 1, 8, 8))


def test_padding_without_end(tmp_path: Path) -> None:
    def pooled(*pads: int) -> Path:
        node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], pads=pads)
        return written(tmp_path, model([node], []).SerializeToString())

    loaded = konv.onnx.load(pooled(1, 1, 0, 2**31 - 4))
    tracemalloc.start()
    assert konv.explain(loaded, (1, 1, 8, 8)).output_shape == (1, 1, 8, 2**31 + 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    with pytest.raises(RuntimeError, match=r"\[1, 1, 8, 4611686018427387912\] .*; its bytes must fit in 64 bits"):
        konv.explain(konv.onnx.load(pooled(0, 0, 0, 2**62)), (1, 1, 8, 8))
    with pytest.raises(MemoryShortError, match=r"^onnx: AveragePool \(node 'AveragePool_0'\) asks for more memory"):
        konv.onnx.load(pooled(0, 0, 0, 2**50))(konv.ones(1, 1, 8, 8))
    wide = written(tmp_path, model([conv(pads=[1, 1, 1, 2**62])], [tensor()]).SerializeToString())
    with pytest.raises(RuntimeError, match="its bytes must fit in 64 bits"):
        konv.explain(konv.onnx.load(wide), (1, 1, 8, 8))


def ran(folder: Path, nodes: list[Any], weights: list[Any], x: Any, opset: int = 17) -> Any:
    """What the graph makes of x, whose shape the file leaves open."""
    made = model(nodes, weights, opset, [f"n{i}" for i in range(x.ndim)])
    return konv.onnx.load(written(folder, made.SerializeToString()))(x)


def test_the_last_of_the_largest(tmp_path: Path) -> None:
    """ONNX operator schemas, ArgMax: select_last_index picks the last occurrence."""
    x = konv.tensor([[2.0, 2.0, 1.0, 2.0], [3.0, 1.0, 3.0, 0.0]])
    last = [helper.make_node("ArgMax", ["x"], ["y"], axis=1, select_last_index=1)]
    assert ran(tmp_path, last, [], x).tolist() == [[3], [2]]
    flat = [helper.make_node("ArgMax", ["x"], ["y"], axis=-1, select_last_index=1, keepdims=0)]
    assert ran(tmp_path, flat, [], x).tolist() == [3, 2]
    first = [helper.make_node("ArgMax", ["x"], ["y"], axis=1)]
    assert ran(tmp_path, first, [], x).tolist() == [[0], [0]]


def test_dropout_drops_nothing_and_its_mask_says_so(tmp_path: Path) -> None:
    x = konv.tensor([[1.0, -2.0]])
    nodes = [
        helper.make_node("Dropout", ["x"], ["d", "m"]),
        helper.make_node("Dropout", ["w"], ["v", "k"]),
        helper.make_node("Where", ["m", "d", "x"], ["a"]),
        helper.make_node("Where", ["k", "a", "v"], ["y"]),
    ]
    assert ran(tmp_path, nodes, [tensor(dims=(1, 2), raw_data=bytes(8))], x).tolist() == [[1.0, -2.0]]
    training = helper.make_node("Dropout", ["x", "r", "t"], ["y"])
    held = [numpy_helper.from_array(np.float32(0.5), "r"), numpy_helper.from_array(np.array(True), "t")]
    with pytest.raises(UnsupportedError, match="it is exported for training"):
        ran(tmp_path, [training], held, x)


def test_a_power_is_of_the_type_of_its_base(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Pow", ["i", "e"], ["y"]),
    ]
    x = konv.tensor([3.0, 100_000_000.0, 2.0])
    found = ran(tmp_path, nodes, [numpy_helper.from_array(np.array([2, 2, 0.5], np.float32), "e")], x)
    assert found.dtype is konv.int64
    assert found.tolist() == [9, 10**16, 1]
    wide = helper.make_node("Pow", ["x", "e"], ["y"])
    found = ran(tmp_path, [wide], [numpy_helper.from_array(np.array([2.0]), "e")], x)
    assert found.dtype is konv.float32


@pytest.mark.parametrize(
    ("op", "weights", "options", "told"),
    [
        ("Gather", [number("n", 0, 3)], {"axis": 1}, "index 3; axis 1 has 3 cells"),
        ("Gather", [number("n", -4)], {"axis": 1}, "index -4; axis 1 has 3 cells"),
        ("Unsqueeze", [number("n", 5)], {}, "axis 5; there are 3 axes"),
        ("Unsqueeze", [number("n", 0, -4)], {}, "axes=[0, -4]; each axis is named once"),
        ("Squeeze", [number("n", 1)], {}, "axis 1 of 3 cells; an axis that goes has one"),
        ("Squeeze", [number("n", 2)], {}, "axis 2; there are 2 axes"),
        ("Flatten", [], {"axis": 3}, "axis 3; there are 2 axes"),
        ("ArgMax", [], {"axis": 2}, "axis 2; there are 2 axes"),
    ],
)
def test_axes_and_cells_that_are_not_there(
    tmp_path: Path, op: str, weights: list[Any], options: dict[str, Any], told: str
) -> None:
    node = helper.make_node(op, ["x", *(w.name for w in weights)], ["y"], **options)
    with pytest.raises(FileError) as caught:
        ran(tmp_path, [node], weights, konv.ones(2, 3))
    assert str(caught.value).splitlines()[0] == f"onnx: {op} (node '{op}_0'): {told}"


@settings(max_examples=300)
@given(data=st.data())
def test_no_change_of_bytes_does_worse_than_a_file_error(tmp_path_factory, data) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = written(
        folder, bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    )
    try:
        loaded = konv.onnx.load(path)
    except (FileError, UnsupportedError):
        return
    try:
        konv.explain(loaded, (1, 1, 8, 8))
    except konv.KonvError:
        return


def test_layers_and_their_names(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="/net.0/conv", pads=[1, 0, 2, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "a"], ["c"], name="forward"),
        helper.make_node("Relu", ["c"], ["y"], name="forward"),
    ]
    loaded = konv.onnx.load(written(tmp_path, model(nodes, [tensor()]).SerializeToString()))
    assert [name for name, _ in loaded.named_children()] == ["net_0/conv", "Relu_1", "forward_2", "forward_3"]
    layer = loaded.get_submodule("net_0/conv")
    assert isinstance(layer, nn.Conv2d)
    assert layer.geometry.padding == ((1, 2), (0, 1))
    assert not loaded.training
    assert loaded.inputs[0].shape == (1, 1, 8, 8)
    report = konv.explain(loaded, (1, 1, 8, 8))
    assert [(row.name, row.layer, row.inputs) for row in report.rows] == [
        ("net_0/conv", "Conv2d", (-1,)),
        ("Relu_1", "Relu", (0,)),
        ("forward_2", "Add", (1, 0)),
        ("forward_3", "Relu", (2,)),
    ]
    assert report.rows[0].detail.plan is not None


def test_names_that_collide(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["v0"], name="a_1")]
    nodes += [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name="a") for i in range(3)]
    nodes += [helper.make_node("Relu", ["v3"], ["y"], name="\x1b[31m" + "n" * 10_000)]
    names = [
        name for name, _ in konv.onnx.load(written(tmp_path, model(nodes, []).SerializeToString())).named_children()
    ]
    assert names[:4] == ["a_1", "a", "a_2", "a_3"]
    assert len(names[4]) == 200
    assert names[4].isprintable()


def test_a_file_can_be_trained_and_saved(tmp_path: Path) -> None:
    weight = tensor(raw_data=np.ones(18, np.float32).tobytes())
    loaded = konv.onnx.load(written(tmp_path, model([conv(), relu("x")][:1], [weight]).SerializeToString()))
    loaded(konv.ones(1, 1, 8, 8)).sum().backward()
    (parameter,) = loaded.parameters()
    assert parameter.grad.tolist() == konv.full((2, 1, 3, 3), 36.0).tolist()
    konv.save(loaded, tmp_path / "w.safetensors")
    loaded.load_state_dict(konv.load(tmp_path / "w.safetensors"))


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SOUND)
    assert "1 x 1 x 8 x 8 float32 -> 1 x 2 x 6 x 6" in said(["explain", str(path)], capsys)
    told = json.loads(said(["explain", str(path), "--input", "2,1,9,9", "--json"], capsys))
    assert told["output_shape"] == [2, 2, 7, 7]
    page = tmp_path / "page.html"
    said(["explain", str(path), "--html", str(page)], capsys)
    assert "Conv_0" in page.read_text()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"text", "is not an ONNX file"),
        (UNSUPPORTED["a recurrent layer"], "LSTM (node 'rnn')"),
        (
            model([conv()], [tensor()], shape=("n", 1, 8, 8)).SerializeToString(),
            "leaves sizes of its input open (?x1x8x8); give all of them, such as --input 1,3,224,224",
        ),
        (
            helper.make_model(
                helper.make_graph(
                    [helper.make_node("Add", ["a", "b"], ["y"])],
                    "g",
                    [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"],
                    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
                ),
                opset_imports=[helper.make_opsetid("", 17)],
                ir_version=9,
            ).SerializeToString(),
            "has the inputs a, b; a model with one input is explained",
        ),
    ],
)
def test_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, wanted: str) -> None:
    capsys.readouterr()
    assert main(["explain", str(written(tmp_path, content))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert wanted in line


def test_the_sound_file_is_sound() -> None:
    onnx.checker.check_model(onnx.ModelProto.FromString(SOUND))
