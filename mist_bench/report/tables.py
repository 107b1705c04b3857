"""The tables of a run, as strings that the terminal and Markdown share.

Table 1 has perplexity bounds: bound, exact and chain rule are labelled, never mixed. Table 2 has throughput and the
quality that it buys. Table 3 has paired differences of models. Rows are averaged over seeds; columns that are empty
everywhere are left out; a value that all rows share stands once above the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..measure.statistics import decimals, interval, rounded
from ..run.columns import Row
from .columns import METRIC_COLUMNS, files
from .fields import (
    Field,
    both_errors,
    by_corpus,
    count,
    declared,
    declared_fields,
    error,
    model_fields,
    number,
    probability,
    seed_fields,
    table_of,
    text,
)
from .files import in_order
from .layout import SPARE, Table, markdown_table
from .notes import about_likelihoods, about_pairs, about_same_texts, about_samples, equal_everywhere
from .pooling import over_seeds, speed_interval, valid_interval, whole_error

_MODEL = ("corpus", "tokenizer", "control", "family", "schedule")
_LIKELIHOOD_KEY = (*_MODEL, "parameters", "train_tokens", "kind", "estimator", "evaluation_schedule")
_LIKELIHOOD_VALUES = (
    "nats_per_token", "bits_per_byte", "nats_per_sequence", "truth_nats_per_sequence",
    "ratio_to_ar", "ratio_to_truth", "unseen_nats_per_token", "unseen_ratio_to_truth",
)  # fmt: skip
_GENERATION_KEY = (*_MODEL, "sampler", "steps", "temperature", "batch")
_GENERATION_VALUES = (
    "nfe", "tokens_per_second", "speed_ratio_to_ar", "judge_nats_per_token", "token_entropy", "distinct_2",
    "longest_overlap", "oracle_valid_rate", "oracle_distinct_ratio", "oracle_divergence", "oracle_divergence_floor",
    "law_distance", "judge_nats_per_byte", "judge_perplexity", "sampler_nats_per_token", "sampler_bits_per_byte",
)  # fmt: skip


def perplexity_tables(training: Sequence[Row], likelihood: Sequence[Row]) -> list[Table]:
    """Table 1, one for each corpus. `training` fills in columns that `likelihood` lacks for a checkpoint."""
    known = {row.get("checkpoint"): row for row in in_order(training)}
    filled = [_filled(row, known.get(row.get("checkpoint"), {})) for row in likelihood]
    pooled = over_seeds(filled, _LIKELIHOOD_KEY, (*_LIKELIHOOD_VALUES, *declared("likelihood")))
    fields = [
        *model_fields(),
        Field(header="param.", show=lambda r: count(r.get("parameters")), hoist=True, rank=5),
        Field(header="tokens", show=lambda r: count(r.get("train_tokens")), hoist=True, rank=5),
        Field(header="kind", show=text("kind"), numeric=False),
        Field(header="estimator", show=text("estimator"), numeric=False),
        Field(header="weight of", show=text("evaluation_schedule"), numeric=False),
        Field(header="nats/token ↓", show=error("nats_per_token")),
        *seed_fields("nats_per_token", alone="1 network"),
        Field(header="bits/byte ↓", show=both_errors("bits_per_byte"), rank=1),
        Field(header="perplexity ↓ [95%CI]", show=_perplexity),
        Field(header="seq.", show=number("sequences"), hoist=True, rank=2),
        Field(header="÷AR ↓", show=both_errors("ratio_to_ar"), rank=1),
        Field(header="nats/story ↓", show=both_errors("nats_per_sequence"), rank=3),
        Field(header="÷truth ↓", show=both_errors("ratio_to_truth"), rank=2),
        Field(header="unseen nats/token ↓", show=both_errors("unseen_nats_per_token"), rank=4),
        Field(header="unseen ÷truth ↓", show=both_errors("unseen_ratio_to_truth"), rank=3),
        *declared_fields("likelihood"),
    ]
    notes = about_likelihoods(pooled, in_order(training))
    return [table_of("Perplexity bounds", corpus, rows, fields, notes) for corpus, rows in by_corpus(pooled)]


def throughput_tables(generation: Sequence[Row]) -> list[Table]:
    """Table 2, one for each corpus."""
    asked = _metric_columns(generation)
    pooled = over_seeds(generation, _GENERATION_KEY, (*_GENERATION_VALUES, *declared("generation"), *asked))
    has_oracle = any(row.get("oracle_valid_rate") is not None for row in pooled)
    has_own = any(row.get("sampler_nats_per_token") is not None for row in pooled)
    seeds = seed_fields("oracle_valid_rate", 100) if has_oracle else seed_fields("judge_nats_per_token")
    fields = [
        *model_fields(),
        Field(header="sampler", show=text("sampler"), numeric=False),
        Field(header="temp.", show=number("temperature"), hoist=True),
        Field(header="batch", show=number("batch"), hoist=True),
        Field(header="samples", show=number("samples"), hoist=True),
        Field(header="prompt", show=number("prompt"), hoist=True),
        Field(header="steps", show=number("steps")),
        Field(header="NFE ↓", show=number("nfe")),
        Field(header="tokens/s ↑ (95%CI)", show=_speed),
        Field(header="speed ÷AR ↑", show=error("speed_ratio_to_ar"), rank=SPARE + 1),
        Field(header="perplexity ↓ [95%CI]", show=_sampler_perplexity if has_own else text(""), rank=1),
        Field(header="judge", show=text("judge"), numeric=False, hoist=True),
        Field(header="judge nats ↓", show=error("judge_nats_per_token"), rank=1 if has_oracle else 0),
        Field(header="judge nats/byte ↓", show=error("judge_nats_per_byte"), rank=2),
        Field(header="judge ppl ↓", show=number("judge_perplexity"), rank=4),
        Field(header="entropy", show=number("token_entropy", ".3f"), rank=3),
        Field(header="dist. 2", show=number("distinct_2", ".3f"), rank=5),
        Field(header="copied", show=number("longest_overlap", ".3g"), rank=SPARE),
        Field(header="valid % ↑ [95%CI]", show=_valid),
        *seeds,
        Field(header="dist. →1", show=number("oracle_distinct_ratio", ".3f"), rank=2),
        Field(header="div. ↓", show=number("oracle_divergence", ".3f"), rank=1),
        Field(header="floor of div.", show=error("oracle_divergence_floor"), hoist=True, rank=4),
        Field(header="law dist. ↓", show=number("law_distance", ".2g")),
        *declared_fields("generation"),
        *(Field(header=name, show=error(name), hoist=True, rank=rank) for name, rank in asked.items()),
    ]
    notes = about_samples(pooled, asked)
    return [table_of("Throughput and what it buys", corpus, rows, fields, [*notes, *about_same_texts(rows)])
            for corpus, rows in by_corpus(pooled)]  # fmt: skip


def _metric_columns(rows: Sequence[Row]) -> dict[str, int]:
    """The columns of the metrics that were asked for, and their rank: `x_more` is left out before `x`. A standard error
    has no column of its own: it is shown beside its value."""
    names = dict.fromkeys(name for row in rows for name in str(row.get(METRIC_COLUMNS) or "").split("; ") if name)
    shown = [name for name in names if not (name.endswith("_se") and name.removesuffix("_se") in names)]
    return {name: SPARE if any(name.startswith(f"{other}_") for other in shown) else 0 for name in shown}


def comparison_tables(comparisons: Sequence[Row]) -> list[Table]:
    """Table 3, one for each corpus: pairs of models, over their training seeds."""
    ordered = in_order(comparisons)
    several = {_pair(row) for row in ordered if row["training_seeds"] > 1}
    shown = [{**row, "seeds": row["training_seeds"]} for row in ordered
             if row["training_seeds"] > 1 or _pair(row) not in several]  # fmt: skip
    fields = [
        Field(header="a", show=lambda r: _named(r, "a"), numeric=False),
        Field(header="b", show=lambda r: _named(r, "b"), numeric=False),
        Field(header="kind", show=text("kind"), numeric=False),
        Field(header="estimator", show=text("estimator"), numeric=False),
        Field(header="weight of", show=text("evaluation_schedule"), numeric=False),
        Field(header="a−b nats/token", show=error("difference")),
        Field(header="95%CI", show=_difference_interval, rank=1),
        Field(header="p", show=probability("p_value")),
        *seed_fields("difference"),
        Field(header="p over seeds", show=probability("seed_p_value")),
        Field(header="better", show=_better, numeric=False),
    ]
    return [table_of("Paired differences", *part, fields, about_pairs(shown)) for part in by_corpus(shown)]


def _pair(row: Row) -> tuple[Any, ...]:
    names = ("corpus", "kind", "estimator", "evaluation_schedule", "family_a", "schedule_a", "family_b", "schedule_b")
    return tuple(row.get(name) for name in names)


def _named(row: Row, which: str) -> str:
    return " ".join(str(row[f"{part}_{which}"]) for part in ("family", "schedule") if row.get(f"{part}_{which}"))


def _better(row: Row) -> str:
    """The model with fewer nats, if both errors, over sequences and over seeds, allow that conclusion. Two networks of
    one kind would differ too, so that a single training seed decides nothing."""
    if equal_everywhere(row):
        return "the same"
    values = [row[name] for name in ("p_value", "seed_p_value") if row.get(name) is not None]
    if len(values) < 2 or max(values) >= 0.05:
        return "undecided"
    return "a" if row["difference"] < 0 else "b"


def _difference_interval(row: Row) -> str:
    if row.get("difference_low") is None:
        return ""
    digits = decimals(row["difference_se"])
    return f"[{rounded(row['difference_low'], digits)},{rounded(row['difference_high'], digits)}]"


def tables_of_run(rows: Mapping[str, Sequence[Row]]) -> list[Table]:
    """All tables of a run. `rows`: by file, as `read_rows` gives them."""
    known = ("training", "likelihood", "generation", "curves", "comparisons")
    return [
        *perplexity_tables(rows.get("training", ()), rows["likelihood"]),
        *throughput_tables(rows["generation"]),
        *comparison_tables(rows.get("comparisons", ())),
        *(table for file in files() if file not in known for table in other_tables(file, rows.get(file, ()))),
    ]


def other_tables(file: str, rows: Sequence[Row]) -> list[Table]:
    """The tables of a file that has none of its own here: its rows, under the headers that its columns declare."""
    fields = [*model_fields(), *declared_fields(file)]
    return [table_of(file.capitalize(), *part, fields, ()) for part in by_corpus(in_order(rows))]


def markdown(tables: Sequence[Table], *, heading: str = "") -> str:
    """The tables as Markdown, numbers aligned to the right."""
    parts = [part for part in (heading, *map(markdown_table, tables)) if part]
    return "\n\n".join(parts) + "\n" if parts else ""


def _sampler_perplexity(row: Row) -> str:
    """That of the sampler itself; a dash where it is not known."""
    shown = _perplexity(row, "sampler_nats_per_token", row.get("sampler_kind"))
    return shown or ("-" if row.get("sampler") else "")


def _perplexity(row: Row, name: str = "nats_per_token", kind: str | None = None) -> str:
    nats, (se, units) = row.get(name), whole_error(row, name)
    if nats is None or nats > 700:
        return ""
    sign = "≤" if (kind or row.get("kind")) == "bound" else "="
    ends = interval(nats, se, units)
    if not se or ends is None:
        return f"{sign}{math.exp(nats):.4g}"
    # the interval is four errors wide, so one digit of the error is enough for its ends
    digits = max(0, decimals(math.exp(nats) * se) - 1)
    low, high = (rounded(math.exp(bound), digits) for bound in ends)
    return f"{sign}{rounded(math.exp(nats), digits)} [{low},{high}]"


def _valid(row: Row) -> str:
    """A rate with its interval in per cent, `69 [59,77]`: as many digits as the interval supports."""
    if row.get("oracle_valid_rate") is None:
        return ""
    value, found = 100 * row["oracle_valid_rate"], valid_interval(row)
    if found is None:
        return f"{value:.4g}"
    low, high = (100 * end for end in found)
    digits = max(0, decimals((high - low) / 4) - 1)
    shown = [f"{end:.0f}" if end in (0, 100) else rounded(end, digits) for end in (value, low, high)]
    return f"{shown[0]} [{shown[1]},{shown[2]}]"


def _speed(row: Row) -> str:
    """Tokens per second with half of their interval in per cent, `30.1 k (±2.3%)`."""
    speed, ends = row.get("tokens_per_second"), speed_interval(row)
    if speed is None or ends is None:
        return count(speed)
    return f"{count(speed)} (±{100 * (ends[1] - ends[0]) / 2 / speed:.2g}%)"


def _filled(row: Row, training: Row) -> dict[str, Any]:
    wanted = {name: training.get(name) for name in ("parameters", "train_tokens") if row.get(name) is None}
    return {**row, **wanted}
