"""Tables of docs/variance.md, the variance of each estimator of the bound: `python -m mist_bench.pages.variance`.

An estimator draws a mask and weights S, the sum of -log p over the masked positions. Given the number k of masked
positions the mask is uniform, so the variance of every estimator follows from two curves: the mean and the variance of
S at each k. They are measured once, with an oracle as the network. The laws of k and t are integrated, not sampled,
because under `linear` one draw in thousands may contribute a tenth of the variance.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..api.component import FloatArray, IntArray
from ..api.schedules import Schedule
from ..engine import compiler, noise
from ..host.registry import Registry
from ..inference.masked import MaskedEvaluator
from ..measure.likelihood import SMALLEST_MASK, in_batches
from ..measure.statistics import ratio

SEED = noise.seed_of(axis="variance")
SCHEDULES = ("linear", "cosine", "cosine-squared", "cosine-md4")
NODES = 400


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Mean and variance of S for N sequences at k = 1..L masked positions. There are two independent means, since their
    product is an unbiased square; the square of one would count its measurement noise as variance."""

    means: tuple[FloatArray, FloatArray]  # (N, L) each
    variance: FloatArray  # (N, L)


def measure_curves(
    evaluator: MaskedEvaluator, tokens: IntArray, masks: int,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Curves:  # fmt: skip
    """The curves of `tokens` (N, L), from `masks` (even, at least 4) random masks of each size."""
    count, length = tokens.shape

    def one(cells: IntArray, numbers: IntArray, draw: int) -> FloatArray:
        row, rest = np.divmod(cells, length * masks)
        size = 1 + rest // masks
        order = noise.uniform_numpy(SEED, 0, noise.MASKING, cells, length).argsort(axis=1)
        masked = order.argsort(axis=1) < size[:, None]
        return np.asarray(-evaluator.target_log_probability(tokens[row], masked, size / length).sum(axis=1))

    sums = in_batches(np.arange(count * length * masks), evaluator.batch, 1, one, report).reshape(count, length, masks)
    halves = sums[:, :, ::2].mean(axis=2), sums[:, :, 1::2].mean(axis=2)
    return Curves(means=halves, variance=sums.var(axis=2, ddof=1))


def exact_k_variance(curves: Curves, draws: int) -> FloatArray:
    """(N,) variance of the mean of `draws` stratified draws of exact-k. For independent draws, divide the variance of
    one draw by their number."""
    length = curves.variance.shape[1]
    u = (np.arange(16 * length) + 0.5) / (16 * length)
    k = 1 + (length * (np.arange(draws)[:, None] + u) / draws).astype(np.int64)  # (draws, U)
    weight = length / k
    within = (weight**2 * curves.variance[:, k - 1]).mean(axis=(1, 2)) / draws
    one, other = ((weight * means[:, k - 1]).mean(axis=1) for means in curves.means)  # (N, U), over the draws
    return np.asarray(within + (one * other).mean(axis=1) - one.mean(axis=1) * other.mean(axis=1))


def weighted_variance(curves: Curves, schedule: Schedule, draws: int, smallest: float = SMALLEST_MASK) -> FloatArray:
    """(N,) variance of the mean of `draws` stratified draws of the weighted estimator."""
    return _moments(curves, schedule, draws, smallest)[1]


def weighted_mean(curves: Curves, schedule: Schedule, smallest: float = SMALLEST_MASK) -> FloatArray:
    """(N,) expectation of the weighted estimator: the bound less the part that the truncation drops."""
    return _moments(curves, schedule, 1, smallest)[0]


def _moments(curves: Curves, schedule: Schedule, draws: int, smallest: float) -> tuple[FloatArray, FloatArray]:
    """(N,), (N,) mean and variance of the weighted estimator over `draws` stratified draws."""
    u, probability = _nodes(draws * float(schedule.inverse(np.array(smallest))))
    mean_of_draws = [np.zeros((len(curves.variance), len(u))) for _ in range(2)]
    within = np.zeros(len(curves.variance))
    for draw in range(draws):
        t = (draw + u) / draws
        m = schedule.mask_probability(t)
        weight = np.where(m >= smallest, schedule.weight(t), 0.0)
        law = _binomial(curves.variance.shape[1], m)  # (L, U)
        one, other = (means @ law for means in curves.means)  # (N, U): E[S | t]
        spread = curves.variance @ law + (curves.means[0] * curves.means[1]) @ law - one * other  # Var[S | t]
        within += (weight**2 * spread) @ probability / draws**2
        mean_of_draws[0] += weight * one / draws
        mean_of_draws[1] += weight * other / draws
    first, second = (means @ probability for means in mean_of_draws)
    between = (mean_of_draws[0] * mean_of_draws[1]) @ probability - first * second
    return np.asarray((first + second) / 2), np.asarray(within + between)


def _nodes(edge: float) -> tuple[FloatArray, FloatArray]:
    """Nodes and probabilities of a quadrature for u uniform on (0, 1): Gauss-Legendre in u below the edge of the
    truncation, and in log u above it, where the first stratum's integrand behaves as 1/u."""
    (x, low), (y, high) = (np.polynomial.legendre.leggauss(nodes) for nodes in (NODES // 10, NODES))
    below, above = edge * (x + 1) / 2, np.exp(math.log(edge) * (1 - y) / 2)
    return np.concatenate([below, above]), np.concatenate([low / 2 * edge, high / 2 * -math.log(edge) * above])


def _binomial(length: int, m: FloatArray) -> FloatArray:
    """(U,) mask probabilities -> (L, U) probabilities that k = 1..L positions are masked."""
    k = np.arange(1, length + 1)[:, None]
    ways = np.array([math.lgamma(length + 1) - math.lgamma(i + 1) - math.lgamma(length - i + 1) for i in k[:, 0]])
    inside = np.clip(m, 1e-300, 1 - 1e-16)
    return np.asarray(np.exp(ways[:, None] + k * np.log(inside) + (length - k) * np.log1p(-inside)))


def tables(curves: Curves, schedules: Sequence[Schedule], draws: int, truth: FloatArray) -> str:
    """The tables of docs/variance.md for a world: variances relative to stratified exact-k, errors over sequences."""
    best = exact_k_variance(curves, draws)

    def shown(variances: FloatArray) -> str:
        value, error = ratio(variances, best, np.arange(len(best)))
        return f"{value:.2f} ± {error:.2f}" if variances is not best else "1"

    lines = [f"| estimator | weight of | {draws} independent draws | {draws} stratified draws |",
             "| --- | --- | ---: | ---: |",
             f"| exact-k | - | {shown(exact_k_variance(curves, 1) / draws)} | {shown(best)} |"]  # fmt: skip
    for schedule in schedules:
        plain, stratified = weighted_variance(curves, schedule, 1) / draws, weighted_variance(curves, schedule, draws)
        lines.append(f"| weighted | `{schedule.spec}` | {shown(plain)} | {shown(stratified)} |")
    lines += ["", "| truncation of m(t) under `linear` | independent | stratified | left out of the bound |",
              "| ---: | ---: | ---: | ---: |"]  # fmt: skip
    length = curves.variance.shape[1]
    bound = (length / np.arange(1, length + 1) * sum(curves.means) / 2).mean(axis=1).sum()
    for smallest in (1e-2, 1e-3, 1e-4, 1e-5):
        plain = weighted_variance(curves, schedules[0], 1, smallest) / draws
        stratified = weighted_variance(curves, schedules[0], draws, smallest)
        dropped = 100 * (1 - weighted_mean(curves, schedules[0], smallest).sum() / bound)
        share = f"{dropped:.2g} %" if dropped >= 1e-3 else "< 0.001 %"
        lines.append(f"| {smallest:g} | {shown(plain)} | {shown(stratified)} | {share} |")
    lines += ["", f"The reference, exact-k with {draws} stratified draws, has a variance of {best.mean():.2f} nats² a "
              f"sequence; the sequences' own -log p have {truth.var(ddof=1):.2f}."]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Measure the curves of a world with its oracle, and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m mist_bench.pages.variance", description=main.__doc__)
    parser.add_argument("--corpus", default="tales", help="a corpus with an oracle")
    parser.add_argument("--sequences", type=int, default=96)
    parser.add_argument("--masks", type=int, default=40, help="masks of each size for each sequence; even, at least 4")
    parser.add_argument("--draws", type=int, default=16, help="network evaluations of a sequence")
    given = parser.parse_args()
    compiler.prepare()
    registry = Registry.discover()
    world = registry.make("corpus", given.corpus).oracle()
    model = registry.make("family", "oracle").create(None, world.vocab_size, world.length, 0, world)
    tokens = world.sample(given.sequences, np.random.default_rng(np.random.Philox(key=SEED)))
    curves = measure_curves(MaskedEvaluator("oracle", model, 64), tokens, given.masks)
    schedules = [registry.make("schedule", name) for name in SCHEDULES]
    print(tables(curves, schedules, given.draws, -world.log_probability(tokens)))


if __name__ == "__main__":
    main()
