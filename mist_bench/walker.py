"""A list of calls into compiled code, gone through by all cores that are free.

A call may have parts, one for each core (a kernel split over an axis); whoever comes first to the end of a step waits
for the others before the next. The list is walked in C, compiled by tinygrad's own compiler: Python would take as long
as many a kernel to go from one to the next, and to wake another thread twenty times as long. Helpers sleep between
walks, and a walk is one call from Python, so that no interrupt can leave them waiting.
"""

from __future__ import annotations

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

Words = npt.NDArray[np.uint64]
FIELDS = 5
"""Of a step: address of the function, parts, arguments of a part, place of the first, whether to wait before it."""
MOST_ARGUMENTS = 63
MOST_CORES = 8
"""More would have little to do each, at the sizes that are trained on a CPU."""
JOB = 8
_allowed: Callable[[], int] = lambda: MOST_CORES  # noqa: E731

SOURCE = """
typedef unsigned long long word;
#define TAKE8(t) t, t, t, t, t, t, t, t
#define GIVE8(i) a[i], a[i + 1], a[i + 2], a[i + 3], a[i + 4], a[i + 5], a[i + 6], a[i + 7]
typedef void (*few)(TAKE8(word));
typedef void (*more)(TAKE8(word), TAKE8(word));
typedef void (*most)(TAKE8(word), TAKE8(word), TAKE8(word), TAKE8(word),
                     TAKE8(word), TAKE8(word), TAKE8(word), TAKE8(word));
typedef int (*system)(word);

/* arguments beyond those that a function takes are passed and never looked at */
static inline void call(word f, const word *a, word n) {
  if (n <= 8) ((few)f)(GIVE8(0));
  else if (n <= 16) ((more)f)(GIVE8(0), GIVE8(8));
  else ((most)f)(GIVE8(0), GIVE8(8), GIVE8(16), GIVE8(24), GIVE8(32), GIVE8(40), GIVE8(48), GIVE8(56));
}

static inline void meet(word *arrived, word goal, word rest) {
  word spins = 0;
  __atomic_fetch_add(arrived, 1, __ATOMIC_ACQ_REL);
  while (__atomic_load_n(arrived, __ATOMIC_ACQUIRE) < goal)
    if (++spins > 4096) ((system)rest)(0); /* somebody else needs the core */
}

/* job: steps, how many, words, cores, arrived, how many had arrived before, sched_yield */
static inline void walk(word *job, word core) {
  const word *steps = (const word *)job[0], *words = (const word *)job[2];
  word cores = job[3], goal = job[5];
  for (word i = 0; i < job[1]; i++, steps += 5) {
    if (steps[4] && cores > 1) meet((word *)job[4], goal += cores, job[6]);
    for (word part = core; part < steps[1]; part += cores) call(steps[0], words + steps[3] + part * steps[2], steps[2]);
  }
  if (cores > 1) meet((word *)job[4], goal += cores, job[6]);
}

/* what 0: be a helper, for good; 1: walk, with the helpers that the job has cores for */
void enter(word what, word *job, word core, word *wake, word wait, word post) {
  if (what) {
    for (word helper = 1; helper < job[3]; helper++) ((system)post)(wake[helper]);
    walk(job, 0);
  } else {
    for (;;) {
      if (((system)wait)(wake[core]) == 0) walk(job, core);
    }
  }
}
"""


def cores() -> int:
    """What kernels are split for: a power of 2, at most `MOST_CORES` and tinygrad's NUM_CPU_THREADS."""
    from tinygrad.helpers import NUM_CPU_THREADS

    return 1 << (max(1, min(_free(), int(NUM_CPU_THREADS.value), MOST_CORES)).bit_length() - 1)


@cache
def _free() -> int:
    """Cores that this process may use; a container's share of time counts as that many."""
    if sys.platform != "linux":
        return 1  # its semaphores are used
    found = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return found if quota == "max" else min(found, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        return found


def limit(count: Callable[[], int]) -> None:
    """From now on a walk takes at most so many cores, asked before each: others may be at work beside this process."""
    global _allowed
    _allowed = count


class Team:
    """This process's threads, and how many of them may work now."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.job = np.zeros(JOB, dtype=np.uint64)
        self.arrived = np.zeros(8, dtype=np.uint64)
        self.enter = _compiled()
        self.functions = [_address(name) for name in ("sem_wait", "sem_post", "sched_yield")] if size > 1 else [0, 0, 0]
        self.job[4], self.job[6] = self.arrived.ctypes.data, self.functions[2]
        self.semaphores = [ctypes.create_string_buffer(64) for _ in range(size)]
        self.wake = np.array([ctypes.addressof(each) for each in self.semaphores], dtype=np.uint64)
        for core in range(1, size):
            ctypes.CDLL(None).sem_init(self.semaphores[core], 0, 0)
            threading.Thread(target=self._serve, args=(core,), daemon=True, name=f"core {core}").start()
        self._first = self._arguments(1, 0)

    def _arguments(self, what: int, core: int) -> list[Any]:
        wait, post, _ = self.functions
        values = what, self.job.ctypes.data, core, self.wake.ctypes.data, wait, post
        return [ctypes.c_uint64(int(value)) for value in values]

    def _serve(self, core: int) -> None:
        self.enter(*self._arguments(0, core))

    def walk(self, steps: Words, words: Words) -> None:
        """(N, FIELDS) steps and the arguments of their functions, which must stay where they are until it returns."""
        count = max(1, min(self.size, _allowed()))
        self.job[0], self.job[1], self.job[2], self.job[3] = steps.ctypes.data, len(steps), words.ctypes.data, count
        self.job[5] = self.arrived[0]
        self.enter(*self._first)


def team() -> Team:
    """The one of this process: threads do not outlive a fork."""
    return _team(os.getpid())


@cache
def _team(process: int) -> Team:
    return Team(cores())


def _address(name: str) -> int:
    return int(ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0)


@cache
def _compiled() -> Callable[..., None]:
    """`enter`, in this process's memory."""
    from tinygrad import Device
    from tinygrad.device import TinyELF
    from tinygrad.runtime.ops_cpu import CPUProgram

    device: Any = Device["CPU"]
    lib = device.renderer.compiler.compile_cached(SOURCE)
    program = CPUProgram(device, TinyELF(lib, "enter", device.renderer.target, ()))
    _kept.append(program)
    function: Callable[..., None] = program.fxn
    return function


_kept: list[Any] = []
"""Programs whose memory must not be given back."""
