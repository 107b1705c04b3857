"""Shows the denoising of a text, step by step.

What is given and what is revealed stands bright, masks are mist. A guess that the network has held since the step
before shows through, dim; one that still changes does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from types import TracebackType

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..api.component import IntArray
from ..report.layout import printable
from .template import Template, joins_spaces

MIST = "░"
GIVEN, NEW, REVEALED, GUESS, MASKED = "bold cyan", "bold bright_green", "bold", "dim", "bright_black"
BAR = 24
FRAME_SECONDS = 0.08
"""Shortest time of a frame: a GPU's steps are too fast to see."""


class Watch:
    """Shows frames in a terminal, else a line for each step. `total`: steps at most."""

    def __init__(self, console: Console, template: Template, batch: int, total: int) -> None:
        self.console, self.template, self.total = console, template, total
        self._data, self._free = template.dataset, template.free[: template.shown]
        self._before: IntArray = np.tile(template.tokens, (batch, 1))
        self._guesses: IntArray | None = None
        self._mist = _mist(template)
        self._last = 0.0
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
            self._show(self._frame("compiling, once for all steps …", self._before, None))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, step: int, tokens: IntArray, guesses: IntArray | None = None) -> None:
        """Show the tokens (B, L) before step 0, 1, …; `guesses` (B, L) are the network's proposals."""
        share = self._share(tokens)
        if self._live is None:
            line = "".join(part.plain for part in self._parts(tokens[0], None, None)).replace("\n", "↵")
            count = f"step {step:{len(str(self.total))}}/{self.total}"
            self.console.print(f"{count} {share:4.0%}  {line}", markup=False, highlight=False, soft_wrap=True)
        else:
            filled = round(BAR * share)
            bar = "█" * filled + MIST * (BAR - filled)
            held = None if guesses is None or self._guesses is None else guesses == self._guesses
            shown = np.where(held, guesses, self._data.mask) if guesses is not None and held is not None else None
            self._show(self._frame(f"{bar} step {step}/{self.total}, {share:.0%} revealed", tokens, shown))
        self._before, self._guesses = tokens, guesses

    def _share(self, tokens: IntArray) -> float:
        """The share of the positions to fill that are revealed, within the text."""
        rows = tokens[:, : self.template.shown][:, self._free]
        return float((rows != self._data.mask).mean())

    def _show(self, frame: RenderableType) -> None:
        assert self._live is not None
        time.sleep(max(0.0, self._last + FRAME_SECONDS - time.monotonic()))
        self._live.update(frame, refresh=True)
        self._last = time.monotonic()

    def _frame(self, head: str, tokens: IntArray, guesses: IntArray | None) -> RenderableType:
        texts: list[RenderableType] = []
        for i, row in enumerate(tokens):
            parts = self._parts(row, self._before[i], None if guesses is None else guesses[i])
            texts += [Text(""), Text.assemble(*parts)]
        return Group(Text(head, style="cyan"), *texts)

    def _parts(self, row: IntArray, before: IntArray | None, guesses: IntArray | None) -> Iterator[Text]:
        """The runs of tokens of one style; a run is decoded as a whole, since a character may be several tokens."""
        mask = self._data.mask
        styles, ids = [], row.copy()
        for i in range(self.template.visible(row)):
            if row[i] == mask:
                seen = guesses is not None and guesses[i] != mask
                if guesses is not None:
                    ids[i] = guesses[i]
                styles.append(GUESS if seen else MASKED)
            elif not self._free[i]:
                styles.append(GIVEN)
            else:
                styles.append(NEW if before is not None and before[i] == mask else REVEALED)
        end = "" if self.template.ends else "\n\n"
        for style, run in groupby(range(len(styles)), key=styles.__getitem__):
            places = list(run)
            text = self._mist * len(places) if style == MASKED else self._data.decode(ids[places], end=end)
            yield Text(printable(text), style=style)


def _mist(template: Template) -> str:
    """The sign of a masked token, as wide as an average token with its space."""
    data = template.dataset
    row = np.asarray(data.train.tokens[0])
    width = max(1, round(len(data.decode(row)) / max(1, int((row != (-1 if data.end is None else data.end)).sum()))))
    return " " + MIST * (width - 1) if width > 1 and joins_spaces(data.codec) else MIST * width
