"""``Module`` against PyTorch's: the same names, states, hooks and refusals."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch

import konv


def build(library):
    """A model with shared parts, buffers, None entries and nesting, written once for both libraries."""
    nn = library.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.register_buffer("scale", library.ones(4))
            self.register_buffer("scratch", library.zeros(2), persistent=False)
            self.register_parameter("nothing", None)
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(self.linear(x)) * self.scale

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = Block()
            self.again = self.first
            self.list = nn.ModuleList([nn.Linear(4, 3), nn.Linear(3, 2)])
            self.table = nn.ModuleDict({"a": nn.Sequential(nn.Linear(2, 2), nn.Tanh())})
            self.none = None
            self.extra = nn.Parameter(library.ones(2))
            self.tied = self.list[1].weight

        def forward(self, x):
            x = self.again(self.first(x))
            for layer in self.list:
                x = layer(x)
            return self.table["a"](x) * self.extra

    return Net()


def both():
    torch.manual_seed(0)
    konv.manual_seed(0)
    return build(konv), build(torch)


def shapes(pairs) -> list:
    return [(name, tuple(value.shape)) for name, value in pairs]


def test_walks() -> None:
    mine, theirs = both()
    for options in ({}, {"prefix": "p"}, {"recurse": False}, {"remove_duplicate": False}):
        assert shapes(mine.named_parameters(**options)) == shapes(theirs.named_parameters(**options))
        assert shapes(mine.named_buffers(**options)) == shapes(theirs.named_buffers(**options))
    for options in ({}, {"prefix": "p"}, {"remove_duplicate": False}):
        assert [n for n, _ in mine.named_modules(**options)] == [n for n, _ in theirs.named_modules(**options)]
    assert [n for n, _ in mine.named_children()] == [n for n, _ in theirs.named_children()]
    assert repr(mine) == repr(theirs)
    calls: list[list[str]] = [[], []]
    mine.apply(lambda m: calls[0].append(type(m).__name__))
    theirs.apply(lambda m: calls[1].append(type(m).__name__))
    assert calls[0] == calls[1]


def test_states_are_the_same() -> None:
    mine, theirs = both()
    state, other = mine.state_dict(), theirs.state_dict()
    assert list(state) == list(other)
    assert state._metadata == other._metadata
    for key in state:
        np.testing.assert_array_equal(state[key].numpy(), other[key].numpy())
    assert list(mine.state_dict(prefix="m.")) == list(theirs.state_dict(prefix="m."))
    assert mine.state_dict(keep_vars=True)["extra"] is mine.extra


def test_loads_pytorchs_state() -> None:
    mine, theirs = both()
    torch.nn.init.ones_(theirs.first.linear.weight)
    assert str(mine.load_state_dict(theirs.state_dict())) == str(theirs.load_state_dict(theirs.state_dict()))
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_allclose(
        mine(konv.from_numpy(x)).detach().numpy(), theirs(torch.from_numpy(x)).detach(), atol=1e-6
    )


def test_report_of_a_state_that_does_not_fit() -> None:
    reports = []
    for library, model in zip((konv, torch), both(), strict=True):
        state = model.state_dict()
        del state["extra"], state["first.linear.bias"]
        state["table.a.0.weight"] = library.zeros(3, 3)
        state["list.5.weight"] = state["table.b"] = state["what"] = library.zeros(1)
        with pytest.raises(RuntimeError) as caught:
            model.load_state_dict(state)
        reports.append(str(caught.value))
        del state["table.a.0.weight"]
        loose = model.load_state_dict(state, strict=False)
        reports.append(f"{sorted(loose.missing_keys)} {sorted(loose.unexpected_keys)}")
    assert reports[0] == reports[2]
    assert reports[1] == reports[3]


def test_assign_keeps_the_loaded_tensors() -> None:
    mine, _ = both()
    state = {key: value.double() for key, value in mine.state_dict().items()}
    mine.load_state_dict(state, assign=True)
    assert mine.extra.dtype is konv.float64
    assert isinstance(mine.extra, konv.nn.Parameter)
    assert mine.first.scale is state["again.scale"]  # the same module under its second name, loaded last


def test_casts_and_modes() -> None:
    mine, theirs = both()
    for name in ("double", "half", "bfloat16", "float"):
        kept = mine.extra
        getattr(mine, name)()
        getattr(theirs, name)()
        assert mine.extra is kept
        assert str(mine.extra.dtype) == str(theirs.extra.dtype)
        assert str(mine.first.scale.dtype) == str(theirs.first.scale.dtype)
    mine.to(konv.float64).to("cpu", konv.float16).to(konv.zeros(1))
    assert mine.extra.dtype is konv.float32
    for model in (mine.eval(), theirs.eval()):
        assert not any(m.training for m in model.modules())
    assert all(not p.requires_grad for p in mine.requires_grad_(False).parameters())


def test_copies_and_pickles() -> None:
    mine, _ = both()
    x = konv.rand(2, 4)
    twin = copy.deepcopy(mine)
    assert (twin(x) == mine(x)).all()
    assert twin.tied is twin.list[1].weight
    assert twin.again is twin.first
    assert twin.tied is not mine.tied
    layer = konv.nn.Sequential(konv.nn.Linear(3, 2), konv.nn.ReLU())
    again = pickle.loads(pickle.dumps(layer))
    assert (again(x[:, :3]) == layer(x[:, :3])).all()
    assert again[0].weight.requires_grad


def hooked(library) -> list:
    """What the hooks of a layer see, in order."""
    seen: list = []
    library.manual_seed(0)
    layer = library.nn.Linear(3, 2)

    def show(value):
        if isinstance(value, tuple):
            return tuple(show(v) for v in value)
        return None if value is None else tuple(value.shape)

    layer.register_forward_pre_hook(lambda m, a: seen.append(("pre", show(a))))
    layer.register_forward_pre_hook(lambda m, a: (a[0] * 2,))
    layer.register_forward_pre_hook(lambda m, a, k: seen.append(("kwargs", sorted(k))), with_kwargs=True, prepend=True)
    layer.register_forward_hook(lambda m, a, o: seen.append(("post", show(a), show(o))))
    layer.register_forward_hook(lambda m, a, o: o * 3)
    layer.register_full_backward_pre_hook(lambda m, go: seen.append(("bpre", show(go))))
    layer.register_full_backward_hook(lambda m, gi, go: seen.append(("back", show(gi), show(go))))
    layer.register_full_backward_hook(lambda m, gi, go: None if gi[0] is None else (gi[0] * 10,))
    gone = layer.register_forward_hook(lambda m, a, o: seen.append("never"))
    gone.remove()
    with layer.register_forward_hook(lambda m, a, o: seen.append("never")):
        pass
    layer.register_forward_hook(lambda m, a, o: seen.append(("always", o is None)), always_call=True)
    x = library.ones(4, 3, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    seen.append([round(v, 4) for v in x.grad[0].tolist()])
    seen.append([round(v, 4) for v in layer.weight.grad.flatten().tolist()])
    layer(library.ones(4, 3)).sum().backward()  # the input needs no gradient
    with pytest.raises(RuntimeError):
        layer(library.ones(4, 5))
    return seen


@pytest.mark.filterwarnings("ignore:Full backward hook")  # PyTorch's own remark
def test_hooks() -> None:
    assert hooked(konv) == hooked(torch)


def test_hooks_of_states() -> None:
    seen = []
    for library in (konv, torch):
        layer = library.nn.Linear(2, 2)
        layer.register_load_state_dict_pre_hook(
            lambda m, state, prefix, *rest: state.update({prefix + "bias": state.pop(prefix + "old")})
        )
        layer.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())
        layer.register_state_dict_post_hook(lambda m, state, prefix, local: state.update(more=1))
        state = {"weight": library.ones(2, 2), "old": library.zeros(2)}
        seen.append((str(layer.load_state_dict(state)), layer.bias.tolist(), sorted(layer.state_dict()), sorted(state)))
    assert seen[0] == seen[1]


REFUSALS = [
    "nn.Module()(1)",
    "setattr(m, 'act', 3)",
    "setattr(m, 'linear', k.ones(2))",
    "setattr(m.linear, 'weight', k.ones(2))",
    "setattr(m, 'scale', 'no')",
    "m.foo",
    "delattr(m, 'foo')",
    "m.register_parameter('a.b', None)",
    "m.register_parameter('', None)",
    "m.register_parameter('act', None)",
    "m.register_parameter(3, None)",
    "m.register_parameter('q', k.ones(2))",
    "m.register_buffer('act', None)",
    "m.register_buffer('q', 3)",
    "m.add_module('x', 3)",
    "m.add_module('a.b', nn.ReLU())",
    "m.add_module('scale', nn.ReLU())",
    "m.get_submodule('linear.what')",
    "m.get_submodule('linear.weight')",
    "m.get_parameter('linear')",
    "m.get_parameter('linear.what')",
    "m.get_buffer('linear.weight')",
    "m.train(3)",
    "m.to(k.int64)",
    "m.load_state_dict(3)",
    "nn.ModuleList([1])",
    "nn.ModuleList(3)",
    "nn.ModuleList()[0]",
    "nn.Sequential(nn.ReLU())[3]",
    "nn.Sequential(nn.ReLU()) + 3",
    "nn.Sequential(nn.ReLU()) * 0",
    "nn.Sequential(nn.ReLU()) * 1.5",
    "nn.Sequential(nn.ReLU()).insert(5, nn.ReLU())",
    "nn.ModuleDict({'a': 1})",
    "nn.ModuleDict()['a']",
    "nn.ModuleDict([1])",
    "nn.Parameter(k.ones(2, dtype=k.int64))",
    "type('Bad', (nn.Module,), {'__init__': lambda self: setattr(self, 'a', nn.ReLU())})()",
    "type('Bad', (nn.Module,), {'__init__': lambda self: setattr(self, 'a', nn.Parameter(k.ones(1)))})()",
    "type('Bad', (nn.Module,), {'__init__': lambda self: self.register_buffer('a', None)})()",
]


@pytest.mark.parametrize("code", REFUSALS)
def test_refusals(code: str) -> None:
    with pytest.raises(Exception) as theirs:
        eval(code, {"nn": torch.nn, "k": torch, "m": build(torch).first})
    with pytest.raises(theirs.type):
        eval(code, {"nn": konv.nn, "k": konv, "m": build(konv).first})


def edited(nn) -> list[str]:
    """Containers after every kind of edit."""
    line = nn.Sequential(*(nn.Linear(1, n) for n in range(1, 6)))
    shown = [repr(line[1:3]), repr(line[-1]), len(line)]
    line.append(nn.ReLU()).insert(0, nn.Tanh())
    del line[2]
    shown += [repr(line.pop(1)), repr(line)]
    line[0] = nn.ReLU6()
    del line[::2]
    line += nn.Sequential(nn.GELU())
    shown += [repr(line), repr(line * 2), repr(2 * line), repr(line + nn.Sequential(nn.Tanh()))]
    line *= 2
    line.extend([nn.ReLU()])
    shown += [repr(line), [type(m).__name__ for m in line]]
    many = nn.ModuleList(nn.Linear(1, n) for n in range(1, 6))
    many.insert(1, nn.ReLU())
    many.append(nn.Tanh())
    many += [nn.ReLU()]
    shown += [repr(many[1:3]), repr(many[-1]), repr(many + nn.ModuleList([nn.GELU()]))]
    del many[1:3]
    many.pop(0)
    many[0] = nn.ReLU()
    shown += [repr(many), len(many)]
    table = nn.ModuleDict([("a", nn.ReLU()), ("b", nn.Tanh())])
    table.update({"a": nn.GELU(), "c": nn.ReLU()})
    table["d"] = nn.Sigmoid()
    shown += [repr(table), repr(table.pop("a")), list(table), "c" in table, len(table), sorted(dict(table.items()))]
    del table["b"]
    shown += [list(table.keys()), [repr(v) for v in table.values()]]
    table.clear()
    return [*shown, repr(table)]


def test_containers() -> None:
    assert edited(konv.nn) == edited(torch.nn)


def test_reassignment_moves_names() -> None:
    seen = []
    for library in (konv, torch):
        module = library.nn.Module()
        module.a = library.nn.Parameter(library.ones(1))
        module.b = library.nn.ReLU()
        module.register_buffer("c", library.ones(1))
        del module.a
        module.a = library.nn.Tanh()
        module.b = library.nn.Parameter(library.ones(2))
        module.c = library.zeros(3)
        module.d = library.nn.Buffer(library.zeros(1), persistent=False)
        seen.append([list(module._parameters), list(module._modules), list(module._buffers), list(module.state_dict())])
        module.a = module.b = module.c = None
        seen[-1].append([list(module.state_dict()), module.a, module.b, module.c])
    assert seen[0] == seen[1]
    assert "a" in dir(module)


def test_zero_grad() -> None:
    layer = konv.nn.Linear(2, 1)
    layer(konv.ones(1, 2)).sum().backward()
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0.0, 0.0]]
    layer.zero_grad()
    assert layer.weight.grad is None


def test_messages_name_the_key() -> None:
    assert re.search("size mismatch for weight", str(_failure()))


def _failure() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        konv.nn.Linear(2, 2).load_state_dict({"weight": np.zeros((3, 3), np.float32), "bias": np.zeros(2, np.float32)})
    return caught.value
