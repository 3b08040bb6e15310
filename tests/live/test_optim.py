"""Optimisers and schedules, step by step against PyTorch."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import konv

STEPS = 6
SGDS = [
    {"lr": 0.1},
    {"lr": 0.1, "momentum": 0.9},
    {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
    {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    {"lr": 0.01, "weight_decay": 0.1, "maximize": True},
    {"lr": 0.01, "momentum": 0.5, "maximize": True},
]
ADAMS = [
    {},
    {"lr": 0.1, "betas": (0.5, 0.7), "eps": 1e-3},
    {"lr": 0.1, "weight_decay": 0.2},
    {"lr": 0.1, "amsgrad": True},
    {"lr": 0.1, "maximize": True, "weight_decay": 0.1},
]
CASES = [("SGD", o) for o in SGDS] + [(n, o) for n, o in itertools.product(("Adam", "AdamW"), ADAMS)]


def starts(kind) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(kind) for shape in ((4, 3), (5,), ())]


def run(library, arrays, name: str, options: dict, group: bool = False):
    """Parameters after some steps of minimising a function that is no paraboloid."""
    params = [library.tensor(a, requires_grad=True) for a in arrays]
    given = [{"params": params[:1], "lr": options.get("lr", 0.1) / 2}, {"params": params[1:]}] if group else params
    optimizer = getattr(library.optim, name)(given, **options)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = sum(((p - 0.3) ** 2).abs().sum() + ((p * p) ** 2).abs().sum() * step / 9 for p in params[: 2 + step % 2])
        loss.backward()
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.complex128])
@pytest.mark.parametrize("name, options", CASES)
def test_steps(name: str, options: dict, kind) -> None:
    group = name == "SGD"
    mine, _ = run(konv, starts(kind), name, options, group)
    theirs, _ = run(torch, starts(kind), name, options, group)
    limit = {np.float64: 1e-12, np.complex128: 1e-12, np.float32: 2e-6, np.float16: 4e-3}[kind]
    if kind is np.float16 and name != "SGD":
        limit = 0.02  # PyTorch rounds every intermediate result to 16 bits, eps included
        options = {"eps": 1e-3, **options}
        mine, _ = run(konv, starts(kind), name, options, group)
        theirs, _ = run(torch, starts(kind), name, options, group)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=limit, atol=limit)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_state_goes_on(name: str) -> None:
    options = {"lr": 0.1, **({"momentum": 0.9} if name == "SGD" else {})}
    params, first = run(konv, starts(np.float64), name, options)
    copies = [konv.tensor(p.detach(), requires_grad=True) for p in params]
    second = getattr(konv.optim, name)(copies, lr=9.0)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        for optimizer, tensors in ((first, params), (second, copies)):
            optimizer.zero_grad()
            sum((p * p).sum() for p in tensors).backward()
            optimizer.step()
    for a, b in zip(params, copies, strict=True):
        assert (a == b).all()
    assert second.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("options", [SGDS[3], SGDS[0]])
def test_repr(options: dict) -> None:
    mine, theirs = (library.optim.SGD([library.zeros(1)], **options) for library in (konv, torch))
    assert repr(mine) == repr(theirs)


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 5, "eta_min": 0.01}),
    ("LambdaLR", {"lr_lambda": lambda step: 1 / (step + 1)}),
    ("LinearLR", {"start_factor": 0.2, "total_iters": 4}),
    ("OneCycleLR", {"max_lr": 0.7, "total_steps": 12}),
    (
        "OneCycleLR",
        {"max_lr": 0.7, "epochs": 4, "steps_per_epoch": 3, "anneal_strategy": "linear", "three_phase": True},
    ),
    ("OneCycleLR", {"max_lr": [0.7, 0.2], "total_steps": 12, "cycle_momentum": False}),
]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name, options", SCHEDULES)
def test_schedule(name: str, options: dict, optimizer: str) -> None:
    traces = []
    for library in (konv, torch):
        params = [library.zeros(1, requires_grad=True) for _ in range(2)]
        groups = [{"params": [params[0]], "lr": 0.3}, {"params": [params[1]]}]
        more = {"momentum": 0.9} if optimizer == "SGD" else {}
        made = getattr(library.optim, optimizer)(groups, lr=0.1, **more)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            schedule = getattr(library.optim.lr_scheduler, name)(made, **options)
            trace = []
            for _ in range(12):
                trace += [(g["lr"], g.get("momentum", 0), g.get("betas", (0, 0))) for g in made.param_groups]
                made.step()
                schedule.step()
            assert schedule.get_last_lr() == [g["lr"] for g in made.param_groups]
        traces.append(trace)
    for a, b in zip(*traces, strict=True):
        np.testing.assert_allclose(np.hstack(a), np.hstack(b), rtol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"mode": "max", "patience": 1, "threshold_mode": "abs"}, {"cooldown": 2, "patience": 0}]
)
def test_plateau(options: dict) -> None:
    values = [3.0, 2.0, 2.0, 2.1, 1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 5.0, 5.0, 5.0, 5.0, -2.0, -2.0, -1.9, -1.9] + [1.0] * 12
    rates = []
    for library in (konv, torch):
        made = library.optim.SGD([library.zeros(1, requires_grad=True)], lr=1.0)
        schedule = library.optim.lr_scheduler.ReduceLROnPlateau(made, **options)
        rate = []
        for value in values:
            schedule.step(value)
            rate.append(made.param_groups[0]["lr"])
        rates.append(rate)
    assert rates[0] == pytest.approx(rates[1], rel=1e-12)


REFUSALS = [
    "optim.SGD([])",
    "optim.SGD(k.zeros(1))",
    "optim.SGD([1, 2])",
    "optim.SGD([k.zeros(1)], lr=-1)",
    "optim.SGD([k.zeros(1)], momentum=-1)",
    "optim.SGD([k.zeros(1)], weight_decay=-1)",
    "optim.SGD([k.zeros(1)], nesterov=True)",
    "optim.SGD([p := k.zeros(1), p][1:] + [{'params': 1}])",
    "optim.SGD([{'params': [p := k.zeros(1)]}, {'params': [p]}])",
    "optim.SGD([k.zeros(1, requires_grad=True) * 2])",
    "optim.SGD([{'params': {k.zeros(1)}}])",
    "optim.Adam([k.zeros(1)], betas=(1.0, 0.9))",
    "optim.Adam([k.zeros(1)], eps=-1)",
    "optim.AdamW([k.zeros(1)], lr=math.nan)",
    "optim.lr_scheduler.StepLR(3, 1)",
    "optim.lr_scheduler.LambdaLR(optim.SGD([k.zeros(1)]), [])",
    "optim.lr_scheduler.ExponentialLR(optim.SGD([k.zeros(1)]), 0.5, last_epoch=3)",
    "optim.lr_scheduler.OneCycleLR(optim.SGD([k.zeros(1)]), 1.0)",
    "optim.lr_scheduler.OneCycleLR(optim.SGD([k.zeros(1)]), 1.0, 5, anneal_strategy='foo')",
    "optim.lr_scheduler.OneCycleLR(optim.SGD([k.zeros(1)]), [1.0, 2.0], 5)",
    "optim.lr_scheduler.ReduceLROnPlateau(optim.SGD([k.zeros(1)]), factor=1.0)",
    "optim.lr_scheduler.LinearLR(optim.SGD([k.zeros(1)]), start_factor=2.0)",
    "optim.SGD([k.zeros(1)]).load_state_dict({'state': {}, 'param_groups': []})",
    "optim.SGD([k.zeros(1)]).load_state_dict({'state': {}, 'param_groups': [{'params': [0, 1]}]})",
]


@pytest.mark.parametrize("code", REFUSALS)
def test_refusals(code: str) -> None:
    kind: type[BaseException] = konv.errors.KonvError  # also what PyTorch lets through
    try:
        eval(code, {"optim": torch.optim, "k": torch, "math": math})
    except Exception as error:
        kind = type(error)
    with pytest.raises(konv.errors.KonvError) as mine:
        eval(code, {"optim": konv.optim, "k": konv, "math": math})
    assert isinstance(mine.value, kind)
