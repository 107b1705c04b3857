"""The speed cell: all generations of a run timed in turn, so that the drift of the machine does not tell them apart.

It is one cell, of the set of rows: a row that is timed later has no round beside the others, so a run with another set
of rows times all of them again. It comes before the generations, which take the batches that its rounds have made.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ...engine import beam, device
from ...measure.speed import Turn, in_turn, means, ratio, uncollected, watched
from ..cells import Cell, Entry, Progress, Record, Rerun
from ..columns import Row
from ..experiment import Experiment
from ..make import reason
from ..store import Store
from .generation import GenerationCell, generations

if TYPE_CHECKING:
    from ..workbench import Workbench

ROUNDS, LEFT_OUT = "round_seconds", "left_out"
"""Keys of its record, by the hash of a row: the seconds of each round, and why a row has none."""


class SpeedColumns(TypedDict, total=False):
    """No columns of its own: those of `GenerationRow` that it fills in."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedCell(Cell):
    """The generations of a run, timed in turn."""

    kind = "speed"
    prefix = "speed of"
    file = "generation"
    adds = True
    columns = SpeedColumns
    timed = True
    evaluates = True
    of_what_is_there = True

    rows: tuple[GenerationCell, ...]

    @classmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        rows = {row.hash: row for row in generations(experiment)}
        yield cls(experiment=experiment, rows=tuple(rows.values()))

    @property
    def content(self) -> dict[str, Any]:
        rounds = self.experiment.config.generation.rounds
        content: dict[str, Any] = {"rows": sorted(row.hash for row in self.rows), "rounds": rounds}
        if beam.width():  # a speed belongs to a command; a checkpoint does not, since a search changes rounding alone
            content["beam"] = beam.width()
        return content

    @property
    def labels(self) -> dict[str, Any]:
        return self.experiment.names

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for row in self.rows for need in row.needs))

    @property
    def facts(self) -> dict[str, Any]:
        causal = [row for row in self.rows if row.model.family.causal]
        first = causal[0].model.family if causal else None  # the baseline of tables 1 and 3, too
        return {"baseline": [row.hash for row in causal if row.model.family == first]}

    @property
    def title(self) -> str:
        return f"{len(self.rows)} generations in turn"

    def batch(self, bench: Workbench) -> tuple[str, int]:
        return "generation", bench.generation_batch

    def outdated(self, store: Store, todo: Collection[str], rerun: Rerun) -> bool:
        """Whether a row that has no rounds beside the others can have them now: its generation is to be made and what
        that needs is there or to be made too, or what failed is tried again."""
        record = store.read(self.hash) or {}
        timed, left_out = record.get(ROUNDS, {}), record.get(LEFT_OUT, {})
        return any(
            row.hash not in timed and (row.hash in todo or rerun == "failed" and row.hash in left_out)
            and all(need in todo or store.status(need) == "done" for need in row.needs)
            for row in self.rows
        )  # fmt: skip

    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        settings, parameters = self.experiment.config.generation, dict[tuple[str, ...], Any]()
        rows = [_Timed(row, bench, parameters) for row in self.rows
                if all(bench.store.status(need) == "done" for need in row.needs)]  # fmt: skip
        for number, row in enumerate(rows):
            progress(number, len(rows), "compiling")
            row.tried(row.warm_up)
        left_out = {row.cell.hash: row.failure for row in rows if row.failure}
        rows = [row for row in rows if not row.failure]
        rounds = max(settings.rounds, min((row.cell.batches(bench.generation_batch) for row in rows), default=1))
        turns = [Turn(prepare=partial(row.tried, row.prepare), run=row.run) for row in rows]
        order = random.Random(0)
        with uncollected(), watched():
            seconds = in_turn(turns, rounds, order=order, report=lambda done: progress(done, rounds, "rounds"))
        timed = {row.cell.hash: spent for row, spent in zip(rows, seconds, strict=True) if not row.failure}
        left_out |= {row.cell.hash: row.failure for row in rows if row.failure}
        tokens = bench.generation_batch * (bench.dataset.length - settings.prompt)
        return {ROUNDS: timed, "tokens_per_round": tokens, LEFT_OUT: left_out}

    @staticmethod
    def summary(record: Record) -> str:
        rounds = max(map(len, record[ROUNDS].values()), default=0)
        failed = dict.fromkeys(record.get(LEFT_OUT, {}).values())
        return "; ".join([f"{len(record[ROUNDS])} timed, {rounds} rounds", *(f"not timed: {why}" for why in failed)])

    @classmethod
    def speeds(cls, record: Record) -> int:
        return len(record[ROUNDS])

    @classmethod
    def additions(cls, found: Sequence[tuple[Entry, Record]], taken: set[str]) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        for entry, record in found:
            rows |= speed_columns(record[ROUNDS], record["tokens_per_round"], entry.facts["baseline"])
        return dict(rows)


class _Timed:
    """A generation whose turn it is now and then. A failure takes it out of the rounds, and is kept."""

    def __init__(self, cell: GenerationCell, bench: Workbench, parameters: dict[tuple[str, ...], Any]) -> None:
        """`parameters`: those of each checkpoint, by the needs of its rows, so that each is read once."""
        self.cell, self.bench, self.parameters, self.failure = cell, bench, parameters, ""

    def tried(self, work: Callable[[], object]) -> None:
        """Do the work, unless this row has failed already."""
        if not self.failure:
            try:
                work()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.failure = reason(error, self.bench.experiment.plugins)

    def prepare(self) -> None:
        """Load the network into the buffers that the graphs read, which rows of other networks share."""
        if self.cell.needs not in self.parameters:
            self.parameters[self.cell.needs] = self.cell.model.parameters(self.bench)
        self.generator = self.cell.generator(self.bench, self.parameters[self.cell.needs])
        device.synchronize()

    def warm_up(self) -> None:
        """Capture and warm the graphs."""
        self.prepare()
        self.cell.sample(self.bench, self.generator, 0, limit=2)

    def run(self, number: int) -> None:
        self.tried(lambda: self._round(number))

    def _round(self, number: int) -> None:
        made = self.cell.sample(self.bench, self.generator, number)
        device.synchronize()
        if number < self.cell.batches(self.generator.batch):
            self.bench.batches[self.cell.hash, number] = made


def speed_columns(
    seconds: Mapping[str, Sequence[float]], tokens: int, baseline: Collection[str]
) -> dict[str, Row]:
    """Columns of each row, by hash, from the seconds of its rounds, of so many tokens. `baseline`: the causal rows."""
    if not seconds:
        return {}
    rates = {row: tokens / np.array(spent) for row, spent in seconds.items()}
    causal = [rates[row] for row in baseline if row in rates]
    rows: dict[str, dict[str, Any]] = {}
    for (row, own), mean in zip(rates.items(), means(np.stack(list(rates.values()))), strict=True):
        lower, upper = np.percentile(own, [25, 75])
        low, high = mean.interval or (None, None)
        rows[row] = {
            "tokens_per_second": mean.value, "tokens_per_second_iqr": float(upper - lower),
            "seconds_per_batch": tokens / mean.value, "tokens_per_second_se": mean.se, "tokens_per_second_low": low,
            "tokens_per_second_high": high, "timed_rounds": len(own),
        }  # fmt: skip
        if causal and row not in baseline:
            times = ratio(own, np.stack(causal))
            rows[row] |= {"speed_ratio_to_ar": times.value, "speed_ratio_to_ar_se": times.se}
    return dict(rows)
