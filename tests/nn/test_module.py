"""What a module adds to PyTorch's: errors that say which layer, and a call that costs next to nothing."""

import threading

import pytest

import konv
from konv import nn
from konv.nn.blame import MAX_TRACE, calls


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3))
        self.classifier = nn.Sequential(nn.Linear(8 * 24 * 24, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def failure(model, *args) -> konv.errors.KonvError:
    with pytest.raises(konv.errors.KonvError) as caught:
        model(*args)
    return caught.value


def test_the_layer_and_what_came_before() -> None:
    model = Net()
    error = failure(model, konv.zeros(2, 1, 20, 20))
    assert error.layer == "classifier.0"
    assert error.module is model.classifier[0]
    assert error.given == ((2, 8 * 16 * 16),)
    assert error.root is model
    assert error.inputs == ((2, 1, 20, 20),)
    assert [(name, shape) for name, _, shape in error.trace] == [
        ("features.0", (2, 4, 18, 18)),
        ("features.1", (2, 4, 18, 18)),
        ("features.2", (2, 8, 16, 16)),
    ]
    assert "in layer classifier.0 of Net" in str(error)
    assert "features.2: Conv2d(4, 8, kernel_size=(3, 3), stride=(1, 1)) gave (2, 8, 16, 16)" in str(error)


def test_the_first_layer_has_nothing_before_it() -> None:
    error = failure(Net(), konv.zeros(1, 3, 28, 28))
    assert error.layer == "features.0"
    assert error.trace == ()


def test_a_layer_alone_has_no_path() -> None:
    error = failure(nn.Linear(3, 2), konv.zeros(1, 4))
    assert error.layer == ""
    assert "in layer" not in str(error)


def test_layers_called_past_their_container_and_twice() -> None:
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Identity(), nn.Linear(3, 2)])
            self.loose = [nn.Tanh()]

        def forward(self, x):
            return self.parts[1](self.parts[1](self.loose[0](self.parts[0](x))))

    error = failure(Direct(), konv.zeros(1, 3))
    assert error.layer == "parts.1"
    assert [(name, shape) for name, _, shape in error.trace] == [
        ("parts.0", (1, 3)),
        ("Tanh", (1, 3)),
        ("parts.1", (1, 2)),
    ]


def test_a_container_that_changes_its_last_output_is_named_too() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(3, 3)

        def forward(self, x):
            return konv.cat([x, self.body(x)], 1)

    error = failure(nn.Sequential(Residual(), nn.Linear(3, 1)), konv.zeros(1, 3))
    assert [(name, shape) for name, _, shape in error.trace] == [("0.body", (1, 3)), ("0", (1, 6))]


def test_long_traces_end_with_the_nearest() -> None:
    error = failure(nn.Sequential(*[nn.Identity() for _ in range(100)], nn.Linear(1, 1)), konv.zeros(1, 2))
    assert len(error.trace) == MAX_TRACE
    assert error.trace[-1][0] == "99"


def test_nothing_is_kept_after_a_call_or_a_failure() -> None:
    model = Net()
    model(konv.zeros(1, 1, 28, 28))
    assert calls.entries == []
    failure(model, konv.zeros(1, 1, 20, 20))
    assert calls.entries == []

    class Stumbles(nn.Module):
        def forward(self, x):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nn.Sequential(nn.Identity(), Stumbles())(konv.zeros(1))
    assert calls.entries == []


def test_an_error_that_is_caught_leaves_the_rest_of_the_model_working() -> None:
    class Tries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrong, self.right = nn.Linear(5, 1), nn.Linear(3, 1)

        def forward(self, x):
            try:
                return self.wrong(x)
            except RuntimeError:
                return self.right(x)

    error = failure(nn.Sequential(Tries(), nn.Linear(2, 2)), konv.zeros(1, 3))
    assert error.layer == "1"
    assert [name for name, _, _ in error.trace] == ["0.right"]


def test_threads_do_not_mix() -> None:
    errors: list[konv.errors.KonvError] = []
    model = Net()

    def work() -> None:
        errors.extend(failure(model, konv.zeros(1, 1, 20, 20)) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 20
    assert all(len(e.trace) == 3 and e.layer == "classifier.0" for e in errors)


def test_a_misspelt_attribute_says_where() -> None:
    class Misspelt(nn.Module):
        def forward(self, x):
            return self.layr(x)

    error = failure(nn.Sequential(nn.Identity(), Misspelt()), konv.zeros(1))
    assert isinstance(error, AttributeError)
    assert str(error).startswith("'Misspelt' object has no attribute 'layr'\n  in layer 1 of Sequential")
    assert not hasattr(Misspelt(), "layr")


def test_recursion_of_a_thousand_layers() -> None:
    x = konv.ones(1, 1, requires_grad=True)
    model = nn.Sequential(*[nn.Identity() for _ in range(500)], *[nn.ReLU() for _ in range(1500)])
    model(x).sum().backward()
    assert x.grad.item() == 1.0


def test_meta_modules_get_memory() -> None:
    model = nn.Sequential(nn.Linear(2, 3, device="meta"), nn.ReLU())
    assert model(konv.empty(2**30, 2, device="meta")).shape == (2**30, 3)
    model.to_empty(device="cpu")
    assert model(konv.zeros(1, 2)).shape == (1, 3)
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())


def test_messages() -> None:
    layer = nn.Linear(2, 2)
    cases = {
        "Linear: parameter name can't contain \".\"; got 'a.b'": lambda: layer.register_parameter("a.b", None),
        "Linear: attribute 'forward' already exists": lambda: layer.register_buffer("forward", None),
        "Module: cannot assign 'int' object to parameter 'weight'; konv.nn.Parameter or None expected": lambda: setattr(
            layer, "weight", 3
        ),
        "cannot assign module before Module.__init__() call": lambda: setattr(nn.Module.__new__(nn.Module), "a", layer),
        "Parameter: data is a list; it must be a Tensor; make one with konv.tensor(...) or konv.as_tensor(...)": lambda: (
            nn.Parameter([1.0])
        ),
        "Module: Module has no forward; a module computes in its forward method; define forward": lambda: nn.Module()(
            1
        ),
        "Sequential: index 3 is out of range; there are 1 modules": lambda: nn.Sequential(layer)[3],
        "dropout: p=2; the dropout probability has to be between 0 and 1": lambda: nn.Dropout(2),
    }
    for message, call in cases.items():
        with pytest.raises(konv.errors.KonvError) as caught:
            call()
        assert str(caught.value) == message


def test_a_memory_format_changes_no_layer() -> None:
    layer = nn.Conv2d(2, 3, 3)
    x = konv.rand(1, 2, 5, 5)
    before = layer(x)
    assert layer.to(memory_format=konv.channels_last) is layer
    assert (layer(x) == before).all()
    assert layer.to(konv.float64, memory_format=konv.channels_last).weight.dtype is konv.float64
    with pytest.raises(konv.errors.ArgumentTypeError, match="got memory_format=3"):
        layer.to(memory_format=3)
