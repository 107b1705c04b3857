"""Commands in parallel on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import psutil

from mist_bench import Launcher, UserError, hookimpl, parameter

PATIENCE_SECONDS = 2.0


class Running:
    """The running processes. Their number is in a file, from which each process derives its share of the cores."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.lock, self.stopped = Lock(), False

    def run(self, command: Sequence[str], count: Path) -> int:
        """Run a command and return its exit status; 130 if the launcher was stopped before."""
        with self.lock:
            if self.stopped:
                return 128 + signal.SIGINT
            environment = {**os.environ, "MIST_BENCH_PARENT": str(os.getpid()), "MIST_BENCH_BESIDE": str(count)}
            # no output to the terminal: progress and errors of a cell are in the store; a session of its own, so that a
            # Ctrl-C comes from here alone, and ends what the process has started too
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
            self._change([*self.processes, process], count)
        try:
            return process.wait()
        finally:
            with self.lock:
                self._change([other for other in self.processes if other is not process], count)

    def _change(self, processes: list[subprocess.Popen[bytes]], count: Path) -> None:
        self.processes = processes
        count.write_text(str(len(processes)))

    def stop(self) -> None:
        """End all processes, with what they have started: they may finish what they are writing, for a moment."""
        with self.lock:
            self.stopped, processes = True, self.processes
        try:
            for process in processes:
                process.terminate()
            end = time.monotonic() + PATIENCE_SECONDS
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, end - time.monotonic()))
        finally:  # a second interrupt too
            for process in processes:
                _kill_session(process)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it has started, such as compilers, which outlive it."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()


def _cores() -> int:
    """The cores that this process may use, perhaps fewer than the machine has."""
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return len(affinity()) if affinity else psutil.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class LocalLauncher(Launcher):
    """Run several processes at once, which share the cores evenly, also when one of them ends.

    Small kernels gain little from more cores, whereas parallel trainings use them all.
    """

    name = "local"
    automatic = True
    processes: int = parameter(0, "processes at once; 0: MIST_BENCH_JOBS, or one for each core")

    def __post_init__(self) -> None:
        if self.processes < 0:
            raise ValueError(f"processes must be at least 0, given {self.processes}")

    @cached_property
    def _running(self) -> Running:
        return Running()

    def at_once(self) -> int:
        asked = os.environ.get("MIST_BENCH_JOBS") or "0"
        if not asked.isdecimal():
            raise UserError(f"MIST_BENCH_JOBS is the number of processes at once, at least 1; given {asked!r}")
        return self.processes or int(asked) or _cores()

    def launch(self, commands: Sequence[Sequence[str]]) -> list[int]:
        running = self._running  # before there are threads that could each make one
        with tempfile.TemporaryDirectory(prefix="mist-bench-") as folder, ThreadPoolExecutor(self.at_once()) as pool:
            count = Path(folder) / "processes"
            return list(pool.map(lambda command: running.run(command, count), commands))

    def stop(self) -> None:
        self._running.stop()


@hookimpl
def mist_bench_launchers() -> Iterator[type[Launcher]]:
    yield LocalLauncher
