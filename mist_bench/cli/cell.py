"""`mist-bench cell`: makes cells that a run has described in the store; what a launcher's commands are."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..api.component import UserError
from ..engine import compiler, cpu_team, device
from ..run.cells import Cell
from ..run.jobs import Reporter, end_with_parent, missing_needs, read_jobs
from ..run.make import make
from ..run.store import Store
from ..run.workbench import Workbench

LOOK_SECONDS = 0.5


def make_cells(hashes: Sequence[str], store: Path, *, debug: bool = False) -> int:
    """Make the cells in the order given; a line for each. Gives the exit status: 1 if one failed.

    Raises `UserError` for a cell that is not described, or needs one that is not finished.
    """
    end_with_parent()
    compiler.prepare()
    _share_cores()
    shelf = Store(store)
    cells = read_jobs(hashes, shelf)
    if wrong := [cell.experiment.device for cell in cells if cell.experiment.device != device.name()]:
        raise UserError(f"planned for the device {wrong[0]}, but this is {device.name()}; set DEV={wrong[0]}")
    bench, status = Workbench(cells[0].experiment, shelf), 0
    for cell in cells:
        if cell.experiment.config != bench.config:
            bench = Workbench(cell.experiment, shelf)
        missing = missing_needs(cell, shelf)
        if missing and all(shelf.status(need) == "failed" for need in missing):
            status = 1
            print(f"{cell.hash}  left out: {cell.name}: it needs {missing[0]}, which failed", flush=True)
            continue
        if missing:
            raise UserError(f"cell {cell.hash} needs cell {missing[0]}, which is not finished; name it before: "
                            f"mist-bench cell {missing[0]} {cell.hash} --store {store}")  # fmt: skip
        line, failed = _make(cell, bench, debug)
        print(line, flush=True)
        status |= int(failed)
    return status


def _make(cell: Cell, bench: Workbench, debug: bool) -> tuple[str, bool]:
    report = Reporter(cell.hash, bench.store)
    try:
        report(0, 1, "compiling")
        outcome = make(cell, bench, report, debug=debug)
    finally:
        report.close()
    if outcome.record is None:
        return f"{cell.hash}  failed: {cell.name}: {outcome.failure}", True
    return f"{cell.hash}  {cell.name}: {cell.summary(outcome.record)}", False


def _share_cores() -> None:
    """Use an equal share of the cores, if a launcher says how many processes run beside this one."""
    if path := os.environ.get("MIST_BENCH_BESIDE"):
        cpu_team.limit(_share(Path(path)))


def _share(path: Path) -> Callable[[], int]:
    looked, processes = 0.0, 1

    def share() -> int:
        nonlocal looked, processes
        if time.monotonic() - looked >= LOOK_SECONDS:
            looked = time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # it is being written
                processes = int(path.read_text())
        return cpu_team.cores() // max(1, processes)

    return share
