"""The columns of each file of a run: those of the kinds of cells, and those of files that are made of several cells."""

from __future__ import annotations

from functools import cache
from typing import Annotated, TypedDict

from ..run.columns import Column, columns_of
from ..run.kinds import KINDS


class CurveRow(TypedDict, total=False):
    """A row of curves.csv."""

    checkpoint: Annotated[str, Column("hash of the training cell")]
    corpus: Annotated[str, Column("the corpus, with its parameters")]
    family: Annotated[str, Column("the model family, with its parameters")]
    schedule: Annotated[str, Column("the schedule of the training")]
    training_seed: Annotated[int, Column("seed of the initial weights and of the order of the data")]
    train_step: Annotated[int, Column("optimiser steps done", "steps")]
    train_tokens: Annotated[int, Column("tokens seen so far", "tokens")]
    seconds: Annotated[float, Column("time of training so far, without validation", "s")]
    loss: Annotated[float, Column("training loss per token, mean since the row before", "nats", "lower")]
    validation_nats_per_token: Annotated[
        float, Column("likelihood or bound of the validation split per token", "nats", "lower")
    ]
    validation_nats_per_token_se: Annotated[float, Column("its standard error over sequences", "nats", "lower")]
    validation_sequences: Annotated[
        int, Column("validation sequences measured, the first ones; the last point has more", "numbers")
    ]
    validation_clusters: Annotated[int, Column("independent units among them", "numbers")]
    validation_truth_nats_per_token: Annotated[
        float, Column("the same sequences under the corpus's own law, where it is known", "nats", optional=True)
    ]


class ComparisonRow(TypedDict, total=False):
    """A row of comparisons.csv."""

    corpus: Annotated[str, Column("the corpus, with its parameters")]
    tokenizer: Annotated[str, Column("the tokenizer, with its parameters")]
    kind: Annotated[str, Column("bound, exact or chain-rule, the same for both models")]
    estimator: Annotated[str, Column("exact-k, weighted or chain-rule, the same for both models")]
    evaluation_schedule: Annotated[str, Column("the schedule whose weight is used; empty if the estimator needs none")]
    family_a: Annotated[str, Column("the first model's family")]
    schedule_a: Annotated[str, Column("the schedule of the first model's training")]
    family_b: Annotated[str, Column("the second model's family")]
    schedule_b: Annotated[str, Column("the schedule of the second model's training")]
    training_seed: Annotated[int, Column("of both networks; empty: the mean over training seeds")]
    training_seeds: Annotated[int, Column("training seeds in the row, those that both models have", "numbers")]
    sequences: Annotated[int, Column("test sequences that both were measured on", "numbers")]
    clusters: Annotated[int, Column("independent units among them: sequences, documents or blocks", "numbers")]
    difference: Annotated[
        float, Column("nats per token, the first minus the second: below 0, the first is better", "nats")
    ]
    difference_se: Annotated[float, Column("its standard error over clusters, sequence by sequence", "nats", "lower")]
    difference_low: Annotated[
        float,
        Column(
            "lower end of its 95 % interval (Student's t), of both errors if both are known",
            "nats",
        ),
    ]
    difference_high: Annotated[float, Column("upper end of its 95 % interval", "nats")]
    z: Annotated[float, Column("difference over difference_se", "1")]
    p_value: Annotated[float, Column("two-sided: these networks do not differ on new text", "1")]
    difference_seed_se: Annotated[
        float, Column("standard error over training seeds; empty for one seed", "nats", "lower")
    ]
    seed_p_value: Annotated[
        float, Column("two-sided: networks of other training seeds do not differ on this text", "1")
    ]


METRIC_COLUMNS = "metric_columns"
VALIDATION_TRUTH = "validation_truth_nats_per_token"


@cache
def columns_in(file: str) -> tuple[Column, ...]:
    """The declared columns of a file (`generation`, …), each once, in the order of the kinds of cells."""
    made_of_several: dict[str, list[type]] = {"curves": [CurveRow], "comparisons": [ComparisonRow]}
    rows = made_of_several.get(file) or [kind.columns for kind in KINDS if kind.file == file]
    return tuple({column.name: column for row in rows for column in columns_of(row)}.values())


def header_of(file: str) -> tuple[str, ...]:
    """The names of the columns that the file always has."""
    return tuple(column.name for column in columns_in(file) if not column.optional)


def files() -> tuple[str, ...]:
    """The files that are tables: one for each kind of row."""
    own = dict.fromkeys(kind.file for kind in KINDS if kind.file)
    return (*own, "curves", "comparisons")
