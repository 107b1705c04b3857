"""What a run says while it works: on standard error, so that tables and JSON stand alone on standard output."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

PLAIN_SECONDS = 10.0
"""Without a terminal, a line at most so often."""


@dataclass
class _Work:
    """A cell at work. The rate leaves out the first report, which carries compilation."""

    title: str
    bar: TaskID
    began: float = field(default_factory=time.perf_counter)
    said: float = field(default_factory=time.perf_counter)
    first: tuple[float, int] | None = None

    def rate(self, done: int) -> float:
        now = time.perf_counter()
        if self.first is None:
            self.first = (now, done)
        since, at = self.first
        return (done - at) / (now - since) if done > at else 0.0


class Display:
    """A bar for all cells and one for each at work, with rate and time left; plain lines without a terminal.

    A Ctrl-C ends the work at its next report at the latest: Python loses what is raised while an object is being
    finalized, and tinygrad finalizes thousands a second.
    """

    def __init__(self, total: int, console: Console) -> None:
        self.console, self.total, self.done = console, total, 0
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True,
        )  # fmt: skip
        self._all = self._bars.add_task("cells", total=total, note="")
        self._works: dict[str, _Work] = {}
        self._interrupted = False
        self._handler: Any = None

    def __enter__(self) -> Display:
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGINT, self._interrupt)
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _go_on(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def begin(self, key: str, title: str) -> None:
        self._go_on()
        self._works[key] = _Work(title, self._bars.add_task(title, total=1, note="compiling"))

    def report(self, key: str, done: int, total: int, note: str) -> None:
        """Progress within a cell."""
        self._go_on()
        work, now = self._works[key], time.perf_counter()
        rate = work.rate(done)
        left = f"{rate:.3g}/s, {clock((total - done) / rate)} left" if rate else ""
        text = ", ".join(part for part in (note, left) if part)
        self._bars.update(work.bar, total=total, completed=done, note=text)
        if not self.console.is_terminal and now - work.said > PLAIN_SECONDS:
            work.said = now
            self._line(f"{work.title}: {done}/{total} {text}")

    def finish(self, key: str, message: str) -> None:
        """The cell is done: one line that stays."""
        work = self._works.pop(key)
        self.done += 1
        self._bars.remove_task(work.bar)
        self._bars.update(self._all, completed=self.done)
        self._line(f"[{self.done}/{self.total}] {work.title}: {message} ({clock(time.perf_counter() - work.began)})")

    def say(self, line: str) -> None:
        """A line that stays."""
        self._line(line)

    def give_up(self, key: str) -> None:
        """The cell will be taken up again."""
        self._bars.remove_task(self._works.pop(key).bar)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """`4.2 s`, `58 s`, `3:05 min`, `1:02:03`."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d} min"
