"""The tensor itself: memory that is shared, versions, devices, conversions, copies."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest

import konv


def test_numpy_memory_is_shared_both_ways():
    array = np.arange(4.0)
    t = konv.from_numpy(array)
    t[0] = 9
    array[1] = 8
    assert t.tolist() == [9, 8, 2, 3]
    out = t.numpy()
    out[2] = 7
    assert t[2].item() == 7
    assert np.shares_memory(np.asarray(t), array)
    assert t._counter.exported


def test_array_protocol_with_dtype_and_copy():
    t = konv.ones(2)
    assert np.asarray(t, dtype=np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(t, copy=True), t.numpy())
    assert np.shares_memory(t.__array__(copy=False), t.numpy())
    with pytest.raises(ValueError, match="without a copy"):
        t.__array__(np.float64, copy=False)
    with pytest.raises(RuntimeError, match="requires grad"):
        np.asarray(konv.ones(1, requires_grad=True))
    assert konv.ones(1, requires_grad=True).numpy(force=True).tolist() == [1]


@pytest.mark.parametrize("write", [lambda t: t.add_(1), lambda t: t.zero_(), lambda t: t.__setitem__(0, 1.0)])
def test_read_only_memory_refuses_writes(write):
    array = np.arange(3.0)
    array.flags.writeable = False
    t = konv.from_numpy(array)
    assert (t * 2).tolist() == [0, 2, 4]
    with pytest.raises(TypeError, match="read-only memory"):
        write(t)


def test_numpy_arrays_of_every_layout():
    array = np.arange(24.0).reshape(2, 3, 4)
    for view in (array[::-1], array.T, array[:, ::2], np.asfortranarray(array), np.broadcast_to(array[0], (5, 3, 4))):
        t = konv.from_numpy(view)
        assert np.shares_memory(t.numpy(), view)
        assert (t + 0).tolist() == view.tolist()
    assert konv.from_numpy(array.T).stride() == (1, 4, 12)


@pytest.mark.parametrize("dtype", [np.uint16, np.longdouble, ">f4", "U3", object])
def test_numpy_dtypes_without_counterpart(dtype):
    with pytest.raises(TypeError, match="konv has no dtype"):
        konv.from_numpy(np.zeros(2, dtype))


def test_dlpack_with_numpy():
    t = konv.arange(6).reshape(2, 3)
    array = np.from_dlpack(t)
    if array.flags.writeable:  # NumPy before 2.1 marks what it imports as read-only
        array[0, 0] = 5
    assert array.tolist() == t.tolist()
    assert konv.from_dlpack(np.zeros((0, 2))).shape == (0, 2)
    assert t.__dlpack_device__() == (1, 0)
    with pytest.raises(BufferError, match="require gradient"):
        konv.ones(1, requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="meta"):
        konv.ones(1, device="meta").__dlpack__()
    with pytest.raises(BufferError, match="negative strides"):
        konv.from_numpy(np.arange(3)[::-1]).__dlpack__(copy=False)
    with pytest.raises(TypeError, match="__dlpack__"):
        konv.from_dlpack([1, 2])


def test_views_share_a_version():
    t = konv.zeros(2, 3)
    view = t.t()[1]
    before = view._version
    t.add_(1)
    assert view._version == before + 1
    assert view.tolist() == [1, 1]
    assert t.data._version == t._version
    assert t.clone()._version == 0


def test_replacing_data_is_noticed():
    w = konv.ones(2, requires_grad=True)
    y = (w * w).sum()
    w.data = konv.zeros(2)
    assert w.tolist() == [0, 0]
    with pytest.raises(RuntimeError, match="inplace"):
        y.backward()


def test_memory_shared_through_data_has_one_version():
    owner = konv.ones(3, requires_grad=True)
    view = owner.detach()
    tied = konv.nn.Parameter(konv.zeros(3))
    tied.data = view
    loss = (owner * owner).sum()
    tied.data.mul_(3)
    assert owner.tolist() == view.tolist() == tied.tolist() == [3, 3, 3]
    assert owner._version == view._version == tied._version == 1
    with pytest.raises(RuntimeError, match="version 1; expected version 0"):
        loss.backward()


def test_a_view_that_gets_other_memory_is_no_view_any_more():
    base = konv.ones(2, 2, requires_grad=True) * 1
    view = base[0]
    view.data = konv.full((2,), 5.0)
    base.mul_(2)
    assert view.tolist() == [5, 5]
    assert base.tolist() == [[2, 2], [2, 2]]


def test_sizes_and_strides():
    t = konv.zeros(2, 3, 4)
    assert repr(t.shape) == "torch.Size([2, 3, 4])"
    assert (t.size(-1), t.dim(), t.numel(), t.element_size(), t.nbytes) == (4, 3, 24, 4, 96)
    assert t.stride() == (12, 4, 1)
    assert t[1].storage_offset() == 12
    assert isinstance(t.shape[:2], konv.Size)
    assert isinstance(t.shape + t.shape, konv.Size)
    with pytest.raises(IndexError, match=r"expected to be in range of \[-3, 2\], but got 3"):
        t.size(3)


def test_channels_last():
    t = konv.arange(24).reshape(1, 2, 3, 4)
    last = t.contiguous(memory_format=konv.channels_last)
    assert last.stride() == (24, 1, 8, 2)
    assert last.is_contiguous(memory_format=konv.channels_last)
    assert not last.is_contiguous()
    assert konv.equal(last, t)
    assert last.clone().stride() == last.stride()
    assert t.to(memory_format=konv.channels_last).stride() == last.stride()


def test_python_protocols():
    t = konv.tensor([[1, 2], [3, 4]])
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert list(range(konv.tensor(3))) == [0, 1, 2]
    assert (float(konv.tensor(1.5)), int(konv.tensor(2.7)), complex(konv.tensor(1j))) == (1.5, 2, 1j)
    assert bool(konv.tensor([1]))
    assert f"{konv.tensor(1.23456):.2f}" == "1.23"
    assert t in {t}
    assert 3 in t
    with pytest.raises(RuntimeError, match="more than one value"):
        bool(t)
    with pytest.raises(TypeError, match="0-d tensor"):
        len(konv.tensor(1))
    with pytest.raises(TypeError):
        _ = t + "text"
    assert (t == "text") is False


@pytest.mark.parametrize(
    "make", [lambda: konv.ones(2, 3).t(), lambda: konv.ones(2, dtype=konv.bfloat16, requires_grad=True)]
)
@pytest.mark.parametrize("again", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy, copy.copy])
def test_copies_and_pickles(make, again):
    t = make()
    t.note = "kept"
    other = again(t)
    assert (other.shape, other.dtype, other.requires_grad, other.note) == (t.shape, t.dtype, t.requires_grad, "kept")
    assert konv.equal(other, t)


def test_new_tensors_in_the_order_that_is_asked_for():
    """PyTorch's strides for (2, 3, 4, 5) in N, H, W, C order: (60, 1, 15, 3)."""
    y, last = konv.ones(2, 3, 4, 5), konv.channels_last
    made = [f(y, memory_format=last) for f in (konv.empty_like, konv.zeros_like, konv.ones_like)]
    made += [konv.empty(2, 3, 4, 5, memory_format=last), konv.full_like(y, 2.0, memory_format=last)]
    for tensor in made:
        assert tensor.stride() == (60, 1, 15, 3)
        assert tensor.is_leaf
    assert made[4].tolist() == konv.full((2, 3, 4, 5), 2.0).tolist()
    assert konv.zeros_like(y, memory_format=last, requires_grad=True).requires_grad
    assert konv.zeros_like(made[0], memory_format=konv.contiguous_format).stride() == (60, 20, 5, 1)
    for call in (lambda: konv.zeros_like(y, memory_format=3), lambda: y.contiguous(memory_format=3)):
        with pytest.raises(konv.errors.ArgumentTypeError, match="memory_format: got 3"):
            call()
    with pytest.raises(RuntimeError, match="required rank 4 tensor"):
        konv.zeros_like(y[0], memory_format=last)


def test_memory_that_another_library_does_not_hand_out():
    class Sparse:
        shape, ndim = (1, 1, 2, 2), 4

        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **options):
            raise BufferError("Can't export tensors with layout other than torch.strided")

    class Meta(Sparse):
        def __dlpack_device__(self):
            raise ValueError("Unknown device type meta for Dlpack")

    for source, why in ((Sparse(), "other than torch.strided"), (Meta(), "Unknown device type meta")):
        for call in (konv.from_dlpack, konv.as_tensor, konv.tensor, konv.nn.Conv2d(1, 1, 1)):
            with pytest.raises(konv.errors.UnsupportedError, match=why) as caught:
                call(source)
            assert isinstance(caught.value, RuntimeError)  # as PyTorch's own layers raise for a sparse input


def test_bytes_of_shapes_without_data_fit_in_64_bits():
    """PyTorch: RuntimeError, "Storage size calculation overflowed"."""
    cases = [
        lambda: konv.empty(2**40, 2**40, device="meta"),
        lambda: konv.empty(2**64, device="meta"),
        lambda: konv.ones(1).expand(2**40, 2**40),
        lambda: konv.ones(1, device="meta").expand(2**40, 2**40),
        lambda: konv.nn.Conv2d(1, 1, 1, padding=2**31, device="meta")(konv.ones(1, 1, 2, 2, device="meta")),
    ]
    for case in cases:
        with pytest.raises(konv.KonvError, match="its bytes must fit in 64 bits") as caught:
            case()
        assert isinstance(caught.value, RuntimeError)


def test_deepcopy_of_computed_tensors_is_refused_and_meta_copies():
    with pytest.raises(RuntimeError, match="leaves"):
        copy.deepcopy(konv.ones(1, requires_grad=True) * 2)
    meta = copy.deepcopy(konv.ones(2**40, device="meta"))
    assert meta.device == konv.device("meta")
    assert pickle.loads(pickle.dumps(meta)).shape == (2**40,)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "disk"])
def test_other_devices_are_refused(name):
    with pytest.raises(RuntimeError, match="konv has 'cpu', and 'meta'"):
        konv.zeros(1, device=name)
    with pytest.raises(RuntimeError, match="konv has 'cpu', and 'meta'"):
        konv.zeros(1).to(name)


META = {
    "arithmetic": lambda m: m * 2 + m / m - (-m) ** 2,
    "in_place": lambda m: m.clone().add_(1).mul_(m).clamp_(0, 1).zero_(),
    "fold": lambda m: m.sum(1).mean(0) + m.amax((0, 1)) + m.var((0, 1)) + m.max(0).values[0],
    "all": lambda m: m.sum() + m.std() + m.norm() + m.prod() + m.logsumexp((0, 1, 2)),
    "views": lambda m: m.permute(2, 0, 1).flatten(1)[..., None].expand(-1, -1, 2),
    "reshape": lambda m: m.transpose(0, 1).reshape(-1, 6).t(),
    "index": lambda m: m[1:, [0, 1], None],
    "write": lambda m: m.clone().__setitem__((slice(None), [1, 2]), 5),
    "join": lambda m: konv.cat([m, m]).chunk(2)[0] + konv.stack([m, m]).unbind(0)[1],
    "products": lambda m: konv.nn.functional.linear(m, konv.ones(4, 3, device="meta"), konv.ones(4, device="meta")),
    "matmul": lambda m: m.mT @ m,
    "choose": lambda m: konv.where(m > 0, m, 0).masked_fill(m < 0, 1) + m.isnan(),
    "order": lambda m: m.sort(0).values + m.argsort(1),
    "turn": lambda m: m.flip(0).roll(1, 1).repeat(1, 2, 1),
    "softmax": lambda m: m.softmax(0).log_softmax(1).relu().sigmoid(),
    "cast": lambda m: m.half().double().to(konv.complex64).real,
    "unfold": lambda m: m.unfold(0, 3, 2),
    "create": lambda m: (
        konv.zeros_like(m) + m.new_ones(3) + konv.arange(3, device="meta") + konv.eye(1, 3, device="meta")
    ),
}


@pytest.mark.parametrize("case", META)
def test_meta_tensors_cost_nothing(case):
    """Shapes equal those of a small real tensor, and nothing of the full size is made."""
    m = konv.ones(2**20, 2**20, 3, device="meta")
    tracemalloc.start()
    found = META[case](m)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    small = konv.ones(16, 16, 3, device="meta")
    if found is not None:
        assert found.is_meta
        real = META[case](konv.ones(16, 16, 3)) if case not in ("products", "create") else META[case](small)
        assert META[case](small).shape == real.shape
        assert META[case](small).dtype is real.dtype


def test_meta_gradients_have_shapes():
    m = konv.ones(2**20, 2**20, device="meta", requires_grad=True)
    (m.exp() * m[0]).mean().backward()
    assert m.grad.is_meta
    assert m.grad.shape == m.shape


@pytest.mark.parametrize(
    "ask",
    [
        *(lambda m: m.item(), lambda m: bool(m), lambda m: m.tolist(), lambda m: m.numpy(), lambda m: m.nonzero()),
        *(lambda m: float(m), lambda m: m.cpu(), lambda m: konv.equal(m, m), lambda m: m.reshape(1)[m.reshape(1) > 0]),
    ],
)
def test_meta_has_no_values(ask):
    with pytest.raises(NotImplementedError, match="meta"):
        ask(konv.ones((), device="meta"))


def test_devices_do_not_mix():
    with pytest.raises(RuntimeError, match="at least two devices"):
        konv.ones(2, device="meta") + konv.ones(2)


def test_default_dtype():
    konv.set_default_dtype(konv.float64)
    try:
        assert konv.ones(1).dtype is konv.float64
        assert (konv.arange(2) / 2).dtype is konv.float64
        assert konv.tensor([1.5]).dtype is konv.float64
    finally:
        konv.set_default_dtype(konv.float32)
    with pytest.raises(TypeError, match="floating-point"):
        konv.set_default_dtype(konv.int64)


def test_dtype_objects():
    assert repr(konv.float32) == "torch.float32"
    assert pickle.loads(pickle.dumps(konv.bfloat16)) is konv.bfloat16
    assert copy.deepcopy(konv.int8) is konv.int8
    assert konv.zeros(1, dtype=float).dtype is konv.float64
    assert konv.zeros(1, dtype=np.int16).dtype is konv.int16
    with pytest.raises(AttributeError, match="cannot be changed"):
        konv.float32.name = "other"
    with pytest.raises(TypeError, match=r"expected a konv.dtype"):
        konv.zeros(1, dtype="float32")


def test_legacy_constructor():
    assert konv.Tensor([1, 2]).dtype is konv.float32
    assert konv.Tensor(2, 3).shape == (2, 3)


def test_facts_wrap_where_pytorch_wraps_them():
    wide = konv.tensor([-3e-6, 3e-6, -4e-6, 5e-6], dtype=konv.float64)
    assert repr(wide) == ("tensor([-3.0000e-06,  3.0000e-06, -4.0000e-06,  5.0000e-06],\n       dtype=torch.float64)")
    rows = konv.tensor([[1, 2, 3], [4, 5, 6]], dtype=konv.int32)
    assert repr(rows) == "tensor([[1, 2, 3],\n        [4, 5, 6]], dtype=torch.int32)"


def test_bounds_of_randint_like_are_checked():
    x = konv.zeros(2, 3)
    for bounds in ((), (5.7,), (1, 2, 3), ("a",)):
        with pytest.raises(TypeError):
            konv.randint_like(x, *bounds)
    assert konv.randint_like(x, 4, 5).tolist() == [[4, 4, 4], [4, 4, 4]]


def test_repeated_cells_are_not_filled_with_what_needs_a_gradient():
    value = konv.tensor(2.0, requires_grad=True)
    cells = konv.zeros(3)
    with pytest.raises(RuntimeError, match="single memory location"):
        cells.expand(2, 3).fill_(value)
    cells.expand(2, 3).fill_(4.0)
    assert cells.tolist() == [4, 4, 4]


def test_numbers_are_checked_against_what_takes_them():
    flags = konv.tensor([True, False])
    assert flags.masked_fill(flags, 1e39).tolist() == [True, False]
    small = konv.tensor([1, 2], dtype=konv.int8)
    assert konv.sub(small, small, alpha=128).tolist() == [-127, 2]
    with pytest.raises(RuntimeError, match="overflow"):
        konv.sub(small, small, alpha=-128)


def test_a_list_of_scalars_has_the_dtype_that_they_promote_to():
    assert konv.tensor([np.float32(1), np.float64(2)]).dtype is konv.float64
    assert konv.tensor([[np.float32(1)], [2]]).dtype is konv.float32
    assert konv.tensor([np.int8(1), np.int16(2)]).dtype is konv.int16
