"""What `mist-bench bench` says: `bench.json` with every round, `bench.md` with the tables, the same in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.machine import write_atomically
from ..measure.statistics import FEWEST_FOR_INTERVAL, median_interval
from ..report.fields import count
from ..report.layout import Table, markdown_table, print_table
from ..run.provenance import one_line
from .contest import OURS, Timing, ratio

if TYPE_CHECKING:
    from rich.console import Console

HEADERS = (
    "who", "tokens/s ↑ (IQR)", "ms/round", "ours ÷ this [low,high]", "first call s", "share of peak", "memory", "NFE",
)  # fmt: skip
LEGEND = (
    f"A ratio above 1: {OURS} is that many times as fast. Median over rounds [an interval that holds it with 95 %]; "
    f"[ ] of N: the range of N rounds, fewer than the {FEWEST_FOR_INTERVAL} that such an interval needs."
)
_NUMERIC = (False, True, True, True, True, True, True, True)


def document(
    timings: Sequence[Sequence[Timing]], peaks: Mapping[str, float], sizes: Sequence[Any], origin: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Everything measured, as JSON: one row for each entry, its rounds in full."""
    best = max(peaks, key=lambda name: peaks[name]) if peaks else ""
    rows = [_row(group, timing, peaks.get(best)) for group in timings for timing in group]
    networks = {s.name: {"what": s.what, **vars(s.network), "vocab_size": s.vocab_size, "length": s.length,
                         "batch": s.batch, "generation_batch": s.generation_batch} for s in sizes}  # fmt: skip
    return {
        "provenance": dict(origin), "machine": dict(machine), "peak_flops_per_second": dict(peaks),
        "peak_of": best, "sizes": networks, "rows": rows,
    }  # fmt: skip


def _row(group: Sequence[Timing], timing: Timing, peak: float | None) -> dict[str, Any]:
    entry, rates = timing.entry, timing.rates()
    low, middle, high = np.percentile(rates, [25, 50, 75])
    seconds = float(np.median(timing.seconds))
    flops, interval = entry.flops / seconds if entry.flops else None, median_interval(list(rates))
    row: dict[str, Any] = {
        "task": timing.offer.task, "group": timing.offer.group, "who": timing.offer.who, "tokens": entry.tokens or None,
        "nfe": entry.nfe, "note": entry.note, "seconds": list(timing.seconds), "seconds_per_round": seconds,
        "rate": float(middle), "rate_iqr": float(high - low), "rate_interval": interval and list(interval),
        "first_call_seconds": timing.first_call_seconds, "flops_per_second": flops,
        "share_of_peak": flops / peak if flops and peak else None, "peak_memory_bytes": timing.memory,
    }  # fmt: skip
    ours = next((t for t in group if t.offer.ours), None)
    if ours is not None and ours is not timing:
        row["ours_over_this"] = dict(zip(("median", "low", "high", "rounds"), ratio(ours, timing), strict=True))
    return row


def tables(made: Mapping[str, Any]) -> list[Table]:
    """One for each group: ours first, then the others, each with how many times as fast ours is."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in made["rows"]:
        groups.setdefault(row["group"], []).append(row)
    return [_table(name, rows) for name, rows in groups.items()]


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [_cells(row) for row in rows]
    kept = [i for i in range(len(HEADERS)) if any(line[i] for line in cells)]
    notes = {row["who"]: row["note"] for row in rows if row["note"]}
    return Table(
        title=title, same="", headers=tuple(HEADERS[i] for i in kept), numeric=tuple(_NUMERIC[i] for i in kept),
        ranks=(0,) * len(kept), rows=tuple(tuple(line[i] for i in kept) for line in cells), controls=len(rows),
        notes=(", ".join(f"{who}: {note}" for who, note in notes.items()),) if notes else (),
    )  # fmt: skip


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    rate = f"{count(row['rate'])} ({row['rate_iqr'] / row['rate']:.0%})" if row["tokens"] else ""
    over = row.get("ours_over_this")
    shown = f"{over['median']:.3g} [{over['low']:.3g},{over['high']:.3g}]" if over else ""
    if over and over["rounds"] < FEWEST_FOR_INTERVAL:
        shown += f" of {over['rounds']}"
    share, memory = row["share_of_peak"], row["peak_memory_bytes"]
    return (
        row["who"], rate, f"{1e3 * row['seconds_per_round']:.4g}", shown, f"{row['first_call_seconds']:.1f}",
        "" if share is None else f"{share:.1%}", "" if memory is None else f"{memory / 2**20:.4g} MiB",
        "" if row["nfe"] is None else str(row["nfe"]),
    )  # fmt: skip


def head(made: Mapping[str, Any]) -> list[str]:
    """What the numbers belong to: versions, commit, date, machine, command, and the peak that shares are of."""
    machine = made["machine"]
    torch = f"PyTorch {machine['torch']} with {machine['torch_threads']} threads" if machine["torch"] else "no PyTorch"
    lines = [one_line(made["provenance"]), f"{machine['precision']} · {torch}", f"`{made['command']}`"]
    peaks = made["peak_flops_per_second"]
    if peaks:
        each = ", ".join(f"{name} {value / 1e9:.4g} GFLOP/s" for name, value in peaks.items())
        lines.append(f"Peak, the best of large matrix products: {each}; shares are of {made['peak_of']}'s.")
    if made["unfinished"]:
        lines.append(f"Unfinished: {made['unfinished']}.")
    if made["busy"]:
        lines.append(f"{made['busy'][0].upper()}{made['busy'][1:]}.")
    return [*lines, *(f"Left out: {line}." for line in made["left_out"])]


def markdown(made: Mapping[str, Any]) -> str:
    sizes = [f"- `{name}`: {_shape(size)}" for name, size in made["sizes"].items()]
    parts = ["# Benchmarks", *head(made), "\n".join(sizes), LEGEND, *map(markdown_table, tables(made))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shape(size: Mapping[str, Any]) -> str:
    return (
        f"{size['what']}; {size['layers']} x {size['dim']}, {size['heads']} heads, feed-forward {size['feed_forward']}"
        f", conditioning {size['conditioning_dim']}, vocabulary {size['vocab_size']}, length {size['length']}, batch "
        f"{size['batch']} (training), {size['generation_batch']} (else)"
    )


def show(console: Console, made: Mapping[str, Any]) -> None:
    from rich.text import Text

    for line in [*head(made), LEGEND]:
        console.print(Text(line))
    console.print()
    for table in tables(made):
        print_table(console, table)


def write(folder: Path, made: Mapping[str, Any]) -> None:
    write_atomically(folder / "bench.json", json.dumps(made, indent=1) + "\n")
    write_atomically(folder / "bench.md", markdown(made))
