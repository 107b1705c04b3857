"""Commands that compute nothing: what one waits for before anything begins."""

from collections.abc import Callable

from mist_bench.bench.contest import Offer

TASK = "startup"


def test_startup(offer: Offer, measure: Callable[[Offer], None]) -> None:
    measure(offer)
