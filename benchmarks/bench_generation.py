"""Benchmark of generation: three samplers of masked models, and the baseline with its key-value cache."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "generation"


def test_generation(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
