"""A stored baseline for each machine, and what has become slower since: by a factor, and by more than rounds differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..engine.machine import write_atomically
from ..measure.statistics import FEWEST_FOR_INTERVAL
from .contest import OURS


def save(path: Path, made: Mapping[str, Any]) -> None:
    """This run's own rows under this machine's name; other machines keep theirs, rows that did not run keep the old."""
    known = _read(path) if path.exists() else {}
    machine = known.setdefault(made["machine"]["key"], {"rows": {}})
    origin = made["provenance"]
    machine |= {"date": origin["date"], "commit": (origin["git"] or {}).get("commit")}
    machine["rows"] |= {row["group"]: _kept(row) for row in made["rows"] if row["who"] == OURS}
    write_atomically(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def _kept(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"rate": row["rate"], "rate_interval": row["rate_interval"]}


def load(path: Path, machine: str) -> dict[str, Any]:
    """The rows of this machine, by group. Times of another machine say nothing about this one."""
    if not path.is_file():
        raise UserError(f"no baseline {path}; --save-baseline writes one")
    known = _read(path)
    if machine not in known:
        raise UserError(f"{path} has no baseline of this machine ({machine}), only of {'; '.join(known)}; "
                        "--save-baseline adds it")  # fmt: skip
    rows: dict[str, Any] = known[machine]["rows"]
    return rows


def _read(path: Path) -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no baseline: {error}") from error
    return known


def slower(before: Mapping[str, Any], made: Mapping[str, Any], factor: float) -> tuple[list[str], list[str]]:
    """One line for each of our rows that is more than `factor` times as slow: those whose interval lies below the old
    one's, and those of which nothing can be told, since either has too few rounds for an interval."""
    found: list[str] = []
    untold: list[str] = []
    for row in made["rows"]:
        old = before.get(row["group"]) if row["who"] == OURS else None
        times = 0.0 if old is None else old["rate"] / row["rate"]
        if old is None or times <= factor:
            continue
        said = f"{row['group']}: {times:.2f} times as long as the baseline (allowed: {factor:g})"
        if row["rate_interval"] is None or old["rate_interval"] is None:
            untold.append(f"perhaps slower: {said}, but of fewer than {FEWEST_FOR_INTERVAL} rounds, then or now")
        elif row["rate_interval"][1] < old["rate_interval"][0]:
            found.append(f"slower: {said}")
    return found, untold
