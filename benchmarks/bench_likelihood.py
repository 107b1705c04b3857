"""Exact-k of a masked model and the chain rule of the baseline."""

TASK = "likelihood"


def test_likelihood(offer, measure):
    measure(offer)
