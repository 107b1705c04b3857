"""Hand-written backward passes against float64 numpy; in bfloat16 the same numbers, within its rounding."""

from __future__ import annotations

import numpy as np
import pytest
from tinygrad import Device, Tensor, dtypes
from tinygrad.helpers import Context

from mist_bench.network import layers

RNG = np.random.default_rng(0)
KINDS = [pytest.param(dtypes.float, 2e-5, id="float32"), pytest.param(dtypes.bfloat16, 3e-2, id="bfloat16")]
HOW = pytest.mark.parametrize("cpu", [True, False], ids=["cut for a CPU", "cut for a GPU"])


@pytest.fixture(autouse=True)
def in_training():
    with Context(TRAINING=1):
        yield


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def gradients(value: Tensor, upstream: np.ndarray, *inputs: Tensor) -> list[np.ndarray]:
    return [g.float().numpy() for g in (value.float() * Tensor(upstream)).sum().gradient(*inputs)]


def close(found: np.ndarray, truth: np.ndarray, rounding: float) -> None:
    np.testing.assert_allclose(found, truth, rtol=0, atol=rounding * np.abs(truth).max())


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rounded(kind, *arrays: np.ndarray) -> list[np.ndarray]:
    """The operands rounded to the compute type, so that only the operation itself is compared."""
    return [Tensor(a).cast(kind).float().numpy().astype(np.float64) for a in arrays]


@HOW
@pytest.mark.parametrize(("kind", "rounding"), KINDS)
@pytest.mark.parametrize("causal", [False, True])
def test_attention(kind, rounding, causal, cpu, monkeypatch):
    monkeypatch.setattr(layers, "on_cpu", lambda: cpu)
    batch, heads, length, width = 2, 2, 5, 4
    given = [numbers(batch, heads, length, width) for _ in range(4)]
    q, k, v, upstream = rounded(kind, *given)
    inputs = [Tensor(a).cast(kind) for a in given[:3]]
    visible = np.tril(np.ones((length, length), dtype=bool)) if causal else np.ones((length, length), dtype=bool)
    out = layers.attention(*inputs, Tensor(visible) if causal else None, kind)
    p = softmax(np.where(visible, q @ k.swapaxes(-1, -2) / 2, -1e9))
    close(out.float().numpy(), p @ v, rounding)
    to_p = upstream @ v.swapaxes(-1, -2)
    to_scores = p * (to_p - (p * to_p).sum(axis=-1, keepdims=True)) / 2
    truth = [to_scores @ k, to_scores.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ upstream]
    for found, expected in zip(gradients(out, upstream.astype(np.float32), *inputs), truth, strict=True):
        close(found, expected, rounding)


@HOW
@pytest.mark.parametrize(("kind", "rounding"), KINDS)
@pytest.mark.parametrize("chunk", [1 << 27, 48], ids=["at once", "a position at a time"])
def test_cross_entropy(kind, rounding, chunk, cpu, monkeypatch):
    monkeypatch.setattr(layers, "on_cpu", lambda: cpu)
    monkeypatch.setattr(layers, "CHUNK", chunk)
    batch, length, width, columns, vocab = 4, 3, 6, 8, 7
    arrays = numbers(batch, length, width), numbers(width, columns)
    h, w = rounded(kind, *arrays)
    w[:, vocab:] += 50  # padding, however large, has no probability
    arrays[1][:, vocab:] += 50
    targets = RNG.integers(0, vocab, (batch, length))
    weights = np.where(RNG.random((batch, length)) < 0.5, numbers(batch, length) ** 2, 0.0)
    inputs = [Tensor(a).cast(kind) for a in arrays]
    told = Tensor(targets.astype(np.int32)), Tensor(weights.astype(np.float32))
    loss = layers.cross_entropy(*inputs, *told, vocab, kind)
    to_h, to_w = gradients(loss, np.full(1, 3.0, dtype=np.float32), *inputs)  # before the loss is realized
    p = softmax((h @ w)[..., :vocab])
    chosen = np.take_along_axis(p, targets[..., None], axis=-1)[..., 0]
    close(loss.numpy(), -(weights * np.log(chosen)).sum(), rounding)
    change = np.zeros((batch, length, columns))
    change[..., :vocab] = (p - np.eye(vocab)[targets]) * weights[..., None]
    close(to_h, 3 * change @ w.T, rounding)
    close(to_w, 3 * np.einsum("bld,blv->dv", h, change), rounding)


def weighed(weights: np.ndarray, full: int | None):
    """A loss with these weights, its gradients, and its operands."""
    batch, length, width, columns, vocab = *weights.shape, 6, 8, 7
    rng = np.random.default_rng(5)
    h, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((batch, length, width), (width, columns)))
    targets = rng.integers(0, vocab, (batch, length)).astype(np.int32)
    inputs = Tensor(h), Tensor(w)
    loss = layers.cross_entropy(
        *inputs, Tensor(targets), Tensor(weights.astype(np.float32)), vocab, dtypes.float, full=full
    )
    return [*gradients(loss, np.full(1, 3.0, dtype=np.float32), *inputs), loss.numpy()]


@HOW
@pytest.mark.parametrize("chunk", [1 << 27, 48], ids=["at once", "a position at a time"])
@pytest.mark.parametrize(
    "many", [[0, 0, 0, 0, 0], [5, 0, 5, 0, 5], [0, 0, 2, 5, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 1], [5, 5, 5, 0, 0]], ids=str
)
def test_what_has_no_weight_need_not_be_looked_at(many, chunk, cpu, monkeypatch):
    """Positions without weight are skipped: the same loss and gradients, wherever the others are."""
    monkeypatch.setattr(layers, "on_cpu", lambda: cpu)
    monkeypatch.setattr(layers, "CHUNK", chunk)
    rng = np.random.default_rng(sum(many))
    weights = np.where(rng.random((5, 5)).argsort(axis=1) < np.array(many)[:, None], rng.random((5, 5)) + 0.1, 0.0)
    seen: list[tuple[int, ...]] = []
    own = layers._part
    monkeypatch.setattr(layers, "_part", lambda h, *rest: seen.append(h.shape) or own(h, *rest))
    whole, few = weighed(weights, None), weighed(weights, 3)
    assert {shape[0] for shape in seen} == {5, 3}
    for found, truth in zip(few, whole, strict=True):
        np.testing.assert_allclose(found, truth, rtol=0, atol=2e-5 * np.abs(truth).max())
    assert (few[0][weights == 0] == 0).all() and (few[0][weights != 0] != 0).any(axis=-1).all()


def test_more_positions_with_a_weight_than_there_is_room_for_are_no_loss():
    weights = np.zeros((5, 5))
    weights[:3] = 1.0
    assert np.isfinite(weighed(weights, 3)[2])
    weights[4, 2] = 1.0
    assert np.isnan(weighed(weights, 3)[2])


@HOW
@pytest.mark.parametrize(("kind", "rounding"), KINDS)
@pytest.mark.parametrize("rows", [5, 40], ids=["few rows", "more rows than are read"])
def test_lookup(kind, rounding, rows, cpu, monkeypatch):
    monkeypatch.setattr(layers, "on_cpu", lambda: cpu)
    ids = RNG.integers(0, rows, (4, 6))
    ids[0] = ids[1, 0]  # one row is read again and again
    table, upstream = numbers(rows, 3), numbers(4, 6, 3)
    kept = Tensor(table)
    found = layers.lookup(kept, Tensor(ids.astype(np.int32)), kind)
    np.testing.assert_array_equal(found.numpy(), table[ids])
    truth = np.zeros((rows, 3))
    np.add.at(truth, ids, upstream)
    [gradient] = gradients(found, upstream, kept)
    close(gradient, truth, rounding)
    assert (gradient[np.setdiff1d(np.arange(rows), ids)] == 0).all()


@pytest.mark.skipif(not str(Device.DEFAULT).startswith("CPU"), reason="several devices of a CPU are at hand anywhere")
@pytest.mark.parametrize("rows", [5, 40])
def test_sequences_on_two_devices(rows, monkeypatch):
    """The loss of looked-up rows, in several parts: the same gradients as on one device."""
    monkeypatch.setattr(layers, "on_cpu", lambda: False)
    monkeypatch.setattr(layers, "CHUNK", 64)
    ids, width = RNG.integers(0, rows, (4, 6)).astype(np.int32), 3
    table, w, weights = numbers(rows, width), numbers(width, 8), np.abs(numbers(4, 6))
    found = []
    for devices in (("CPU:0",), ("CPU:0", "CPU:1")):
        own = [Tensor(a).shard(devices) for a in (table, w)]
        told = [Tensor(a).shard(devices, 0) for a in (ids, weights)]
        h = layers.lookup(own[0], told[0], dtypes.float)
        loss = layers.cross_entropy(h, own[1], told[0] % 7, told[1], 7, dtypes.float)
        found.append([x.to("CPU:0").numpy() for x in (loss, *loss.gradient(*own))])
    for one, two in zip(*found, strict=True):
        close(two, one, 1e-5)
