"""Corrections of tinygrad for CUDA, tested without a card: a CPU takes kernel arguments by position as well."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
from tinygrad import Tensor
from tinygrad.engine import jit, realize
from tinygrad.uop.ops import Ops

from mist_bench.engine import replay, tinygrad_private
from mist_bench.engine.graph import Graph
from mist_bench.inference.draw import statistics


def programs(graph: Graph):
    return [call for call in replay.kernels(graph._jit.captured.linear) if call.src[0].op is Ops.PROGRAM]


def taken(call) -> bool:
    """Whether the kernel takes all arguments of its call, in their order."""
    return tuple(call.src[0].arg.globals) == tuple(range(len(realize.get_call_arg_uops(call))))


def cancels(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A kernel of three buffers, the second of which it need not read."""
    return ((y - (y + x)) * 2 + z).contiguous().realize(z.assign(z + 1))


def inputs() -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [Tensor(rng.standard_normal(8).astype(np.float32)).realize() for _ in range(3)]


def test_a_kernel_is_given_what_it_takes(monkeypatch):
    untrimmed = Graph("untrimmed", cancels)
    with monkeypatch.context() as patch:
        patch.setattr(jit, "graph_split_rewrite", tinygrad_private.original("tinygrad.engine.jit.graph_split_rewrite"))
        untrimmed(*inputs())
    assert not all(taken(call) for call in programs(untrimmed))  # else the correction would not be needed
    graph, (x, y, z) = Graph("trimmed", cancels), inputs()
    for _ in range(4):
        expected = z.numpy() - 2 * x.numpy()
        np.testing.assert_allclose(graph(x, y, z).numpy(), expected, rtol=0, atol=1e-5)
    assert all(taken(call) for call in programs(graph))


def test_statistics_hold_no_buffer_that_is_not_read():
    graph = Graph("told", lambda scores, ids: Tensor.realize(*statistics(scores, ids, normalised=False).values()))
    rng = np.random.default_rng(0)
    scores = Tensor(rng.standard_normal((2, 3, 7)).astype(np.float32)).realize()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit, "graph_split_rewrite", tinygrad_private.original("tinygrad.engine.jit.graph_split_rewrite"))
        graph(scores, Tensor(rng.integers(0, 7, (2, 3)).astype(np.int32)).realize())
    assert len(programs(graph)) > 2 and all(taken(call) for call in programs(graph))


def test_the_context_is_the_cards_primary_one_and_current(monkeypatch):
    from tinygrad.runtime.autogen import cuda as driver

    said = []
    monkeypatch.setattr(driver, "cuDevicePrimaryCtxRetain", lambda context, number: said.append(("retain", number)) or 0)
    monkeypatch.setattr(driver, "cuCtxSetCurrent", lambda context: said.append(("current", context)) or 0)
    own = SimpleNamespace(_obj=ctypes.c_void_p(7))
    assert driver.cuCtxCreate_v2(own, 0, 3) == 0
    assert said == [("retain", 3), ("current", own._obj)]
    monkeypatch.setattr(driver, "cuDevicePrimaryCtxRetain", lambda context, number: 101)
    assert driver.cuCtxCreate_v2(own, 0, 3) == 101 and len(said) == 2
