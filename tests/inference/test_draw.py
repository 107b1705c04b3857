"""Draws and their statistics against the exact law. Uniforms are stratified, so counts are exact, not only likely."""

import numpy as np
import pytest
from tinygrad import Tensor

from harness.brute_force import assert_counts_follow
from mist_bench.api.log_probabilities import pick
from mist_bench.engine import noise
from mist_bench.inference.draw import IMPOSSIBLE, _in_blocks, draw, log_normaliser, statistics

ROWS, MANY, V = 8, 4096, 8
LATTICE = 2**23  # a uniform is (k + 1/2) / 2^23


def laws() -> np.ndarray:
    """(8, V): some with zeros at the end, at the beginning and between, one certain, one of equals."""
    p = np.random.default_rng(1).dirichlet(np.ones(V), size=ROWS)
    p[1, -3:] = 0
    p[2, :2] = 0
    p[3, 2:5] = 0
    p[4] = np.eye(V)[5]
    p[5] = 1 / V
    return p / p.sum(axis=1, keepdims=True)


def log(p) -> np.ndarray:
    return np.where(p > 0, np.log(np.where(p > 0, p, 1)), IMPOSSIBLE)


def drawn(p, uniform, temperature: float = 1.0, nucleus: float = 1.0) -> np.ndarray:
    """(R, V) laws, (N,) or (R, N) uniforms -> (R, N), all positions of a row with the same law."""
    uniform = np.broadcast_to(uniform, (len(p), np.shape(uniform)[-1])).astype(np.float32)
    answer = np.broadcast_to(log(p)[:, None].astype(np.float32), (*uniform.shape, p.shape[1]))
    heat = Tensor(np.array([temperature], dtype=np.float32))
    out = draw(Tensor(np.ascontiguousarray(answer)), Tensor(np.ascontiguousarray(uniform)), heat, nucleus)
    assert out.dtype.name == "int"
    return out.numpy()


def counts(p, temperature: float = 1.0, nucleus: float = 1.0) -> np.ndarray:
    found = drawn(p, (np.arange(MANY) + 0.5) / MANY, temperature, nucleus)
    return np.array([np.bincount(row, minlength=V) for row in found])


def tempered(p, temperature: float) -> np.ndarray:
    q = np.where(p > 0, np.exp(log(p) / temperature), 0.0)
    return q / q.sum(axis=1, keepdims=True)


def cut(p, nucleus: float) -> np.ndarray:
    """The fewest most likely tokens that hold the mass, with all that tie with the last of them."""
    out = np.zeros_like(p)
    for row, q in zip(out, p, strict=True):
        order = np.argsort(-q, kind="stable")
        threshold = q[order[np.flatnonzero(np.cumsum(q[order]) >= nucleus * (1 - 1e-12))[0]]]
        row[q >= threshold] = q[q >= threshold]
    return out / out.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_stratified_draws_follow_the_law(temperature):
    truth = tempered(laws(), temperature) * MANY
    # an interval of the unit line holds its share of evenly spaced points, give or take one
    assert np.abs(counts(laws(), temperature) - truth).max() < 1.01


def test_a_slightly_wrong_temperature_is_seen():
    assert np.abs(counts(laws(), 0.98) - laws() * MANY).max() > 5


def test_draws_by_the_host_noise_follow_the_law():
    found = drawn(laws(), noise.uniform_numpy(0, 0, noise.PROPOSAL, np.arange(ROWS), MANY))
    for row, law in zip(found, laws(), strict=True):
        tally = np.bincount(row, minlength=V)
        assert (tally[law == 0] == 0).all()
        if (law > 0).sum() > 1:
            assert_counts_follow(tally, law)


def test_temperature_0_is_the_first_of_the_most_likely():
    expected = np.broadcast_to(laws().argmax(axis=1)[:, None], (ROWS, MANY))
    np.testing.assert_array_equal(drawn(laws(), (np.arange(MANY) + 0.5) / MANY, 0.0), expected)


@pytest.mark.parametrize(("nucleus", "temperature"), [(0.7, 1.0), (0.7, 0.5), (0.05, 1.0)])
def test_the_nucleus_keeps_the_token_that_crosses_the_mass(nucleus, temperature):
    law = cut(tempered(laws(), temperature), nucleus)
    found = counts(laws(), temperature, nucleus)
    np.testing.assert_array_equal(found > 0, law > 0)
    assert np.abs(found - law * MANY).max() < 1.01
    assert (law[5] > 0).all()  # ties stay together


def test_without_its_crossing_token_the_nucleus_is_another():
    law = np.array([0.4, 0.25, 0.2, 0.1, 0.05, 0, 0, 0])
    kept = counts(np.tile(law, (ROWS, 1)), 1.0, 0.7)[0] > 0
    assert kept.tolist() == [True, True, True, *[False] * 5]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_tail_token_is_drawn_at_its_rate(place):
    # p = 1e-6 is 8.4 points of the lattice: all points around it are tried, so 8 or 9 must hit, and side by side
    p = np.full(V, (1 - 1e-6) / (V - 1))
    p[place] = 1e-6
    middle = int(p[:place].sum() * LATTICE)
    k = np.clip(middle + np.arange(-MANY // 2, MANY // 2), 0, LATTICE - 1)
    hit = np.unique(k[drawn(np.tile(p, (ROWS, 1)), (k + 0.5) / LATTICE)[0] == place])
    assert len(hit) in (8, 9)
    assert np.ptp(hit) == len(hit) - 1


def test_what_is_impossible_is_never_drawn():
    p = laws()
    edges = np.cumsum(p, axis=1)
    near = (edges[:, :, None] * LATTICE).astype(np.int64) + np.arange(-256, 256)
    k = np.clip(near.reshape(ROWS, -1), 0, LATTICE - 1)  # V x 512 = MANY points
    u = (k + 0.5) / LATTICE
    assert u.max() == 1 - 2.0**-24
    found = drawn(p, u)
    assert (np.take_along_axis(p, found, axis=1) > 0).all()
    # and at 1 itself, which the noise never gives
    assert (np.take_along_axis(p, drawn(p, np.ones(MANY)), axis=1) > 0).all()


def test_a_large_vocabulary_is_drawn_the_same():
    # beyond 512 tokens the cumulative sum is taken in blocks, whose edges are tried
    many, rng = 1025, np.random.default_rng(2)
    p = rng.dirichlet(np.full(many, 0.3), size=2) * (rng.random((2, many)) < 0.4)
    p /= p.sum(axis=1, keepdims=True)
    edges = np.cumsum(p, axis=1)
    k = (edges[:, ::16, None] * LATTICE).astype(np.int64) + np.arange(-8, 8)
    u = (np.clip(k.reshape(2, -1), 0, LATTICE - 1) + 0.5) / LATTICE
    found = drawn(p, u)
    assert (np.take_along_axis(p, found, axis=1) > 0).all()
    for row in range(2):
        low, high = (np.searchsorted(edges[row], u[row] + shift, side="right") for shift in (-5e-7, 5e-7))
        assert ((found[row] >= low) & (found[row] <= high)).all()


def answers() -> tuple[np.ndarray, np.ndarray]:
    p = np.concatenate([laws(), np.random.default_rng(3).dirichlet(np.full(V, 0.2), size=ROWS)]).reshape(2, ROWS, V)
    return p, np.random.default_rng(4).integers(0, V, (2, ROWS))


def test_statistics_by_numpy():
    p, x = answers()
    found = {name: t.numpy() for name, t in statistics(Tensor(log(p).astype(np.float32)), Tensor(x)).items()}
    best = np.sort(p, axis=-1)
    own = np.take_along_axis(p, x[..., None], axis=-1)[..., 0]
    entropy = -np.where(p > 0, p * log(p), 0).sum(axis=-1)
    np.testing.assert_allclose(np.exp(found["log_probability"]), own, atol=1e-6)
    np.testing.assert_allclose(found["max_log_probability"], np.log(best[..., -1]), atol=1e-6)
    np.testing.assert_allclose(found["margin"], best[..., -1] - best[..., -2], atol=1e-6)
    np.testing.assert_allclose(found["entropy"], entropy, atol=1e-5)
    assert found["margin"][0, 5] == 0  # all equal
    assert found["margin"][0, 4] == 1 and found["entropy"][0, 4] == 0  # certain


def test_scores_need_not_be_normalised():
    """Up to a constant for each row, with columns that are impossible at the end: the same draws and statistics."""
    p, x = answers()
    shifted = (log(p) + np.random.default_rng(5).normal(0, 30, (2, ROWS, 1))).astype(np.float32)
    scores = Tensor(np.concatenate([shifted, np.full((2, ROWS, 3), IMPOSSIBLE, dtype=np.float32)], axis=-1))
    found = statistics(scores, Tensor(x), normalised=False)
    for name, truth in statistics(Tensor(log(p).astype(np.float32)), Tensor(x)).items():
        possible = truth.numpy() > IMPOSSIBLE / 2
        np.testing.assert_allclose(found[name].numpy()[possible], truth.numpy()[possible], rtol=0, atol=2e-5)
    own = np.take_along_axis(log(p), x[..., None], axis=-1)[..., 0]
    given = (pick(scores, Tensor(x)) - log_normaliser(scores)).numpy()
    np.testing.assert_allclose(np.exp(given), np.exp(own), atol=2e-5)
    uniform = Tensor(np.random.default_rng(6).random((2, ROWS)).astype(np.float32))
    drawn_once = draw(Tensor(log(p).astype(np.float32)), uniform, Tensor([0.7])).numpy()
    np.testing.assert_array_equal(draw(scores, uniform, Tensor([0.7])).numpy(), drawn_once)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 88, 97, 1025, 50304])
def test_blocks_hold_every_token_once(count):
    blocks = _in_blocks(Tensor(np.arange(count, dtype=np.float32).reshape(1, 1, count))).numpy().ravel()
    np.testing.assert_array_equal(blocks[:count], np.arange(count))
    assert (blocks[count:] == np.float32(IMPOSSIBLE)).all() and len(blocks) < 4 * count
