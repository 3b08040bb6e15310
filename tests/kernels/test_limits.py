"""The machine's vectors and the peak of its multipliers."""

from __future__ import annotations

import statistics

import pytest

import konv
from konv import kernels
from konv.machine import peak


@pytest.mark.parametrize("isa", konv.backends.available())
def test_lanes_are_those_of_the_instruction_set_in_use(isa: str) -> None:
    with konv.backends.use(isa):
        assert kernels.lanes("float32") == {"avx512": 16, "avx2": 8}.get(isa.removesuffix("_bf16"), 4)
        assert kernels.lanes("bfloat16") == kernels.lanes("float32")
        assert kernels.lanes("float64") == kernels.lanes("int8") == kernels.lanes("float32") // 2


def test_peak_is_plausible_whatever_else_runs() -> None:
    # Pairs that follow each other: the machine's speed may change between them.
    pairs = [(kernels.fma_peak("float32", 0.02), kernels.fma_peak("float64", 0.02)) for _ in range(5)]
    assert 0.3 < statistics.median(double / single for single, double in pairs) < 0.8
    single = statistics.median(single for single, _ in pairs)
    assert 1e9 < single < 1e14
    assert 0.2 < peak("float32").flops / single < 5


def test_peak_is_that_of_the_threads_in_use() -> None:
    threads, every = konv.get_num_threads(), peak().flops
    try:
        konv.set_num_threads(1)
        assert 0.2 * every / threads < peak().flops < 3 * every  # two threads of one core share its multipliers
    finally:
        konv.set_num_threads(threads)
    assert peak().flops == every
