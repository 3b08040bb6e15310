"""Layers written as text: what is read, what is refused, and that nothing is ever run."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from konv.errors import ArgumentError, ArgumentTypeError, KonvError
from konv.explain.spec import Call, build, parse, parse_shape


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("Conv2d(3, 64, 5)", Call("Conv2d", (3, 64, 5), {})),
        (
            " nn.Conv2d(3, 64, kernel_size=(5, 3), padding='same')",
            Call("Conv2d", (3, 64), {"kernel_size": (5, 3), "padding": "same"}),
        ),
        ("torch.nn.MaxPool2d(2)", Call("MaxPool2d", (2,), {})),
        (
            "Conv2d(1, 1, 3, padding=((1, 2), (0, 3)), bias=False)",
            Call("Conv2d", (1, 1, 3), {"padding": ((1, 2), (0, 3)), "bias": False}),
        ),
        ("LeakyReLU(-0.5)", Call("LeakyReLU", (-0.5,), {})),
        ("Sequential(ReLU(), Flatten())", Call("Sequential", (Call("ReLU", (), {}), Call("Flatten", (), {})), {})),
    ],
)
def test_read(spec: str, expected: Call) -> None:
    assert parse(spec) == expected


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("", "can't be read"),
        ("Conv2d(3, 64, 5", "can't be read"),
        ("3", "is no layer; write a layer as in Python"),
        ("Conv2D(3, 64, 5)", "'Conv2D' is no layer that a spec can name; did you mean Conv2d?"),
        ("os.system('ls')", "'os.system' is no layer"),
        ("__import__('os').system('ls')", "a call of something that is no name"),
        ("Conv2d(3, 64, 2 + 3)", "arithmetic has no place in a spec"),
        ("Conv2d(3, 64, k)", "'k' has no place in a spec"),
        ("Conv2d(3, 64, [i for i in (1, 2)])", "a ListComp has no place in a spec"),
        ("Conv2d(3, 64, f'{5}')", "a JoinedStr has no place in a spec"),
        ("Conv2d(*(3, 64, 5))", "a Starred has no place in a spec"),
        ("Conv2d(**{})", "'**' has no place in a spec"),
        ("Conv2d(3, 64, 99999999999999999999)", "a number past 64 bits"),
        ("Conv2d(3, 64, 1j)", "a Constant has no place in a spec"),
        ("Conv2d(3, 64, lambda: 5)", "a Lambda has no place in a spec"),
        ("(x := Conv2d)(3, 64, 5)", "a call of something that is no name"),
        ("(" * 100 + ")" * 100, "nest"),
        ("Conv2d(" + "1," * 15_000 + ")", "characters"),
        ("Conv2d(" + "1," * 6_000 + ")", "too many parts"),
        ("Conv2d(" + "-" * 9_000 + "1)", "spec:"),
    ],
)
def test_refused(spec: str, told: str) -> None:
    with pytest.raises(ArgumentError) as error:
        parse(spec)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_only_text_is_a_spec() -> None:
    with pytest.raises(ArgumentTypeError):
        parse(3)  # type: ignore[arg-type]


@given(st.text(max_size=200))
def test_no_text_does_anything_else(text: str) -> None:
    with contextlib.suppress(KonvError):
        parse(text)


@given(st.text("Conv2d(3, 64)[]=+-*.'\"\\\n\t_:{}", max_size=60))
def test_nor_does_text_that_looks_like_a_spec(text: str) -> None:
    with contextlib.suppress(KonvError):
        parse(text)


def test_built_on_the_meta_device() -> None:
    layer = build("Conv2d(1000000, 1000000, 99)")
    assert layer.weight.is_meta
    assert layer.weight.shape == (1000000, 1000000, 99, 99)
    model = build("Sequential(Conv2d(1, 2, 3), ReLU(), Flatten(), Linear(8, 2))")
    assert [type(part).__name__ for part in model] == ["Conv2d", "ReLU", "Flatten", "Linear"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("Conv2d(3)", "missing a required argument: 'out_channels'"),
        ("Conv2d(3, 64, 5, kernal=3)", "got an unexpected keyword argument 'kernal'"),
        ("Conv2d(6, 8, 3, groups=4)", "groups can be 1 or 2"),
        ("Sequential(3)", "Sequential takes layers alone"),
        ("Conv2d(ReLU(), 64, 5)", "only Sequential takes layers"),
    ],
)
def test_layers_refused(spec: str, told: str) -> None:
    with pytest.raises(ArgumentError) as error:
        build(spec)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("8,3,28,28", (8, 3, 28, 28)), ("8x3x28x28", (8, 3, 28, 28)), (" (1, 2) ", (1, 2)), ("28", (28,))],
)
def test_shapes(shape: str, expected: tuple[int, ...]) -> None:
    assert parse_shape(shape) == expected


@pytest.mark.parametrize("shape", ["", "a", "1,-2", "1.5", "1e9", "9" * 30, "1," * 9 + "1", "²"])
def test_shapes_refused(shape: str) -> None:
    with pytest.raises(ArgumentError):
        parse_shape(shape)
