"""Activations and their hand-written gradients against float64 numpy, the gradients by central differences."""

from __future__ import annotations

import numpy as np
import pytest
from tinygrad import Tensor, dtypes
from tinygrad.helpers import Context

from harness.brute_force import gelu
from mist_bench.network.activations import ACTIVATIONS, GATED

RNG = np.random.default_rng(0)
KINDS = [pytest.param(dtypes.float, 2e-5, id="float32"), pytest.param(dtypes.bfloat16, 3e-2, id="bfloat16")]


def swiglu(x: np.ndarray) -> np.ndarray:
    a, b = np.split(x, 2, axis=-1)
    return a / (1 + np.exp(-a)) * b


TRUTH = {"gelu": gelu, "squared-relu": lambda x: np.maximum(x, 0) ** 2, "swiglu": swiglu}


@pytest.mark.parametrize(("kind", "rounding"), KINDS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_gradient_are_the_formula(name, kind, rounding):
    x = Tensor(3 * RNG.standard_normal((4, 6))).cast(kind).float().numpy().astype(np.float64)
    upstream = RNG.standard_normal(TRUTH[name](x).shape)
    kept = Tensor(x.astype(np.float32))
    with Context(TRAINING=1):
        y = ACTIVATIONS[name](kept, kind)
        [gradient] = (y.float() * Tensor(upstream.astype(np.float32))).sum().gradient(kept)
    np.testing.assert_allclose(y.float().numpy(), TRUTH[name](x), rtol=0, atol=rounding * 9)
    expected, step = np.zeros_like(x), 1e-5
    for place in np.ndindex(x.shape):
        nudge = np.zeros_like(x)
        nudge[place] = step
        expected[place] = ((TRUTH[name](x + nudge) - TRUTH[name](x - nudge)) * upstream).sum() / (2 * step)
    np.testing.assert_allclose(gradient.float().numpy(), expected, rtol=0, atol=rounding * np.abs(expected).max())


def test_gelu_is_near_the_exact_one():
    from math import erf

    x = np.linspace(-6, 6, 1001)
    exact = x * np.array([(1 + erf(v / 2**0.5)) / 2 for v in x])
    found = ACTIVATIONS["gelu"](Tensor(x.astype(np.float32)), dtypes.float).numpy()
    assert np.abs(found - exact).max() < 5e-4


def test_a_gated_activation_halves_its_input():
    for name, activation in ACTIVATIONS.items():
        assert activation(Tensor.zeros(2, 6), dtypes.float).shape == (2, 3 if name in GATED else 6)
