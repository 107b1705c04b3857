"""Kernels compiled for a GPU, without one: their operations, memory traffic, and which use tensor cores.

    pip install nvidia-cuda-nvrtc-cu12 nvidia-nvjitlink-cu12
    python -m benchmarks.rendered --size gpt2 --work training --out rendered.md

tinygrad compiles for a GPU that need not exist (its NULL device). Operations and bytes are its own estimates. Nothing
runs, so the table has no measured times, only the lower limit given by the published peaks of an H100.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mist_bench.engine import compiler

from .kernels import ANSI

MATRIX, PLAIN, BANDWIDTH = 989e12, 67e12, 3.35e12
"""An H100 SXM by its data sheet, per second: dense bfloat16 and float32 operations, and bytes of memory."""
LIBRARIES = {"NVRTC_PATH": ("cuda_nvrtc", "libnvrtc.so.12"), "NVJITLINK_PATH": ("nvjitlink", "libnvJitLink.so.12")}


@dataclass(kw_only=True)
class Rendered:
    """The launches of one kernel, summed."""

    name: str
    matrix: bool
    launches: int = 0
    operations: float = 0.0
    bytes: float = 0.0

    @property
    def at_best(self) -> float:
        """Smallest possible time in seconds, by the published peaks."""
        return max(self.operations / (MATRIX if self.matrix else PLAIN), self.bytes / BANDWIDTH)


def prepare(architecture: str) -> None:
    """Select tinygrad's NULL device, which compiles for this architecture; call it before tinygrad is imported."""
    os.environ |= {"DEV": f"NULL:CUDA:{architecture}", "NULL_ALLOW_COPYOUT": "1"}
    for variable, (package, library) in LIBRARIES.items():
        spec = importlib.util.find_spec("nvidia")
        roots = list(spec.submodule_search_locations or []) if spec else []
        found = [path for root in roots if (path := Path(root) / package / "lib" / library).exists()]
        if variable not in os.environ and not found:
            raise SystemExit(f"{library} is missing: pip install nvidia-{package.replace('_', '-')}-cu12")
        os.environ.setdefault(variable, str(found[0]) if found else "")


def rendered(graphs: list[Any]) -> list[Rendered]:
    """The kernels of some graphs, in descending order of their smallest possible time."""
    from tinygrad.uop.ops import Ops

    from mist_bench.engine.replay import kernels

    found: dict[str, Rendered] = {}
    calls = (call.src[0] for graph in graphs for call in kernels(graph._jit.captured.linear))
    for program in (each for each in calls if each.op is Ops.PROGRAM):
        source = next(str(part.arg) for part in program.src if part.op is Ops.SOURCE)
        matrix = "WMMA" in source
        kernel = found.setdefault(source, Rendered(name=ANSI.sub("", program.src[0].arg.name), matrix=matrix))
        estimates = program.src[0].arg.estimates
        kernel.launches += 1
        kernel.operations += _number(estimates.ops)
        kernel.bytes += _number(estimates.mem)
    return sorted(found.values(), key=lambda kernel: -kernel.at_best)


def _number(value: Any) -> float:
    """A count of an estimate; 0 if it depends on a variable."""
    return float(value) if isinstance(value, int) else 0.0


def table(kernels: list[Rendered], memory: int, tokens: int, most: int = 40) -> str:
    """The kernels as Markdown, with totals above."""
    work, moved = sum(k.operations for k in kernels), sum(k.bytes for k in kernels)
    on_cores = sum(k.operations for k in kernels if k.matrix) / max(work, 1.0)
    best = sum(k.at_best for k in kernels)
    lines = [
        f"{sum(k.launches for k in kernels)} launches of {len(kernels)} kernels; {work / 1e12:.4g} TFLOP, "
        f"{on_cores:.1%} of them in kernels that use tensor cores; {moved / 1e9:.4g} GB moved; "
        f"buffers of {memory / 1e9:.4g} GB; {tokens} tokens. Not a measurement: at an H100's published peaks no faster "
        f"than {1e3 * best:.4g} ms.",
        "",
        "| kernel | launches | tensor cores | GFLOP | MB | ms at best |",
        "| :--- | ---: | :--- | ---: | ---: | ---: |",
    ]
    for k in kernels[:most]:
        lines.append(f"| {k.name} | {k.launches} | {'yes' if k.matrix else ''} | {k.operations / 1e9:.4g} | "
                     f"{k.bytes / 1e6:.4g} | {1e3 * k.at_best:.4g} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def training(size: Any, family: str) -> tuple[list[Any], int]:
    """The graph of a training step, and the number of tokens that it reads."""
    import numpy as np

    from mist_bench.training.loop import batches

    from . import ours

    plugin, model = ours.create(size, family, "bfloat16")
    step = ours.training_graph(size, plugin, model)

    rows = np.zeros((size.batch, size.length), dtype=np.int32)
    step.steps(batches(step.config, [rows], None, 0, range(1)))
    return [step.graph], size.batch * size.length


def generation(size: Any, family: str) -> tuple[list[Any], int]:
    """The graphs of one evaluation of a masked model, half of it masked, or of one token of the cached baseline; and
    the number of tokens."""
    import numpy as np

    from mist_bench.inference.causal import CausalEvaluator
    from mist_bench.inference.masked import MaskedEvaluator
    from mist_bench.inference.masked_rows import RowsDenoiser
    from mist_bench.inference.step import on_device

    from . import ours

    plugin, model = ours.create(size, family, "bfloat16")
    batch, length = size.generation_batch, size.length
    if plugin.likelihood_kind == "exact":
        causal = CausalEvaluator(plugin.spec, model, batch)
        ids, tokens = on_device(np.arange(batch), np.uint32), on_device(np.zeros((batch, length)), np.int32)
        key = causal.key(np.zeros(2, dtype=np.int32))
        causal.graph(tokens, causal.position.bind(0), key, ids, on_device(np.ones(1), np.float32))
        return [causal.graph], batch
    masked = MaskedEvaluator(plugin.spec, model, batch)
    half = np.arange(length) < length // 2
    rows = isinstance(masked.denoiser, RowsDenoiser)
    hidden = np.tile(half if rows else half | True, (batch, 1))
    masked.target_log_probability(np.zeros((batch, length), dtype=np.int32), hidden, np.ones(batch))
    return [graph for graph in masked.graphs if graph.compile_seconds], batch * length


WORK: dict[str, Callable[[Any, str], tuple[list[Any], int]]] = {"training": training, "generation": generation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small")
    parser.add_argument("--work", choices=sorted(WORK), default="training")
    parser.add_argument("--family", default="mdlm")
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    prepare(given.architecture)

    compiler.prepare()
    from mist_bench.engine.graph import held

    from .sizes import sizes

    graphs, tokens = WORK[given.work](sizes()[given.size], given.family)
    title = f"# Kernels of {given.work}, {given.family}, {given.size}, rendered for {given.architecture}\n\n"
    text = title + table(rendered(graphs), held(graphs), tokens)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
