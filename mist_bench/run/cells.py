"""A cell: one unit of work, named by the hash of everything that decides its result, never by its place in a grid.

Each kind of cell is a class in a file of its own in `kinds/`. Labels, which only name a row, are not part of the hash.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .columns import Row, names_of
from .store import Store, content_hash

if TYPE_CHECKING:
    from .experiment import Experiment
    from .workbench import Workbench

FORMAT = 5
"""Raised whenever the meaning of a stored number changes, so that older cells are not taken for newer ones."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) while a cell is made."""
Record = Mapping[str, Any]
Rerun = Literal["missing", "failed", "all"]
"""Which cells a run makes: those that no run has made, also those that failed, or all."""
"""What a finished cell stores."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A cell as the report needs it: data only, so that run.json holds it and a report needs no plugin."""

    hash: str
    kind: str
    title: str
    labels: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What else the report must know, by the names that the kind declares."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell(ABC):
    """The base of all kinds: what is measured, how its name is made, and how it becomes a row."""

    kind: ClassVar[str]
    """Name of the kind, unique."""
    hashed_as: ClassVar[str] = ""
    """The name within the hash, if it is not `kind`."""
    prefix: ClassVar[str]
    """How messages begin: `judgement of`."""
    file: ClassVar[str] = ""
    """The file of its columns, without `.csv`; empty: it has none."""
    adds: ClassVar[bool] = False
    """Whether its columns are added to the row of another cell, `facts["about"]`, in place of a row of its own."""
    columns: ClassVar[type]
    """TypedDict of its columns."""
    unlisted: ClassVar[frozenset[str]] = frozenset()
    """Keys of its record that are no columns."""
    trains: ClassVar[bool] = False
    """Whether it leaves a checkpoint under its hash."""
    evaluates: ClassVar[bool] = False
    """Whether a network evaluates sequences, as many at once as the settings say."""
    timed: ClassVar[bool] = False
    """Whether nothing else may run beside it: its speed is measured, or it takes the batches of the cell that does."""
    of_what_is_there: ClassVar[bool] = False
    """Whether it is made even if some of its `needs` failed, of those that did not."""

    experiment: Experiment = dataclasses.field(repr=False, compare=False)

    @classmethod
    @abstractmethod
    def plan(cls, experiment: Experiment, planned: Sequence[Cell]) -> Iterator[Cell]:
        """The cells of this kind in an experiment. `planned`: the cells of the kinds before it."""

    @property
    @abstractmethod
    def content(self) -> dict[str, Any]:
        """Everything that decides the result, every setting with its default."""

    @property
    @abstractmethod
    def labels(self) -> dict[str, Any]:
        """The columns that say what the row is about."""

    @abstractmethod
    def make(self, bench: Workbench, progress: Progress) -> dict[str, Any]:
        """Measure, and give the record to store. The cells in `needs` are finished."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Hashes of the cells that must be finished before."""
        return ()

    @property
    def facts(self) -> dict[str, Any]:
        """What the report must know besides labels and record, in JSON's types."""
        return {}

    @property
    def group(self) -> str | None:
        """Cells of one group share captured graphs and so a process; None: it is made by the process of the run."""
        return None

    def lost(self, store: Store) -> bool:
        """Whether it is finished but its checkpoint is gone."""
        finished = self.trains and store.status(self.hash) == "done"
        return finished and not store.checkpoint_path(self.hash).exists()

    def outdated(self, store: Store, todo: Collection[str], rerun: Rerun) -> bool:
        """Whether it is finished but must be made again, since cells with the hashes `todo` are to be made, or since
        what failed is tried again."""
        return False

    def batch(self, bench: Workbench) -> tuple[str, int] | None:
        """The setting that decides how much memory it takes, and its value; None: there is none."""
        return None

    @staticmethod
    def summary(record: Record) -> str:
        """A few words about the result, for the line that a finished cell leaves in the terminal."""
        return "done"

    @classmethod
    def speeds(cls, record: Record) -> int:
        """How many measured speeds the record holds, which belong to a commit and a machine."""
        return int("tokens_per_second" in record)

    @classmethod
    def row(cls, entry: Entry, record: Record) -> Row:
        """The row of a finished cell."""
        hidden = {"labels", "seconds", "measured_by", *cls.unlisted}
        row = {**entry.labels, **{name: value for name, value in record.items() if name not in hidden}}
        return {**row, "family": row.get("family") or row.get("control")}

    @classmethod
    def more_rows(cls, entry: Entry, record: Record) -> dict[str, list[Row]]:
        """Rows of other files, by file."""
        return {}

    @classmethod
    def additions(cls, found: Sequence[tuple[Entry, Record]], taken: set[str]) -> dict[str, Row]:
        """The columns that all finished cells of the kind add to other rows, by the hash of the cell whose row it is.

        `taken`: the columns that the file has already.
        """
        names = names_of(cls.columns)
        known = [(entry.facts["about"], {**entry.labels, **record}) for entry, record in found]
        return {about: {name: each[name] for name in names if name in each} for about, each in known}

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of the sha256 of the content."""
        return content_hash({"format": FORMAT, "kind": self.hashed_as or self.kind, **self.content})

    @property
    def entry(self) -> Entry:
        """This cell as data."""
        return Entry(hash=self.hash, kind=self.kind, title=self.title, labels=self.labels, needs=self.needs,
                     facts=self.facts)  # fmt: skip

    @property
    def name(self) -> str:
        """Prefix and title: `generation mdlm …`, `judgement of mdlm …`."""
        return f"{self.prefix} {self.title}"

    @property
    def title(self) -> str:
        """One line for people: which model, measured how."""
        labels = self.labels
        parts = [labels.get(k) for k in ("metric", "control", "family", "schedule", "sampler", "estimator")]
        steps, seed = labels.get("steps"), labels.get("training_seed")
        text = " ".join(str(p) for p in dict.fromkeys(parts) if p)
        text += f" under {labels['evaluation_schedule']}" if labels.get("evaluation_schedule") else ""
        text += f" at {steps} steps" if steps else ""
        return text + (f" (training seed {seed})" if seed is not None else "")
