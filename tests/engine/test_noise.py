"""Counter-based noise: device and host agree bit for bit, and different keys give independent noise."""

import numpy as np
import pytest
from tinygrad import Tensor

from harness.brute_force import assert_counts_follow
from mist_bench.engine import noise

ROWS, LENGTH = 64, 16
STREAMS = (noise.PROPOSAL, noise.CHOICE, noise.MASKING, noise.COIN, noise.TIMES)


def on_device(seed: int, step: int, stream: int, sequences, length: int = LENGTH) -> np.ndarray:
    key = Tensor(np.array(noise.key_words(seed, step), dtype=np.uint32))
    return noise.uniform(key, stream, Tensor(np.array(sequences, dtype=np.uint32)), length).numpy()


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("step", [0, 7, 2**29 - 1])
def test_device_equals_host_bit_for_bit(seed, step):
    sequences = np.concatenate([np.arange(ROWS - 2), [2**31 + 5, 2**32 - 1]])
    stream = STREAMS[step % len(STREAMS)]
    host = noise.uniform_numpy(seed, step, stream, sequences, LENGTH)
    device = on_device(seed, step, stream, sequences)
    assert device.dtype == np.float32
    np.testing.assert_array_equal(device.astype(np.float64), host)


def test_published_vector_of_threefry():
    # Random123's known answer for Threefry-2x32-20, counter and key all zero
    assert noise.uniform_numpy(0, 0, 0, np.array([0]), 1)[0, 0] == ((0x6B200159 >> 9) + 0.5) / 2**23


def test_a_sequence_has_the_same_noise_in_any_batch():
    rng = np.random.default_rng(1)
    whole = noise.uniform_numpy(3, 5, noise.CHOICE, np.arange(ROWS), LENGTH)
    order = rng.permutation(ROWS)
    np.testing.assert_array_equal(on_device(3, 5, noise.CHOICE, order), whole[order])
    np.testing.assert_array_equal(noise.uniform_numpy(3, 5, noise.CHOICE, order[:7], 5), whole[order[:7], :5])


def test_a_step_for_each_sequence_gives_each_its_steps_own_numbers():
    steps = np.array([7, 0, 2**29 - 1])
    of_each = noise.uniform_numpy(3, steps, noise.TIMES, np.array([4, 4, 5]), LENGTH)
    for row, step, sequence in zip(of_each, steps, (4, 4, 5), strict=True):
        np.testing.assert_array_equal(row, noise.uniform_numpy(3, int(step), noise.TIMES, np.array([sequence]), LENGTH)[0])


def test_all_positions_of_all_steps_differ():
    found = [noise.uniform_numpy(seed, step, stream, np.arange(8), 4)
             for seed in (0, 1) for step in (0, 1, 2) for stream in STREAMS]  # fmt: skip
    # 960 numbers out of 2^23: two equal ones are expected 0.05 times
    assert len(np.unique(found)) >= np.size(found) - 1


def test_uniform_and_never_0_or_1():
    u = noise.uniform_numpy(9, 1, noise.PROPOSAL, np.arange(20_000), 50)
    assert u.min() > 0 and u.max() < 1
    assert ((u * 2**23 - 0.5) % 1 == 0).all()
    assert (u.astype(np.float32) == u).all()
    assert_counts_follow(np.histogram(u, 1000, (0, 1))[0], np.full(1000, 1e-3))
    lowest_bits = (u * 2**23 - 0.5).astype(np.int64).ravel() % 1024
    assert_counts_follow(np.bincount(lowest_bits, minlength=1024), np.full(1024, 1 / 1024))


def pairs():
    base = {"seed": 4, "step": 2, "stream": noise.PROPOSAL}
    for stream in STREAMS[1:]:
        yield base, {**base, "stream": stream}
    yield base, {**base, "step": 3}
    yield base, {**base, "seed": 5}
    # the last stream of a step and the first of the next must not be the same
    yield {**base, "stream": noise.TIMES}, {**base, "step": 3}


@pytest.mark.parametrize(("one", "other"), list(pairs()))
def test_streams_steps_and_seeds_are_independent(one, other):
    a, b = (noise.uniform_numpy(**key, sequences=np.arange(4_000), length=25).ravel() for key in (one, other))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(a))
    joint = np.histogram2d(a, b, 16, ((0, 1), (0, 1)))[0]
    assert_counts_follow(joint.ravel().astype(int), np.full(256, 1 / 256))


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1)])
def test_neighbours_are_independent(shift):
    u = noise.uniform_numpy(4, 2, noise.MASKING, np.arange(1_000), 100)
    a, b = u[: 1000 - shift[0], : 100 - shift[1]].ravel(), u[shift[0] :, shift[1] :].ravel()
    assert_counts_follow(np.histogram2d(a, b, 16, ((0, 1), (0, 1)))[0].ravel().astype(int), np.full(256, 1 / 256))


def test_the_same_stream_is_seen_to_depend_on_itself():
    # what the test of independence would say of two streams that are one
    u = noise.uniform_numpy(4, 2, noise.PROPOSAL, np.arange(4_000), 25).ravel()
    with pytest.raises(AssertionError, match="chi-square"):
        assert_counts_follow(np.histogram2d(u, u, 16, ((0, 1), (0, 1)))[0].ravel().astype(int), np.full(256, 1 / 256))


def test_seeds_come_from_named_axes():
    assert noise.seed_of(axis="order", seed=1) == noise.seed_of(seed=1, axis="order")
    assert noise.seed_of(axis="order", seed=1) != noise.seed_of(axis="order", seed=2)
    assert noise.seed_of(axis="order", seed=1) != noise.seed_of(axis="masks", seed=1)
    assert 0 <= noise.seed_of(a=1) < 2**32
