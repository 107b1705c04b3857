"""Commands that compute nothing: what one waits for before anything begins."""

TASK = "startup"


def test_startup(offer, measure):
    measure(offer)
