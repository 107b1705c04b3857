"""The files of a run, written and read.

An empty cell means *not measured* or *does not apply*; it is never 0. Floats are written by repr, so that reading
gives every bit back and the same numbers make the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine.machine import write_together
from ..run.columns import Row
from ..run.store import plain
from .columns import columns_in, files, header_of

PLOTS = ("loss-curves.svg", "differences.svg", "perplexity-evaluations.svg", "quality-steps.svg",
         "quality-throughput.svg", "quality-entropy.svg")  # fmt: skip
_ORDER = ("corpus", "tokenizer", "control", "family", "schedule", "training_seed", "sampler", "steps", "temperature",
          "seed", "checkpoint", "kind", "estimator", "evaluation_schedule", "train_step",
          "family_a", "schedule_a", "family_b", "schedule_b")  # fmt: skip


def write_run(
    out: Path, rows: Mapping[str, Sequence[Row]], *, run: Row, tables: str = "",
    plots: Mapping[str, bytes] | None = None,
) -> dict[str, Path]:  # fmt: skip
    """Write all files of a run together, so that no file is of another run; gives the path of each by its name within
    `out`. Raises OSError with nothing written.

    `rows`: by file, as `read_rows` gives them. `tables`: the text of tables.md; `plots`: the pictures by name.
    """
    drawn = plots or {}
    texts: dict[str, str | bytes] = {
        "run.json": json.dumps(plain(run), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        **{f"{name}.csv": to_csv(rows.get(name, ()), header_of(name)) for name in files()},
        "samples.jsonl": _json_lines(rows.get("samples", ())),
        "tables.md": tables,
        **{f"plots/{name}": drawn[name] for name in PLOTS if name in drawn},
    }
    written = {name: Path(out) / name for name in texts}
    write_together({written[name]: text for name, text in texts.items()})
    for plot in set(PLOTS) - set(drawn):  # a picture of an earlier run would be taken for one of this run
        (Path(out) / "plots" / plot).unlink(missing_ok=True)
    return written


def of_another_run(out: Path, configuration: Row) -> bool:
    """Whether a folder holds the files of a run with a different configuration. `configuration`: as in `run.json`."""
    try:
        found = json.loads((Path(out) / "run.json").read_bytes())["configuration"]
    except (OSError, ValueError, KeyError, TypeError):  # not the folder of a run, or not a whole one
        return False
    return bool(found != plain(configuration))


def to_csv(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """The rows as CSV, in a fixed order: first `columns`, then all other columns by name; missing, NaN, inf: empty."""
    ordered = in_order(rows)
    extra = sorted({name for row in ordered for name in row} - set(columns))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *extra])
    for row in ordered:
        writer.writerow([_cell(row.get(name)) for name in (*columns, *extra)])
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of one of the CSV files: numbers as numbers, an empty cell as None."""
    types = {column.name: column.type for name in files() for column in columns_in(name)}
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [{name: _value(text, types.get(name)) for name, text in row.items()} for row in csv.DictReader(file)]


def in_order(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows sorted by their labels, control rows after the models; rows with equal labels keep their order."""
    cleaned = [plain(row) for row in rows]
    return sorted(cleaned, key=lambda row: [_sortable(row.get(name), empty_first=name == "control") for name in _ORDER])


def _sortable(value: Any, *, empty_first: bool) -> tuple[int, float, str]:
    if value is None or value == "":
        return (0 if empty_first else 2, 0.0, "")
    return (1, value, "") if isinstance(value, int | float) else (1, math.inf, str(value))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _value(text: str, type_: str | None) -> Any:
    if text == "" or type_ == "text":
        return text or None
    for number in (float,) if type_ == "float" else (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _json_lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in in_order(rows))
