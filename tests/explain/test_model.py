"""The table of a model: rows, edges between them, costs, memory, and that the model itself is left as it was."""

from __future__ import annotations

import importlib
import json
import threading
from typing import Any

import pytest

import konv
from konv import autograd, nn
from konv.errors import ShapeError, UnsupportedError
from konv.explain.entry import traced
from konv.explain.memory import Ledger, saved_arrays, saved_tensors
from konv.explain.rules import known
from konv.models import SimpleCNN


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.act(x + self.conv2(self.act(self.conv1(x))))


def test_simple_cnn() -> None:
    model = SimpleCNN()
    report = konv.explain(model, (4, 1, 28, 28))
    assert [(row.name, row.layer, row.output_shape) for row in report.rows] == [
        ("conv1", "Conv2d", (4, 32, 28, 28)),
        ("bn1", "BatchNorm2d", (4, 32, 28, 28)),
        ("relu1", "ReLU", (4, 32, 28, 28)),
        ("pool", "MaxPool2d", (4, 32, 14, 14)),
        ("conv2", "Conv2d", (4, 64, 14, 14)),
        ("bn2", "BatchNorm2d", (4, 64, 14, 14)),
        ("relu2", "ReLU", (4, 64, 14, 14)),
        ("pool", "MaxPool2d", (4, 64, 7, 7)),
        ("", "reshape", (4, 3136)),
        ("fc", "Linear", (4, 10)),
    ]
    assert [row.inputs for row in report.rows] == [(-1,), (0,), (1,), (2,), (3,), (4,), (5,), (6,), (7,), (8,)]
    assert report.totals.parameters == sum(p.numel() for p in model.parameters()) == 50378
    assert sum(row.parameters for row in report.rows) == 50378
    assert report.totals.multiply_adds == 4 * (28 * 28 * 32 * 9 + 14 * 14 * 64 * 32 * 9 + 3136 * 10)
    assert report.rows[7].field is not None
    assert [(axis.size, axis.jump, axis.center) for axis in report.rows[7].field] == [(10, 4, 1.5)] * 2
    assert report.rows[9].field is not None
    assert report.rows[9].field[0].whole
    shares = {(share.what, report.rows[share.row].name) for share in report.dominating}
    assert ("parameters", "fc") in shares
    assert ("multiply_adds", "conv2") in shares


class Bottleneck(nn.Module):
    """ResNet's block, weights on the meta device."""

    def __init__(self, given: int, inner: int, stride: int) -> None:
        super().__init__()
        made, options = 4 * inner, {"bias": False, "device": "meta"}
        self.branch = nn.Sequential(
            nn.Conv2d(given, inner, 1, **options),
            nn.BatchNorm2d(inner, device="meta"),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, **options),
            nn.BatchNorm2d(inner, device="meta"),
            nn.ReLU(),
            nn.Conv2d(inner, made, 1, **options),
            nn.BatchNorm2d(made, device="meta"),
        )
        shortcut = nn.Conv2d(given, made, 1, stride, **options), nn.BatchNorm2d(made, device="meta")
        self.shortcut = nn.Sequential(*shortcut) if given != made or stride > 1 else nn.Identity()

    def forward(self, x: Any) -> Any:
        return (self.branch(x) + self.shortcut(x)).relu()


def test_resnet50_has_the_published_figures() -> None:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for count, inner, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
        for index in range(count):
            layers.append(Bottleneck(channels, inner, stride if index == 0 else 1))
            channels = 4 * inner
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000, device="meta")]
    report = konv.explain(nn.Sequential(*layers, *head), (1, 3, 224, 224))
    assert report.totals.parameters == 25_557_032
    assert report.totals.multiply_adds == 4_089_184_256
    last = next(row for row in report.rows if row.layer == "AdaptiveAvgPool2d")
    before = report.rows[last.inputs[0]].field
    assert before is not None
    assert [(axis.size, axis.jump, axis.center) for axis in before] == [(427, 32, 0)] * 2


def test_residuals_and_branches() -> None:
    report = konv.explain(nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4)), (1, 3, 16, 16))
    table = [(row.name, row.layer, row.inputs) for row in report.rows]
    assert table == [
        ("0", "Conv2d", (-1,)),
        ("1.conv1", "Conv2d", (0,)),
        ("1.act", "ReLU", (1,)),
        ("1.conv2", "Conv2d", (2,)),
        ("1", "add", (0, 3)),
        ("1.act", "ReLU", (4,)),
    ]
    join = report.rows[4]
    assert join.field is not None
    assert [axis.size for axis in join.field] == [5, 5]
    assert join.reads == (({"kind": "same"}, {"kind": "same"}),) * 2


def test_the_join_of_unequal_branches_is_their_union() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Conv2d(1, 1, 3, padding=((2, 0), (1, 1)))
            self.down = nn.Conv2d(1, 1, 3, padding=((0, 2), (1, 1)))

        def forward(self, x: Any) -> Any:
            return konv.cat([self.up(x), self.down(x)], 1)

    field = konv.explain(Split(), (1, 1, 9, 9)).rows[-1].field
    assert field is not None
    assert [(axis.first, axis.last, axis.size) for axis in field] == [(-2, 2, 5), (-1, 1, 3)]


def test_reads_for_a_page() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding="same_upper"),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.ConvTranspose2d(2, 2, 2, stride=2),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(18, 2),
    )
    report = konv.explain(model, (1, 1, 8, 8))
    kinds = [row.reads[0] and row.reads[0][0]["kind"] for row in report.rows]
    assert kinds == ["window", "same", "table", "spread", "adaptive", "whole", "whole"]
    assert report.rows[0].reads[0] is not None
    assert report.rows[0].reads[0][0] == {
        "kind": "window", "kernel": 3, "stride": 2, "dilation": 1, "before": 0, "mode": "zeros",
    }  # fmt: skip
    told = json.loads(report.to_json())
    assert told["rows"][2]["reads"][0][1]["first"] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert told["rows"][0]["detail"]["options"]["padding_word"] == "same_upper"


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), Residual(4))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    konv.explain(model, (2, 1, 16, 16))
    assert not autograd.listeners
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, tensor in model.state_dict().items():
        assert not tensor.is_meta
        assert (tensor == before[name]).all(), name
    with pytest.raises(ShapeError):
        konv.explain(model, (2, 2, 16, 16))
    assert not autograd.listeners


def test_an_input_of_any_size_costs_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Residual(64))
    report = konv.explain(model, (1, 3, 2**18, 2**18))
    assert report.output_shape == (1, 64, 2**17, 2**17)
    assert report.totals.forward_peak > 2**40


def test_shared_layers_count_once() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    report = konv.explain(nn.Sequential(conv, nn.ReLU(), conv), (1, 4, 8, 8))
    assert [row.parameters for row in report.rows] == [148, 0, 0]
    assert report.totals.parameters == 148
    assert report.rows[0].multiply_adds == report.rows[2].multiply_adds


def test_frozen_weights_and_buffers() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    model[0].requires_grad_(False)
    totals = konv.explain(model, (1, 1, 8, 8)).totals
    assert (totals.parameters, totals.trainable, totals.buffers) == (48, 8, 9)


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_memory_of_a_chain_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))
    report = konv.explain(model, (1, 1, 10, 10))
    image, weights = 400, 8 + 8
    assert [row.forward_bytes for row in report.rows] == [
        weights + image + 2 * image,  # the input, which the caller holds, and what conv makes
        weights + image + 2 * image + 2 * image,
        weights + image + 2 * image + image,
    ]
    assert report.totals.forward_peak == report.rows[1].forward_bytes
    assert report.totals.forward_peak_row == 1
    assert report.totals.activation_bytes == 5 * image


def test_a_residual_keeps_its_input_alive() -> None:
    plain = konv.explain(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)), (1, 4, 32, 32))
    joined = konv.explain(nn.Sequential(nn.Conv2d(4, 4, 1), Residual(4)), (1, 4, 32, 32))
    image = 4 * 32 * 32 * 4
    assert plain.totals.forward_peak - plain.totals.weight_bytes == 3 * image
    assert joined.totals.forward_peak - joined.totals.weight_bytes == 4 * image


def test_training_keeps_what_autograd_keeps() -> None:
    """At the end of the way there, memory is weights and what the real graph of a real run holds."""
    for model, shape in [
        (SimpleCNN(), (2, 1, 28, 28)),
        (
            nn.Sequential(nn.Conv2d(1, 4, 3), Residual(4), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(676, 3)),
            (1, 1, 28, 28),
        ),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.AvgPool2d(2), nn.SiLU(), nn.Softmax(1)), (1, 1, 12, 12)),
    ]:
        model.eval()
        x = konv.zeros(shape)
        y = model(x)
        weights = {id(t._counter) for t in (*model.parameters(), *model.buffers())}
        kept: dict[int, int] = {}
        todo, seen = [y.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen or not hasattr(node, "_saved"):
                continue
            seen.add(node)
            for tensor in saved_tensors(node):
                if id(tensor._counter) not in weights:
                    base = tensor._base if tensor._base is not None else tensor
                    kept[id(tensor._counter)] = max(base.nbytes, tensor.nbytes)
            todo += [function for function, _ in node.next_functions]
        kept[id(x._counter)] = x.nbytes
        kept[id(y._counter)] = y.nbytes
        graph = traced(model, shape, konv.float32)
        ledger = Ledger(graph)
        found: dict[int, int] = {}
        for step in ledger.steps:
            found |= {
                memory: size for memory, size in ledger.saved[step].items() if memory in ledger.bytes or size > 64
            }
        for number in (*graph.inputs, *graph.outputs):
            found[graph.values[number].memory] = graph.values[number].bytes
        assert sum(found.values()) == pytest.approx(sum(kept.values()), rel=0.02), type(model)


def test_training_needs_more_than_inference() -> None:
    report = konv.explain(SimpleCNN(), (64, 1, 28, 28))
    totals = report.totals
    assert totals.training_peak > 2 * totals.forward_peak
    assert all(row.training_bytes >= row.forward_bytes for row in report.rows)


# ---- operations -----------------------------------------------------------------------------------------------------


def test_a_function_of_the_user_is_looked_into() -> None:
    class Square(konv.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 2 * x * grad

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x: Any) -> Any:
            return Square.apply(self.conv(x))

    report = konv.explain(Net(), (1, 1, 9, 9))
    assert [row.layer for row in report.rows] == ["Conv2d", "mul"]
    assert report.rows[-1].field is not None
    assert report.rows[-1].field[0].size == 3
    assert not report.rows[-1].hints


def test_an_unknown_operation_is_taken_to_read_everything() -> None:
    class Opaque(konv.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return konv.empty(x.shape, device="meta") if x.is_meta else konv.zeros(x.shape)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad

    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            return Opaque.apply(x)

    report = konv.explain(Net(), (1, 1, 9, 9))
    (row,) = report.rows
    assert [hint.code for hint in row.hints] == ["unknown-operation"]
    assert row.field is not None
    assert row.field[0].whole
    assert konv.receptive_field(Net(), (1, 1, 9, 9), (0, 0)).size == (9, 9)


def test_writes_in_place() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2d(1, 2, 3)
            self.two = nn.Conv2d(2, 2, 3)

        def forward(self, x: Any) -> Any:
            y = self.one(x)
            y += 1
            return self.two(y.relu_())

    report = konv.explain(Net(), (1, 1, 9, 9))
    assert [row.inputs for row in report.rows] == [(-1,), (0,), (1,), (2,)]
    assert report.totals.activation_bytes == 4 * (2 * 7 * 7 + 2 * 5 * 5)
    assert konv.receptive_field(Net(), (1, 1, 9, 9), (2, 2)).size == (5, 5)


def test_every_operation_of_the_layers_has_a_rule() -> None:
    """No layer that a spec can name falls back to 'reads everything'."""
    from konv.explain.spec import LAYERS

    arguments = {
        "Conv2d": "4, 4, 3", "ConvTranspose2d": "4, 4, 3", "Linear": "8, 4", "BatchNorm2d": "4", "GroupNorm": "2, 4",
        "MaxPool2d": "2", "AvgPool2d": "2", "AdaptiveAvgPool2d": "3", "AdaptiveMaxPool2d": "3", "Softmax": "1",
        "ZeroPad2d": "1", "ReflectionPad2d": "1", "ReplicationPad2d": "1", "CircularPad2d": "1",
        "Upsample": "scale_factor=2",
    }  # fmt: skip
    for name in LAYERS:
        model = konv.explain(f"Sequential({name}({arguments.get(name, '')}))", (2, 4, 8, 8))
        assert not [hint for row in model.rows for hint in row.hints if hint.code == "unknown-operation"], name


# Operations that only gradients run, and those whose reading depends on data: they are taken to read everything.
WITHOUT_RULE = {
    "CopySlices", "_Barrier", "_Tap", "ReluGradient", "ConvolutionBiasGradient", "ConvolutionWeightGradient", "PutBack",
    "Pick", "Place", "EdgeUnpad", "PickCells", "SendToCells", "SpreadAverage", "ResizeBack", "View",
    "Gather", "Scatter", "CumSum", "Fold", "Unfold", "Index", "IndexPut", "Sort", "ViewAsComplex", "ViewAsReal",
}  # fmt: skip


def test_every_operation_has_a_rule_or_is_named_here() -> None:
    def below(kind: type) -> Any:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    ours = [kind for kind in below(autograd.Function) if kind.__module__.startswith("konv.")]
    assert len(ours) > 50
    assert {kind.__name__ for kind in ours if not known(kind)} <= WITHOUT_RULE


# ---- marks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "shape", "code", "text"),
    [
        (
            "Conv2d(3, 8, 3, stride=2)", (1, 3, 28, 29), "drops-pixels",
            "height: 1 row of pixels at the bottom reaches no output; 27 or 29 rows would fit",
        ),
        (
            "MaxPool2d(3)", (1, 3, 27, 29), "drops-pixels",
            "width: 2 columns of pixels at the right reach no output; 27 or 30 columns would fit",
        ),
        (
            "Conv2d(3, 8, 2, stride=(3, 2))", (1, 3, 29, 28), "skips-pixels",
            "height: stride 3 steps over the kernel's 2; 1 row of every 3 is never read",
        ),
        (
            "Conv2d(3, 8, 3, padding=(4, 1))", (1, 3, 28, 28), "padding-alone",
            "height: 2 rows of outputs at the top are fed by padding alone; no pixel reaches them",
        ),
        (
            "Conv2d(16, 33, 3)", (1, 16, 28, 28), "channels",
            "33 output channels fill 33 of 48 vector lanes; 32 or 48 channels leave none idle",
        ),
        (
            "Conv2d(32, 32, 3, groups=8)", (1, 32, 28, 28), "channels",
            "8 groups make 4 output channels each, where a vector holds 16; fewer, wider groups run faster",
        ),
    ],
)  # fmt: skip
def test_marks(monkeypatch: pytest.MonkeyPatch, spec: str, shape: tuple[int, ...], code: str, text: str) -> None:
    monkeypatch.setattr(importlib.import_module("konv.explain.marks"), "lanes", lambda dtype: 16)
    report = konv.explain(spec, shape)
    assert (code, text) in [(hint.code, hint.text) for hint in report.hints]
    assert f"  ! {text}" in str(report).split("\n")
    row = konv.explain(f"Sequential({spec})", shape).rows[0]
    assert row.hints == report.hints


def test_marks_know_the_vectors_in_use() -> None:
    for isa in konv.backends.available():
        with konv.backends.use(isa):
            lanes = konv.kernels.lanes("float32")
            assert lanes == {"avx512": 16, "avx2": 8}.get(isa.removesuffix("_bf16"), 4)
            (hint,) = konv.explain(f"Conv2d(3, {2 * lanes + 1}, 3)", (1, 3, 9, 9)).hints
            wanted = f"{2 * lanes + 1} output channels fill {2 * lanes + 1} of {3 * lanes} vector lanes"
            assert hint.text.startswith(wanted)
            assert not konv.explain(f"Conv2d(3, {2 * lanes}, 3)", (1, 3, 9, 9)).hints


@pytest.mark.parametrize("spec", ["Conv2d(16, 32, 3, padding=1)", "Conv2d(16, 16, 3, groups=16)", "MaxPool2d(2)"])
def test_nothing_is_marked_that_is_meant(spec: str) -> None:
    assert konv.explain(spec, (1, 16, 28, 28)).hints == ()


# ---- around it ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_copied_is_said() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    model.lock = threading.Lock()
    with pytest.raises(UnsupportedError, match=r"Sequential can't be copied"):
        konv.explain(model, (1, 1, 8, 8))


def test_other_threads_are_not_listened_to() -> None:
    class Net(nn.Module):
        def forward(self, x: Any) -> Any:
            other = threading.Thread(target=lambda: konv.ones(3) + 1)
            other.start()
            other.join()
            return x * 2

    graph = traced(Net(), (1, 1, 4, 4), konv.float32)
    assert [event.function.__name__ for event in graph.events] == ["mul"]


def test_the_package_can_be_called_like_the_function() -> None:
    import sys

    package = sys.modules["konv.explain"]
    assert package("Conv2d(1, 2, 3)", (1, 1, 8, 8)).output_shape == (1, 2, 6, 6)


def test_names_are_escaped_in_html() -> None:
    model = nn.Sequential()
    model.add_module("<script>alert(1)</script>", nn.Conv2d(1, 1, 3))
    page = konv.explain(model, (1, 1, 8, 8)).to_html()
    assert "<script>alert" not in page


def test_other_inputs_than_images() -> None:
    report = konv.explain("Sequential(Linear(8, 4), ReLU(), Linear(4, 2))", (16, 8))
    assert report.output_shape == (16, 2)
    assert report.totals.multiply_adds == 16 * (32 + 8)
    assert all(row.field is None for row in report.rows)


def test_masks_are_counted() -> None:
    assert not list(saved_arrays(None))
