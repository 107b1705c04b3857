"""A training step of each family, by each contestant."""

TASK = "training"


def test_training(offer, measure):
    measure(offer)
