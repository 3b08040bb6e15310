"""Weights to a file and back, and files that are not what they claim."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from tests.hostile.weights import FILES, entry, packed

import konv
from konv.io import files

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4), (2, 0, 3)])
def test_every_dtype_and_shape(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = konv.from_numpy(np.random.default_rng(0).integers(0, 2, shape)).to(getattr(konv, dtype))
    konv.save({"x": values}, tmp_path / "f")
    (loaded,) = konv.load(tmp_path / "f").values()
    assert loaded.dtype is values.dtype
    assert loaded.shape == values.shape
    assert loaded._array.tobytes() == values._array.tobytes()
    loaded.zero_()  # its memory is its own


def test_a_model(tmp_path: Path) -> None:
    def build() -> konv.nn.Module:
        return konv.nn.Sequential(konv.nn.Conv2d(1, 4, 3), konv.nn.ReLU(), konv.nn.Conv2d(4, 2, 3))

    first, second = build(), build()
    path = str(tmp_path / "model.safetensors")
    konv.save(first, path, metadata={"trained": "yes"})
    second.load_state_dict(konv.load(path))
    x = konv.rand(1, 1, 8, 8)
    assert (first(x) == second(x)).all()
    assert sorted(konv.load(path)) == sorted(first.state_dict())


def test_memory_of_any_order(tmp_path: Path) -> None:
    base = konv.arange(24.0).reshape(4, 6)
    tensors = {"t": base.t(), "s": base[::2, ::3], "e": base[0].expand(3, 6), "n": np.arange(6.0)[::-1]}
    konv.save(tensors, tmp_path / "f")
    for name, loaded in konv.load(tmp_path / "f").items():
        np.testing.assert_array_equal(loaded.numpy(), np.asarray(tensors[name]))


def test_the_package_reads_what_konv_writes(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    konv.save({"x": konv.ones(2, 3)}, tmp_path / "f")
    np.testing.assert_array_equal(load_file(tmp_path / "f")["x"], np.ones((2, 3)))
    save_file({"y": np.arange(4)}, tmp_path / "g")
    assert konv.load(tmp_path / "g")["y"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("reason", FILES)
def test_hostile_files(tmp_path: Path, reason: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(FILES[reason])
    with pytest.raises(konv.errors.FileError, match=r"^load: ") as caught:
        konv.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=300)
@given(data=st.data())
def test_no_change_of_bytes_does_worse_than_a_file_error(tmp_path_factory, data) -> None:
    path = tmp_path_factory.getbasetemp() / "changed"
    content = bytearray(packed(entry(), bytes(8)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        loaded = konv.load(path)
    except konv.errors.FileError:
        return
    assert all(tensor._array.nbytes <= 8 for tensor in loaded.values())


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "f"
    cases = {
        "save: got int; it takes a Module or a mapping of names to tensors": lambda: konv.save(3, path),
        "save: 'x' is a list; every value must be a tensor; state_dict() gives such a mapping": lambda: konv.save(
            {"x": [1]}, path
        ),
        "save: the name 3 is a int; names are strings": lambda: konv.save({3: konv.ones(1)}, path),
        "save: 'x' is complex128; the format lacks that dtype; save .real and .imag": lambda: konv.save(
            {"x": konv.ones(1, dtype=konv.complex128)}, path
        ),
        "save: 'x' is on the device 'meta' and has no data; give the module memory with to_empty(device='cpu') first": (
            lambda: konv.save({"x": konv.ones(1, device="meta")}, path)
        ),
        "save: metadata has values that are no strings; names and values are strings": lambda: konv.save(
            {}, path, metadata={"a": 1}
        ),
    }
    for message, call in cases.items():
        with pytest.raises(konv.errors.KonvError) as caught:
            call()
        assert str(caught.value) == message
        assert not path.exists()
    path.write_bytes(FILES["a name that stands twice"])
    with pytest.raises(konv.errors.FileError, match="has the name 'a' twice; names must be unique"):
        konv.load(path)
    with pytest.raises(FileNotFoundError):
        konv.load(tmp_path / "missing")


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero"):
        with pytest.raises(konv.errors.FileError) as caught:
            konv.load(path)
        assert str(caught.value) == f"load: '{path}' is not a file; a pipe or a device may have no end"
    with pytest.raises(IsADirectoryError):
        konv.load(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    konv.save({"x": konv.ones(1)}, path)

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="disk full"):
        konv.save({"x": konv.zeros(1)}, path)
    assert konv.load(path)["x"].item() == 1.0
    assert os.listdir(tmp_path) == ["f"]


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    konv.save({"x": konv.ones(1)}, tmp_path / "f")
    (tmp_path / "g").touch()
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "g").stat().st_mode


def test_the_package_is_imported_on_use_alone() -> None:
    code = "import konv, sys; assert 'safetensors' not in sys.modules and 'ml_dtypes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_of_dtypes() -> None:
    assert sorted(files.DTYPES.values()) == sorted(DTYPES)
