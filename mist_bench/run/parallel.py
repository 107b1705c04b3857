"""Trainings side by side on a CPU: small kernels gain little from more cores, and whole trainings gain all.

Trainings and their likelihoods are grouped by the graph that they share; each group runs in a process of its own and
writes finished cells into the store, which is the only thing that passes between processes. The cores are shared out
evenly, and anew when one ends. What is timed, generation, never runs beside anything else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine import compiler, cpu_team
from ..host.config import RunConfig
from ..host.registry import Registry
from .cells import Cell
from .grid import plan
from .store import Store

PARENT_SECONDS = 2.0
PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process needs to make some cells: it lays out the same plan again."""

    config: RunConfig
    plugin_files: tuple[Path, ...]
    store: Path
    device: str
    precision: str
    hashes: tuple[str, ...]


def groups(todo: Sequence[Cell]) -> list[list[Cell]]:
    """The trainings to make, with what is measured of them at once, grouped by family."""
    trainings = {cell.hash: cell for cell in todo if cell.kind == "training"}
    found: dict[str, list[Cell]] = {}
    for cell in trainings.values():
        assert cell.family is not None
        found.setdefault(cell.family.spec, []).append(cell)
    for cell in todo:
        owner = next((trainings[need] for need in cell.needs if need in trainings), None)
        if cell.kind == "likelihood" and owner is not None and owner.family is not None:
            found[owner.family.spec].append(cell)
    return list(found.values())


def run(
    jobs: Sequence[Job],
    processes: int,
    on_event: Callable[[str, str, tuple[Any, ...]], None],
) -> None:
    """Runs the jobs, `processes` at a time. `on_event(what, hash, details)`: begin, report, done, failed.

    A process that dies takes its unfinished cells along and nothing else: the caller sees what the store lacks.
    """
    context = multiprocessing.get_context("spawn")
    events, busy = context.Queue(), context.RawValue("i", 1)
    waiting, running = list(jobs), list[Any]()
    try:
        while waiting or running:
            running = [process for process in running if process.is_alive()]
            while waiting and len(running) < processes:
                process = context.Process(target=_work, args=(waiting.pop(0), events, busy, os.getpid()))
                process.start()
                running.append(process)
            busy.value = max(1, len(running))
            with contextlib.suppress(queue.Empty):
                on_event(*events.get(timeout=0.5))
    except BaseException:
        _interrupt(running)
        raise
    while True:
        try:
            on_event(*events.get(timeout=0.1))
        except queue.Empty:
            return


def _interrupt(running: Sequence[Any]) -> None:
    """Ends the processes: a signal to this one alone reaches none of them, and its exit would await them.

    By SIGINT, since a process that is terminated leaves its compilers behind, which then complain.
    """
    for process in running:
        if process.is_alive():
            os.kill(process.pid, signal.SIGINT)
    for process in running:
        process.join(PATIENCE_SECONDS)
        process.terminate()


def _work(job: Job, events: Any, busy: Any, parent: int) -> None:
    """The process: what an interrupt leaves undone is made by the next run."""
    cpu_team.limit(lambda: cpu_team.cores() // int(busy.value))
    try:
        _make(job, events, parent)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends one too, and ending must not be interrupted


def _make(job: Job, events: Any, parent: int) -> None:
    """Makes its cells in order, and ends when the parent is gone."""
    from .failures import FAILURES, why
    from .work import make
    from .workbench import Workbench

    compiler.prepare()  # the same kernels as anywhere else
    registry = Registry.discover(job.plugin_files)
    laid = plan(job.config, registry, job.device, job.precision)
    store = Store(job.store)
    bench, seen = Workbench(laid, store, registry), [time.monotonic()]
    for cell in (cell for cell in laid.cells if cell.hash in job.hashes):

        def report(done: int, total: int, note: str, cell: Cell = cell) -> None:
            if os.getppid() != parent:
                os._exit(1)
            if time.monotonic() - seen[0] > PARENT_SECONDS or done == total:
                seen[0] = time.monotonic()
                events.put(("report", cell.hash, (done, total, note)))

        events.put(("begin", cell.hash, ()))
        start = time.perf_counter()
        try:
            record = make(cell, bench, report)
        except FAILURES as error:
            message = why(error, registry)
            store.write_failure(cell.hash, message)
            events.put(("failed", cell.hash, (message,)))
            return
        store.write(cell.hash, {"labels": dict(cell.labels), "seconds": time.perf_counter() - start, **record})
        events.put(("done", cell.hash, ()))
