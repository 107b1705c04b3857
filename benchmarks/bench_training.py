"""Benchmark of a training step of each family."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "training"


def test_training(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
