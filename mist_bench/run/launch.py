"""Cells made by a launcher: which may be, in which commands, and their progress, which comes through the store.

Trainings and their likelihoods are grouped by the graphs that they share: a group is one command, hence one process.
Cells whose speed is measured run alone, so they are made here unless the launcher gives each command its own machine.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from ..api.component import UserError
from ..api.launchers import Launcher
from ..host.discovery import error_text
from .cells import Cell
from .jobs import read_progress, write_job
from .store import Store

POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
    """News of a cell: its progress while `status` is None, else how it ended."""

    status: Literal["done", "failed"] | None = None
    done: int = 0
    total: int = 1
    note: str = ""
    """Why it failed, or what it is at."""


def launchable(todo: Sequence[Cell], *, exclusive: bool) -> list[Cell]:
    """The cells that a launcher may make: those of groups that train something, as far as only such cells are needed.

    `exclusive`: also cells whose speed is measured.
    """
    groups = {cell.group for cell in todo if cell.trains}
    waiting, chosen = {cell.hash for cell in todo}, set[str]()
    for cell in todo:
        ready = all(need in chosen for need in cell.needs if need in waiting)
        if cell.group in groups and ready and (exclusive or not cell.timed):
            chosen.add(cell.hash)
    return [cell for cell in todo if cell.hash in chosen]


def commands(cells: Sequence[Cell], store: Store) -> list[list[str]]:
    """A command for each group."""
    groups: dict[str | None, list[str]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell.hash)
    # -P: a file of the current folder that is named like a module is not taken for it
    start, end = [sys.executable, "-P", "-m", "mist_bench", "cell"], ["--store", str(store.path.absolute())]
    return [[*start, *hashes, *end] for hashes in groups.values()]


def run(
    launcher: Launcher, cells: Sequence[Cell], store: Store, on_event: Callable[[Event, Cell], None]
) -> str:
    """Describe the cells, launch their commands, and report until all have ended; says in words how they ended.

    A process that dies takes nothing along but its unfinished cells, which the caller finds missing. An interrupt, or
    an error of `on_event`, stops the launcher.
    """
    before = {cell.hash: store.version(cell.hash) for cell in cells}
    waiting = {cell.hash: cell for cell in cells}
    try:
        for cell in cells:
            store.progress_path(cell.hash).unlink(missing_ok=True)  # of a process that was killed
            write_job(cell, store)
        with ThreadPoolExecutor(1) as pool:
            launched = pool.submit(_launch, launcher, commands(cells, store))
            try:
                while not launched.done():
                    time.sleep(POLL_SECONDS)
                    _report(waiting, before, store, on_event)
            except BaseException:
                launcher.stop()
                raise
        _report(waiting, before, store, on_event)
        return launched.result()
    finally:
        for cell in cells:
            store.progress_path(cell.hash).unlink(missing_ok=True)
            store.job_path(cell.hash).unlink(missing_ok=True)


def _launch(launcher: Launcher, words: Sequence[Sequence[str]]) -> str:
    """What came of the commands: their exit statuses, or what the launcher raised, in words."""
    try:
        statuses = list(launcher.launch(words))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # of a plugin: the run goes on without it
        return f"it raised {type(error).__name__}: {error_text(error)}"
    return f"exit statuses {', '.join(map(str, statuses))}"


def _report(
    waiting: dict[str, Cell], before: dict[str, int | None], store: Store, on_event: Callable[[Event, Cell], None]
) -> None:
    for cell in list(waiting.values()):
        for event in _news(cell, before[cell.hash], store):
            if event.status is not None:
                del waiting[cell.hash]
            on_event(event, cell)


def _news(cell: Cell, before: int | None, store: Store) -> Iterator[Event]:
    if store.version(cell.hash) != before:
        failure = store.failure(cell.hash)
        yield Event(status="done") if failure is None else Event(status="failed", note=failure)
    elif (progress := read_progress(cell.hash, store)) is not None:
        yield Event(**progress)
