"""`mist-bench report DIR`: a finished run again, from its run.json and the store alone: no corpus, no device."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..report.rows import Finished, about_splits, disagreements, read_rows, shortfalls
from ..report.tables import tables_of_run
from ..run.cells import Entry
from ..run.store import HASH, Store
from .show import console, say, show_samples, show_tables


def report(out: Path, store: Path | None) -> int:
    """Show the tables and samples of the run whose files are in `out`. Gives the exit status, 1 if a cell failed.

    Raises `UserError` if the folder has no whole run of this version, or if the store lacks its cells.
    """
    screen, errors = console(), console(stderr=True)
    info, entries = _read(out)
    shelf = Store(store or _store_of(out, entries))
    finished = Finished.of(entries, shelf)
    if missing := _missing(entries, shelf):
        raise UserError(
            f"the store '{shelf.path}' lacks {len(missing)} of {len(entries)} cells of '{out}'; name the store of that "
            "run: --store DIR"
        )
    for line in disagreements(finished):
        say(errors, line, style="bold red")
    for line in [*about_splits(finished, info["length"]), *shortfalls(finished), *info["earlier_speeds"]]:
        say(errors, line)
    show_tables(tables_of_run(read_rows(finished, info["length"])), screen)
    show_samples(finished, screen)
    for line in info["failed"]:
        say(errors, f"failed: {line}")
    return 1 if info["failed"] else 0


def _read(out: Path) -> tuple[dict[str, Any], list[Entry]]:
    """What run.json says, and its cells."""
    path = out / "run.json"
    try:
        info: dict[str, Any] = json.loads(path.read_bytes())
        entries = [Entry(**entry) for entry in info["cells"]]
        whole = isinstance(info["length"], int) and all(map(_sound, entries))
        whole = whole and isinstance(info["failed"], list) and isinstance(info["earlier_speeds"], list)
    except OSError:
        raise UserError(f"no run in '{out}': it has no run.json; give the folder that mist-bench run wrote") from None
    except (ValueError, AttributeError, TypeError, LookupError):
        whole = False
    if not whole:
        raise UserError(f"'{path}' is damaged or of another version; the same mist-bench run writes it again")
    return info, entries


def _sound(entry: Entry) -> bool:
    """Whether a cell of run.json is one: its hash becomes part of a path."""
    texts = isinstance(entry.hash, str) and isinstance(entry.title, str) and isinstance(entry.kind, str)
    whole = texts and isinstance(entry.labels, dict) and isinstance(entry.facts, dict)
    return whole and HASH.fullmatch(entry.hash) is not None


def _missing(entries: list[Entry], store: Store) -> list[Entry]:
    """The cells that the store lacks, but for those that were left out because one that they need failed."""
    lost, missing = set[str](), []
    for entry in entries:
        status = store.status(entry.hash)
        if status == "failed" or lost & set(entry.needs):
            lost.add(entry.hash)
        elif status == "missing":
            missing.append(entry)
    return missing


def _store_of(out: Path, entries: list[Entry]) -> Path:
    """The store of a run: beside its folder, or where a run would look, whichever has its cells."""
    usual = Path(os.environ.get("MIST_BENCH_STORE") or "results/store")
    places = [out.resolve().parent / "store", usual]
    return next((place for place in places if not _missing(entries, Store(place))), usual)
