"""Proposals follow the asked law, the tails included; statistics are what they say."""

import numpy as np
import pytest
from mist_bench.answer import IMPOSSIBLE, draw, pick, statistics
from tinygrad import Tensor

ROWS = 20_000


def law_of_draws(p, *, temperature=1.0, nucleus=1.0):
    """The law of `draw` by a fine stratified u: exact to one part in ROWS."""
    u = (np.arange(ROWS) + 0.5) / ROWS
    with np.errstate(divide="ignore"):
        given = np.maximum(np.log(np.array(p, dtype=np.float32)), IMPOSSIBLE).astype(np.float32)
    table = Tensor(np.broadcast_to(given, (1, ROWS, len(p))).copy())
    drawn = draw(table, Tensor(u[None].astype(np.float32)), Tensor([temperature]), nucleus).numpy()
    return np.bincount(drawn.ravel(), minlength=len(p)) / ROWS


P = [0.5, 0.0, 0.0002, 0.2998, 0.2]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_follow_the_tempered_law(temperature):
    truth = np.array(P) ** (1 / temperature)
    np.testing.assert_allclose(law_of_draws(P, temperature=temperature), truth / truth.sum(), atol=2.5 / ROWS)


def test_temperature_zero_takes_the_most_likely():
    assert law_of_draws(P, temperature=0.0).tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(("nucleus", "kept"), [(0.5, [0]), (0.6, [0, 3]), (0.9, [0, 3, 4])])
def test_nucleus_keeps_the_token_that_crosses_the_mass(nucleus, kept):
    truth = np.where(np.isin(np.arange(5), kept), P, 0)
    np.testing.assert_allclose(law_of_draws(P, nucleus=nucleus), truth / truth.sum(), atol=2.5 / ROWS)


def test_what_is_impossible_is_never_drawn_even_at_the_end():
    u = Tensor(np.array([[1 - 2.0**-24, 2.0**-24]], dtype=np.float32))
    given = np.full((1, 2, 17), IMPOSSIBLE, dtype=np.float32)
    given[:, :, 5], given[:, :, 9] = np.log(0.25), np.log(0.75)
    assert draw(Tensor(given), u, Tensor([1.0])).numpy().tolist() == [[9, 5]]


def test_statistics():
    p = np.array([[[0.1, 0.6, 0.3], [0.25, 0.25, 0.5], [0.0, 1.0, 0.0]]])
    with np.errstate(divide="ignore"):
        given = np.maximum(np.log(p), IMPOSSIBLE)
    proposal = np.array([[2, 2, 1]])
    told = statistics(Tensor(given.astype(np.float32)), Tensor(proposal.astype(np.int32)))
    expected = {
        "log_probability": [np.log(0.3), np.log(0.5), 0],
        "max_log_probability": [np.log(0.6), np.log(0.5), 0],
        "margin": [0.3, 0.25, 1],
        "entropy": [0.8979457, 1.0397208, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(told[name].numpy()[0], values, atol=1e-6, err_msg=name)


def test_pick_gives_nothing_for_a_mask():
    table = Tensor(np.log(np.array([[[0.25, 0.75], [0.5, 0.5]]], dtype=np.float32)))
    np.testing.assert_allclose(pick(table, Tensor([[1, 2]])).numpy(), [[np.log(0.75), 0]], atol=1e-6)
