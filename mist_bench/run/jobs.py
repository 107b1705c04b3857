"""Jobs: descriptions of cells in the store, from which another process makes them (`mist-bench cell HASH`).

A launcher's commands name cells by their hashes; the store is all that passes between the processes.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..engine import beam
from ..engine.machine import write_atomically
from ..host.registry import Registry
from .cells import Cell
from .store import HASH, Store

DAMAGED = (pickle.UnpicklingError, AttributeError, ImportError, TypeError, LookupError, ValueError, EOFError, OSError)
"""What a description that is damaged, or of another version, may raise."""
UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError)
"""What pickling raises for a class that is made within a function, or an object that holds what cannot travel."""
REPORT_SECONDS = 1.0
"""How often a process writes its progress at most."""


def write_job(cell: Cell, store: Store) -> None:
    """Describe a cell to other processes: its pickle, and the loose plugin files that unpickling needs."""
    plugins = [plugin.file for plugin in cell.experiment.plugins if plugin.file and not plugin.distribution]
    text = base64.b64encode(pickle.dumps(cell)).decode()
    job = {"plugins": plugins, "device": cell.experiment.device, "beam": beam.width(), "cell": text}
    write_atomically(store.job_path(cell.hash), json.dumps(job) + "\n")


def read_job(hash: str, store: Store) -> Cell:
    """The cell that was described. Raises `UserError` if there is no description, or if it is of another version."""
    if not HASH.fullmatch(hash) or not store.job_path(hash).is_file():
        done = HASH.fullmatch(hash) and store.status(hash) == "done"
        raise UserError(
            f"cell {hash} is finished already" if done else
            f"no cell {hash!r} is planned in the store '{store.path}'; a launcher's cells are, while mist-bench run "
            "--launcher NAME waits for them; to make a cell without a launcher, type the mist-bench run that has it"
        )  # fmt: skip
    try:
        job = json.loads(store.job_path(hash).read_bytes())
        beam.use(job["beam"])
        registry = Registry.discover([Path(file) for file in job["plugins"]])  # the classes that the pickle names
        cell: Cell = pickle.loads(base64.b64decode(job["cell"]))
        codes = {(kind, name): registry.origin(kind, name).digest() for kind, name in cell.experiment.codes}
        same = cell.hash == hash and codes == cell.experiment.codes
    except DAMAGED:
        same = False
    if not same:
        raise UserError(f"cell {hash} was planned by another version or plugin; plan it again: mist-bench run")
    return cell


class Reporter:
    """Writes the progress of a cell into the store, and ends the process when the one that waits for it is gone."""

    def __init__(self, hash: str, store: Store) -> None:
        self.path, self.written = store.progress_path(hash), 0.0
        self.parent = int(os.environ.get("MIST_BENCH_PARENT") or 0)

    def __call__(self, done: int, total: int, note: str) -> None:
        if self.parent and os.getppid() != self.parent:
            os._exit(1)
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
