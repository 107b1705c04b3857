"""A team of threads that runs a list of calls into compiled code, a walk, on all free cores.

A step of the list may have parts, one for each core (a kernel split over an axis). Any free thread takes the next part,
and the thread that finishes the last part of a step opens the next step. So no thread waits for one that the system has
not scheduled: with two threads that met after each step, a batch took forty times as long beside two busy processes.

The list is walked in C (`walk.c`), compiled by tinygrad's compiler: Python takes as long as many a kernel from one call
to the next, and twenty times as long to wake a thread. Helper threads sleep between walks. A walk is a single call from
Python, so that no interrupt can leave helpers waiting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import machine

Words = npt.NDArray[np.uint64]
FIELDS = 4
"""Words of a step: address of the function, parts, arguments of a part, index of the first argument."""
MOST_ARGUMENTS = 63
"""Of a function that `walk.c` can call."""
MOST_CORES = 8
"""More cores would have little work each, at the sizes that are trained on a CPU."""
JOB = 8
"""Words of a job (`walk.c`)."""
_allowed: Callable[[], int] = lambda: MOST_CORES  # noqa: E731
"""Cores that the next walk may use."""


def cores() -> int:
    """Cores that kernels are split for: a power of 2, at most `MOST_CORES` and tinygrad's NUM_CPU_THREADS."""
    from tinygrad.helpers import NUM_CPU_THREADS

    return 1 << (max(1, min(free_cores(), int(NUM_CPU_THREADS.value), MOST_CORES)).bit_length() - 1)


@cache
def free_cores() -> int:
    """Cores that this process may use; a container's share of core time is rounded down to whole cores."""
    if sys.platform != "linux":
        return 1  # the team uses Linux's semaphores
    allowed = len(machine.cores())
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return allowed if quota == "max" else min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        return allowed


def limit(count: Callable[[], int]) -> None:
    """Let later walks use at most `count()` cores, called before each walk; other processes may need the rest."""
    global _allowed
    _allowed = count


class Team:
    """This process's threads: the calling one, and helpers that sleep until a walk needs them."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.job = np.zeros(JOB, dtype=np.uint64)
        self.state = np.full(16, 0xFFFF, dtype=np.uint64)  # FINISHED of walk.c
        self.enter = _compiled()
        self.functions = [_address(name) for name in ("sem_wait", "sem_post", "sched_yield")] if size > 1 else [0, 0, 0]
        self.job[4], self.job[6] = self.state.ctypes.data, self.functions[2]
        self.semaphores = [ctypes.create_string_buffer(64) for _ in range(size)]
        self.wake = np.array([ctypes.addressof(each) for each in self.semaphores], dtype=np.uint64)
        self.helpers: list[threading.Thread] = []
        self.here: Callable[[], int] = ctypes.CDLL(None).sched_getcpu if size > 1 else lambda: 0
        self.core = -1
        for core in range(1, size):
            ctypes.CDLL(None).sem_init(self.semaphores[core], 0, 0)
            self.helpers.append(threading.Thread(target=self._serve, args=(core,), daemon=True, name=f"core {core}"))
            self.helpers[-1].start()
        self._first = self._arguments(1, 0)

    def _arguments(self, what: int, core: int) -> list[Any]:
        """The arguments of `enter`, for a helper (`what` 0) or a walk (1)."""
        wait, post, _ = self.functions
        values = what, self.job.ctypes.data, core, self.wake.ctypes.data, wait, post
        return [ctypes.c_uint64(int(value)) for value in values]

    def _serve(self, core: int) -> None:
        self.enter(*self._arguments(0, core))

    def _make_way(self) -> None:
        """Keep helpers off this thread's core: a helper woken there would start only after the walk."""
        core = self.here()
        if core == self.core:
            return
        self.core, rest = core, os.sched_getaffinity(0) - {core}
        for helper in self.helpers:
            if rest and helper.native_id is not None:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(helper.native_id, rest)

    def walk(self, steps: Words, words: Words) -> None:
        """Run (N, FIELDS) steps on these argument words; neither array may move in memory until it returns."""
        count = max(1, min(self.size, _allowed()))
        if count > 1:
            self._make_way()
        self.job[0], self.job[1], self.job[2], self.job[3] = steps.ctypes.data, len(steps), words.ctypes.data, count
        self.job[5] = (int(self.job[5]) + 1) & 0xFFFFFF
        self.enter(*self._first)


def team() -> Team:
    """The team of this process; a forked child needs one of its own, since threads do not survive a fork."""
    return _team(os.getpid())


@cache
def _team(process: int) -> Team:
    return Team(cores())


def _address(name: str) -> int:
    """Address of a function of the C library."""
    return int(ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0)


@cache
def _compiled() -> Callable[..., None]:
    """`enter` of `walk.c`, in this process's memory."""
    from . import tinygrad_private

    function, owner = tinygrad_private.compiled_function(Path(__file__).with_name("walk.c").read_text(), "enter")
    _programs.append(owner)
    return function


_programs: list[object] = []
"""Owners of the compiled code, so that its memory is never freed."""
