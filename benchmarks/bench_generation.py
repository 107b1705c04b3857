"""A batch of texts: three samplers of masked models, and the baseline with its cache."""

TASK = "generation"


def test_generation(offer, measure):
    measure(offer)
