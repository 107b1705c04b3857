"""`mist-bench check`: one line for each check, and the exit status."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .core import Result, checks_of
from .subjects import find

STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim"}


def check(targets: Sequence[str], plugin_files: Sequence[Path], *, kind: str | None, debug: bool) -> int:
    """Check each target and print. 0: all passed; 1: some failed. Raises `UserError` for a wrong call."""
    found = find(targets, plugin_files, kind)
    console = Console(highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(Text(note))
    counts: Counter[str] = Counter()
    for result in found.problems:
        console.print(Text(result.subject, style="bold"))
        _show(console, result, debug, counts)
    for subject in found.subjects:
        console.print(Text(subject.title, style="bold"))
        for one in checks_of(subject.kind):
            with console.status(Text(one.promise)):
                result = subject.run(one)
            _show(console, result, debug, counts)
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    console.print(Text(f"{counts['ok']} ok, {counts['failed']} failed{skipped}"))
    return 1 if counts["failed"] else 0


def _show(console: Console, result: Result, debug: bool, counts: Counter[str]) -> None:
    counts[result.status] += 1
    message = f": {result.message}" if result.status == "failed" else f" ({result.message})" if result.message else ""
    line = Text(f"  {result.status:<8}", style=STYLES[result.status])
    line.append(f"{result.check:<23}", style="default")
    line.append(f"{result.promise}{message}", style="dim" if result.status == "skipped" else "default")
    console.print(line)
    if debug and result.error is not None:
        console.print(Text("".join(traceback.format_exception(result.error))))
