"""The largest and smallest numbers that settings may have.

What lies beyond is a slip of the hand, and would run for ever or overflow half way.
"""

LARGEST = 10**9
"""Of any number of texts, tokens, optimiser steps or seconds."""
MOST_STEPS = 10**6
"""Denoising steps."""
HOTTEST = 1000.0
"""Temperature: at ten, proposals are all but uniform."""
LEAST_TARGET = 1e-6
"""Standard error wanted of a bound, nats per token: a tenth of it takes a hundred times the draws."""
LARGEST_SEED = 2**63 - 1
