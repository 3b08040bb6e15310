"""Optimisers by themselves: they find minima, restore their state, and are noticed by autograd."""

import copy

import pytest

import konv
from konv import optim


def bowl(params) -> konv.Tensor:
    return sum(((p - 3) ** 2).sum() for p in params)


MAKERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "Nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True),
    "Adam": lambda p: optim.Adam(p, lr=0.1),
    "amsgrad": lambda p: optim.Adam(p, lr=0.2, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.0),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", MAKERS)
def test_finds_the_minimum(name: str, dtype: str) -> None:
    kind = getattr(konv, dtype)
    params = [konv.zeros(2, 2, dtype=kind, requires_grad=True), konv.zeros((), dtype=kind, requires_grad=True)]
    optimizer = MAKERS[name](params)
    for _ in range(300):
        optimizer.zero_grad()
        bowl(params).backward()
        optimizer.step()
    for param in params:
        assert param.dtype is kind
        assert float((param - 3).abs().max()) < (0.3 if "16" in dtype else 0.02)


def test_a_step_is_a_write() -> None:
    weight = konv.ones(2, requires_grad=True)
    loss = (weight * weight * weight).sum()
    weight.grad = konv.ones(2)
    optim.SGD([weight], lr=0.1).step()
    with pytest.raises(konv.errors.AutogradError, match="modified by an inplace operation"):
        loss.backward()


def test_closure_and_hooks() -> None:
    weight = konv.ones(1, requires_grad=True)
    optimizer = optim.SGD([weight], lr=0.5)
    seen = []
    before = optimizer.register_step_pre_hook(lambda *a: seen.append("before"))
    optimizer.register_step_post_hook(lambda *a: seen.append("after"))

    def closure() -> konv.Tensor:
        optimizer.zero_grad()
        loss = (weight * 2).sum()
        loss.backward()
        return loss

    with konv.no_grad():
        assert optimizer.step(closure).item() == 2.0
    assert weight.item() == 0.0
    before.remove()
    optimizer.step()
    assert seen == ["before", "after", "after"]


def test_parameters_without_gradient_stay() -> None:
    used, unused = konv.ones(1, requires_grad=True), konv.ones(1, requires_grad=True)
    optimizer = optim.AdamW([used, unused], lr=0.1)
    (used * 2).sum().backward()
    optimizer.step()
    assert unused.item() == 1.0
    assert unused not in optimizer.state
    optimizer.zero_grad(set_to_none=False)
    assert used.grad.item() == 0.0
    assert unused.grad is None


def test_groups() -> None:
    first, second, third = (konv.ones(1, requires_grad=True) for _ in range(3))
    optimizer = optim.SGD([{"params": [first], "lr": 0.5}, {"params": second}], lr=0.1)
    optimizer.add_param_group({"params": [third], "lr": 1.0})
    (first + second + third).sum().backward()
    optimizer.step()
    assert [round(p.item(), 4) for p in (first, second, third)] == [0.5, 0.9, 0.0]
    named = optim.Adam(konv.nn.Linear(2, 1).named_parameters())
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]


def test_state_dict_holds_numbers_and_can_be_copied() -> None:
    model = konv.nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())
    model(konv.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert state["param_groups"][0]["params"] == [0, 1]
    assert sorted(state["state"][0]) == ["exp_avg", "exp_avg_sq", "step"]
    twin = copy.deepcopy(state)
    optimizer.step()
    assert twin["state"][0]["step"] == 1
    optimizer.load_state_dict(twin)
    assert optimizer.state[model.weight]["step"] == 1


def test_schedules_can_be_resumed() -> None:
    def made():
        optimizer = optim.SGD([konv.zeros(1, requires_grad=True)], lr=1.0)
        return optimizer, optim.lr_scheduler.StepLR(optimizer, 2, 0.5)

    optimizer, schedule = made()
    for _ in range(3):
        schedule.step()
    other, resumed = made()
    resumed.load_state_dict(schedule.state_dict())
    other.load_state_dict(optimizer.state_dict())
    schedule.step()
    resumed.step()
    assert resumed.get_last_lr() == schedule.get_last_lr() == [0.25]


def test_messages() -> None:
    weight = konv.ones(1, requires_grad=True)
    cases = {
        "SGD: params is a Tensor; params is an iterable of tensors or of dicts; pass model.parameters()": lambda: (
            optim.SGD(weight)
        ),
        "SGD: optimizer got an empty parameter list; there is nothing to optimise": lambda: optim.SGD([]),
        "Adam: Invalid learning rate: -1; it must not be negative": lambda: optim.Adam([weight], lr=-1),
        "Adam: Invalid beta parameter at index 1: 1.0; it must lie in [0, 1)": lambda: optim.Adam(
            [weight], betas=(0.9, 1.0)
        ),
        "SGD: can't optimize a int; parameters are tensors": lambda: optim.SGD([3]),
    }
    for message, call in cases.items():
        with pytest.raises(konv.errors.KonvError) as caught:
            call()
        assert str(caught.value) == message
