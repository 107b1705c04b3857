"""A training step of each family, by each contestant."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "training"


def test_training(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
