"""Operations against NumPy in float64: broadcasting, folds and indexing over random shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import konv
import konv.nn.functional as F

shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0)
arrays = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4), elements=st.floats(-9, 9)
)


def numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


@given(pair=shapes, name=st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "less", "arctan2"]))
def test_broadcasting(pair, name):
    a, b = (numbers(s, i) for i, s in enumerate(pair.input_shapes))
    ours = {"arctan2": "atan2", "less": "lt"}.get(name, name)
    np.testing.assert_array_equal(getattr(konv, ours)(a, b).numpy(), getattr(np, name)(a, b))


@given(pair=shapes)
def test_broadcast_gradients_have_the_shapes_of_the_operands(pair):
    a, b = (konv.tensor(numbers(s, i), requires_grad=True) for i, s in enumerate(pair.input_shapes))
    (a * b).sum().backward()
    assert a.grad.shape == a.shape
    expected = np.broadcast_to(b.detach().numpy(), pair.result_shape)
    extra = len(pair.result_shape) - a.ndim
    axes = tuple(i for i in range(len(pair.result_shape)) if i < extra or a.shape[i - extra] == 1)
    np.testing.assert_allclose(a.grad.numpy(), expected.sum(axes).reshape(a.shape), atol=1e-12)


@given(array=arrays, data=st.data(), keep=st.booleans())
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "any", "all", "var"])
def test_folds(name, array, data, keep):
    axes = data.draw(st.lists(st.integers(0, array.ndim - 1), unique=True)) if array.ndim else []
    axes = tuple(axes) or None
    ours = getattr(konv.from_numpy(array), name)(
        **({} if axes is None else {"dim": axes}), **({"keepdim": True} if keep and axes else {})
    )
    options = {"ddof": 1} if name == "var" else {}
    if name == "var" and np.prod([array.shape[i] for i in (axes or range(array.ndim))], dtype=int) < 2:
        assert ours.isnan().all()
        return
    expected = getattr(np, name)(array, axis=axes, keepdims=bool(keep and axes), **options)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12, atol=1e-12)


@given(array=arrays, data=st.data())
def test_basic_indexing_is_a_view_and_writes_through(array, data):
    key = data.draw(hnp.basic_indices(array.shape, allow_newaxis=True))
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(p, slice) and p.step is not None and p.step < 0 for p in parts):
        return
    ours = konv.from_numpy(array.copy())
    np.testing.assert_array_equal(ours[key].numpy(), array[key])
    ours[key] = 7.5
    expected = array.copy()
    expected[key] = 7.5
    np.testing.assert_array_equal(ours.numpy(), expected)


@given(array=arrays.filter(lambda a: a.ndim > 0), data=st.data())
def test_integer_arrays_and_masks(array, data):
    index = data.draw(hnp.integer_array_indices(array.shape[:1]))[0]
    np.testing.assert_array_equal(konv.from_numpy(array)[konv.from_numpy(index)].numpy(), array[index])
    mask = array > 0
    np.testing.assert_array_equal(konv.from_numpy(array)[mask].numpy(), array[mask])
    ours = konv.from_numpy(array.copy())
    ours[ours > 0] = -1.0
    np.testing.assert_array_equal(ours.numpy(), np.where(mask, -1.0, array))


@given(array=arrays, data=st.data())
def test_permutations_and_reshapes(array, data):
    order = data.draw(st.permutations(range(array.ndim)))
    ours = konv.from_numpy(array).permute(*order)
    np.testing.assert_array_equal(ours.numpy(), array.transpose(order))
    np.testing.assert_array_equal(ours.reshape(-1).numpy(), array.transpose(order).reshape(-1))
    assert ours.contiguous().is_contiguous()


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "int32", "int64"])
def test_integers_wrap_and_divide_to_floats(name):
    dtype = getattr(konv, name)
    top = konv.tensor([konv.iinfo(dtype).max], dtype=dtype)
    assert (top + 1).item() == konv.iinfo(dtype).min
    assert (top / 2).dtype is konv.float32
    assert top.sum().dtype is konv.int64


def test_numpy_calls_tensors():
    t = konv.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.sum(t).item() == 10
    assert np.mean(t, axis=0).tolist() == [2, 3]
    assert np.max(t, axis=1, keepdims=True)[0].tolist() == [[2], [4]]
    assert isinstance(np.sqrt(t), konv.Tensor)
    assert isinstance(np.ones(2) * t, konv.Tensor)
    assert np.concatenate([t, t]).shape == (4, 2)
    assert np.array_equal(np.asarray(t), t.numpy())


COPIES = {
    "flip one row": lambda x: x.flip(0),
    "flip nothing": lambda x: x.flip(()),
    "flip back": lambda x: x.flip(3),
    "roll by nothing": lambda x: x.roll(0, 3),
    "roll all round": lambda x: x.roll((6, 2), (3, 1)),
    "repeat once": lambda x: x.repeat(1, 1, 1, 1),
    "resize to itself": lambda x: F.interpolate(x, size=(1, 6)),
    "pad by nothing": lambda x: F.pad(x, (0, 0)),
    "unfold 1x1": lambda x: F.unfold(x, 1),
    "fold 1x1": lambda x: F.fold(x.reshape(1, 2, 6), (1, 6), 1),
    "join one": lambda x: konv.cat([x]),
    "sum of one": lambda x: x.sum(0),
    "sort one": lambda x: x.sort(0)[0],
    "clone": lambda x: x.clone(),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("backwards", [False, True])
def test_what_copies_shares_no_memory_even_with_nothing_to_do(name, backwards):
    memory = np.arange(12, dtype=np.float32).reshape(1, 2, 1, 6)
    x = konv.from_numpy(memory[..., ::-1] if backwards else memory)
    made = COPIES[name](x)
    assert not np.shares_memory(made.numpy(), memory)
    made.zero_()
    np.testing.assert_array_equal(memory.ravel(), np.arange(12))
