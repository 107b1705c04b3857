"""What the device can do at best, measured: the fastest of a few large matrix products, by each library."""

from __future__ import annotations

import time
from collections.abc import Callable

from mist_bench import device

REPEATS = 5


def sides() -> tuple[int, ...]:
    """Sides of the square matrices: large enough to be busy, small enough for a minute at most."""
    return (512, 1024, 2048) if device.name() == "CPU" else (4096, 8192)


def best(run: Callable[[], object], side: int) -> float:
    """FLOP/s of the fastest call after two warm ones."""
    seconds = []
    for _ in range(2 + REPEATS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return 2.0 * side**3 / min(seconds[2:])


def by_tinygrad(side: int) -> float:
    from tinygrad import Tensor, TinyJit, dtypes

    kind = device.compute_type("auto")
    a, b = (Tensor.randn(side, side).cast(kind).contiguous().realize() for _ in range(2))
    product = TinyJit(lambda a, b: a.matmul(b, dtype=dtypes.float).realize())

    def run() -> None:
        product(a, b)
        device.synchronize()

    return best(run, side)


def by_torch(side: int) -> float:
    import torch

    from . import theirs

    kind = torch.bfloat16 if theirs.half() else torch.float32
    a, b = (torch.randn(side, side, device=theirs.torch_device(), dtype=kind) for _ in range(2))

    def run() -> None:
        a @ b
        theirs.wait()

    return best(run, side)


def peaks(*, torch: bool) -> dict[str, float]:
    """FLOP/s by library, in the precision of the benchmarks."""
    ways = {"tinygrad": by_tinygrad} | ({"torch": by_torch} if torch else {})
    return {name: max(map(way, sides())) for name, way in ways.items()}
