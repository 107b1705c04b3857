"""The two tables, for a terminal and as Markdown, from one intermediate: headers and rows of strings.

Table 1, perplexity bounds: bound, exact and chain rule are never mixed unlabelled. Table 2, throughput and what it
buys. Rows are averaged over seeds; columns that are empty everywhere are dropped; what is the same in every row is
said once above the table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .layout import Table, markdown_table, print_table
from .results import Row, in_order, interval, over_seeds

if TYPE_CHECKING:
    from rich.console import Console

_MODEL = ("corpus", "tokenizer", "control", "family", "schedule")
_LIKELIHOOD_KEY = (*_MODEL, "parameters", "train_tokens", "kind", "estimator", "evaluation_schedule")
_LIKELIHOOD_VALUES = (
    "nats_per_token", "bits_per_byte", "nats_per_sequence", "truth_nats_per_sequence", "ratio_to_ar",
)  # fmt: skip
_GENERATION_KEY = (*_MODEL, "sampler", "steps", "temperature", "batch")
_GENERATION_VALUES = (
    "nfe", "tokens_per_second", "tokens_per_second_iqr", "judge_nats_per_token", "token_entropy", "distinct_2",
    "oracle_valid_rate", "oracle_distinct_ratio", "oracle_divergence", "oracle_divergence_floor", "law_distance",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    """A column: how a pooled row is shown in it. `hoist`: say it once above the table if it never changes.

    `rank`: see `Table`.
    """

    header: str
    show: Callable[[Row], str]
    numeric: bool = True
    hoist: bool = False
    rank: int = 0


def with_error(value: float | None, se: float | None) -> str:
    """`1.234 ±0.012`: the error with two significant digits, the value to the same decimal; empty if not measured."""
    if value is None:
        return ""
    if se is None or not math.isfinite(se):
        return f"{value:.4g}"
    if se == 0.0:
        return f"{value:.4g} ±0"
    digits = decimals(se)
    return f"{_rounded(value, digits)} ±{_rounded(se, digits)}"


def decimals(se: float) -> int:
    """How many decimals show two significant digits of a positive error; negative beyond the units."""
    return 1 - int(f"{se:.1e}".split("e")[1])


def _rounded(value: float, digits: int) -> str:
    return f"{round(value, digits):.{max(digits, 0)}f}"


def count(value: float | None) -> str:
    """`171 k`, `2.10 M`: three significant digits and the unit; whole numbers below a thousand as they are."""
    if value is None:
        return ""
    scale = max(0, min(4, (len(f"{value:.0f}") - 1) // 3))
    if float(f"{value / 1000**scale:.3g}") >= 1000 and scale < 4:
        scale += 1
    scaled = value / 1000**scale
    whole = scale == 0 and value == int(value)
    text = f"{scaled:.0f}" if whole or scaled >= 99.95 else f"{scaled:.{1 if scaled >= 9.995 else 2}f}"
    return f"{text} {['', 'k', 'M', 'G', 'T'][scale]}".rstrip()


def perplexity_tables(training: Sequence[Row], likelihood: Sequence[Row]) -> list[Table]:
    """Table 1, one for each corpus; what `likelihood` does not say of a checkpoint is taken from `training`."""
    known = {row.get("checkpoint"): row for row in in_order(training)}
    filled = [_filled(row, known.get(row.get("checkpoint"), {})) for row in likelihood]
    pooled = over_seeds(filled, _LIKELIHOOD_KEY, _LIKELIHOOD_VALUES)
    fields = [
        *_model_fields(),
        _Field(header="param.", show=lambda r: count(r.get("parameters")), hoist=True, rank=5),
        _Field(header="tokens", show=lambda r: count(r.get("train_tokens")), hoist=True, rank=5),
        _Field(header="kind", show=_text("kind"), numeric=False),
        _Field(header="estimator", show=_text("estimator"), numeric=False),
        _Field(header="weight of", show=_text("evaluation_schedule"), numeric=False),
        _Field(header="nats/token ↓", show=_error("nats_per_token")),
        *_seed_fields("nats_per_token"),
        _Field(header="bits/byte ↓", show=_error("bits_per_byte"), rank=1),
        _Field(header="perplexity ↓ [95%CI]", show=_perplexity),
        _Field(header="seq.", show=_number("sequences"), hoist=True, rank=2),
        _Field(header="÷AR ↓", show=_error("ratio_to_ar"), rank=1),
        _Field(header="nats/story ↓", show=_error("nats_per_sequence"), rank=3),
        _Field(header="÷truth ↓", show=_ratio, rank=2),
    ]
    notes = [
        "≤ an upper bound on perplexity; = exact for that model. A chain rule is the left-to-right decoder of a "
        "masked model: another model, not ordered against the bound.",
        "± standard error over test sequences",
    ]
    if any(row.get("evaluation_schedule") for row in pooled):
        notes.append("weight of: the schedule whose weight w(t) the weighted estimator takes; exact-k needs none")
    if any(row.get("ratio_to_ar") is not None for row in pooled):
        notes.append("÷AR: nats over those of the autoregressive baseline of the same training seed on the same "
                     "sequences, with the error of that ratio")  # fmt: skip
    if len({row.get("sequences") for row in pooled}) > 1:
        notes.append("seq.: test sequences measured, the first ones; compare rows of one number alone")
    return [_table("Perplexity bounds", corpus, rows, fields, notes) for corpus, rows in _by_corpus(pooled)]


def throughput_tables(generation: Sequence[Row]) -> list[Table]:
    """Table 2, one for each corpus."""
    pooled = over_seeds(generation, _GENERATION_KEY, _GENERATION_VALUES)
    has_oracle = any(row.get("oracle_valid_rate") is not None for row in pooled)
    seeds = _seed_fields("oracle_valid_rate", 100) if has_oracle else _seed_fields("judge_nats_per_token")
    fields = [
        *_model_fields(),
        _Field(header="sampler", show=_text("sampler"), numeric=False),
        _Field(header="temp.", show=_number("temperature"), hoist=True),
        _Field(header="batch", show=_number("batch"), hoist=True),
        _Field(header="samples", show=_number("samples"), hoist=True),
        _Field(header="steps", show=_number("steps")),
        _Field(header="NFE ↓", show=_number("nfe")),
        _Field(header="tokens/s ↑ (IQR)", show=_speed),
        _Field(header="judge", show=_text("judge"), numeric=False, hoist=True),
        _Field(header="judge nats ↓", show=_error("judge_nats_per_token"), rank=1 if has_oracle else 0),
        _Field(header="entropy", show=_number("token_entropy", ".3f"), rank=3),
        _Field(header="dist. 2", show=_number("distinct_2", ".3f"), rank=5),
        _Field(header="valid % ↑", show=_percent("oracle_valid_rate")),
        *seeds,
        _Field(header="dist. →1", show=_number("oracle_distinct_ratio", ".3f"), rank=2),
        _Field(header="div. ↓", show=_number("oracle_divergence", ".3f"), rank=1),
        _Field(header="floor of div.", show=_number("oracle_divergence_floor", ".3f"), hoist=True, rank=4),
        _Field(header="law dist. ↓", show=_number("law_distance", ".2g")),
    ]
    notes = ["tokens/s: median and interquartile range of rounds, compiled before; ± standard error over samples"]
    if has_oracle:
        notes.append("valid: stories that the world could have said; dist. →1: distinct stories over those of perfect "
                     "samples; div.: total variation of the world's slots from the truth")  # fmt: skip
    if any(row.get("judge_nats_per_token") is not None for row in pooled):
        notes.append("judge nats can be had low by writing little that differs: read them beside entropy and dist. 2 "
                     "(distinct pairs of tokens), against the data")  # fmt: skip
    return [_table("Throughput and what it buys", *part, fields, notes) for part in _by_corpus(pooled)]


def markdown(
    training: Sequence[Row], likelihood: Sequence[Row], generation: Sequence[Row], *, heading: str = ""
) -> str:
    """Both tables as Markdown, numbers aligned to the right."""
    tables = [*perplexity_tables(training, likelihood), *throughput_tables(generation)]
    parts = [part for part in (heading, *map(markdown_table, tables)) if part]
    return "\n\n".join(parts) + "\n" if parts else ""


def print_tables(
    console: Console, training: Sequence[Row], likelihood: Sequence[Row], generation: Sequence[Row]
) -> None:
    """Print both tables, folded to the console's width."""
    for table in [*perplexity_tables(training, likelihood), *throughput_tables(generation)]:
        print_table(console, table)


def _table(title: str, corpus: str, rows: list[Row], fields: Sequence[_Field], notes: Sequence[str]) -> Table:
    rows = sorted(rows, key=lambda row: bool(_control(row)))
    cells = [[field.show(row) for row in rows] for field in fields]
    same, kept = [], []
    for index, (field, column) in enumerate(zip(fields, cells, strict=True)):
        values = {text for text, row in zip(column, rows, strict=True) if text}
        if field.hoist and len(values) == 1 and len(rows) > 1:
            same.append(f"{field.header} {values.pop()}")
        elif values:
            kept.append(index)
    whole = [row for row in rows if row.get("kind") != "chain-rule"]  # which has fewer sequences
    truths = {with_error(row.get("truth_nats_per_sequence"), None) for row in whole} - {""}
    same += [f"truth {truth} nats/story" for truth in sorted(truths)] if len(truths) == 1 else []
    models = sum(not _control(row) for row in rows)
    marks = ["† control: a measuring rod, no trained model"] if models < len(rows) else []
    shown_seeds = ["±seeds: standard error over training seeds"] if any((r.get("seeds") or 1) > 1 for r in rows) else []
    return Table(
        title=f"{title}: {corpus}" if corpus else title,
        same=" · ".join(same),
        headers=tuple(fields[i].header for i in kept),
        numeric=tuple(fields[i].numeric for i in kept),
        ranks=tuple(fields[i].rank for i in kept),
        rows=tuple(tuple(cells[i][j] for i in kept) for j in range(len(rows))),
        controls=models,
        notes=(*notes, *shown_seeds, *marks),
    )


def _control(row: Row) -> str:
    """Which measuring rod a row is; the oracle is one also where the file has no such column."""
    return str(row.get("control") or ("oracle" if row.get("family") == "oracle" else ""))


def _by_corpus(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str(row.get("corpus") or ""), []).append(row)
    return list(groups.items())


def _filled(row: Row, training: Row) -> dict[str, Any]:
    wanted = {name: training.get(name) for name in ("parameters", "train_tokens") if row.get(name) is None}
    return {**row, **wanted}


def _model_fields() -> list[_Field]:
    def name(row: Row) -> str:
        return f"† {_control(row)}" if _control(row) else str(row.get("family") or "")

    return [
        _Field(header="family", show=name, numeric=False),
        _Field(header="schedule", show=_text("schedule"), numeric=False),
        _Field(header="tokenizer", show=_text("tokenizer"), numeric=False, hoist=True),
    ]


def _seed_fields(name: str, scale: float = 1) -> list[_Field]:
    def error(row: Row) -> str:
        se = row.get(f"{name}_seed_se")
        return "" if se is None else with_error(0.0, se * scale).split()[1]

    def number(row: Row) -> str:
        return str(row["seeds"]) if row["seeds"] > 1 else ""

    return [
        _Field(header="±seeds", show=error, rank=4),
        _Field(header="training seeds", show=number, hoist=True, rank=6),
    ]


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.get(name) or "")


def _number(name: str, style: str = ".4g") -> Callable[[Row], str]:
    return lambda row: "" if row.get(name) is None else format(row[name], style)


def _error(name: str) -> Callable[[Row], str]:
    return lambda row: with_error(row.get(name), row.get(f"{name}_se"))


def _percent(name: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        value, se = row.get(name), row.get(f"{name}_se")
        return "" if value is None else with_error(100 * value, None if se is None else 100 * se)

    return show


def _perplexity(row: Row) -> str:
    nats, se = row.get("nats_per_token"), row.get("nats_per_token_se")
    if nats is None or nats > 700:
        return ""
    sign = "≤" if row.get("kind") == "bound" else "="
    if not se:
        return f"{sign}{math.exp(nats):.4g}"
    # the interval is four errors wide, so one digit of the error is enough for its ends
    digits = max(0, decimals(math.exp(nats) * se) - 1)
    low, high = (_rounded(math.exp(bound), digits) for bound in interval(nats, se))
    return f"{sign}{_rounded(math.exp(nats), digits)} [{low},{high}]"


def _ratio(row: Row) -> str:
    measured, truth = row.get("nats_per_sequence"), row.get("truth_nats_per_sequence")
    return f"{measured / truth:.3f}" if measured is not None and truth else ""


def _speed(row: Row) -> str:
    speed, spread = row.get("tokens_per_second"), row.get("tokens_per_second_iqr")
    if speed is None:
        return ""
    return count(speed) if spread is None else f"{count(speed)} ({100 * spread / speed:.0f}%)"
