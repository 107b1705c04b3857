"""Peak of the device: FLOP/s of the fastest of a few large matrix products, by each library."""

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
    """Sides of the square matrices: large enough to fill the device, small enough for a minute at most."""
    return (512, 1024, 2048) if device.name() == "CPU" else (4096, 8192)


def best(run: Callable[[], object], flops: float) -> float:
    """FLOP/s of the fastest call after three for warm-up: a captured graph is replayed only from the third on."""
    for _ in range(3):
        run()
    seconds: list[float] = []
    while not seconds or (len(seconds) < REPEATS and sum(seconds) < ENOUGH):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return flops / min(seconds)


def by_tinygrad(side: int) -> float:
    """FLOP/s of two dependent products in tinygrad. Two, because tinygrad makes no graph of a single kernel, and
    outside a graph the parts of a kernel that is split over a CPU's cores run one after another."""
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
    """FLOP/s of a product in PyTorch."""
    import torch

    from . import theirs

    kind = torch.bfloat16 if theirs.half() else torch.float32
    a, b = (torch.randn(side, side, device=theirs.torch_device(), dtype=kind) for _ in range(2))

    def run() -> None:
        a @ b
        theirs.wait()

    return best(run, 2.0 * side**3)


def peaks(*, torch: bool) -> dict[str, float]:
    """The peak in FLOP/s by library, in the precision of the benchmarks."""
    measures = {"tinygrad": by_tinygrad} | ({"torch": by_torch} if torch else {})
    peaks = {name: max(map(measure, sides())) for name, measure in measures.items()}
    workbench.forget()
    return peaks
