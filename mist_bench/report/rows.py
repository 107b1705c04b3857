"""From finished cells to the rows of the tables."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..measure import target_error
from ..measure.statistics import disagreement
from ..run import provenance
from ..run.cells import Cell
from ..run.grid import Plan
from ..run.store import Store
from ..run.work import validation_truth
from . import pairs
from .columns import GENERATION_COLUMNS, METRIC_COLUMNS, VALIDATION_TRUTH

if TYPE_CHECKING:
    from ..run.workbench import Workbench

NOT_COLUMNS = ("curve", "per_sequence", "tokens", "texts", "labels", "seconds", "measured_by")


class Rows:
    """The rows of a run, read back from the store: the same whether a cell was made now or long ago."""

    def __init__(self, laid: Plan, store: Store) -> None:
        self.laid = laid
        self.records = {cell.hash: record for cell in laid.cells if (record := store.read(cell.hash)) is not None}
        self.training = [self._row(cell, checkpoint=cell.hash) for cell in self.cells("training")]
        trained = {row["checkpoint"]: row for row in self.training}
        shared = ("parameters", "train_tokens")
        self.likelihood = [
            {**{k: trained[need].get(k) for need in cell.needs if need in trained for k in shared}, **self._row(cell)}
            for cell in self.cells("likelihood")
        ]
        self.comparisons: list[dict[str, Any]] = []
        self.validation_truth: float | None = None
        judged = {cell.content["generation"]: cell for cell in self.cells("judgement")}
        self.generation = [
            {**self._row(cell), **(self._judged(judged[cell.hash]) if cell.hash in judged else {})}
            for cell in self.cells("generation")
        ]
        for cell, row in zip(self.cells("generation"), self.generation, strict=True):
            row.update(self._measured(cell, {*GENERATION_COLUMNS, *row}))

    def cells(self, kind: str) -> list[Cell]:
        """The finished cells of a kind."""
        return [cell for cell in self.laid.cells if cell.kind == kind and cell.hash in self.records]

    def _row(self, cell: Cell, **more: Any) -> dict[str, Any]:
        record = {k: v for k, v in self.records[cell.hash].items() if k not in NOT_COLUMNS}
        row = {**cell.labels, **record, **more}
        return {**row, "family": row.get("family") or row.get("control")}

    def _judged(self, cell: Cell) -> dict[str, Any]:
        record = self.records[cell.hash]
        return {"judge": cell.labels["judge"], **{k: v for k, v in record.items() if k.startswith("judge")}}

    def _measured(self, generation: Cell, taken: set[str]) -> dict[str, Any]:
        """What metrics say of it, and which columns are theirs. Before a name that is taken stands the metric's own:
        no metric replaces a column, nor one of other parameters."""
        found: dict[str, Any] = {}
        for cell in self.cells("metric"):
            if cell.content["generation"] == generation.hash:
                columns = self.records[cell.hash]["columns"]
                twice = any(name in taken or name in found for name in columns)
                owner = f"{cell.labels['metric']} " if twice else ""
                found |= {f"{owner}{name}": value for name, value in columns.items()}
        return {**found, METRIC_COLUMNS: "; ".join(found)} if found else {}

    def everything(self) -> dict[str, list[dict[str, Any]]]:
        """What `results.write_run` takes."""
        judge = self.laid.judge.hash if self.laid.judge else ""
        per_step = self.laid.config.training.batch_size * self.laid.length
        truth = {} if self.validation_truth is None else {VALIDATION_TRUTH: self.validation_truth}
        curves = [
            {**cell.labels, "checkpoint": cell.hash, **point, "train_tokens": point["train_step"] * per_step, **truth}
            for cell in self.cells("training")
            if cell.hash != judge
            for point in self.records[cell.hash]["curve"]
        ]
        samples = [
            {**cell.labels, "batch": self._row(cell).get("batch"), "number": number, "text": text}
            for cell in self.cells("generation")
            for number, text in enumerate(self.records[cell.hash]["texts"])
        ]
        return {"training": self.training, "likelihood": self.likelihood, "generation": self.generation,
                "samples": samples, "curves": curves, "comparisons": self.comparisons}  # fmt: skip

    def know(self, bench: Workbench) -> None:
        """Adds what the world says of the validation sequences, the floor of every curve."""
        if self.cells("training"):
            self.validation_truth = validation_truth(bench)

    def pair(self, bench: Workbench) -> None:
        """Adds what is known from pairs of models on the same sequences. The clusters of the test split are needed."""
        cells = self.cells("likelihood")
        if not any(cell.needs for cell in cells):
            return
        clusters, length = bench.dataset.test.clusters, bench.dataset.length
        found = pairs.columns(cells, self.records, clusters, length)
        for cell, row in zip(cells, self.likelihood, strict=True):
            row.update(found.get(cell.hash, {}))
        self.comparisons = pairs.compare(cells, self.records, clusters, length)

    def disagreements(self, bench: Workbench) -> list[str]:
        """The self-check: where two estimators of one checkpoint differ by more than three paired standard errors."""
        lines, found = [], self.cells("likelihood")
        for cell in found:
            if cell.labels["estimator"] != "weighted":
                continue
            other = next((c for c in found if c.labels["estimator"] == "exact-k" and c.needs == cell.needs), None)
            if other is None or not _owes_agreement(cell):
                continue
            first, second = self.records[cell.hash], self.records[other.hash]
            clusters = bench.dataset.test.clusters[: first["sequences"]]
            one, two = (np.array(record["per_sequence"]) for record in (first, second))
            difference, error = disagreement(one, two, clusters)
            if abs(difference) > 3 * error:
                lines.append(
                    f"estimators disagree: {cell.title} is {difference:+.3f} ± {error:.3f} nats per sequence "
                    "from exact-k"
                )
        return lines

    def elsewhere(self) -> list[str]:
        """Which speeds were not measured by this commit on this machine: the store keeps them all the same."""
        cells = [cell for kind in ("training", "generation") for cell in self.cells(kind)
                 if "tokens_per_second" in self.records[cell.hash]]  # fmt: skip
        now = provenance.stamp()
        found = Counter(provenance.differences(self.records[cell.hash].get("measured_by"), now) for cell in cells)
        lines = [f"{count} by {what}" for what, count in found.most_common() if what]
        if not lines:
            return []
        return [f"speeds of an earlier run: {'; '.join(lines)}, of {len(cells)} (--rerun all measures them again)"]

    def shortfalls(self) -> list[str]:
        """Where a wanted standard error was not reached, and why."""
        lines = []
        for cell in self.cells("likelihood"):
            if target := cell.content.get("target_se"):
                record, largest = self.records[cell.hash], target_error.LARGEST_MULTIPLE * cell.content["draws"]
                lines.append(target_error.shortfall(
                    cell.title, target, record["nats_per_token_se"], record["nats_per_token_se_limit"],
                    record["mask_draws"], largest, record["sequences"],
                ))  # fmt: skip
        return [line for line in lines if line]


def _owes_agreement(cell: Cell) -> bool:
    """A network that is fed the time itself has one bound per schedule, and owes no equality."""
    return getattr(cell.family, "conditioning", "fraction") != "time"
