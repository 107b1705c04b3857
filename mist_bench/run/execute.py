"""A run: what is missing is made, cell by cell; then the files and the two tables are written from the store."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..api.component import UserError
from ..engine import beam, device
from ..host.registry import Registry
from . import parallel
from .cells import Cell
from .store import Store

if TYPE_CHECKING:
    from ..measure.statistics import with_error
from .failures import FAILURES, why
from .workbench import Workbench

Rerun = Literal["missing", "failed", "all"]


class Display(Protocol):
    """Shows the progress of cells, by their hashes."""

    def begin(self, key: str, title: str) -> None: ...
    def report(self, key: str, done: int, total: int, note: str) -> None: ...
    def finish(self, key: str, message: str) -> None: ...
    def give_up(self, key: str) -> None: ...


Record = Mapping[str, Any]
def to_do(cells: Sequence[Cell], store: Store, rerun: Rerun) -> list[Cell]:
    """The cells to make. A training whose checkpoint is gone is made again if anything that is missing needs it."""
    if rerun == "all":
        return list(cells)
    wanted = {"missing": ("missing",), "failed": ("missing", "failed")}[rerun]
    todo = {cell.hash: cell for cell in cells if store.status(cell.hash) in wanted}
    by_hash = {cell.hash: cell for cell in cells}
    for cell in list(todo.values()):
        for need in cell.needs:
            training = by_hash[need].kind == "training"
            if training and need not in todo and not store.checkpoint_path(need).exists():
                todo[need] = by_hash[need]
    return [cell for cell in cells if cell.hash in todo]


def failed_before(cells: Sequence[Cell], todo: Sequence[Cell], store: Store) -> dict[str, tuple[Cell, str]]:
    """Cells that failed in an earlier run and are not tried again."""
    again = {cell.hash for cell in todo}
    messages = {cell.hash: (cell, store.failure(cell.hash)) for cell in cells if cell.hash not in again}
    return {
        key: (cell, f"{message} (in an earlier run; --rerun failed tries again)")
        for key, (cell, message) in messages.items()
        if message is not None
    }


def make_all(
    todo: Sequence[Cell], failed: dict[str, tuple[Cell, str]], bench: Workbench, store: Store, registry: Registry,
    display: Display, debug: bool,
) -> list[tuple[Cell, str]]:  # fmt: skip
    """Make the cells in order; a cell that fails is noted and the run goes on. Gives all that failed, now or before."""
    rest = _side_by_side(todo, bench, store, registry, display, failed) if not debug else todo
    for cell in rest:
        _make_one(cell, bench, store, display, failed, debug)
    return list(failed.values())


def _make_one(
    cell: Cell, bench: Workbench, store: Store, display: Display, failed: dict[str, tuple[Cell, str]], debug: bool
) -> None:
    from .work import make

    display.begin(cell.hash, cell.what)
    if missing := next((failed[need][0] for need in cell.needs if need in failed), None):
        failed[cell.hash] = (cell, f"needs {missing.what}, which failed")
        display.finish(cell.hash, "left out")
        return
    start = time.perf_counter()
    try:
        record = make(cell, bench, lambda *details: display.report(cell.hash, *details))
    except FAILURES as error:
        if debug:
            raise
        failed[cell.hash] = (cell, why(error, bench.registry))
        store.write_failure(cell.hash, failed[cell.hash][1])
        display.finish(cell.hash, "failed")
        return
    store.write(cell.hash, {"labels": dict(cell.labels), "seconds": time.perf_counter() - start, **record})
    display.finish(cell.hash, _in_short(cell, record))


def _side_by_side(
    todo: Sequence[Cell], bench: Workbench, store: Store, registry: Registry, display: Display,
    failed: dict[str, tuple[Cell, str]],
) -> Sequence[Cell]:  # fmt: skip
    """On a CPU, trainings of different graphs in processes of their own; gives the cells that are left to make.

    Not where kernels are searched for: candidates are timed, and by all cores.
    """
    processes = int(os.environ.get("MIST_BENCH_JOBS") or os.cpu_count() or 1)
    groups = parallel.groups(todo)
    name = device.name()
    if name != "CPU" or min(processes, len(groups)) < 2 or bench.config.training.devices > 1 or beam.width():
        return todo
    files = tuple(Path(plugin.file) for plugin in registry.plugins() if plugin.file and not plugin.distribution)
    precision = device.precision_name(bench.config.training.precision)
    config = bench.config.for_training()
    jobs = [
        parallel.Job(config=config, plugin_files=files, store=store.path, device=name, precision=precision,
                     hashes=tuple(cell.hash for cell in group))
        for group in groups
    ]  # fmt: skip
    cells = {cell.hash: cell for cell in todo}
    made, begun = set[str](), set[str]()

    def on_event(what: str, key: str, details: tuple[Any, ...]) -> None:
        cell = cells[key]
        if what == "begin":
            begun.add(key)
            display.begin(key, cell.what)
        elif what == "report":
            display.report(key, *details)
        elif what == "done":
            made.add(key)
            display.finish(key, _in_short(cell, store.read(key) or {}))
        else:
            made.add(key)
            failed[key] = (cell, details[0])
            display.finish(key, "failed")

    parallel.run(jobs, processes, on_event)
    for key in begun - made:
        display.give_up(key)
    return [cell for cell in todo if cell.hash not in made]


def _in_short(cell: Cell, record: Record) -> str:
    if cell.kind == "training":
        return f"loss {record['final_loss']:.3f}"
    if cell.kind == "likelihood":
        return f"{with_error(record['nats_per_token'], record['nats_per_token_se'])} nats/token"
    if cell.kind == "judgement":
        return f"{record['judge_nats_per_token']:.3f} nats/token"
    if cell.kind == "metric":
        return ", ".join(f"{name} {value:.4g}" for name, value in record["columns"].items())
    valid, speed = record.get("oracle_valid_rate"), record.get("tokens_per_second")
    parts = [f"{valid:.0%} valid" if valid is not None else "", f"{speed:.0f} tokens/s" if speed else ""]
    return ", ".join(part for part in parts if part) or "done"


def check_writable(folder: Path, what: str, option: str) -> None:
    """Before anything is made: raises `UserError` if the folder could not be written. Leaves nothing behind."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"cannot write {what} '{folder}': '{nearest}' is a file; name another: {option}")
    try:  # permissions alone do not tell: some file systems take no files, and an administrator may write anywhere
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {what} '{folder}': {reason}; name another: {option}") from None
