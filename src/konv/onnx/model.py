"""A graph of ONNX as a ``Module``: a layer a node, run in order.

Every value is of one of three kinds, told apart while reading: constants of the file, data, and what is known before
any data is: shapes of tensors, and the arithmetic on them that ends in a Reshape or a Resize. The last is computed in
the run, without being a layer, so that a file with open sizes takes inputs of any.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from .. import dtypes
from ..autograd import no_grad
from ..errors import FileError, KonvError, MemoryShortError, ShapeError, UnsupportedError, text
from ..nn.module import Module
from ..nn.parameter import Parameter
from ..tensor import Tensor
from .file import MAX_WORDS, array_of, opset_of, package, read_model, refused, shown
from .layers import BUILDERS, Weights
from .node import Node
from .ops import OPS, Op, like

SMALL: Final = 1024  # numbers that an operation on shapes takes at most
SPARE_BYTES: Final = 64 * 2**20
MAX_NAMED: Final = 5


@dataclass(frozen=True)
class Input:
    """An input of the graph; an axis of the shape is None where the file leaves it open, all of it where unsaid."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: dtypes.dtype


@dataclass(frozen=True)
class Step:
    """One node in the run: ``layer`` is the name of the module, or None for arithmetic on shapes."""

    node: Node
    layer: str | None
    reads: tuple[str, ...]
    done: tuple[str, ...] = ()  # values that nobody reads later


class Operation(Module):
    """One node that is no layer of konv's: a function of data and constants.

    Args:
        node: the node.
        op: the table's row.
        given: for each input its constant, True for what the run gives, or None for what is left out.
    """

    def __init__(self, node: Node, op: Op, given: list[Any]) -> None:
        super().__init__()
        self.node, self.op = node, op
        self.places: list[Any] = []
        for place, value in enumerate(given):
            slot = f"input{place}"
            if isinstance(value, Parameter) and place < op.data and place not in op.statistics:
                self.register_parameter(slot, value)
            elif isinstance(value, Tensor) and place < op.data:
                self.register_buffer(slot, value.detach())
            else:  # an argument, which must stay readable on the meta device
                self.places.append(value._array if isinstance(value, Tensor) else value)
                continue
            self.places.append(slot)

    def forward(self, *data: Any) -> Any:
        """The node's outputs: a tensor, or a tuple of them."""
        left = iter(data)
        inputs = []
        for value in self.places:
            if value is True:
                inputs.append(next(left))
            else:
                inputs.append(getattr(self, value) if isinstance(value, str) else value)
        tensors = [x for x in inputs[: self.op.data] if isinstance(x, Tensor)]
        meta = next((x for x in tensors if x._meta), None)
        if meta is not None:  # numbers that follow from shapes are known even there
            inputs[: self.op.data] = [like(meta, x) if isinstance(x, Tensor) else x for x in inputs[: self.op.data]]
        return _run(self.op, self.node, inputs)

    def extra_repr(self) -> str:
        """The node's options."""
        return str(self.node)


KINDS: Final = {name: type(name, (Operation,), {"__doc__": f"ONNX's {name}."}) for name in OPS}


class OnnxModel(Module):
    """What ``load`` makes of a file: its layers under the names of the nodes, and its inputs.

    Attributes:
        inputs: name, shape and dtype of each input.
        steps: the nodes in the order in which they run.
    """

    def __init__(self, inputs: tuple[Input, ...], outputs: tuple[str, ...], constants: dict[str, Tensor]) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.steps: list[Step] = []
        self.ready: dict[str, Any] = constants  # few: what arithmetic on shapes reads, and constant outputs

    def forward(self, *tensors: Tensor) -> Any:
        """The graph's output, or a tuple of its outputs.

        Raises:
            ShapeError: another number of inputs than the graph's, or shapes that do not fit.
        """
        if len(tensors) != len(self.inputs):
            names = ", ".join(entry.name for entry in self.inputs)
            raise ShapeError(text("OnnxModel", f"got {len(tensors)} inputs", f"the graph has {names}"))
        values: dict[str, Any] = {**self.ready, **{i.name: x for i, x in zip(self.inputs, tensors, strict=True)}}
        for step in self.steps:
            given = [values[name] if name else None for name in step.reads]
            if step.layer is None:
                made = _computed(step.node, given)
            else:
                made = self._modules[step.layer](*given)  # type: ignore[misc]
            values.update(zip(step.node.outputs, made if isinstance(made, tuple) else (made,), strict=False))
            for name in step.done:
                del values[name]
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found


def _run(op: Op, node: Node, inputs: list[Any]) -> Any:
    """An operator's result; what NumPy or Python refuse is told as konv's own errors are."""
    try:
        return op.run(node, *inputs)
    except KonvError:
        raise
    except MemoryError as error:
        got = f"{node.title} asks for more memory than there is"
        raise MemoryShortError(text("onnx", got, shown(error) or "there is not enough memory")) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ShapeError(text("onnx", f"{node.title} does not fit its inputs", shown(error))) from error


def _computed(node: Node, inputs: list[Any]) -> Any:
    """Arithmetic on shapes, outside of every graph."""
    if node.op not in ("Shape", "Size"):
        count = sum(value.numel() for value in inputs if value is not None)
        if count > SMALL:
            raise node.refusal(f"arithmetic on shapes takes {count} numbers", f"konv does it with at most {SMALL}")
    with no_grad():
        return _run(OPS[node.op], node, inputs)


def load(path: str | os.PathLike[str]) -> OnnxModel:
    """Read an ONNX file into a module for inference.

    Args:
        path: the file. Nothing in it is trusted, and no other file is opened.

    Returns:
        A module in eval mode whose layers bear the names of the nodes; call it with the graph's inputs.

    Raises:
        FileError: the file is damaged, hostile, or not an ONNX file.
        UnsupportedError: an operator or an option that konv lacks, or the package ``onnx`` is not installed.

    Example:
        >>> import konv
        >>> konv.onnx.load("missing.onnx")
        Traceback (most recent call last):
        konv.errors.FileError: onnx.load: missing.onnx cannot be read; No such file or directory
    """
    path = Path(path)
    try:
        return _Reader(path, read_model(path)).model()
    except MemoryError as error:
        raise refused(path, "needs more memory than there is", "its tensors are too large") from error


class _Reader:
    """From a checked ``ModelProto`` to a module."""

    def __init__(self, path: Path, proto: Any) -> None:
        self.path, self.proto, self.graph = path, proto, proto.graph
        self.opset = opset_of(proto)
        self.constants = {entry.name: self._tensor(entry) for entry in self.graph.initializer}
        self.learned = set(self.constants)
        self.known: set[str] = set()  # values that follow from shapes alone
        self.weights = Weights(self.constants)
        self.spare = SPARE_BYTES + 8 * sum(tensor._array.nbytes for tensor in self.constants.values())

    def _tensor(self, proto: Any) -> Tensor:
        return Tensor._wrap(array_of(proto, self.path))

    def model(self) -> OnnxModel:
        nodes = [self._node(proto, index) for index, proto in enumerate(self.graph.node)]
        self._refuse_unknown(nodes)
        inputs = tuple(self._inputs())
        outputs = tuple(value.name for value in self.graph.output)
        defined = {entry.name for entry in inputs} | set(self.constants)
        made = OnnxModel(inputs, outputs, {})
        for node in nodes:
            missing = [name for name in node.inputs if name and name not in defined]
            if missing:
                raise node.damage(f"its input {shown(missing[0])!r} is made by no node before it", "the order is wrong")
            defined |= set(node.outputs)
            self._add(made, node)
        if any(name not in defined for name in outputs):
            raise refused(self.path, "has an output that no node makes", "the graph is not whole")
        wanted = {*outputs, *(name for step in made.steps if step.layer is None for name in step.reads)}
        made.ready = {name: self.constants[name] for name in wanted if name in self.constants}
        made.steps = _with_ends(made.steps, outputs, set(made.ready))
        return made.eval()

    def _node(self, proto: Any, index: int) -> Node:
        name = proto.name or f"{proto.op_type}_{index}"
        attributes = {}
        for entry in proto.attribute:
            value = package().helper.get_attribute_value(entry)
            attributes[entry.name] = array_of(value, self.path) if isinstance(value, package().TensorProto) else value
        op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        return Node(op, name, tuple(proto.input), tuple(proto.output), attributes, self.opset)

    def _refuse_unknown(self, nodes: list[Node]) -> None:
        strange = [node for node in nodes if node.op not in OPS and node.op not in BUILDERS and node.op != "Constant"]
        if strange:
            first = {node.op: node for node in reversed(strange)}
            told = ", ".join(shown(node.title) for node in list(first.values())[::-1][:MAX_NAMED])
            more = f" and {len(first) - MAX_NAMED} more" if len(first) > MAX_NAMED else ""
            raise UnsupportedError(
                text("onnx.load", f"{shown(self.path)} has {told}{more}", "konv lacks that operator")
            )

    def _inputs(self) -> Iterator[Input]:
        for value in self.graph.input:
            if value.name in self.constants:
                continue
            if not value.type.HasField("tensor_type"):
                raise refused(self.path, f"has an input {shown(value.name)!r} that is no tensor", "konv takes tensors")
            kind = value.type.tensor_type
            try:
                dtype = dtypes.from_numpy(np.dtype(package().helper.tensor_dtype_to_np_dtype(kind.elem_type)))
            except (KonvError, KeyError, TypeError, ValueError):
                got = f"has an input {shown(value.name)!r} of type {kind.elem_type}"
                raise refused(self.path, got, "konv has no such numbers") from None
            sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
            if any(size is not None and size < 0 for size in sizes):
                raise refused(self.path, f"has an input of shape {shown(list(sizes))}", "sizes are not negative")
            yield Input(value.name, sizes if kind.HasField("shape") else None, dtype)

    def _add(self, model: OnnxModel, node: Node) -> None:
        if node.op == "Constant":
            self._keep(node, self._constant(node))
            return
        given = [name for name in node.inputs if name]
        op = OPS.get(node.op)
        if op is not None and node.op not in ("Shape", "Size") and self._folds(op, node, given):
            self._keep(node, self._folded(op, node))
            return
        shapes = all(name in self.known or name in self.constants for name in given)
        if node.op in ("Shape", "Size") or (op is not None and op.folds and shapes and self._small(given)):
            self.known |= set(node.outputs)
            model.steps.append(Step(node, None, node.inputs))
            return
        name = _unused(model, node.name)
        try:
            layer, reads = self._layer(op, node)
            model.add_module(name, layer)
        except (FileError, UnsupportedError):
            raise
        except (KonvError, ValueError, TypeError) as error:
            raise node.damage("its options make no layer", shown(error)) from error
        model.steps.append(Step(node, name, reads))

    def _constant(self, node: Node) -> Tensor:
        for name, kind in (("value", None), ("value_float", np.float32), ("value_floats", np.float32),
                           ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
            if name in node.attributes:
                return Tensor._wrap(np.array(node.attributes[name], kind))
        raise node.refusal("it holds text or a sparse tensor", "konv reads numbers")

    def _small(self, names: list[str]) -> bool:
        return sum(self.constants[name].numel() for name in names if name in self.constants) <= SMALL

    def _folds(self, op: Op, node: Node, given: list[str]) -> bool:
        if not op.folds or any(name not in self.constants for name in given) or node.used_outputs > 1:
            return False
        return op.folds == "view" or self._small(given)

    def _folded(self, op: Op, node: Node) -> Tensor:
        values = [self.constants[name] if name else None for name in node.inputs]
        with no_grad():
            made: Tensor = _run(op, node, values)
        if not any(value is not None and np.may_share_memory(made._array, value._array) for value in values):
            self.spare -= made._array.nbytes
        if self.spare < 0:
            raise refused(self.path, "grows while it is read", "its constants make ever larger ones")
        if any(name in self.learned for name in node.inputs):
            self.learned |= set(node.outputs)
        return made

    def _keep(self, node: Node, value: Tensor) -> None:
        self.constants[node.outputs[0]] = value

    def _layer(self, op: Op | None, node: Node) -> tuple[Module, tuple[str, ...]]:
        """The module of a node, and the values that it is called with."""
        build = BUILDERS.get(node.op)
        if not node.inputs or not node.inputs[0]:
            raise node.damage("it has no input", "it needs one")
        layer = None if build is None or node.inputs[0] in self.constants else build(node, self.weights)
        if layer is not None:
            return layer, node.inputs[:1]
        if op is None:
            raise node.refusal("its input is a constant", "konv runs it on data")
        given: list[Any] = []
        for place, name in enumerate(node.inputs):
            if place >= op.data and name and name not in self.constants and name not in self.known:
                got = f"its input {place} ({shown(name)!r}) depends on data"
                raise node.refusal(got, "konv must know it before the data comes")
            if name in self.constants:
                given.append(self._given(name))
            else:
                given.append(True if name else None)
        reads = tuple(name for name in node.inputs if name and name not in self.constants)
        return KINDS[node.op](node, op, given), reads

    def _given(self, name: str) -> Tensor:
        """Weights of the file are learned, numbers that the graph itself holds are not."""
        floating = self.constants[name].dtype.is_floating_point
        return self.weights.parameter(name) if floating and name in self.learned else self.constants[name]


def _unused(model: OnnxModel, name: str) -> str:
    """A node's name as the name of a module: it has no dot, and nobody else has it."""
    plain = "".join(sign if sign.isprintable() and sign != "." else "_" for sign in name[:MAX_WORDS]).strip("/") or "_"
    while hasattr(model, plain):  # longer each time: names made to collide end soon
        plain = f"{plain}_{len(model._modules)}"
    return plain


def _with_ends(steps: list[Step], outputs: tuple[str, ...], keep: set[str]) -> list[Step]:
    """Each step with the values that it is the last to read, so that memory is freed early."""
    seen = {*outputs, *keep, ""}
    ended: list[Step] = []
    for step in reversed(steps):
        names = dict.fromkeys((*step.reads, *(name for name in step.node.outputs if name)))
        done = tuple(name for name in names if name not in seen)
        seen |= set(done)
        ended.append(Step(step.node, step.layer, step.reads, done))
    return ended[::-1]
