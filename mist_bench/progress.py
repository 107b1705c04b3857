"""What a run says while it works: on standard error, so that tables and JSON stand alone on standard output."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Display:
    """One bar for the cells and one for the cell at work, with rate and time left; plain lines without a terminal."""

    PLAIN_SECONDS = 10.0

    def __init__(self, total: int, console: Console) -> None:
        self.console, self.total, self.done = console, total, 0
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True,
        )  # fmt: skip
        self._all = self._bars.add_task("cells", total=total, note="")
        self._one = self._bars.add_task("", total=1, note="", visible=False)
        self._title, self._began, self._first, self._last = "", 0.0, (0.0, 0), 0.0

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def begin(self, title: str) -> None:
        self._title, self._began = title, time.perf_counter()
        self._first, self._last = (self._began, 0), self._began
        self._bars.reset(self._one, description=title, total=1, completed=0, note="compiling", visible=True)

    def report(self, done: int, total: int, note: str) -> None:
        """Progress within a cell. The rate leaves out the first report, which carries compilation."""
        now = time.perf_counter()
        if self._first[1] == 0:
            self._first = (now, done)
        since, at = self._first
        rate = (done - at) / (now - since) if done > at else 0.0
        left = f"{rate:.3g}/s, {_clock((total - done) / rate)} left" if rate else ""
        text = ", ".join(part for part in (note, left) if part)
        self._bars.update(self._one, total=total, completed=done, note=text)
        if not self.console.is_terminal and now - self._last > self.PLAIN_SECONDS:
            self._last = now
            self._line(f"{self._title}: {done}/{total} {text}")

    def finish(self, message: str) -> None:
        """The cell is done: one line that stays."""
        self.done += 1
        self._bars.update(self._all, completed=self.done)
        self._line(f"[{self.done}/{self.total}] {self._title}: {message} ({_clock(time.perf_counter() - self._began)})")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d} min"
