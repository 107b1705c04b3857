"""The plots of a run as SVG: loss curves, paired differences, quality against steps, throughput and entropy.

The same rows give the same bytes: no date, a fixed hash salt, the font that matplotlib brings along.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..measure.statistics import interval
from ..run.columns import Row
from .columns import VALIDATION_TRUTH
from .files import in_order
from .plot_differences import differences
from .plot_entropy import by_steps, quality_entropy
from .plot_style import (
    DASHES,
    STAR,
    STYLE,
    is_baseline,
    label_points,
    legend_of,
    looks_of,
    model_of,
    panels,
    series_of,
    styles_of,
    svg,
    unique,
)
from .pooling import over_seeds, speed_interval, units_of, valid_interval, whole_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEY = ("corpus", "tokenizer", "control", "causal", "family", "schedule", "sampler", "steps", "temperature", "batch")
_VALUES = ("nfe", "tokens_per_second", "oracle_valid_rate", "judge_nats_per_token", "token_entropy",
           "sampler_nats_per_token")  # fmt: skip
_CURVE_KINDS = {"bound": " (≤ bound)", "exact": " (exact)"}
"""Labels of the kinds of likelihood, which share the axis of the loss curves."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Point:
    """A pooled generation row, placed. `quality` and the ends of its interval in the units of the axis."""

    series: str
    """The sampler, or the family if that is causal."""
    is_baseline: bool
    """Whether a causal model made it, with which the samplers are compared."""
    model: str
    control: str
    steps: float | None
    """Network evaluations, if the sampler ignores steps."""
    asked: bool
    """Whether `steps` were asked for."""
    speed: float | None
    slow: float
    fast: float
    """The ends of the interval of the speed."""
    quality: float
    low: float
    high: float


def draw(rows: Mapping[str, Sequence[Row]]) -> tuple[dict[str, bytes], list[str]]:
    """The SVG of each plot that has something to show, by file name, and a line for each that failed.

    `rows`: by file, as `read_rows` gives them. A panel for each corpus and tokenizer.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it logs the making of its font cache
    import matplotlib as mpl
    import seaborn as sns  # type: ignore[import-untyped]

    tokenizers = {row.get("checkpoint"): row.get("tokenizer") for row in rows["training"]}
    known = [{**row, "tokenizer": tokenizers.get(row.get("checkpoint"))} for row in in_order(rows["curves"])]
    pooled = over_seeds(rows["generation"], _KEY, _VALUES)
    pictures: dict[str, Callable[[], Figure | None]] = {
        "loss-curves.svg": lambda: panels(known, lambda axes, own: _loss_curves(axes, own, rows["likelihood"])),
        "differences.svg": lambda: panels(rows.get("differences", ()), differences),
        "perplexity-evaluations.svg": lambda: panels(pooled, _perplexity_evaluations),
        "quality-steps.svg": lambda: panels(pooled, _quality_steps),
        "quality-throughput.svg": lambda: panels(pooled, _quality_throughput),
        "quality-entropy.svg": lambda: panels(by_steps(pooled), quality_entropy, by=("corpus", "tokenizer", "at")),
    }
    drawn, failed = dict[str, bytes](), []
    with mpl.rc_context({**sns.axes_style("whitegrid"), **STYLE}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in letters that no font here has
        for name, picture in pictures.items():
            try:
                figure = picture()
                drawn |= {} if figure is None else {name: svg(figure)}
            except Exception as error:  # a name or a number that matplotlib cannot draw: the tables have it all
                said = f"{type(error).__name__}: {error}"
                failed.append(f"plots/{name} could not be drawn: {' '.join(said.split())}")
    return drawn, failed


def _loss_curves(axes: Axes, rows: list[Row], likelihood: Sequence[Row]) -> bool:
    """Loss curves: the mean over training seeds, a band from the lowest to the highest end of their 95 % intervals, and
    the truth of the last point's sequences where it is known. Points on other sequences are not joined: a step between
    them would be taken for one of the network."""
    from matplotlib.ticker import EngFormatter

    measured = [row for row in rows if row.get("validation_nats_per_token") is not None]
    if not measured:
        return False
    kinds = {row.get("family"): str(row.get("kind")) for row in likelihood if row.get("kind") != "chain-rule"}
    named = [model_of(row) + _CURVE_KINDS.get(kinds.get(row.get("family"), ""), "") for row in measured]
    models = unique(named)
    looks = looks_of(models)
    for model, look in looks.items():
        own = [row for row, name in zip(measured, named, strict=True) if name == model]
        for count in unique(row.get("validation_sequences") for row in own):
            _curve(axes, [row for row in own if row.get("validation_sequences") == count], look)
    lines = [(model, {name: looks[model][name] for name in ("color", "marker")}) for model in models]
    truths = {row.get("validation_sequences") or 0: row[VALIDATION_TRUTH] for row in measured
              if row.get(VALIDATION_TRUTH) is not None}  # fmt: skip
    floor: list[tuple[str, dict[str, Any]]] = []
    if truths:
        style = {"color": "0.35", "linestyle": DASHES[1], "linewidth": 1.2}
        axes.axhline(truths[max(truths)], **style)
        floor = [("truth of the last point's sequences", style)]
    axes.set(xlabel="tokens seen in training", ylabel="validation, nats per token (lower is better)")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _log_if_wide(axes)
    legend_of(axes, ("model", lines), ("floor", floor))
    return True


def _curve(axes: Axes, rows: Sequence[Row], look: Mapping[str, Any]) -> None:
    """Draw the points of a model on the same sequences: joined, with a band, or a single one with an error bar."""
    places, means, low, high = _band(rows)
    if len(places) > 1:
        axes.fill_between(places, low, high, color=look["color"], alpha=0.15, linewidth=0)
        axes.plot(places, means, **look)
    else:
        ends = [[means[0] - low[0]], [high[0] - means[0]]]
        axes.errorbar(places, means, ends, linestyle="none", elinewidth=1.0, **look)


def _band(rows: Sequence[Row]) -> tuple[list[int], list[float], list[float], list[float]]:
    """Tokens seen; at each the mean over seeds, and the ends of the widest of their 95 % intervals over sequences."""
    values: dict[int, list[float]] = {}
    ends: dict[int, list[float]] = {}
    for row in rows:
        nats, error = row["validation_nats_per_token"], row.get("validation_nats_per_token_se")
        values.setdefault(row["train_tokens"], []).append(nats)
        known = interval(nats, error, row.get("validation_clusters"))
        ends.setdefault(row["train_tokens"], []).extend(known or (nats, nats))
    places = sorted(ends)
    means = [math.fsum(values[place]) / len(values[place]) for place in places]
    return places, means, [min(ends[place]) for place in places], [max(ends[place]) for place in places]


def _log_if_wide(axes: Axes) -> None:
    """Make the axis logarithmic if the loss falls far, so that differences at the end of training are visible."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axes.dataLim.intervaly
    if low > 0 and high / low > 3:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(axes.get_ylabel().replace(" (", ", logarithmic (", 1))


def _quality_steps(axes: Axes, rows: list[Row]) -> bool:
    """Quality against steps for each sampler; the baseline and the held-out data are horizontal lines."""
    points, label = _points(rows)
    placed = _once([p for p in points if p.steps and p.series and not p.is_baseline])
    if not placed:
        return False
    _lines_over_steps(axes, placed)
    axes.set(xlabel="steps, logarithmic (network evaluations where a sampler ignores steps)", ylabel=label)
    legend_of(axes, *_sampler_legend(placed), ("for comparison", _reference_lines(axes, points)))
    return True


def _perplexity_evaluations(axes: Axes, rows: list[Row]) -> bool:
    """Perplexity of test text under each sampler itself against its evaluations; the baseline is a horizontal line."""
    points = _perplexities(rows)
    placed = _once([p for p in points if not p.is_baseline])
    if not placed:
        return False
    _lines_over_steps(axes, placed)
    axes.set(xlabel="network evaluations of a text, logarithmic",
             ylabel="perplexity under the sampler (lower is better)")  # fmt: skip
    _log_if_wide(axes)
    legend_of(axes, *_sampler_legend(placed), ("for comparison", _reference_lines(axes, points)))
    return True


def _lines_over_steps(axes: Axes, placed: Sequence[_Point]) -> None:
    """A line for each sampler and model, with error bars, over a logarithmic axis of steps."""
    looks, dashes = _looks(placed)
    lines = unique((p.series, p.model) for p in placed)
    for number, (series, model) in enumerate(lines):
        own = sorted((p for p in placed if (p.series, p.model) == (series, model)), key=lambda p: p.steps or 0)
        aside = 1.0 + 0.09 * ((number + 0.5) / len(lines) - 0.5)  # error bars beside, not upon, each other
        axes.errorbar([p.steps * aside for p in own if p.steps], [p.quality for p in own], _bars(own),
                      **looks[series], linestyle=dashes[model], elinewidth=1.0)  # fmt: skip
    ticks = sorted({p.steps for p in placed if p.steps and p.asked} or {p.steps for p in placed if p.steps})
    ticks = [tick for i, tick in enumerate(ticks) if i == 0 or tick > 1.15 * ticks[i - 1]]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)


def _quality_throughput(axes: Axes, rows: list[Row]) -> bool:
    """Quality against tokens per second; each point is labelled with its steps."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    points, label = _points(rows)
    placed = [p for p in points if p.speed and not p.control]
    if not placed:
        return False
    looks, dashes = _looks(placed)
    for series, model in unique((p.series, p.model) for p in placed):
        own = sorted((p for p in placed if (p.series, p.model) == (series, model)), key=lambda p: p.speed or 0)
        axes.errorbar([p.speed for p in own if p.speed], [p.quality for p in own], _bars(own), _spreads(own),
                      **looks[series], linestyle=dashes[model], linewidth=1.0, elinewidth=0.8,
                      markersize=11.0 if own[0].is_baseline else None)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="tokens per second, logarithmic (higher is better); a number at a point: its steps", ylabel=label)
    axes.margins(x=0.08)
    lines = _reference_lines(axes, [p for p in points if p.control])
    legend_of(axes, *_sampler_legend(placed), ("for comparison", lines))
    labelled = [p for p in placed if p.steps and not p.is_baseline]
    label_points(axes, [(p.speed or 1.0, p.quality, f"{p.steps:g}") for p in labelled])
    return True


def _points(rows: Sequence[Row]) -> tuple[list[_Point], str]:
    """The rows that have a quality as points, and the label of the axis: valid rate if known, else judge nats."""
    valid = any(row.get("oracle_valid_rate") is not None for row in rows)
    name, scale = ("oracle_valid_rate", 100.0) if valid else ("judge_nats_per_token", 1.0)
    label = "valid samples, % (higher is better)" if valid else "judge, nats per token (best near the data's)"
    temperatures = {row.get("temperature") for row in rows} - {None}
    points = []
    for row in rows:
        if row.get(name) is None:
            continue
        known = valid_interval(row) if valid else interval(row[name], row.get(f"{name}_se"), units_of(row))
        low, high = known or (row[name], row[name])
        slow, fast = speed_interval(row) or (row["tokens_per_second"] or 0.0,) * 2
        warm = f", T={row['temperature']:g}" if len(temperatures) > 1 and row.get("temperature") is not None else ""
        points.append(
            _Point(series=f"{series_of(row)}{warm}", is_baseline=is_baseline(row), model=model_of(row),
                   control=str(row.get("control") or ""),
                   steps=row["nfe"] if row.get("steps") is None else row["steps"],
                   asked=row.get("steps") is not None, speed=row["tokens_per_second"],
                   slow=slow, fast=fast,
                   quality=row[name] * scale, low=low * scale, high=high * scale)
        )  # fmt: skip
    return points, label


def _perplexities(rows: Sequence[Row]) -> list[_Point]:
    """The rows whose sampler has a likelihood of its own; bounds are named so."""
    points = []
    for row in rows:
        nats = row.get("sampler_nats_per_token")
        if nats is None or row.get("temperature") != 1 or not row.get("nfe"):
            continue
        low, high = interval(nats, *whole_error(row, "sampler_nats_per_token")) or (nats, nats)
        bound = " (≤ bound)" if row.get("sampler_kind") == "bound" else ""
        points.append(
            _Point(series=f"{series_of(row)}{bound}", is_baseline=is_baseline(row), model=model_of(row), control="",
                   steps=row["nfe"], asked=True, speed=None, slow=0.0, fast=0.0, quality=math.exp(nats),
                   low=math.exp(low), high=math.exp(high))
        )  # fmt: skip
    return points


def _bars(points: Sequence[_Point]) -> list[list[float]]:
    """Lengths of the error bars below and above the points, as matplotlib takes them."""
    return [[p.quality - p.low for p in points], [p.high - p.quality for p in points]]


def _spreads(points: Sequence[_Point]) -> list[list[float]]:
    """Lengths of the error bars of the speed, below and above."""
    return [[(p.speed or 0.0) - p.slow for p in points], [p.fast - (p.speed or 0.0) for p in points]]


def _once(points: Sequence[_Point]) -> list[_Point]:
    """The points without repetitions: a sampler that ignores steps and schedules has the same row under each schedule
    of an untrained family, of which the first is kept."""
    kept: dict[tuple[Any, ...], _Point] = {}
    for p in points:
        same = p.control and not p.asked
        kept.setdefault((p.series, p.control, p.steps, p.quality, "" if same else p.model), p)
    return list(kept.values())


def _reference_lines(axes: Axes, points: Sequence[_Point]) -> list[tuple[str, dict[str, Any]]]:
    """Draw the baseline and the held-out data across the panel; gives their entries in the legend."""
    drawn: list[tuple[str, dict[str, Any]]] = []
    for point in points:
        if not point.is_baseline and point.control != "data":
            continue
        name = "held-out data" if point.control else point.series
        colour, dashes = ("0.45", DASHES[1]) if point.control else ("black", "-")
        style: dict[str, Any] = {"color": colour, "linewidth": 1.2, "linestyle": dashes}
        axes.axhline(point.quality, zorder=1, **style)
        if point.low < point.high and not point.control:
            axes.axhspan(point.low, point.high, color="black", alpha=0.07, linewidth=0, zorder=0)
        drawn.append((name, style))
    return drawn


def _looks(points: Sequence[_Point]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Colour and marker of each sampler, dashes of each model; the baseline is a black star."""
    ours = unique(p.series for p in points if not p.is_baseline)
    dashes = {**dict.fromkeys((p.model for p in points), "-"), **styles_of(_models(points), DASHES)}
    return {**{p.series: STAR for p in points}, **looks_of(ours)}, dashes


def _models(points: Sequence[_Point]) -> list[str]:
    return unique(p.model for p in points if not p.is_baseline)


def _sampler_legend(points: Sequence[_Point]) -> list[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    looks, dashes = _looks(points)
    series = [(name, looks[name]) for name in unique(p.series for p in points)]
    lines: list[tuple[str, dict[str, Any]]] = [(m, {"color": "0.3", "linestyle": dashes[m]}) for m in _models(points)]
    return [("sampler", series), ("model", lines)]
