"""A walk along a list of calls, by one core or more: each part once, each step after the one before."""

import ctypes
import os
import threading
import time

import numpy as np
import pytest
from tinygrad import Tensor

from mist_bench.engine import cpu_team, device
from mist_bench.engine.graph import Graph

pytestmark = pytest.mark.skipif(device.name() != "CPU", reason="of a CPU alone")
needs_cores = pytest.mark.skipif(cpu_team.cores() < 2, reason="needs two cores")
LIBRARY = ctypes.CDLL(None)
SIZE = 1 << 16


def address(name: str) -> int:
    return int(ctypes.cast(getattr(LIBRARY, name), ctypes.c_void_p).value or 0)


@pytest.fixture
def only(monkeypatch):
    """Sets how many cores a walk may take."""
    return lambda count: monkeypatch.setattr(cpu_team, "_allowed", lambda: count)


def crossing(rounds: int, parts: int = 2):
    """Copies from row to row; each part reads what another part has just written, so that a missing wait shows."""
    rows = np.zeros((rounds + 1, parts, SIZE), dtype=np.uint8)
    rows[0] = np.arange(parts)[:, None] + 1
    words, steps = [], []
    for i in range(rounds):
        steps.append((address("memcpy"), parts, 3, len(words)))
        for part in range(parts):
            words += [rows[i + 1, part].ctypes.data, rows[i, (part + 1) % parts].ctypes.data, SIZE]
    padded = np.array(words + [0] * 64, dtype=np.uint64)
    return rows, np.array(steps, dtype=np.uint64), padded


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_part_is_done_once_and_in_order(count, only):
    only(count)
    for _ in range(20):
        rows, steps, words = crossing(50)
        cpu_team.team().walk(steps, words)
        for i, row in enumerate(rows):
            assert (row[0] == 1 + i % 2).all() and (row[1] == 2 - i % 2).all()


def test_steps_of_one_part_stand_in_line_with_those_of_several(only):
    only(8)
    for _ in range(20):
        rows, steps, words = crossing(30)
        single = np.array([(address("memcpy"), 1, 3, int(place) + 3 * part) for place in steps[::2, 3] for part in (0, 1)],
                          dtype=np.uint64)  # fmt: skip
        mixed = np.concatenate([each for i in range(15) for each in (single[2 * i : 2 * i + 2], steps[2 * i + 1 :][:1])])
        cpu_team.team().walk(mixed, words)
        for i, row in enumerate(rows):
            assert (row[0] == 1 + i % 2).all() and (row[1] == 2 - i % 2).all()


def test_nobody_waits_for_a_core_that_does_not_come(only, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda self: None)
    team = cpu_team.Team(2)
    only(2)
    for _ in range(3):
        rows, steps, words = crossing(10)
        team.walk(steps, words)
        assert (rows[-1] == rows[0]).all() and (rows[1] != rows[0]).all()


@needs_cores
def test_as_many_cores_work_as_may(only):
    """By the threads that did the parts; each part takes long enough for another thread to join."""
    seen: set[int] = set()

    @ctypes.CFUNCTYPE(None)
    def note() -> None:
        seen.add(threading.get_ident())
        time.sleep(0.001)

    steps = np.array([(ctypes.cast(note, ctypes.c_void_p).value, 2, 0, 0)] * 10, dtype=np.uint64)
    for count in (1, 2):
        only(count)
        seen.clear()
        for _ in range(100):
            cpu_team.team().walk(steps, np.zeros(64, dtype=np.uint64))
            if len(seen) == 2:
                break
        assert len(seen) == count and threading.get_ident() in seen


@pytest.mark.parametrize("count", [5, 12, 20])
def test_kernels_of_many_arguments(count):
    given = [np.random.default_rng(i).standard_normal((4, 5)).astype(np.float32) for i in range(count)]

    def sums(*parts: Tensor) -> Tensor:
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total.contiguous().realize()

    graph = Graph("sums", sums)
    inputs = [Tensor(value).realize() for value in given]
    for _ in range(3):
        np.testing.assert_allclose(graph(*inputs).numpy(), np.sum(given, axis=0), rtol=1e-5, atol=1e-5)


def test_a_product_is_the_same_to_the_last_bit_by_any_number_of_cores(only):
    a, b = (Tensor(np.random.default_rng(i).standard_normal((256, 256)).astype(np.float32)).realize() for i in range(2))
    graph, found = Graph("product", lambda x, y: (x @ y).contiguous().realize()), []
    for count in (1, 2, 8):
        only(count)
        found.append(graph(a, b).numpy().copy())
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_has_threads_of_its_own(only):
    only(2)
    rows, steps, words = crossing(10)
    cpu_team.team().walk(steps, words)
    child = os.fork()
    if child == 0:
        again, steps, words = crossing(10)
        cpu_team.team().walk(steps, words)
        os._exit(int((again[-1] != rows[-1]).any()))
    assert os.waitpid(child, 0)[1] == 0


def test_a_share_of_time_counts_as_cores(monkeypatch, tmp_path):
    for text, most in (("150000 100000", 1), ("max 100000", None), ("50000 100000", 1), ("nonsense", None)):
        monkeypatch.setattr(cpu_team.Path, "read_text", lambda self, text=text: text)
        cpu_team.free_cores.cache_clear()
        found = cpu_team.free_cores()
        assert found == (most or len(os.sched_getaffinity(0)))
    cpu_team.free_cores.cache_clear()
