"""`mist-bench run`: plans the cells, makes what is missing, writes the files and prints the tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ..engine import beam, compiler, device
from ..host.config import RunConfig
from ..host.registry import Registry
from ..measure import speed
from ..report import files, plots
from ..report.layout import printable
from ..report.rows import Rows
from ..report.tables import markdown, print_tables
from ..run import provenance
from ..run.cells import Cell
from ..run.execute import Rerun, check_writable, failed_before, make_all, to_do
from ..run.grid import Plan, plan
from ..run.store import Store
from .progress import Display

if TYPE_CHECKING:
    from ..run.workbench import Workbench

STORIES = 4


def run(
    config: RunConfig, registry: Registry, *, out: Path, store: Path, rerun: Rerun, dry_run: bool, json_output: bool,
    debug: bool,
) -> int:  # fmt: skip
    """Gives the exit status: 0, or 1 if a cell failed. Raises `UserError` for a wrong call, before anything is made."""
    from ..run.workbench import Workbench

    screen, errors = Console(), Console(stderr=True)
    check_writable(store, "the store", "--store DIR")
    check_writable(out, "the results folder", "--out DIR")
    compiler.prepare()
    name = device.name()
    device.several(config.training.devices)
    laid = plan(config, registry, name, device.precision_name(config.training.precision))
    shelf = Store(store)
    todo = to_do(laid.cells, shelf, rerun)
    if dry_run:
        _show_plan(laid.cells, {cell.hash for cell in todo}, shelf, screen)
        return 0
    bench = Workbench(laid, shelf, registry)
    if todo:
        _ = bench.dataset  # a corpus or tokenizer that cannot work says so before anything is written
    shelf.ensure_writable()
    if files.of_another_run(out, laid.config.to_dict()):
        line = f"the tables in {out} are of another run and are replaced; --out DIR keeps them"
        line += " (cells are all kept: the command of that run writes them again)"
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    speed.timings.clear()
    before = failed_before(laid.cells, todo, shelf)
    _say_batch(bench, todo, errors)
    with Display(len(todo), errors) as display:
        failed = make_all(todo, before, bench, shelf, registry, display, debug)
    made = _report(Rows(laid, shelf), bench, _run_info(laid, registry, name, debug), out, screen, errors)
    if debug:
        _show_graphs(errors)
    if beam.width():
        errors.print(beam.said(), markup=False, highlight=False)
    screen.print(f"files in {out}: {', '.join(made)}", markup=False, highlight=False, soft_wrap=True)
    for cell, message in failed:
        errors.print(f"failed: {cell.what}: {message}", markup=False, highlight=False, soft_wrap=True)
    if name == "CPU" and (line := speed.busy()):  # a GPU is slowed by little that goes on beside it
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    if json_output:
        named = {key: str(path) for key, path in made.items()}
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
    written_files = files.write_run(
        out, run={**info, "earlier_speeds": earlier}, **written,
        tables=lambda: markdown(*tables, heading=heading),
        plots=lambda: plots.draw(training=rows.training, likelihood=rows.likelihood, generation=rows.generation,
                                 curves=written["curves"]),
    )  # fmt: skip
    print_tables(screen, *tables)
    _show_samples(rows, screen)
    return written_files


def _say_batch(bench: Workbench, todo: Sequence[Cell], console: Console) -> None:
    """An automatic batch size is found while nothing else runs, and before processes that would each look for it."""
    automatic = 0 in (bench.config.generation.batch_size, bench.config.likelihood.batch_size)
    if automatic and any(cell.family is not None or cell.kind == "judgement" for cell in todo):
        with console.status("measuring how many sequences to evaluate at once"):
            found = bench.automatic_batch
        line = f"{found} sequences are evaluated at once: as many as fit and pay on this device"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


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
    from ..engine.graph import captured
    from ..engine.tinygrad_private import patches

    for graph in captured:
        console.print(f"graph {graph.name}: {graph.kernels} calls, compiled in {graph.compile_seconds:.1f} s",
                      markup=False, highlight=False)  # fmt: skip
    console.print(f"{len(captured)} graphs captured", highlight=False)
    for patch in patches:
        console.print(str(patch), markup=False, highlight=False, soft_wrap=True)
