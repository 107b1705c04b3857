"""Report of `mist-bench bench`: `bench.json` with every round, `bench.md` with the tables, the same in the terminal."""

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
from .contest import OURS, Timing, speed_ratio

if TYPE_CHECKING:
    from rich.console import Console

HEADERS = (
    "who", "tokens/s ↑ (IQR)", "ms/round", "ours ÷ this [low,high]", "first call s", "share of peak", "memory", "NFE",
)  # fmt: skip
LEGEND = (
    f"A ratio above 1: {OURS} is that many times as fast. Median over rounds [95 % confidence interval]; "
    f"[ ] of N: the range of N rounds, fewer than the {FEWEST_FOR_INTERVAL} that such an interval needs."
)
_NUMERIC = (False, True, True, True, True, True, True, True)


def document(
    timings: Sequence[Sequence[Timing]], peaks: Mapping[str, float], sizes: Sequence[Any], origin: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All results as JSON: a row for each contestant, with the time of every round."""
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
        row["ours_over_this"] = dict(zip(("median", "low", "high", "rounds"), speed_ratio(ours, timing), strict=True))
    return row


def tables(results: Mapping[str, Any]) -> list[Table]:
    """A table for each group: mist-bench first, then the other contestants with the ratio of their speeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        groups.setdefault(row["group"], []).append(row)
    return [_table(name, rows) for name, rows in groups.items()]


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = [_cells(row) for row in rows]
    used = [i for i in range(len(HEADERS)) if any(line[i] for line in cells)]
    notes = {row["who"]: row["note"] for row in rows if row["note"]}
    return Table(
        title=title, same="", headers=tuple(HEADERS[i] for i in used), numeric=tuple(_NUMERIC[i] for i in used),
        ranks=(0,) * len(used), rows=tuple(tuple(line[i] for i in used) for line in cells), controls=len(rows),
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


def head(results: Mapping[str, Any]) -> list[str]:
    """Lines above the tables: versions, commit, date, machine, command, peak, warnings, and contestants left out."""
    machine = results["machine"]
    torch = f"PyTorch {machine['torch']} with {machine['torch_threads']} threads" if machine["torch"] else "no PyTorch"
    lines = [one_line(results["provenance"]), f"{machine['precision']} · {torch}", f"`{results['command']}`"]
    peaks = results["peak_flops_per_second"]
    if peaks:
        each = ", ".join(f"{name} {value / 1e9:.4g} GFLOP/s" for name, value in peaks.items())
        lines.append(f"Peak, the best of large matrix products: {each}; shares are of {results['peak_of']}'s.")
    if results["unfinished"]:
        lines.append(f"Unfinished: {results['unfinished']}.")
    if results["busy"]:
        lines.append(f"{results['busy'][0].upper()}{results['busy'][1:]}.")
    return [*lines, *(f"Left out: {line}." for line in results["left_out"])]


def markdown(results: Mapping[str, Any]) -> str:
    """The text of `bench.md`."""
    sizes = [f"- `{name}`: {_shape(size)}" for name, size in results["sizes"].items()]
    parts = ["# Benchmarks", *head(results), "\n".join(sizes), LEGEND, *map(markdown_table, tables(results))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shape(size: Mapping[str, Any]) -> str:
    return (
        f"{size['what']}; {size['layers']} x {size['dim']}, {size['heads']} heads, feed-forward {size['feed_forward']}"
        f", conditioning {size['conditioning_dim']}, vocabulary {size['vocab_size']}, length {size['length']}, batch "
        f"{size['batch']} (training), {size['generation_batch']} (else)"
    )


def show(console: Console, results: Mapping[str, Any]) -> None:
    """Print the report in a terminal."""
    from rich.text import Text

    for line in [*head(results), LEGEND]:
        console.print(Text(line))
    console.print()
    for table in tables(results):
        print_table(console, table)


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """Write `bench.json` and `bench.md`."""
    write_atomically(folder / "bench.json", json.dumps(results, indent=1) + "\n")
    write_atomically(folder / "bench.md", markdown(results))
