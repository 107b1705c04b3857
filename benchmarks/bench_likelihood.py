"""Benchmark of likelihood: exact-k of a masked model and the chain rule of the baseline."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "likelihood"


def test_likelihood(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
