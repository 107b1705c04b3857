"""A list of calls into compiled code, gone through by all cores that are free.

A call may have parts, one for each core (a kernel split over an axis). A part is taken by whoever is free, and who ends
the last part of a step opens the next. So nobody waits for a core that has not come: two that met at each step made a
batch forty times as slow where two other processes kept the cores busy. The list is walked in C, compiled by tinygrad's
own compiler: Python would take as long as many a kernel to go from one to the next, and to wake another thread twenty
times as long. Helpers sleep between walks, and a walk is one call from Python, so that no interrupt can leave them
waiting.
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

Words = npt.NDArray[np.uint64]
FIELDS = 4
"""Of a step: address of the function, parts, arguments of a part, place of the first."""
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

/* job: steps, how many, words, cores, state (and 8 words on, the parts of a step that are done), walk, sched_yield */
static inline const word *step_at(const word *job, word i) { return (const word *)job[0] + 4 * i; }

static inline void do_part(const word *job, word i, word part) {
  const word *step = step_at(job, i);
  call(step[0], (const word *)job[2] + step[3] + part * step[2], step[2]);
}

/* the state is one word, so that who takes a part knows that nobody has gone on since it looked: number of the walk,
   step, parts of the step, the next part that is free. None is free while one core goes on alone */
#define STATE(walk, i, parts, next) ((walk) << 40 | (i) << 16 | (parts) << 8 | (next))
#define FINISHED 0xffffull

/* from step i on, what has but one part; then the others may take from the next */
static inline void go_on(word *job, word walk, word i) {
  for (; i < job[1] && step_at(job, i)[1] == 1; i++) do_part(job, i, 0);
  ((word *)job[4])[8] = 0;
  word state = i < job[1] ? STATE(walk, i, step_at(job, i)[1], 0) : STATE(walk, 0, 0, FINISHED);
  __atomic_store_n((word *)job[4], state, __ATOMIC_RELEASE);
}

static inline void help(word *job) {
  word *state = (word *)job[4], spins = 0;
  for (;;) {
    word now = __atomic_load_n(state, __ATOMIC_ACQUIRE), parts = now >> 8 & 0xff, next = now & 0xff;
    if ((now & FINISHED) == FINISHED) return;
    if (next >= parts) {
      if (++spins > 4096) ((system)job[6])(0); /* somebody else needs the core */
    } else if (__atomic_compare_exchange_n(state, &now, now + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      spins = 0;
      word i = now >> 16 & 0xffffff;
      do_part(job, i, next);
      if (__atomic_add_fetch(state + 8, 1, __ATOMIC_ACQ_REL) == parts) go_on(job, now >> 40, i + 1);
    }
  }
}

static inline void alone(const word *job) {
  for (word i = 0; i < job[1]; i++)
    for (word part = 0; part < step_at(job, i)[1]; part++) do_part(job, i, part);
}

/* what 0: be a helper, for good; 1: walk, with the helpers that the job has cores for */
void enter(word what, word *job, word core, word *wake, word wait, word post) {
  if (!what) for (;;) if (((system)wait)(wake[core]) == 0) help(job);
  if (job[3] == 1) { alone(job); return; }
  __atomic_store_n((word *)job[4], STATE(job[5], 0, 0, 0), __ATOMIC_RELEASE);
  for (word helper = 1; helper < job[3]; helper++) ((system)post)(wake[helper]);
  go_on(job, job[5], 0);
  help(job);
}
"""


def cores() -> int:
    """What kernels are split for: a power of 2, at most `MOST_CORES` and tinygrad's NUM_CPU_THREADS."""
    from tinygrad.helpers import NUM_CPU_THREADS

    return 1 << (max(1, min(free_cores(), int(NUM_CPU_THREADS.value), MOST_CORES)).bit_length() - 1)


@cache
def free_cores() -> int:
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
        self.state = np.full(16, 0xFFFF, dtype=np.uint64)  # finished
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
        wait, post, _ = self.functions
        values = what, self.job.ctypes.data, core, self.wake.ctypes.data, wait, post
        return [ctypes.c_uint64(int(value)) for value in values]

    def _serve(self, core: int) -> None:
        self.enter(*self._arguments(0, core))

    def _make_way(self) -> None:
        """Keeps helpers off the core that this thread is on: woken there, one comes when the walk is over."""
        core = self.here()
        if core == self.core:
            return
        self.core, others = core, os.sched_getaffinity(0) - {core}
        for helper in self.helpers:
            if others and helper.native_id is not None:
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(helper.native_id, others)

    def walk(self, steps: Words, words: Words) -> None:
        """(N, FIELDS) steps and the arguments of their functions, which must stay where they are until it returns."""
        count = max(1, min(self.size, _allowed()))
        if count > 1:
            self._make_way()
        self.job[0], self.job[1], self.job[2], self.job[3] = steps.ctypes.data, len(steps), words.ctypes.data, count
        self.job[5] = (int(self.job[5]) + 1) & 0xFFFFFF
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
