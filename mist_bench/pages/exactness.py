"""How far each sampler's own law is from the truth: `python -m mist_bench.pages.exactness` writes docs/exactness.md.

The network is a world's oracle and the world is small enough to enumerate (`laws.py`), so that what is left is the
sampler's own error, to the rounding of float32. Nothing is sampled and nothing trained.
"""

from __future__ import annotations

import argparse
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
"""With a number of steps; those that look at the drawn token, then those that do not, then blocks of either."""
FREE = (
    "first-hitting", "autoregressive", "threshold", "threshold[form=factor]", "threshold[tau=1.0,score=max]",
    "entropy-bound[gamma=0.7]", "entropy-bound[gamma=0.0]", "wino",
)  # fmt: skip
"""Those that ignore `steps`."""
SCHEDULES = ("linear", "cosine", "cosine-md4")
BOUNDED = (4, 16, 64)
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Row:
    """The distance of one sampler at each number of steps; None where its law is not computed."""

    spec: str
    exact_one_at_a_time: bool
    distances: Mapping[int, float | None]

    def line(self) -> str:
        """As a row of the table."""
        cells = [f"`{self.spec}`", "yes" if self.exact_one_at_a_time else "no", *map(shown, self.distances.values())]
        return f"| {' | '.join(cells)} |"


def shown(distance: float | None) -> str:
    """`0` is below 1e-6, which is rounding; `-` is not computed; else three digits."""
    if distance is None:
        return "-"
    return f"{distance:.3g}" if distance > ROUNDING else "0"


def row(sampler: Sampler, schedule: Schedule, steps: Sequence[int], oracle: Oracle) -> Row:
    """Total variation between the sampler's law and the oracle's at each number of steps."""
    frequencies = frequencies_of(oracle) if "log_frequency" in sampler.needs else None
    distances = {n: law_distance(sampler, schedule, n, oracle, frequencies=frequencies) for n in steps}
    return Row(spec=sampler.spec, exact_one_at_a_time=sampler.exact_one_at_a_time, distances=distances)


def frequencies_of(oracle: Oracle, texts: int = 20_000) -> FloatArray:
    """(V,) of tokens in texts of the world, each counted once more than it occurs, as a run counts the train split."""
    tokens = oracle.sample(texts, np.random.default_rng(np.random.Philox(key=SEED)))
    counts = np.bincount(tokens.ravel(), minlength=oracle.vocab_size) + 1.0
    return np.asarray(counts / counts.sum())


def bound(schedule: Schedule, steps: int, length: int) -> float:
    """What the total variation of `random` cannot exceed: C(L, 2) times the sum of (alpha(s) - alpha(t))^2.

    That is the expected number of pairs of positions that are revealed in the same step. While there is none, each
    position was drawn from the exact posterior given all that were drawn before it, and the text is one of the world's.
    """
    alpha = schedule.alpha(1.0 - np.arange(steps + 1) / steps)
    alpha[0], alpha[-1] = 0.0, 1.0  # as sampling enforces
    return float(length * (length - 1) / 2 * (np.diff(alpha) ** 2).sum())


PAGE = """\
# What each sampler gets wrong with a perfect network

A sampler that reveals several positions at once draws them independently, and one that orders positions by the token
just drawn prefers likely tokens. No network mends either. This page shows how much is lost, without training anything:
the network is the exact posterior of `{corpus}` ({symbols} letters, {length} positions), the law of a sampler is computed over
all {states} states of a text, and what stands below is its total variation from the truth: 0 is exact, 1 is as wrong as
can be. No number is an estimate. The digits belong to this world; the zeros, the bound and the order of the error belong
to the samplers.

    python -m mist_bench.pages.exactness > docs/exactness.md

`0` is below 1e-6, the rounding of float32. `-`: the sampler remembers what it did, and its law is not enumerated.
**Declares**: `exact_one_at_a_time`, the promise to be exact where it reveals one position a step, which here is from
{length} steps on. Temperature 1, `linear`.

## Samplers with a number of steps

{with_steps}

## Samplers that ignore it

{without_steps}

## `random` and its bound

Two positions revealed in one step are drawn independently, so the total variation is at most the expected number of
such pairs, L(L-1)/2 times the sum over the steps of (alpha(s) - alpha(t))². Under `linear` that is L(L-1)/(2 steps).

{bounds}

## What it says

- **One position at a time, chosen by what is seen or by noise, is exact**, in any such order: 0 from {length} steps on.
  With fewer steps the order matters, and none is right: `margin` has {margin2} at 2 steps, `confidence[score=max]` {max2}.
- **`confidence` and `top-k` are not exact at any number of steps.** From {length} steps on both stay at {limit}, which is
  *more* than the {confidence2} of 2 steps: each step takes the likeliest of several draws, and more steps do so more often.
  A judge that prefers likely text will call it an improvement. `pc` does the same with other weights ({pc}), `p2` is
  `confidence` where nothing is doubted, `guided` where there is no prompt, and in blocks there is less to choose from
  ({blocks}).
- **`random` is exact only in the limit**: its error falls as 1/steps ({random64} at 64 steps, {random256} at 256). With as
  many steps as positions it is still {random4}, because coins put two positions into one step. `first-hitting` is the same
  process without that error, in {length} evaluations.
- **Remasking is no remedy for it**: with a perfect network `remdm` stays near `random` ({remdm256} at 256 steps). What it
  is made for, the mistakes of a network, does not occur here.
- **`entropy-bound` and `threshold`** pay for the evaluations that they save with the distances above; at their limits
  (gamma = 0; tau = 1 by the largest p) they are exact.

A trained network adds errors of its own, and a sampler may well be better with it than one that is less wrong here.
`tests/measure/test_sampler_law.py` holds these laws against brute force in numpy, `tests/pages/test_exactness.py` this page against the code.
"""  # noqa: E501

Rows = Mapping[tuple[str, str], Row]
"""By sampler and schedule."""


def measure(registry: Registry, report: Callable[[str], None] = lambda what: None) -> Rows:
    """Everything that the page shows."""
    oracle, rows = registry.make("corpus", CORPUS).oracle(), {}
    wanted = cells(oracle.length)
    made = [(registry.make("sampler", spec), registry.make("schedule", name), steps) for spec, name, steps in wanted]
    for sampler, schedule, steps in made:  # all were made first: what is missing is said at once
        report(f"{sampler.spec} {schedule.spec}")
        rows[sampler.spec, schedule.spec] = row(sampler, schedule, steps, oracle)
    return rows


def cells(length: int) -> list[tuple[str, str, Sequence[int]]]:
    """The samplers, schedules and numbers of steps of the page, for texts of this length."""
    free: list[tuple[str, str, Sequence[int]]] = [(spec, "linear", (length,)) for spec in FREE]
    others = [("random", name, BOUNDED) for name in SCHEDULES if name != "linear"]
    return [*((spec, "linear", STEPS) for spec in SAMPLERS), *free, *others]


FACTS = {
    "margin2": ("margin", 2), "max2": ("confidence[score=max]", 2), "confidence2": ("confidence", 2),
    "limit": ("confidence", 256), "pc": ("pc", 256), "blocks": ("semi-autoregressive[block=2]", 256),
    "random4": ("random", 4), "random64": ("random", 64), "random256": ("random", 256), "remdm256": ("remdm", 256),
}  # fmt: skip
"""What the text of the page quotes of its tables."""


def page(registry: Registry, rows: Rows) -> str:
    """The whole of docs/exactness.md, from what was measured."""
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


def bounds(registry: Registry, rows: Rows, length: int) -> list[str]:
    """`random` beside its bound, by schedule and steps."""
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
    import sys


    argparse.ArgumentParser(prog="python -m mist_bench.pages.exactness", description=main.__doc__).parse_args()
    compiler.prepare()
    registry = Registry.discover()
    rows = measure(registry, lambda what: print(what, file=sys.stderr))
    print(page(registry, rows), end="")


if __name__ == "__main__":
    main()
