"""The files that a run leaves: their columns, how they are written and read, and the statistics that tables share.

An empty cell means *not measured* or *does not apply*; it is never 0. Floats are written by repr, so that reading
gives every bit back and the same numbers make the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .engine.machine import write_atomically
from .measure.statistics import interval, standard_error
from .store import plain

Row = Mapping[str, Any]
Better = Literal["", "lower", "higher", "one", "data"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a file. `better`: "one" is best at 1, "data" is best at the value of the held-out data."""

    name: str
    type: Literal["text", "int", "float"]
    unit: str
    better: Better
    meaning: str


def _columns(table: str) -> tuple[Column, ...]:
    found = []
    for line in filter(None, table.splitlines()):
        name, type_, unit, better, meaning = (cell.strip() for cell in line.split("|"))
        found.append(Column(name=name, type=type_, unit=unit, better=better, meaning=meaning))  # type: ignore[arg-type]
    return tuple(found)


_WHICH_MODEL = """
corpus        | text | | | the corpus, with its parameters
tokenizer     | text | | | the tokenizer, with its parameters
family        | text | | | the model family, with its parameters
schedule      | text | | | the schedule it was trained under; empty for families that have none
training_seed | int  | | | seed of the weights at the start and of the order of the data
checkpoint    | text | | | hash of the training cell
"""

TRAINING = _columns(
    _WHICH_MODEL
    + """
parameters              | int   | numbers  |        | trained numbers outside the token and position tables
embedding_parameters    | int   | numbers  |        | trained numbers inside those tables
train_steps             | int   | steps    |        | optimiser steps
train_tokens            | int   | tokens   |        | tokens seen: steps x batch x length
final_loss              | float | nats     | lower  | training loss per token at the end
tokens_per_second       | float | tokens/s | higher | without compilation; on a CPU trainings run side by side
model_flops_utilization | float | 1        | higher | work of all positions over the peak that the device's maker states
compile_seconds         | float | s        | lower  | time of the calls that capture the graphs
wall_seconds            | float | s        | lower  | time of the whole cell
peak_memory_bytes       | int   | bytes    | lower  | all that its captured graphs read and write, parameters too
micro_batch             | int   | numbers  |        | sequences that were read at once; the whole batch if it fits
devices                 | int   | numbers  |        | devices that shared each step
"""
)
LIKELIHOOD = _columns(
    _WHICH_MODEL
    + """
parameters          | int   | numbers |       | trained numbers outside the token and position tables
train_tokens        | int   | tokens  |       | tokens seen in training
kind                | text  |         |       | bound, exact or chain-rule: three different things
estimator           | text  |         |       | exact-k, weighted or chain-rule
evaluation_schedule | text  |         |       | the schedule whose weight is used; empty if the estimator needs none
nats_per_token      | float | nats    | lower | negative log-likelihood of the test split, or its upper bound, per token
nats_per_token_se   | float | nats    | lower | its standard error over sequences
bits_per_byte       | float | bits    | lower | the same per byte of raw UTF-8: compares across tokenizers
bits_per_byte_se    | float | bits    | lower | its standard error over sequences
perplexity          | float | 1       | lower | exp(nats_per_token): an upper bound where kind is bound
perplexity_low      | float | 1       | lower | exp(nats_per_token - 1.96 SE)
perplexity_high     | float | 1       | lower | exp(nats_per_token + 1.96 SE)
sequences           | int   | numbers |       | test sequences measured, the same for every model
mask_draws          | int   | numbers |       | maskings drawn for each sequence, the same for every model
"""
)
GENERATION = _columns(
    _WHICH_MODEL
    + """
sampler                 | text  |          |        | the sampler, with its parameters
steps                   | int   | steps    | lower  | denoising steps asked for; empty if the sampler ignores them
temperature             | float | 1        |        | of the proposal; 1 is the model's own law
seed                    | int   |          |        | seed of the noise of the sampler
batch                   | int   | numbers  |        | sequences generated at once, the same for all when timing
samples                 | int   | numbers  |        | sequences generated and judged
control                 | text  |          |        | data, unigram, repeater or oracle: no trained model
nfe                     | float | numbers  | lower  | network evaluations for a sequence, median
nfe_iqr                 | float | numbers  |        | interquartile range of the same over sequences
tokens_per_second       | float | tokens/s | higher | median over timed rounds, synchronised, compilation apart
tokens_per_second_iqr   | float | tokens/s | lower  | interquartile range over the rounds
seconds_per_batch       | float | s        | lower  | median time of one batch
compile_seconds         | float | s        | lower  | time of the calls that capture the graphs
peak_memory_bytes       | int   | bytes    | lower  | all that its captured graphs read and write, parameters too
judge                   | text  |          |        | who judges: a baseline of another training seed, or hf:NAME
judge_nats_per_token    | float | nats     | data   | negative log-likelihood of the samples under the judge, per token
judge_nats_per_token_se | float | nats     | lower  | its standard error over samples
token_entropy           | float | nats     | data   | entropy of the unigram distribution within a sample, averaged
token_entropy_se        | float | nats     | lower  | its standard error over samples
distinct_2              | float | 1        | data   | distinct pairs of neighbouring tokens over all such pairs
longest_overlap         | float | tokens   | data   | longest run that a sample shares with a train sequence, averaged
oracle_valid_rate       | float | 1        | higher | share of the samples that the world could have said
oracle_valid_rate_se    | float | 1        | lower  | its standard error over samples; shown is Wilson's interval
oracle_distinct_ratio   | float | 1        | one    | distinct stories over those expected of perfect samples
oracle_divergence       | float | 1        | lower  | total variation of the world's slots from the truth
oracle_divergence_floor | float | 1        |        | what perfect samples of the same number would give
law_distance            | float | 1        | lower  | exact total variation of the sampler's law from the truth
prompt                  | int   | tokens   |        | tokens of each sample that were given, those of a test sequence
"""
)
CURVES = _columns(
    """
checkpoint                | text  |        |       | hash of the training cell
corpus                    | text  |        |       | the corpus, with its parameters
family                    | text  |        |       | the model family, with its parameters
schedule                  | text  |        |       | the schedule it is trained under
training_seed             | int   |        |       | seed of the weights at the start and of the order of the data
train_step                | int   | steps  |       | optimiser steps done
train_tokens              | int   | tokens |       | tokens seen so far
seconds                   | float | s      |       | time of training so far, validation apart
loss                      | float | nats   | lower | training loss per token, mean since the row before
validation_nats_per_token | float | nats   | lower | likelihood or bound of the validation split per token
"""
)
COMPARISONS = _columns(
    """
corpus              | text  |         |       | the corpus, with its parameters
tokenizer           | text  |         |       | the tokenizer, with its parameters
kind                | text  |         |       | bound, exact or chain-rule, the same for both models
estimator           | text  |         |       | exact-k, weighted or chain-rule, the same for both models
evaluation_schedule | text  |         |       | the schedule whose weight is used; empty if the estimator needs none
family_a            | text  |         |       | the first model's family
schedule_a          | text  |         |       | the schedule that it was trained under
family_b            | text  |         |       | the second model's family
schedule_b          | text  |         |       | the schedule that it was trained under
training_seed       | int   |         |       | of both networks; empty: the mean over training seeds
training_seeds      | int   | numbers |       | training seeds in the row, those that both models have
sequences           | int   | numbers |       | test sequences that both were measured on
clusters            | int   | numbers |       | independent units among them: sequences, or chapters
difference          | float | nats    |       | nats per token, the first minus the second: below 0, the first is better
difference_se       | float | nats    | lower | its standard error over clusters, sequence by sequence
difference_low      | float | nats    |       | lower end of its 95 % interval (Student's t)
difference_high     | float | nats    |       | upper end of its 95 % interval
z                   | float | 1       |       | difference over difference_se
p_value             | float | 1       |       | two-sided: these networks do not differ on new text
difference_seed_se  | float | nats    | lower | standard error over training seeds; empty for one seed
seed_p_value        | float | 1       |       | two-sided: networks of other training seeds do not differ on this text
"""
)
TRAINING_COLUMNS = tuple(column.name for column in TRAINING)
LIKELIHOOD_COLUMNS = tuple(column.name for column in LIKELIHOOD)
GENERATION_COLUMNS = tuple(column.name for column in GENERATION)
CURVE_COLUMNS = tuple(column.name for column in CURVES)
COMPARISON_COLUMNS = tuple(column.name for column in COMPARISONS)
METRIC_COLUMNS = "metric_columns"
"""A column more of generation.csv: which columns come from metrics, joined by `; `."""

VALIDATION_TRUTH = "validation_truth_nats_per_token"
"""A column more of curves.csv: the validation sequences under their own world, where it is known."""
PLOTS = ("loss-curves.svg", "quality-steps.svg", "quality-throughput.svg", "quality-entropy.svg")
_ORDER = ("corpus", "tokenizer", "control", "family", "schedule", "training_seed", "sampler", "steps", "temperature",
          "seed", "checkpoint", "kind", "estimator", "evaluation_schedule", "train_step",
          "family_a", "schedule_a", "family_b", "schedule_b")  # fmt: skip


def write_run(
    out: Path,
    *,
    training: Sequence[Row],
    likelihood: Sequence[Row],
    generation: Sequence[Row],
    samples: Sequence[Row],
    curves: Sequence[Row],
    run: Row,
    comparisons: Sequence[Row] = (),
    tables: Callable[[], str] = lambda: "",
    plots: Callable[[], Mapping[str, bytes]] = dict,
) -> dict[str, Path]:
    """Write all files of a run, each atomically; gives the path of each by its name within `out`.

    `tables` gives the text of tables.md, `plots` the pictures by name; both are called after the numbers are written,
    so that a failing plot loses nothing.
    """
    texts: dict[str, Callable[[], str]] = {
        "run.json": lambda: json.dumps(plain(run), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "training.csv": lambda: to_csv(training, TRAINING_COLUMNS),
        "likelihood.csv": lambda: to_csv(likelihood, LIKELIHOOD_COLUMNS),
        "generation.csv": lambda: to_csv(generation, GENERATION_COLUMNS),
        "curves.csv": lambda: to_csv(curves, CURVE_COLUMNS),
        "comparisons.csv": lambda: to_csv(comparisons, COMPARISON_COLUMNS),
        "samples.jsonl": lambda: _json_lines(samples),
        "tables.md": tables,
    }
    written = {name: write_atomically(Path(out) / name, text()) for name, text in texts.items()}
    drawn = plots()
    for plot in PLOTS:
        path = Path(out) / "plots" / plot
        if plot in drawn:
            written[f"plots/{plot}"] = write_atomically(path, drawn[plot])
        else:  # what an earlier run drew there would be taken for this one's
            path.unlink(missing_ok=True)
    return written


def of_another_run(out: Path, configuration: Row) -> bool:
    """Whether a folder holds the files of a run of another configuration. `configuration`: as `run.json` has it."""
    try:
        found = json.loads((Path(out) / "run.json").read_bytes())["configuration"]
    except (OSError, ValueError, KeyError, TypeError):  # no run's folder, or no whole one
        return False
    return bool(found != plain(configuration))


def to_csv(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """The rows in a fixed order under `columns`, further columns after them by name; missing, NaN, inf: empty."""
    ordered = in_order(rows)
    extra = sorted({name for row in ordered for name in row} - set(columns))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, *extra])
    for row in ordered:
        writer.writerow([_cell(row.get(name)) for name in (*columns, *extra)])
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, Any]]:
    """The rows of one of the CSV files: numbers as numbers, an empty cell as None."""
    types = {c.name: c.type for c in (*TRAINING, *LIKELIHOOD, *GENERATION, *CURVES, *COMPARISONS)}
    with Path(path).open(newline="", encoding="utf-8") as file:
        return [{name: _value(text, types.get(name)) for name, text in row.items()} for row in csv.DictReader(file)]


def in_order(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Sorted by what a row is about, controls after the models; rows that agree in all of it keep their order."""
    cleaned = [plain(row) for row in rows]
    return sorted(cleaned, key=lambda row: [_sortable(row.get(name), empty_first=name == "control") for name in _ORDER])


def _sortable(value: Any, *, empty_first: bool) -> tuple[int, float, str]:
    if value is None or value == "":
        return (0 if empty_first else 2, 0.0, "")
    return (1, value, "") if isinstance(value, int | float) else (1, math.inf, str(value))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float) else json.dumps(value)


def _value(text: str, type_: str | None) -> Any:
    if text == "" or type_ == "text":
        return text or None
    for number in (float,) if type_ == "float" else (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def _json_lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in in_order(rows))


def perplexity_columns(nats: float, se: float) -> dict[str, float]:
    """`perplexity`, `perplexity_low`, `perplexity_high` of nats per token ± SE; infinite where exp overflows."""
    values = (nats, *interval(nats, se))
    return dict(zip(("perplexity", "perplexity_low", "perplexity_high"), map(_exp, values), strict=True))


def _exp(x: float) -> float:
    return math.exp(x) if x < 709.0 else math.inf


def over_seeds(rows: Iterable[Row], key: Sequence[str], values: Sequence[str]) -> list[dict[str, Any]]:
    """One row per `key`: each of `values` averaged over sampling seeds, then over training seeds.

    `X_se`: sampling seeds are independent, so theirs shrinks by the root of their number; training seeds are measured
    on the same sequences and noise, so theirs is averaged, not shrunk. `X_seed_se`: the standard error over training
    seeds, None for one seed. `seeds`: how many training seeds. `pooled_samples`: the samples of all sampling seeds, by
    the same token averaged over training seeds. Other columns stay where all rows agree; texts that differ are joined.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in in_order(rows):
        groups.setdefault(tuple(None if row.get(name) == "" else row.get(name) for name in key), []).append(row)
    return [_pooled(group, values) for group in groups.values()]


def _pooled(group: list[dict[str, Any]], values: Sequence[str]) -> dict[str, Any]:
    first = group[0]
    pooled = {name: first[name] for name in first if all(row.get(name) == first[name] for row in group)}
    for name in set(first) - set(pooled):
        if all(isinstance(row.get(name), str) for row in group):
            pooled[name] = " / ".join(dict.fromkeys(row[name] for row in group))
    by_seed: dict[Any, list[dict[str, Any]]] = {}
    for row in group:
        by_seed.setdefault(row.get("training_seed"), []).append(row)
    pooled["seeds"] = len(by_seed)
    samples = [row.get("samples") for row in group]
    pooled["pooled_samples"] = sum(filter(None, samples)) / len(by_seed) if None not in samples else None
    for name in values:
        means, errors = [], []
        for seed_rows in by_seed.values():
            measured = [row for row in seed_rows if row.get(name) is not None]
            if not measured:
                continue
            means.append(math.fsum(row[name] for row in measured) / len(measured))
            if all(row.get(f"{name}_se") is not None for row in measured):
                errors.append(math.sqrt(math.fsum(row[f"{name}_se"] ** 2 for row in measured)) / len(measured))
        pooled[name] = math.fsum(means) / len(means) if means else None
        pooled[f"{name}_se"] = math.fsum(errors) / len(errors) if means and len(errors) == len(means) else None
        pooled[f"{name}_seed_se"] = standard_error(means)
    return pooled
