"""What the device can do at best, measured: the fastest of a few large matrix products, by each library."""

from __future__ import annotations

import time
from collections.abc import Callable

from mist_bench.engine import device
from mist_bench.engine.graph import Graph
from mist_bench.run import workbench

REPEATS = 5
ENOUGH = 3.0
"""Seconds after which a product is not timed again."""


def sides() -> tuple[int, ...]:
    """Sides of the square matrices: large enough to be busy, small enough for a minute at most."""
    return (512, 1024, 2048) if device.name() == "CPU" else (4096, 8192)


def best(run: Callable[[], object], flops: float) -> float:
    """FLOP/s of the fastest call after three warm ones: a captured graph knows its buffers from the third on."""
    for _ in range(3):
        run()
    seconds: list[float] = []
    while not seconds or (len(seconds) < REPEATS and sum(seconds) < ENOUGH):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return flops / min(seconds)


def by_tinygrad(side: int) -> float:
    """Two products, the second of the first: of a single kernel tinygrad makes no graph, and outside of one the parts
    of a kernel that is split over a CPU's cores run one after another."""
    from tinygrad import Tensor, dtypes

    kind = device.compute_type("auto")
    a, b = (Tensor.randn(side, side).cast(kind).contiguous().realize() for _ in range(2))

    def products(a: Tensor, b: Tensor) -> Tensor:
        first = a.matmul(b, dtype=dtypes.float).cast(kind).contiguous()
        return first.matmul(b, dtype=dtypes.float).realize()

    graph = Graph("peak", products)

    def run() -> None:
        graph(a, b)
        device.synchronize()

    return best(run, 2 * 2.0 * side**3)


def by_torch(side: int) -> float:
    import torch

    from . import theirs

    kind = torch.bfloat16 if theirs.half() else torch.float32
    a, b = (torch.randn(side, side, device=theirs.torch_device(), dtype=kind) for _ in range(2))

    def run() -> None:
        a @ b
        theirs.wait()

    return best(run, 2.0 * side**3)


def peaks(*, torch: bool) -> dict[str, float]:
    """FLOP/s by library, in the precision of the benchmarks."""
    ways = {"tinygrad": by_tinygrad} | ({"torch": by_torch} if torch else {})
    found = {name: max(map(way, sides())) for name, way in ways.items()}
    workbench.forget()
    return found
