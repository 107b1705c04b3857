"""Share of a training's time outside the kernels, on a CPU: drawing batches, passing inputs, fetching losses.

    python -m benchmarks.share --size quick

It prints one line of JSON: milliseconds of a step and of its kernels, the share of the rest, its interquartile range.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from mist_bench.engine import compiler, device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="quick")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    compiler.prepare()
    if device.name() != "CPU":
        raise SystemExit("on a GPU kernels run asynchronously, so that their share cannot be measured from Python")
    from mist_bench.engine.replay import CpuGraph

    from . import ours
    from .sizes import sizes

    size, inside, own = sizes()[given.size], [0.0], CpuGraph.__call__

    def timed(self: CpuGraph, *inputs: Any, **more: Any) -> float | None:
        start = time.perf_counter()
        result = own(self, *inputs, **more)
        inside[0] += time.perf_counter() - start
        return result

    CpuGraph.__call__ = timed  # type: ignore[method-assign]
    entry, rounds = ours.training(size, "mdlm"), []
    for _ in range(given.rounds + 2):
        inside[0], start = 0.0, time.perf_counter()
        entry.run()
        rounds.append(((time.perf_counter() - start) / size.train_steps, inside[0] / size.train_steps))
    step, kernels = np.array(rounds[2:]).T * 1e3
    low, share, high = np.percentile(1 - kernels / step, [25, 50, 75])
    row = {"size": size.name, "step_ms": float(np.median(step)), "kernels_ms": float(np.median(kernels))}
    print(json.dumps(row | {"rest_share": float(share), "rest_share_iqr": float(high - low)}))


if __name__ == "__main__":
    main()
