"""A run: what is missing is made, cell by cell; then the files and the two tables are written from the store."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.text import Text

from . import fields, parallel, plots, provenance, results
from .api.component import UserError
from .cells import Cell, Plan, plan
from .engine import beam, compiler, device
from .host.config import RunConfig
from .host.discovery import one_line, told
from .host.registry import Registry
from .layout import printable
from .measure import speed
from .progress import Display
from .rows import Rows
from .store import Store
from .tables import markdown, print_tables

if TYPE_CHECKING:
    from .workbench import Workbench

Rerun = Literal["missing", "failed", "all"]
Record = Mapping[str, Any]
STORIES = 4
FAILURES = (UserError, ArithmeticError, ValueError, RuntimeError, MemoryError, TypeError, AttributeError, LookupError,
            NameError, AssertionError, ImportError)  # fmt: skip
"""What a cell may fail with; the run goes on without it."""


def run(
    config: RunConfig, registry: Registry, *, out: Path, store: Path, rerun: Rerun, dry_run: bool, json_output: bool,
    debug: bool,
) -> int:  # fmt: skip
    """Gives the exit status: 0, or 1 if a cell failed. Raises `UserError` for a wrong call, before anything is made."""
    from .workbench import Workbench

    screen, errors = Console(), Console(stderr=True)
    _check_writable(store, "the store", "--store DIR")
    _check_writable(out, "the results folder", "--out DIR")
    compiler.prepare()
    name = device.name()
    device.several(config.training.devices)
    laid = plan(config, registry, name, device.precision_name(config.training.precision))
    shelf = Store(store)
    todo = _to_do(laid.cells, shelf, rerun)
    if dry_run:
        _show_plan(laid.cells, {cell.hash for cell in todo}, shelf, screen)
        return 0
    bench = Workbench(laid, shelf, registry)
    if todo:
        _ = bench.dataset  # a corpus or tokenizer that cannot work says so before anything is written
    shelf.ensure_writable()
    if results.of_another_run(out, laid.config.to_dict()):
        line = f"the tables in {out} are of another run and are replaced; --out DIR keeps them"
        line += " (cells are all kept: the command of that run writes them again)"
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    speed.timings.clear()
    before = _failed_before(laid.cells, todo, shelf)
    _say_batch(bench, todo, errors)
    failed = _make_all(todo, before, bench, shelf, registry, errors, debug)
    files = _report(Rows(laid, shelf), bench, _run_info(laid, registry, name, debug), out, screen, errors)
    if debug:
        _show_graphs(errors)
    if beam.width():
        errors.print(beam.said(), markup=False, highlight=False)
    screen.print(f"files in {out}: {', '.join(files)}", markup=False, highlight=False, soft_wrap=True)
    for cell, message in failed:
        errors.print(f"failed: {cell.what}: {message}", markup=False, highlight=False, soft_wrap=True)
    if name == "CPU" and (line := speed.busy()):  # a GPU is slowed by little that goes on beside it
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    if json_output:
        named = {key: str(path) for key, path in files.items()}
        summary = {"out": str(out), "store": str(store), "failed": len(failed), "files": named}
        sys.stdout.write(json.dumps(summary) + "\n")
    return 1 if failed else 0


def _report(
    rows: Rows, bench: Workbench, info: dict[str, Any], out: Path, screen: Console, errors: Console
) -> dict[str, Path]:
    """Writes all files of the run and shows the tables; gives the files by name."""
    rows.pair(bench)
    rows.know(bench)
    for line in rows.disagreements(bench):
        errors.print(line, markup=False, highlight=False, style="bold red")
    earlier = rows.elsewhere()
    for line in [*rows.shortfalls(), *earlier]:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    tables = (rows.training, rows.likelihood, rows.generation, rows.comparisons)
    heading = "\n\n".join([provenance.one_line(info["provenance"]), *earlier])
    written = rows.everything()
    files = results.write_run(
        out, run={**info, "earlier_speeds": earlier}, **written,
        tables=lambda: markdown(*tables, heading=heading),
        plots=lambda: plots.draw(training=rows.training, likelihood=rows.likelihood, generation=rows.generation,
                                 curves=written["curves"]),
    )  # fmt: skip
    print_tables(screen, *tables)
    _show_samples(rows, screen)
    return files


def _say_batch(bench: Workbench, todo: Sequence[Cell], console: Console) -> None:
    """An automatic batch size is found while nothing else runs, and before processes that would each look for it."""
    automatic = 0 in (bench.config.generation.batch_size, bench.config.likelihood.batch_size)
    if automatic and any(cell.family is not None or cell.kind == "judgement" for cell in todo):
        with console.status("measuring how many sequences to evaluate at once"):
            found = bench.automatic_batch
        line = f"{found} sequences are evaluated at once: as many as fit and pay on this device"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _to_do(cells: Sequence[Cell], store: Store, rerun: Rerun) -> list[Cell]:
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


def _failed_before(cells: Sequence[Cell], todo: Sequence[Cell], store: Store) -> dict[str, tuple[Cell, str]]:
    """Cells that failed in an earlier run and are not tried again."""
    again = {cell.hash for cell in todo}
    messages = {cell.hash: (cell, store.failure(cell.hash)) for cell in cells if cell.hash not in again}
    return {
        key: (cell, f"{message} (in an earlier run; --rerun failed tries again)")
        for key, (cell, message) in messages.items()
        if message is not None
    }


def _make_all(
    todo: Sequence[Cell], failed: dict[str, tuple[Cell, str]], bench: Workbench, store: Store, registry: Registry,
    console: Console, debug: bool,
) -> list[tuple[Cell, str]]:  # fmt: skip
    """Makes the cells in order; one that fails is noted and the rest goes on. Gives all that failed, now or before."""
    with Display(len(todo), console) as display:
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


def why(error: Exception, registry: Registry) -> str:
    """Why a cell failed, in one line. What is no message of ours may come from a plugin: then the place in its file."""
    if isinstance(error, UserError):
        return one_line(error)
    return told(error, [plugin.file for plugin in registry.plugins()])


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
        return f"{fields.with_error(record['nats_per_token'], record['nats_per_token_se'])} nats/token"
    if cell.kind == "judgement":
        return f"{record['judge_nats_per_token']:.3f} nats/token"
    if cell.kind == "metric":
        return ", ".join(f"{name} {value:.4g}" for name, value in record["columns"].items())
    valid, speed = record.get("oracle_valid_rate"), record.get("tokens_per_second")
    parts = [f"{valid:.0%} valid" if valid is not None else "", f"{speed:.0f} tokens/s" if speed else ""]
    return ", ".join(part for part in parts if part) or "done"


def _run_info(laid: Plan, registry: Registry, name: str, debug: bool) -> dict[str, Any]:
    plugins = [
        {"name": p.name, "distribution": p.distribution, "version": p.version, "hooks": list(p.hooks),
         "failures": list(p.failures)}
        for p in registry.plugins()
    ]  # fmt: skip
    return {
        "configuration": laid.config.to_dict(), "length": laid.length, "device": name, "debug": debug,
        "beam": beam.width(),
        "provenance": provenance.collect(plugins),
        "cells": [{"hash": cell.hash, "kind": cell.kind, "title": cell.title} for cell in laid.cells],
    }  # fmt: skip


def _check_writable(folder: Path, what: str, option: str) -> None:
    """Before anything is made: raises `UserError` if the folder could not be written. Leaves nothing behind."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"cannot write {what} '{folder}': '{nearest}' is a file; name another: {option}")
    try:  # permissions alone do not tell: some file systems take no files, and an administrator may write anywhere
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot write {what} '{folder}': {reason}; name another: {option}") from None


def _show_plan(cells: Sequence[Cell], todo: set[str], store: Store, console: Console) -> None:
    for cell in cells:
        status = "would be made" if cell.hash in todo else store.status(cell.hash)
        line = f"{cell.hash}  {status:13}  {cell.what}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(cells)} cells, {len(todo)} to make", highlight=False)


def _show_samples(rows: Rows, console: Console) -> None:
    """A few texts: of each family and sampler the one with the most evaluations."""
    best: dict[tuple[Any, ...], tuple[float, str, str]] = {}
    for cell in rows.cells("generation"):
        if cell.labels.get("control"):
            continue
        record = rows.records[cell.hash]
        key = (cell.labels["family"], cell.labels["sampler"])
        entry = (record["nfe"], cell.title, record["texts"][0])
        best[key] = max(best.get(key, entry), entry, key=lambda e: e[0])
    for _, title, text in list(best.values())[:STORIES]:
        console.print(f"{title}:", style="bold", markup=False, highlight=False)
        for line in Text(printable(text)).wrap(console, max(1, console.width - 2)):
            console.print(f"  {line.plain}".rstrip(), markup=False, highlight=False, soft_wrap=True)
        console.print()


def _show_graphs(console: Console) -> None:
    from .engine.graph import captured

    for graph in captured:
        console.print(f"graph {graph.name}: {graph.kernels} calls, compiled in {graph.compile_seconds:.1f} s",
                      markup=False, highlight=False)  # fmt: skip
    console.print(f"{len(captured)} graphs captured", highlight=False)
