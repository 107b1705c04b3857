"""Whether intervals of tokens/s hold: rows that are one thing (twins) are timed in bursts and in turn, again and again.

    python -m benchmarks.twins                                      # random at 16 and 64 steps, two schedules, minutes
    python -m benchmarks.twins --passes 20 --set generation.batch_size=32

A pass times all rows for a few rounds: in bursts (A A A B B B), or in turn (A B C A B C, as a run does). Twins have
the same graphs, steps and schedule, and differ in the noise alone, so their speed is the same. The networks are not
trained: that changes no time.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np

from mist_bench import FloatArray
from mist_bench.engine import compiler, device
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.measure.speed import Mean, Turn, in_turn, means, ratio, uncollected
from mist_bench.measure.statistics import quantile
from mist_bench.run.experiment import Experiment
from mist_bench.run.kinds.generation import GenerationCell, generations
from mist_bench.run.store import Store
from mist_bench.run.workbench import Workbench


def turn(cell: GenerationCell, bench: Workbench) -> Turn:
    """A generation by an untrained network, warmed up."""
    generator = cell.generator(bench, bench.initial_parameters(cell.model.family, 0))

    def run(number: int) -> None:
        cell.sample(bench, generator, number)
        device.synchronize()

    cell.sample(bench, generator, 0, limit=2)
    return Turn(run=run)


def report(title: str, passes: list[FloatArray], pairs: list[tuple[int, int]], *, bursts: bool) -> None:
    """Print how often intervals hold, for (N, R) rates of N rows in each pass. `pairs`: twins."""
    gaps, ratios, own, widths = [], [], [], []
    for rates in passes:
        rows = [Mean.of(row, row) for row in np.log(rates)] if bursts else means(rates)
        errors, wide = [row.error or 0.0 for row in rows], quantile(rates.shape[1] - 1)
        for a, b in pairs:
            gap = float(np.log(rows[a].value / rows[b].value))
            gaps.append(gap)
            error = math.hypot(errors[a], errors[b]) if bursts else ratio(rates[a], rates[[b]]).error
            ratios.append(abs(gap) <= wide * (error or 0.0))
            # each from the middle of both, which varies half as much (in variance) as one of them
            own += [abs(gap / 2) <= wide * error / 2**0.5 for error in (errors[a], errors[b])]
            widths += [wide * errors[a], wide * errors[b]]
    print(
        f"{title}: twins differ by {np.sqrt(np.mean(np.square(gaps))):.1%} (rms); the 95 % interval of their ratio "
        f"holds 1 in {np.mean(ratios):.1%} of {len(ratios)}, that of a row (±{np.median(widths):.1%}) the middle of "
        f"both in {np.mean(own):.1%} of {len(own)}", flush=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--twins", type=int, default=3, help="of each row")
    parser.add_argument("--steps", default="16,64")
    parser.add_argument("--set", action="append", default=["generation.batch_size=8"], metavar="KEY=VALUE")
    given = parser.parse_args()
    compiler.prepare()
    config = override(load_preset("quick"), given.set, families="mdlm", schedules="linear,cosine", samplers="random",
                      steps=given.steps, seeds=",".join(map(str, range(given.twins))))  # fmt: skip
    experiment = Experiment.of(config, Registry.discover(), device=device.name(), precision="float32")
    bench = Workbench(experiment, Store(Path(tempfile.mkdtemp()) / "store"))
    cells = list(generations(experiment))
    turns = [turn(cell, bench) for cell in cells]
    kinds = [(str(cell.labels["schedule"]), cell.steps) for cell in cells]
    pairs = [(a, b) for a, b in combinations(range(len(cells)), 2) if kinds[a] == kinds[b]]
    tokens, bursts, in_turns = bench.generation_batch * bench.dataset.length, list[FloatArray](), list[FloatArray]()
    for number in range(given.passes):
        with uncollected():
            bursts.append(tokens / np.array([in_turn([each], given.rounds)[0] for each in turns]))
            in_turns.append(tokens / np.array(in_turn(turns, given.rounds, order=random.Random(number))))
        print(f"after {number + 1} passes of {len(turns)} rows, {given.rounds} rounds each", flush=True)
        report("  in bursts", bursts, pairs, bursts=True)
        report("  in turn  ", in_turns, pairs, bursts=False)
    for kind in dict.fromkeys(kinds):
        chosen = [index for index, each in enumerate(kinds) if each == kind]
        speeds = np.exp(np.log(np.stack(in_turns))[:, chosen].mean())
        print(f"{kind[0]} at {kind[1]} steps: {speeds:.0f} tokens/s in turn")


if __name__ == "__main__":
    main()
