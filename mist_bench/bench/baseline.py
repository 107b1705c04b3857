"""Baseline of speeds in a file, separate for each machine, and the rows that are slower than it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..engine.machine import write_atomically
from ..measure.statistics import FEWEST_FOR_INTERVAL
from .contest import OURS


def save(path: Path, results: Mapping[str, Any]) -> None:
    """Write mist-bench's rows of these results under this machine. Other machines and rows that were not measured keep
    their values."""
    known = read(path) if path.exists() else {}
    machine = known.setdefault(results["machine"]["key"], {"rows": {}})
    origin = results["provenance"]
    machine |= {"date": origin["date"], "commit": (origin["git"] or {}).get("commit")}
    fields = ("rate", "rate_interval")
    ours = (row for row in results["rows"] if row["who"] == OURS)
    machine["rows"] |= {row["group"]: {field: row[field] for field in fields} for row in ours}
    write_atomically(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def rows_of(path: Path, machine: str) -> dict[str, Any]:
    """The baseline of a machine, rows by group. Raises `UserError` if the file has none: machines do not compare."""
    if not path.is_file():
        raise UserError(f"no baseline {path}; --save-baseline writes one")
    known = read(path)
    if machine not in known:
        raise UserError(f"{path} has no baseline of this machine ({machine}), only of {'; '.join(known)}; "
                        "--save-baseline adds it")  # fmt: skip
    rows: dict[str, Any] = known[machine]["rows"]
    return rows


def read(path: Path) -> dict[str, Any]:
    """The machines of a baseline, each with its `rows`. Raises `UserError` if the file holds something else."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        sound = isinstance(known, dict) and all(isinstance(each["rows"], dict) for each in known.values())
        problem = "" if sound else "no rows by machine"
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        problem = f"{error}"
    if problem:
        raise UserError(f"{path} is not a baseline: {problem}; remove it, and --save-baseline writes one")
    return dict(known)


def slower(before: Mapping[str, Any], results: Mapping[str, Any], factor: float) -> tuple[list[str], list[str]]:
    """Lines about mist-bench's rows that are more than `factor` times as slow as before: first those whose interval
    lies below the old one, then those with too few rounds for an interval, now or before."""
    certain: list[str] = []
    uncertain: list[str] = []
    for row in results["rows"]:
        old = before.get(row["group"]) if row["who"] == OURS else None
        times = 0.0 if old is None else old["rate"] / row["rate"]
        if old is None or times <= factor:
            continue
        line = f"{row['group']}: {times:.2f} times as long as the baseline (allowed: {factor:g})"
        if row["rate_interval"] is None or old["rate_interval"] is None:
            uncertain.append(f"perhaps slower: {line}, but with fewer than {FEWEST_FOR_INTERVAL} rounds, then or now")
        elif row["rate_interval"][1] < old["rate_interval"][0]:
            certain.append(f"slower: {line}")
    return certain, uncertain
