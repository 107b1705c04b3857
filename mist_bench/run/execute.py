"""Execution of a plan: cells that are missing are made, here or by a launcher."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..api.component import UserError
from ..api.launchers import Launcher
from . import launch
from .cells import Cell, Rerun
from .make import make
from .store import Store

if TYPE_CHECKING:
    from .workbench import Workbench

Failed = dict[str, tuple[Cell, str]]
"""By hash: the cells that failed, and why."""


class Display(Protocol):
    """Shows the progress of cells, by their hashes."""

    def begin(self, key: str, title: str) -> None: ...
    def report(self, key: str, done: int, total: int, note: str) -> None: ...
    def finish(self, key: str, message: str) -> None: ...
    def give_up(self, key: str) -> None: ...
    def say(self, line: str) -> None: ...


def to_do(cells: Sequence[Cell], store: Store, rerun: Rerun) -> list[Cell]:
    """The cells to make. A training whose checkpoint is gone is one of them, also if it is there and damaged where a
    cell that is made needs it."""
    if rerun == "all":
        return list(cells)
    wanted = {"missing": ("missing",), "failed": ("missing", "failed")}[rerun]
    todo = {cell.hash: cell for cell in cells
            if store.status(cell.hash) in wanted or store.to_try_again(cell.hash) or cell.lost(store)}  # fmt: skip
    todo |= {cell.hash: cell for cell in cells if cell.outdated(store, todo, rerun)}
    by_hash = {cell.hash: cell for cell in cells}
    for need in {need for cell in todo.values() for need in cell.needs}:
        if by_hash[need].trains and need not in todo and store.status(need) == "done" and not store.intact(need):
            todo[need] = by_hash[need]
    return [cell for cell in cells if cell.hash in todo]


def execute(
    cells: Sequence[Cell], todo: Sequence[Cell], bench: Workbench, display: Display, *,
    launcher: Launcher | None = None, debug: bool = False,
) -> list[tuple[Cell, str]]:  # fmt: skip
    """Make the cells of `todo`, in order. A cell that fails is noted and the run goes on.

    `launcher`: what makes the cells that need no measured time. Gives all cells that failed, in this run or earlier.
    """
    failed = _failed_earlier(cells, todo, bench.store)
    rest = todo if launcher is None else _launched(launcher, todo, bench, display, failed)
    for cell in rest:
        _make_here(cell, bench, display, failed, debug)
    return list(failed.values())


def _failed_earlier(cells: Sequence[Cell], todo: Sequence[Cell], store: Store) -> Failed:
    """The cells that failed in an earlier run and are not tried again."""
    again = {cell.hash for cell in todo}
    messages = {cell.hash: (cell, store.failure(cell.hash)) for cell in cells if cell.hash not in again}
    return {
        key: (cell, f"{message} (in an earlier run; --rerun failed tries again)")
        for key, (cell, message) in messages.items()
        if message is not None
    }


def _make_here(cell: Cell, bench: Workbench, display: Display, failed: Failed, debug: bool) -> None:
    display.begin(cell.hash, cell.name)
    missing = next((failed[need][0] for need in cell.needs if need in failed), None)
    if missing is not None and not cell.of_what_is_there:
        failed[cell.hash] = (cell, f"needs {missing.name}, which failed")
        display.finish(cell.hash, "left out")
        return
    outcome = make(cell, bench, lambda *details: display.report(cell.hash, *details), debug=debug)
    if outcome.record is None:
        failed[cell.hash] = (cell, outcome.failure)
    display.finish(cell.hash, "failed" if outcome.record is None else cell.summary(outcome.record))


def _launched(
    launcher: Launcher, todo: Sequence[Cell], bench: Workbench, display: Display, failed: Failed
) -> list[Cell]:
    """Let the launcher make what it may; gives the cells that are left to make here."""
    cells = launch.launchable(todo, exclusive=launcher.exclusive)
    begun, ended = set[str](), set[str]()

    def on_event(event: launch.Event, cell: Cell) -> None:
        if cell.hash not in begun:
            begun.add(cell.hash)
            display.begin(cell.hash, cell.name)
        if event.status is None:
            display.report(cell.hash, event.done, event.total, event.note)
            return
        ended.add(cell.hash)
        if event.status == "failed":
            failed[cell.hash] = (cell, event.note)
        record = bench.store.read(cell.hash)
        display.finish(cell.hash, "failed" if record is None else cell.summary(record))

    ending = launch.run(launcher, cells, bench.store, on_event)
    for key in begun - ended:
        display.give_up(key)
    if left := [cell for cell in cells if cell.hash not in ended and failed.keys().isdisjoint(cell.needs)]:
        display.say(f"launcher {launcher.spec!r} left {len(left)} of {len(cells)} cells ({ending}); they are made here")
    return [cell for cell in todo if cell.hash not in ended]


def check_writable(folder: Path, what: str, option: str) -> None:
    """Check that the folder can be written, and leave nothing behind. Raises `UserError` before anything is made."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"cannot write {what} '{folder}': '{nearest}' is a file; name another: {option}")
    try:  # permissions are not enough: some file systems take no files, and an administrator may write anywhere
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {what} '{folder}': {reason}; name another: {option}") from None
