"""Progress of a run, on standard error, so that tables and JSON stand alone on standard output."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 10.0
"""Without a terminal, the shortest time between two lines of progress of a cell."""
SPEED_SECONDS = 600.0
"""Rates are averaged over this time; reports of a slow cell are minutes apart."""


@dataclass
class _Work:
    """A cell that is being computed: its title, its bar, and the time of its last plain line."""

    title: str
    bar: TaskID
    last_line: float = field(default_factory=time.monotonic)


class Display:
    """Progress bars of a run: one for all cells and one for each at work; plain lines without a terminal."""

    def __init__(self, total: int, console: Console) -> None:
        self.console, self.total, self.done = console, total, 0
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True,
            speed_estimate_period=SPEED_SECONDS,
        )  # fmt: skip
        self._all = self._bars.add_task("cells", total=total, note="")
        self._works: dict[str, _Work] = {}

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def _task(self, work: _Work) -> Task:
        return next(task for task in self._bars.tasks if task.id == work.bar)

    def begin(self, key: str, title: str) -> None:
        """Show that a cell begins."""
        self._works[key] = _Work(title, self._bars.add_task(title, total=1, note="compiling"))

    def report(self, key: str, done: int, total: int, note: str) -> None:
        """Show the progress of a cell, with its rate and the time left. The rate begins at the first report, after
        compilation."""
        work, now = self._works[key], time.monotonic()
        self._bars.update(work.bar, total=total, completed=done)
        speed, left = self._task(work).speed, self._task(work).time_remaining
        rate = f"{speed:.3g}/s, {clock(left)} left" if speed and left is not None else ""
        text = ", ".join(part for part in (note, rate) if part)
        self._bars.update(work.bar, note=text)
        if not self.console.is_terminal and now - work.last_line > PLAIN_SECONDS:
            work.last_line = now
            self._line(f"{work.title}: {done}/{total} {text}")

    def finish(self, key: str, message: str) -> None:
        """Print the line of a finished cell."""
        work = self._works.pop(key)
        seconds = self._task(work).elapsed or 0.0
        self.done += 1
        self._bars.remove_task(work.bar)
        self._bars.update(self._all, completed=self.done)
        self._line(f"[{self.done}/{self.total}] {work.title}: {message} ({clock(seconds)})")

    def give_up(self, key: str) -> None:
        """Remove the bar of a cell that will begin again."""
        self._bars.remove_task(self._works.pop(key).bar)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._line(line)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """A duration as text: `4.2 s`, `58 s`, `3:05 min`, `1:02:03`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d} min"
