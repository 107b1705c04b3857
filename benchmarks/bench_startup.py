"""Benchmark of start-up: commands that compute nothing."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "startup"


def test_startup(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
