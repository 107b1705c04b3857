"""Jobs: descriptions of cells in the store, from which another process makes them (`mist-bench cell HASH`).

A launcher's commands name cells by their hashes; the store is all that passes between the processes. A description is
data: the configuration of the run, which plans the same cells again. Nothing of it is executed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..engine import beam
from ..engine.machine import write_atomically
from ..host.presets import from_table
from ..host.registry import Registry
from .cells import Cell
from .experiment import Experiment
from .grid import lay_out
from .store import HASH, Store, plain

LOOK_SECONDS = 0.2
"""How often a process looks whether the one that waits for it is still there."""
REPORT_SECONDS = 1.0
"""How often a process writes its progress at most."""


def write_job(cell: Cell, store: Store) -> None:
    """Describe a cell to other processes: the configuration of its run, and the loose plugin files that it needs."""
    experiment = cell.experiment
    # what no launcher makes is not looked for again
    generation = dataclasses.replace(experiment.config.generation, metrics=())
    if experiment.config.generation.judged_by_text:
        generation = dataclasses.replace(generation, judge="none")
    config = dataclasses.replace(experiment.config, generation=generation)
    plugins = [plugin.file for plugin in experiment.plugins if plugin.file and not plugin.distribution]
    job = {
        "plugins": plugins, "device": experiment.device, "precision": experiment.precision, "beam": beam.width(),
        "configuration": plain(config.to_dict()),
    }  # fmt: skip
    write_atomically(store.job_path(cell.hash), json.dumps(job) + "\n")


def read_job(hash: str, store: Store) -> Cell:
    """The cell that was described: see `read_jobs`."""
    return read_jobs([hash], store)[0]


def read_jobs(hashes: Sequence[str], store: Store) -> list[Cell]:
    """The cells that were described. Raises `UserError` if there is no description, or if it is of another version."""
    planned: dict[str, dict[str, Cell]] = {}
    cells = []
    for hash in hashes:
        if not HASH.fullmatch(hash) or not store.job_path(hash).is_file():
            done = HASH.fullmatch(hash) and store.status(hash) == "done"
            raise UserError(
                f"cell {hash} is finished already" if done else
                f"no cell {hash!r} is planned in the store '{store.path}'; a launcher's cells are, while mist-bench "
                "run --launcher NAME waits for them; to make a cell without a launcher, type the mist-bench run that "
                "has it"
            )  # fmt: skip
        try:
            text = store.job_path(hash).read_text(encoding="utf-8")
            if text not in planned:
                planned[text] = _planned(text)
            cells.append(planned[text][hash])
        except (UserError, LookupError, TypeError, ValueError, OSError, RecursionError) as error:
            raise UserError(
                f"cell {hash} was planned by another version or plugin; plan it again: mist-bench run"
            ) from error
    return cells


def _planned(text: str) -> dict[str, Cell]:
    """The cells of the run that a description is of, by hash."""
    job = json.loads(text)
    registry = Registry.discover([Path(file) for file in job["plugins"]])
    config = from_table(job["configuration"], "the description of a cell")
    beam.use(job["beam"])
    experiment = Experiment.of(config, registry, job["device"], job["precision"])
    return {cell.hash: cell for cell in lay_out(experiment)}


def end_with_parent() -> None:
    """End this process, and what it has started, soon after the process that waits for it: that one may be killed, and
    then says nothing."""
    parent = int(os.environ.get("MIST_BENCH_PARENT") or 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    if parent:
        threading.Thread(target=watch, daemon=True).start()


class Reporter:
    """Writes the progress of a cell into the store."""

    def __init__(self, hash: str, store: Store) -> None:
        self.path, self.written = store.progress_path(hash), 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        if time.monotonic() - self.written >= REPORT_SECONDS or done == total:
            self.written = time.monotonic()
            write_atomically(self.path, json.dumps({"done": done, "total": total, "note": note}))

    def close(self) -> None:
        """Remove what was written."""
        self.path.unlink(missing_ok=True)


def read_progress(hash: str, store: Store) -> dict[str, Any] | None:
    """`done`, `total` and `note` of a cell that another process is making, or None."""
    try:
        found: dict[str, Any] = json.loads(store.progress_path(hash).read_bytes())
    except (OSError, ValueError):
        return None
    return found


def missing_needs(cell: Cell, store: Store) -> Sequence[str]:
    """The hashes of the cells that must be made before this one."""
    return [need for need in cell.needs if store.status(need) != "done"]
