"""Profile of a training step: its kernels, their times, and which of them use tensor cores.

    python -m benchmarks.kernels --size gpt2 --out kernels.md

Kernels run one by one (`JIT=2`: captured, but not sent as one graph), which adds launch overhead that a real step does
not have, so read the shares, not the total. A kernel uses tensor cores if its source calls the matrix instruction.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mist_bench.engine import compiler

LINE = re.compile(r"\*\*\* (\S+)\s+\d+ (\S+)\s+arg.*? tm\s+([\d.]+)(us|ms|s)\s*/.*?\(\s*([\d.]+) (G|T)FLOPS")
SCALE = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "G": 1e9, "T": 1e12}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(kw_only=True)
class Kernel:
    """The launches of one kernel, summed."""

    count: int = 0
    seconds: float = 0.0
    operations: float = 0.0


def parsed(lines: Iterable[str]) -> dict[str, Kernel]:
    """The kernels by name, read from the lines that tinygrad prints with `DEBUG=2`."""
    by_name: dict[str, Kernel] = defaultdict(Kernel)
    for line in lines:
        if match := LINE.search(ANSI.sub("", line)):
            _, name, time, unit, speed, scale = match.groups()
            kernel, seconds = by_name[name], float(time) * SCALE[unit]
            kernel.count, kernel.seconds = kernel.count + 1, kernel.seconds + seconds
            kernel.operations += seconds * float(speed) * SCALE[scale]
    return dict(by_name)


def tensor_cores(graph: Any) -> set[str]:
    """Names of the kernels in a captured graph whose source calls a matrix instruction."""
    from tinygrad.uop.ops import Ops

    names = set()
    for program in graph._jit.captured.linear.toposort():
        if program.op is Ops.PROGRAM:
            sources = [part.arg for part in program.src if part.op is Ops.SOURCE]
            if any("WMMA" in str(source) or "wmma" in str(source) for source in sources):
                names.add(ANSI.sub("", program.src[0].arg.function_name))
                names.add(ANSI.sub("", program.src[0].arg.name))
    return names


def table(kernels: dict[str, Kernel], matrix: set[str], most: int = 40) -> str:
    """The profile as Markdown, the longest kernels first."""
    total = sum(kernel.seconds for kernel in kernels.values())
    on_cores = sum(kernel.seconds for name, kernel in kernels.items() if name in matrix)
    launches = sum(kernel.count for kernel in kernels.values())
    lines = [
        f"{len(kernels)} kernels, {launches} launches, {1e3 * total:.4g} ms; {on_cores / max(total, 1e-12):.1%} of the "
        f"time in the {sum(name in matrix for name in kernels)} that use tensor cores.",
        "",
        "| kernel | launches | ms | share | GFLOP/s | tensor cores |",
        "| :--- | ---: | ---: | ---: | ---: | :--- |",
    ]
    for name, kernel in sorted(kernels.items(), key=lambda item: -item[1].seconds)[:most]:
        speed = kernel.operations / max(kernel.seconds, 1e-12) / 1e9
        lines.append(
            f"| {name} | {kernel.count} | {1e3 * kernel.seconds:.4g} | {kernel.seconds / total:.1%} | {speed:.4g} | "
            f"{'yes' if name in matrix else ''} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    os.environ["JIT"] = "2"  # before tinygrad is imported
    from mist_bench.engine import device

    compiler.prepare()
    from tinygrad.helpers import Context

    from mist_bench.engine.graph import captured

    from . import ours
    from .sizes import sizes

    size = sizes()[given.size]
    entry = ours.training(size, "mdlm")
    for _ in range(2):
        entry.run()
    output = io.StringIO()
    with Context(DEBUG=2), contextlib.redirect_stdout(output):
        entry.run()
    [graph] = [graph for graph in captured if graph.name.startswith("train")]
    title = f"# Kernels of {size.train_steps} training steps, mdlm, {size.name}, {device.name()}\n\n"
    given.out.write_text(title + table(parsed(output.getvalue().splitlines()), tensor_cores(graph)), encoding="utf-8")


if __name__ == "__main__":
    main()
