"""Making one cell: measured, timed, and stored, or the reason why it failed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..api.component import UserError
from ..api.schedule_problems import schedule_problem
from ..api.schedules import Schedule
from ..engine import device
from ..engine.machine import disk_is_full
from ..host.discovery import Plugin, describe_error, error_text, same_folder
from . import provenance
from .cells import Cell, Progress, Record

if TYPE_CHECKING:
    from .workbench import Workbench


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a cell: its record, or why it failed."""

    record: Record | None = None
    failure: str = ""


def make(cell: Cell, bench: Workbench, progress: Progress, *, debug: bool = False) -> Outcome:
    """Make a cell, whose needs are finished, and store what came of it. `debug`: errors are raised, not stored.

    Whatever is raised ends this cell alone, since a plugin may raise anything; but for an interrupt. A full disk is no
    fault of the cell, so the next run tries again.
    """
    start = time.perf_counter()
    try:
        bench.store.ensure_room()
        record = _measured(cell, bench, progress)
        bench.store.write(cell.hash, {"labels": dict(cell.labels), "seconds": time.perf_counter() - start, **record})
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if debug:
            raise
        message = reason(error, bench.experiment.plugins)
        with contextlib.suppress(OSError):  # a store that cannot be written: the run still ends with its tables
            bench.store.write_failure(cell.hash, message, again=disk_is_full(error))
        return Outcome(failure=message)
    return Outcome(record=record)


def _measured(cell: Cell, bench: Workbench, progress: Progress) -> dict[str, Any]:
    """The record of the cell. Raises `UserError` if the device has not enough memory."""
    for schedule in _schedules(cell):
        if problem := schedule_problem(schedule):
            raise UserError(f"schedule {schedule.spec!r}: {problem}")
    try:
        with same_folder():
            record = cell.make(bench, progress)
    except (MemoryError, RuntimeError) as error:
        if not device.out_of_memory(error) or (setting := cell.batch(bench)) is None:
            raise
        name, batch = setting
        raise UserError(
            f"the device has not enough memory to evaluate {batch} sequences at once; give a smaller {name}.batch_size"
        ) from error
    return {**record, "measured_by": provenance.stamp()} if cell.speeds(record) else record


def _schedules(cell: Cell) -> Iterator[Schedule]:
    """The schedules of a cell, and of the cells that it is about."""
    for value in vars(cell).values():
        if isinstance(value, Schedule):
            yield value
        elif isinstance(value, Cell):
            yield from _schedules(value)


def reason(error: BaseException, plugins: Iterable[Plugin]) -> str:
    """Why a cell failed, in one line. An error that is not ours may come from a plugin: with the place in its file."""
    if isinstance(error, UserError):
        return error_text(error)
    if disk_is_full(error):
        return "a disk is full; free some space, where the store is or the temporary files are, and run it again"
    return describe_error(error, [plugin.file for plugin in plugins])
