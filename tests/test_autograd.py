"""The engine: what is recorded, walked, freed and refused."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import konv
from konv.autograd import Function, grad, gradcheck, gradgradcheck


def test_chain_of_ten_thousand_operations():
    x = konv.ones(2, requires_grad=True)
    y = x
    for _ in range(10_000):
        y = y * 1.0
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    del y


def test_graph_is_freed_without_the_cycle_collector():
    gc.collect()
    gc.disable()
    try:
        x = konv.ones(3, requires_grad=True)
        y = (x.exp() * x).sigmoid().softmax(0).max(0).values + x[1:].sum()
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_gradients_are_summed_and_first_ones_are_not_shared():
    p, q = konv.ones(3, requires_grad=True), konv.ones(3, requires_grad=True)
    seed = konv.ones(3)
    (p + q).backward(seed)
    p.grad.zero_()
    assert q.grad.tolist() == [1, 1, 1]
    assert seed.tolist() == [1, 1, 1]
    first = q.grad
    (q * 2).sum().backward()
    assert q.grad is first
    assert first.tolist() == [3, 3, 3]


def test_saved_tensor_modified_in_place():
    x = konv.ones(2, requires_grad=True)
    y = x * 1
    z = y * y
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace operation: \[torch.float32 \[2\]\].*version 1; expected version 0"
    ):
        z.sum().backward()


def test_output_saved_and_modified():
    x = konv.ones(2, requires_grad=True)
    y = x.exp()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


def test_second_backward_is_refused_unless_retained():
    x = konv.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_leaf_and_views_of_leaves_refuse_writes():
    x = konv.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        x[0].add_(1)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        x[0] = 3
    with konv.no_grad():
        x.add_(1)
        x[0] = 7
    assert x.tolist() == [7, 2]


@pytest.mark.parametrize(
    "view",
    [lambda x: x, lambda x: x[0], lambda x: x[..., None], lambda x: x.t(), lambda x: x[:2].requires_grad_()],
    ids=["itself", "row", "unsqueezed", "transposed", "leaf of a leaf"],
)
def test_a_leaf_that_is_a_view_refuses_writes(view):
    x = konv.arange(6.0).reshape(2, 3).requires_grad_()
    with pytest.raises(RuntimeError, match="view of a leaf"):
        view(x).mul_(2)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        view(x)[0] = 5.0
    assert x.is_leaf
    (x * x).sum().backward()
    assert x.grad.tolist() == [[0, 2, 4], [6, 8, 10]]


def test_writing_to_views_reaches_the_base():
    x = konv.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    base = x * 1
    head, tail = base[:2], base[2:]
    head.mul_(3)
    assert tail.requires_grad
    (base * base).sum().backward()
    assert x.grad.tolist() == [18, 36, 6, 8]


def test_writing_makes_a_plain_tensor_part_of_the_graph():
    x = konv.tensor([2.0], requires_grad=True)
    board = konv.zeros(3)
    row = board[1:]
    board[1] = x[0]
    assert board.requires_grad
    assert row.requires_grad
    (row * row).sum().backward()
    assert x.grad.tolist() == [4]


def test_views_of_several_outputs_and_of_no_grad_refuse_writes():
    w = konv.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="several outputs"):
        konv.zeros(2, 2).unbind(0)[0].mul_(w)
    with konv.no_grad():
        view = (w * 1)[:1]
    with pytest.raises(RuntimeError, match="no_grad mode"):
        view.mul_(w[:1])


def test_modes_nest_and_decorate():
    x = konv.ones(1, requires_grad=True)
    with konv.no_grad():
        assert not (x * 1).requires_grad
        with konv.enable_grad():
            assert (x * 1).requires_grad
        assert not konv.is_grad_enabled()
    with konv.inference_mode():
        assert konv.is_inference_mode_enabled()
        assert not (x * 1).requires_grad

    @konv.no_grad()
    def plain(t):
        return t * 2

    @konv.no_grad
    def bare(t):
        return t * 2

    @konv.inference_mode()
    def inferred(t):
        return t * 2

    assert not plain(x).requires_grad
    assert not bare(x).requires_grad
    assert not inferred(x).requires_grad
    konv.set_grad_enabled(False)
    assert not (x * 1).requires_grad
    konv.set_grad_enabled(True)
    with konv.set_grad_enabled(False):
        assert not konv.is_grad_enabled()
    assert konv.is_grad_enabled()


def test_mode_survives_an_exception_and_belongs_to_the_thread():
    with pytest.raises(ZeroDivisionError), konv.no_grad():
        raise ZeroDivisionError
    assert konv.is_grad_enabled()
    seen = []
    with konv.no_grad():
        thread = threading.Thread(target=lambda: seen.append(konv.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_failing_forward_leaves_the_mode_on():
    x = konv.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError):
        _ = x + konv.ones(4)
    assert konv.is_grad_enabled()


class Cube(Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.scale = scale
        ctx.save_for_backward(x)
        assert not konv.is_grad_enabled()
        return x**3 * scale

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x**2 * ctx.scale, None


class CubeWithContext(Function):
    @staticmethod
    def forward(x, scale):
        return x**3 * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[0])
        ctx.scale = inputs[1]

    backward = Cube.backward


@pytest.mark.parametrize("function", [Cube, CubeWithContext])
def test_user_functions(function):
    x = konv.tensor([1.0, 2.0], dtype=konv.float64, requires_grad=True)
    y = function.apply(x, 2.0)
    assert type(y.grad_fn).__name__ == function.__name__
    assert y.grad_fn.name() == function.__name__ + "Backward"
    y.sum().backward()
    assert x.grad.tolist() == [6, 24]
    assert gradcheck(lambda t: function.apply(t, 2.0), (x,))
    assert gradgradcheck(lambda t: function.apply(t, 2.0), (x,))


def test_function_returning_its_input_two_outputs_and_none():
    class Both(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            index = konv.arange(2)
            ctx.mark_non_differentiable(index)
            return x, x * 2, index

        @staticmethod
        def backward(ctx, first, second, third):
            assert first is None
            assert third is None
            return second * 2

    x = konv.ones(2, requires_grad=True)
    same, twice, index = Both.apply(x)
    assert same is not x
    assert same.grad_fn is twice.grad_fn
    assert not index.requires_grad
    twice.sum().backward()
    assert x.grad.tolist() == [2, 2]
    assert x.is_leaf


def test_function_that_writes_in_place():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = konv.ones(2, requires_grad=True)
    y = x * 1
    z = Double.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_once_differentiable():
    class Once(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        @konv.autograd.once_differentiable
        def backward(ctx, g):
            return g * 2

    x = konv.ones(1, requires_grad=True)
    (first,) = grad((Once.apply(x) * x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda g: (g, g), "incorrect number of gradients"),
        (
            lambda g: konv.ones(3),
            "invalid gradient at index 0 - got \\[3\\] but expected shape compatible with \\[2\\]",
        ),
        (lambda g: 1.0, "expected a Tensor or None"),
    ],
)
def test_wrong_gradients_are_named(returned, message):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return returned(g)

    with pytest.raises(RuntimeError, match=message):
        Wrong.apply(konv.ones(2, requires_grad=True)).sum().backward()


def test_hooks_and_retained_gradients():
    x = konv.ones(2, requires_grad=True)
    y = x * 2
    y.retain_grad()
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 10)
    (y * 3).sum().backward()
    assert seen == [[3, 3]]
    assert y.grad.tolist() == [3, 3]
    assert x.grad.tolist() == [60, 60]
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        konv.ones(1).register_hook(print)


def test_grad_of_inner_tensors_unused_and_zeros():
    x, z = konv.ones(2, requires_grad=True), konv.ones(3, requires_grad=True)
    y = x * 2
    (inner,) = grad((y * y).sum(), y)
    assert inner.tolist() == [4, 4]
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        grad(x.sum(), [x, z])
    assert grad(x.sum(), [x, z], allow_unused=True)[1] is None
    assert grad(x.sum(), [x, z], materialize_grads=True)[1].tolist() == [0, 0, 0]
    assert x.grad is None


def test_backward_with_inputs_touches_only_them():
    x, z = konv.ones(2, requires_grad=True), konv.ones(2, requires_grad=True)
    (x * z).sum().backward(inputs=[x])
    assert x.grad is not None
    assert z.grad is None


def test_higher_derivatives():
    x = konv.tensor(2.0, dtype=konv.float64, requires_grad=True)
    y = x**4
    for expected in (32, 48, 48, 24):
        (y,) = grad(y, x, create_graph=True)
        assert y.item() == expected


def test_backward_inside_backward():
    class Checkpoint(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.exp()

        @staticmethod
        def backward(ctx, g):
            with konv.enable_grad():
                again = ctx.saved_tensors[0].detach().requires_grad_()
                again.exp().backward(g)
            return again.grad

    x = konv.ones(2, requires_grad=True)
    Checkpoint.apply(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1, 1]), rtol=1e-6)


def test_next_functions_show_the_graph():
    x = konv.ones(1, requires_grad=True)
    node = (x * 2 + 1).grad_fn
    assert repr(node).startswith("<AddBackward0 object at 0x")
    ((product, _), (nothing, _)) = node.next_functions
    assert (product.name(), nothing) == ("MulBackward0", None)
    assert product.next_functions[0][0].variable is x


def test_listeners_hear_every_operation():
    heard = []

    def listen(function, args, outputs):
        heard.append(function.node_name)

    konv.autograd.listeners.append(listen)
    try:
        with konv.no_grad():
            _ = konv.ones(2) + 1
        _ = konv.ones(2, requires_grad=True).exp()
    finally:
        konv.autograd.listeners.remove(listen)
    assert heard == ["AddBackward0", "ExpBackward0"]


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    x = konv.ones(2, dtype=konv.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian mismatch for output 0 with respect to input 0"):
        gradcheck(lambda t: Wrong.apply(t, 1.0), (x,))
    assert not gradcheck(lambda t: Wrong.apply(t, 1.0), (x,), raise_exception=False)
    with pytest.raises(ValueError, match="double precision"):
        gradcheck(lambda t: t * 2, (konv.ones(1, requires_grad=True),))
    with pytest.raises(ValueError, match="none of them do"):
        gradcheck(lambda t: t * 2, (konv.ones(1),))


def test_threads_record_and_walk_at_once():
    def work(results, i):
        x = konv.full((50,), float(i), requires_grad=True)
        for _ in range(20):
            y = x
            for _ in range(20):
                y = y * 1.0 + 0.0
            x.grad = None
            y.sum().backward()
        results[i] = x.grad.tolist()

    results = {}
    threads = [threading.Thread(target=work, args=(results, i)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(r == [1.0] * 50 for r in results.values())
    assert len(results) == 4


F = konv.nn.functional


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda t: F.cross_entropy(t, konv.tensor([0, 1])), "NllLossBackward0"),
        (lambda t: F.cross_entropy(t, konv.tensor([0, 1]), reduction="none"), "NllLossBackward0"),
        (lambda t: F.mse_loss(t, konv.zeros(2, 3)), "MseLossBackward0"),
        (lambda t: F.smooth_l1_loss(t, konv.zeros(2, 3)), "SmoothL1LossBackward0"),
        (lambda t: F.binary_cross_entropy(t, konv.ones(2, 3)), "BinaryCrossEntropyBackward0"),
        (lambda t: F.binary_cross_entropy_with_logits(t, konv.ones(2, 3)), "BinaryCrossEntropyWithLogitsBackward0"),
        (lambda t: F.interpolate(t[None, None], scale_factor=2), "UpsampleNearest2DBackward0"),
        (lambda t: F.interpolate(t[None, None], scale_factor=2, mode="bilinear"), "UpsampleBilinear2DBackward0"),
        (lambda t: F.interpolate(t[None], scale_factor=2, mode="nearest-exact"), "UpsampleNearestExact1DBackward0"),
        (lambda t: t.sum(0), "SumBackward1"),
        (lambda t: t.sum(), "SumBackward0"),
        (lambda t: t.max(), "MaxBackward1"),
        (lambda t: t[0, :2], "SliceBackward0"),
        (lambda t: t[0, :], "SelectBackward0"),
        (lambda t: t[:1].squeeze(0), "SqueezeBackward1"),
        (lambda t: 1 - t, "RsubBackward1"),
        (lambda t: t[0] @ t[1], "DotBackward0"),
        (lambda t: konv.stack([t, t]), "StackBackward0"),
    ],
)
def test_names_of_nodes_are_those_of_pytorch(function, name):
    x = konv.ones(2, 3, requires_grad=True)
    assert f"grad_fn=<{name}>" in repr(function(x))
    function(x).sum().backward()
    assert x.grad.shape == (2, 3)


def test_names_of_nodes_are_asked_for():
    node = (konv.ones(2, requires_grad=True) * 2).grad_fn
    assert node.name() == "MulBackward0"
    assert node.next_functions[0][0].name() == "torch::autograd::AccumulateGrad"
