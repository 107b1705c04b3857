"""Page docs/exactness.md, the distance of each sampler's law from the truth: `python -m mist_bench.pages.exactness`.

The network is the oracle of a world that is small enough to enumerate (`measure/sampler_law.py`), so the distances are
the samplers' own errors, exact to the rounding of float32. Nothing is sampled or trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..api.component import FloatArray
from ..api.corpora import Oracle
from ..api.samplers import Sampler
from ..api.schedules import Schedule
from ..engine import compiler, noise
from ..host.registry import Registry
from ..measure.sampler_law import law_distance

SEED = noise.seed_of(axis="exactness")
CORPUS = "markov"
STEPS = (1, 2, 4, 16, 64, 256)
SAMPLERS = (
    "random", "remdm", "remdm[kind=loop]", "confidence", "top-k", "p2", "pc", "confidence[score=max]", "margin",
    "entropy", "semi-autoregressive[block=2]", "semi-autoregressive[block=2,inner=margin]", "guided", "klass",
)  # fmt: skip
"""Samplers with a number of steps: first those that use the drawn token, then those that do not, then the others."""
FREE = (
    "first-hitting", "autoregressive", "threshold", "threshold[form=factor]", "threshold[tau=1.0,score=max]",
    "entropy-bound[gamma=0.7]", "entropy-bound[gamma=0.0]", "wino",
)  # fmt: skip
"""Samplers that ignore `steps`."""
SCHEDULES = ("linear", "cosine", "cosine-md4")
BOUNDED = (4, 16, 64)
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class SamplerDistances:
    """Row of a table: the distance of a sampler's law at each number of steps; None where it is not computed."""

    spec: str
    exact_one_at_a_time: bool
    distances: Mapping[int, float | None]

    def line(self) -> str:
        """The row as Markdown."""
        cells = [f"`{self.spec}`", "yes" if self.exact_one_at_a_time else "no", *map(shown, self.distances.values())]
        return f"| {' | '.join(cells)} |"


def shown(distance: float | None) -> str:
    """A distance as text, with three digits: `0` below 1e-6, which is rounding, `-` if not computed."""
    if distance is None:
        return "-"
    return f"{distance:.3g}" if distance > ROUNDING else "0"


def distances_of(sampler: Sampler, schedule: Schedule, steps: Sequence[int], oracle: Oracle) -> SamplerDistances:
    """The total variation between a sampler's law and the oracle's at each number of steps."""
    frequencies = frequencies_of(oracle) if "log_frequency" in sampler.needs else None
    distances = {n: law_distance(sampler, schedule, n, oracle, frequencies=frequencies) for n in steps}
    return SamplerDistances(
        spec=sampler.spec, exact_one_at_a_time=sampler.exact_one_at_a_time, distances=distances
    )


def frequencies_of(oracle: Oracle, texts: int = 20_000) -> FloatArray:
    """(V,) token frequencies in texts of the world, with 1 added to each count, as a run counts the train split."""
    tokens = oracle.sample(texts, np.random.default_rng(np.random.Philox(key=SEED)))
    counts = np.bincount(tokens.ravel(), minlength=oracle.vocab_size) + 1.0
    return np.asarray(counts / counts.sum())


def bound(schedule: Schedule, steps: int, length: int) -> float:
    """Upper bound on the total variation of `random`: C(L, 2) times the sum of (alpha(s) - alpha(t))^2.

    This is the expected number of pairs of positions that are revealed in the same step. Without such a pair, each
    position is drawn from the exact posterior given all earlier ones, so the text follows the world's law.
    """
    alpha = schedule.alpha(1.0 - np.arange(steps + 1) / steps)
    alpha[0], alpha[-1] = 0.0, 1.0  # as sampling enforces
    return float(length * (length - 1) / 2 * (np.diff(alpha) ** 2).sum())


PAGE = """\
# What each sampler gets wrong with a perfect network

A sampler that reveals several positions at once draws them independently, and one that orders positions by the token
just drawn prefers likely tokens. No network corrects either error. This page shows their size, without training:
the network is the exact posterior of `{corpus}` ({symbols} letters, {length} positions), the law of a sampler is computed over
all {states} states of a text, and the tables show its total variation from the truth: 0 is exact, 1 is the largest possible
error. No number is an estimate. The digits depend on this world; the zeros, the bound and the order of the error are
properties of the samplers.

    python -m mist_bench.pages.exactness > docs/exactness.md

`0` is below 1e-6, the rounding of float32. `-`: the sampler has a memory, and its law is not enumerated.
**Declares**: `exact_one_at_a_time`, the promise to be exact if it reveals one position per step, which here holds from
{length} steps on. Temperature 1, `linear`.

## Samplers with a number of steps

{with_steps}

## Samplers that ignore the number of steps

{without_steps}

## `random` and its bound

Two positions revealed in one step are drawn independently, so the total variation is at most the expected number of
such pairs, L(L-1)/2 times the sum over the steps of (alpha(s) - alpha(t))². Under `linear` that is L(L-1)/(2 steps).

{bounds}

## What it says

- **One position at a time, chosen from visible tokens or by noise, is exact**, in any such order: 0 from {length} steps on.
  With fewer steps the order matters, and none is exact: `margin` has {margin2} at 2 steps, `confidence[score=max]` {max2}.
- **`confidence` and `top-k` are not exact at any number of steps.** From {length} steps on both stay at {limit}, which is
  *more* than the {confidence2} of 2 steps: each step takes the likeliest of several draws, and more steps do so more often.
  A judge that prefers likely text will count this as an improvement. `pc` does the same with different weights ({pc}). `p2`
  equals `confidence` if it remasks nothing, and so does `guided` without a prompt. In blocks there are fewer positions to
  choose from ({blocks}).
- **`random` is exact only in the limit**: its error falls as 1/steps ({random64} at 64 steps, {random256} at 256). With as
  many steps as positions it is still {random4}, because coins may put two positions into one step. `first-hitting` is the
  same process without that error, in {length} evaluations.
- **Remasking does not help against this error**: with a perfect network `remdm` stays near `random` ({remdm256} at 256
  steps). It is designed to correct mistakes of a network, which do not occur here.
- **`entropy-bound` and `threshold`** save evaluations at the cost of the distances above; at their limits (gamma = 0;
  tau = 1 by the largest p) they are exact.

A trained network adds its own errors, and with it a sampler may be better than one that is closer to the truth here.
`tests/measure/test_sampler_law.py` compares these laws with brute force in numpy, `tests/pages/test_exactness.py` this
page with the code.
"""  # noqa: E501

Distances = Mapping[tuple[str, str], SamplerDistances]
"""The measurements of the page, by sampler and schedule."""


def measure_distances(registry: Registry, report: Callable[[str], None] = lambda what: None) -> Distances:
    """All measurements of the page."""
    oracle, measured = registry.make("corpus", CORPUS).oracle(), {}
    objects = [(registry.make("sampler", spec), registry.make("schedule", name), steps)
               for spec, name, steps in combinations(oracle.length)]  # fmt: skip
    for sampler, schedule, steps in objects:  # all exist before the first is measured, so that errors come early
        report(f"{sampler.spec} {schedule.spec}")
        measured[sampler.spec, schedule.spec] = distances_of(sampler, schedule, steps, oracle)
    return measured


def combinations(length: int) -> list[tuple[str, str, Sequence[int]]]:
    """The samplers, schedules and numbers of steps of the page, for texts of this length."""
    free: list[tuple[str, str, Sequence[int]]] = [(spec, "linear", (length,)) for spec in FREE]
    bounded = [("random", name, BOUNDED) for name in SCHEDULES if name != "linear"]
    return [*((spec, "linear", STEPS) for spec in SAMPLERS), *free, *bounded]


FACTS = {
    "margin2": ("margin", 2), "max2": ("confidence[score=max]", 2), "confidence2": ("confidence", 2),
    "limit": ("confidence", 256), "pc": ("pc", 256), "blocks": ("semi-autoregressive[block=2]", 256),
    "random4": ("random", 4), "random64": ("random", 64), "random256": ("random", 256), "remdm256": ("remdm", 256),
}  # fmt: skip
"""Numbers of the tables that the text of the page quotes: (sampler, steps)."""


def page(registry: Registry, rows: Distances) -> str:
    """The text of docs/exactness.md."""
    oracle = registry.make("corpus", CORPUS).oracle()
    states = f"{(oracle.vocab_size + 1) ** oracle.length:,}".replace(",", " ")
    head = ["sampler", "declares"]
    return PAGE.format(
        corpus=CORPUS, symbols=oracle.vocab_size - 1, length=oracle.length, states=states,
        with_steps=table([*head, *map(str, STEPS)], [rows[spec, "linear"].line() for spec in SAMPLERS]),
        without_steps=table([*head, "total variation"], [rows[spec, "linear"].line() for spec in FREE]),
        bounds=table(["schedule", "steps", "total variation", "at most"], bounds(registry, rows, oracle.length)),
        **{name: shown(rows[spec, "linear"].distances[steps]) for name, (spec, steps) in FACTS.items()},
    )  # fmt: skip


def bounds(registry: Registry, rows: Distances, length: int) -> list[str]:
    """Rows of the table of `random` and its bound, by schedule and steps."""
    lines = []
    for name in SCHEDULES:
        schedule, distances = registry.make("schedule", name), rows["random", name].distances
        for steps in (n for n in distances if n >= BOUNDED[0]):
            most = bound(schedule, steps, length)
            lines.append(f"| `{name}` | {steps} | {shown(distances[steps])} | {shown(most)} |")
    return lines


def table(head: Sequence[str], lines: Sequence[str]) -> str:
    """A Markdown table whose columns after the first two are numbers."""
    ruler = ["---", "---", *["---:"] * (len(head) - 2)]
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ruler)] + list(lines))


def main() -> None:
    """Measure every sampler on the enumerable world (two minutes on two cores), and print the page."""
    argparse.ArgumentParser(prog="python -m mist_bench.pages.exactness", description=main.__doc__).parse_args()
    compiler.prepare()
    registry = Registry.discover()
    rows = measure_distances(registry, lambda what: print(what, file=sys.stderr))
    print(page(registry, rows), end="")


if __name__ == "__main__":
    main()
