"""`mist-bench run`: plans the cells, makes what is missing, writes the files and shows the tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..api.component import UserError
from ..api.launchers import Launcher
from ..engine import beam, compiler, device
from ..engine.graph import debug_lines
from ..engine.machine import way_out
from ..host.config import RunConfig
from ..host.registry import Registry
from ..measure import speed
from ..report import files, plots
from ..report.rows import Finished, about_splits, disagreements, earlier_speeds, read_rows, shortfalls
from ..report.tables import markdown, tables_of_run
from ..run import provenance
from ..run.cells import Cell, Rerun
from ..run.execute import check_writable, execute, to_do
from ..run.experiment import Experiment
from ..run.grid import lay_out
from ..run.store import Store
from .progress import Display
from .show import console, say, show_samples, show_tables

if TYPE_CHECKING:
    from ..run.workbench import Workbench

SHOWN_DAMAGED = 4


def run(
    config: RunConfig, registry: Registry, *, out: Path, store: Path, rerun: Rerun, launcher: str | None = None,
    written_for: str | None = None, length_asked: bool = False, families_asked: bool = True, dry_run: bool = False,
    json_output: bool = False, debug: bool = False,
) -> int:  # fmt: skip
    """Gives the exit status: 0, or 1 if a cell failed. Raises `UserError` for a wrong call, before anything is made.

    `written_for`, `length_asked` and `families_asked`: see `Experiment.of`.
    """
    from ..run.workbench import Workbench

    screen, errors, shelf = console(), console(stderr=True), Store(store)
    check_writable(out, "the results folder", "--out DIR")
    compiler.prepare()
    device.several(config.training.devices)
    experiment = Experiment.of(
        config, registry, device.name(), device.precision_name(config.training.precision), written_for=written_for,
        length_asked=length_asked, families_asked=families_asked,
    )  # fmt: skip
    cells = lay_out(experiment)
    todo = to_do(cells, shelf, rerun)
    if todo:
        check_writable(store, "the store", "--store DIR")
    chosen = _launcher(launcher, registry, experiment, todo, debug)
    for line in experiment.left_out:
        say(errors, line)
    if dry_run:
        _show_plan(cells, {cell.hash for cell in todo}, shelf, screen)
        return 0
    bench = Workbench(experiment, shelf)
    read = bench.dataset.said if todo else ""  # a corpus that cannot work says so here, before anything is written
    for line in filter(None, (device.said(), read)):
        say(errors, line)
    _say_damaged(shelf, errors)
    if todo:  # a store that can only be read is enough for what is in it
        shelf.ensure_writable()
    shelf.sweep()
    if files.of_another_run(out, experiment.config.to_dict()):
        say(errors, f"the tables in {out} are of another run and are replaced; a different --out DIR keeps them "
                    "(all cells are kept: the command of that run writes them again)")  # fmt: skip
    speed.timings.clear()
    _find_batch(bench, todo, errors)
    with Display(len(todo), errors) as display:
        failed = execute(cells, todo, bench, display, launcher=chosen, debug=debug)
    info = {**_info(experiment, cells, debug), "failed": [f"{cell.name}: {message}" for cell, message in failed]}
    made = _report(Finished.of([cell.entry for cell in cells], shelf), info, out, screen, errors)
    _say_the_rest(info, errors)
    _say_damaged(shelf, errors)
    if made:
        say(screen, f"files in {out}: {', '.join(made)}")
    if json_output:
        named = {key: str(path) for key, path in made.items()}
        summary = {"out": str(out), "store": str(store), "failed": len(failed), "files": named}
        sys.stdout.write(json.dumps(summary) + "\n")
    return 1 if failed or not made else 0


def _say_damaged(store: Store, console: Console) -> None:
    """Name the files of the store that were found damaged since the last call."""
    if damaged := store.set_aside:
        names = ", ".join(path.name for path in damaged[:SHOWN_DAMAGED])
        more = f" and {len(damaged) - SHOWN_DAMAGED} more" if len(damaged) > SHOWN_DAMAGED else ""
        say(console, f"damaged: {names}{more} in '{store.path}'; set aside as *.damaged, and made again where this run "
                     "needs them")  # fmt: skip
        store.set_aside = []


def _launcher(
    name: str | None, registry: Registry, experiment: Experiment, todo: Sequence[Cell], debug: bool
) -> Launcher | None:
    """The launcher that was asked for; else the automatic one where several trainings on a CPU gain by it.

    Not where kernels are searched for: candidates are timed, and on all cores.
    """
    if name is not None:
        if beam.width():
            raise UserError("--launcher and --beam cannot be given together: a search times kernels on all cores")
        made: Launcher = registry.make("launcher", name)
        return made
    several = len({cell.group for cell in todo if cell.trains}) > 1
    alone = debug or beam.width() or experiment.config.training.devices > 1 or experiment.device != "CPU"
    if alone or not several:
        return None
    return next((found for found in registry.having("launcher", "automatic") if found.at_once() > 1), None)


def _report(
    finished: Finished, info: dict[str, Any], out: Path, screen: Console, errors: Console
) -> dict[str, Path]:
    """Write all files of the run and show the tables; gives the files by name, none if they cannot be written."""
    for line in disagreements(finished):
        say(errors, line, style="bold red")
    earlier = earlier_speeds(finished, provenance.stamp())
    for line in [*about_splits(finished, info["length"]), *shortfalls(finished), *earlier]:
        say(errors, line)
    rows = read_rows(finished, info["length"])
    tables = tables_of_run(rows)
    heading = "\n\n".join([provenance.one_line(info["provenance"]), *earlier])
    drawn, undrawn = plots.draw(rows)
    written: dict[str, Path] = {}
    try:
        written = files.write_run(
            out, rows, run={**info, "splits": finished.corpus.get("splits", {}), "earlier_speeds": earlier},
            tables=markdown(tables, heading=heading), plots=drawn,
        )  # fmt: skip
    except OSError as error:
        reason, at_fault = (error.strerror or str(error)).lower(), error.filename2 or error.filename
        where = f": '{at_fault}'" if at_fault else ""
        undrawn.append(f"the files of the run cannot be written to '{out}' ({reason}{where}), which is as it was; "
                       f"{way_out(error)} or name another, and type the same command again: --out DIR")  # fmt: skip
    show_tables(tables, screen)
    show_samples(finished, screen)
    for line in undrawn:
        say(errors, line)
    return written


def _find_batch(bench: Workbench, todo: Sequence[Cell], console: Console) -> None:
    """Find an automatic batch size while nothing else runs, and before processes that would each look for it."""
    automatic = 0 in (bench.config.generation.batch_size, bench.config.likelihood.batch_size)
    if automatic and any(cell.evaluates for cell in todo):
        with console.status("measuring how many sequences to evaluate at once"):
            found = bench.automatic_batch
        say(console, f"{found} sequences are evaluated at once: as many as fit and pay on this device")


def _info(experiment: Experiment, cells: Sequence[Cell], debug: bool) -> dict[str, Any]:
    plugins = [
        {"name": p.name, "distribution": p.distribution, "version": p.version, "hooks": list(p.hooks),
         "failures": list(p.failures)}
        for p in experiment.plugins
    ]  # fmt: skip
    return {
        "configuration": experiment.config.to_dict(), "length": experiment.config.length,
        "device": experiment.device, "debug": debug, "beam": beam.width(),
        "provenance": provenance.collect(plugins), "cells": [vars(cell.entry) for cell in cells],
    }  # fmt: skip


def _show_plan(cells: Sequence[Cell], todo: set[str], store: Store, console: Console) -> None:
    for cell in cells:
        status = "would be made" if cell.hash in todo else store.status(cell.hash)
        say(console, f"{cell.hash}  {status:13}  {cell.name}")
    console.print(f"{len(cells)} cells, {len(todo)} to make", highlight=False)


def _say_the_rest(info: Mapping[str, Any], console: Console) -> None:
    """What the reader of the tables must know: graphs and kernels if asked for, failures, a busy machine."""
    if info["debug"]:
        for line in debug_lines():
            say(console, line)
    if beam.width():
        say(console, beam.said())
    for line in info["failed"]:
        say(console, f"failed: {line}")
    if info["device"] == "CPU" and (line := speed.busy()):  # other processes slow a GPU little
        say(console, line)
