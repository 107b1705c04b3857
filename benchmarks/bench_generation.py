"""A batch of texts: three samplers of masked models, and the baseline with its cache."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "generation"


def test_generation(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
