"""Plot of quality against entropy over temperatures, since repetitive text lowers the judge's nats.

Each sampler is a line through its temperatures: of two lines at the same entropy the lower is better, and the best is
the one nearest to the data. There is a panel for each number of steps, since only equal steps are comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..measure.statistics import interval
from ..run.columns import Row
from .plot_style import (
    DASHES,
    STAR,
    is_baseline,
    label_points,
    legend_of,
    looks_of,
    model_of,
    series_of,
    styles_of,
    unique,
)
from .pooling import units_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = tuple[bool, str, str]
"""(whether it is the baseline, series, model)."""


def by_steps(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with `at`, the panel of each; rows of samplers that ignore steps are in every panel of their corpus.

    Empty unless there are several temperatures.
    """
    measured = [row for row in rows if row.get("judge_nats_per_token") is not None and row.get("token_entropy")]
    if len({row.get("temperature") for row in measured} - {None}) < 2:
        return []
    found = []
    for row in measured:
        world = [r for r in measured if all(r.get(n) == row.get(n) for n in ("corpus", "tokenizer"))]
        every = sorted({r["steps"] for r in world if r.get("steps") is not None})
        for steps in [row["steps"]] if row.get("steps") is not None else every or [None]:
            found.append({**row, "at": "" if steps is None else f"{steps} steps"})
    return found


def quality_entropy(axes: Axes, rows: list[Row]) -> bool:
    """A line for each sampler and model through its temperatures; the held-out data is a point."""
    placed = [row for row in rows if row.get("sampler")]
    if not placed:
        return False
    lines: dict[Line, list[Row]] = {}
    for row in sorted(placed, key=lambda row: float(row["temperature"])):
        lines.setdefault((is_baseline(row), series_of(row), model_of(row)), []).append(row)
    ordered = sorted(lines)
    looks = looks_of(unique(series for baseline, series, _ in ordered if not baseline))
    looks |= {series: STAR for baseline, series, _ in ordered if baseline}
    models = unique(model for baseline, _, model in ordered if not baseline)
    dashes = styles_of(models, DASHES)
    for line in ordered:
        _draw(axes, lines[line], **looks[line[1]], linestyle=dashes.get(line[2], "-"))
    data = _data(axes, rows)
    axes.set(xlabel="entropy of the tokens within a sample, nats (best at the data's)",
             ylabel="judge, nats per token (best at the data's)")  # fmt: skip
    axes.margins(0.08)
    samplers = unique(series for _, series, _ in ordered)
    legend_of(
        axes, ("sampler", [(name, looks[name]) for name in samplers]),
        ("model", [(model, {"color": "0.3", "linestyle": dashes[model]}) for model in models]),
        ("for comparison", data),
    )  # fmt: skip
    label_points(axes, [_label(row) for line in ordered for row in lines[line]])
    return True


def _draw(axes: Axes, rows: Sequence[Row], **style: Any) -> None:
    axes.errorbar(
        [row["token_entropy"] for row in rows], [row["judge_nats_per_token"] for row in rows],
        [_bar(row, "judge_nats_per_token") for row in rows], [_bar(row, "token_entropy") for row in rows],
        elinewidth=0.8, linewidth=1.2,
        markersize=11.0 if style["marker"] == "*" else None, **style,
    )  # fmt: skip


def _bar(row: Row, name: str) -> float:
    """Half the length of the 95 % interval of a column; 0 without one."""
    ends = interval(row[name], row.get(f"{name}_se"), units_of(row))
    return 0.0 if ends is None else (ends[1] - ends[0]) / 2


def _data(axes: Axes, rows: Sequence[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Draw the held-out data as a point with lines to the axes; gives its entry in the legend."""
    style: dict[str, Any] = {"color": "0.45", "marker": "X", "markersize": 9.0, "linestyle": "none"}
    for row in rows:
        if row.get("control") == "data":
            axes.plot([row["token_entropy"]], [row["judge_nats_per_token"]], zorder=5, **style)
            axes.axvline(row["token_entropy"], color="0.45", linewidth=0.8, linestyle=DASHES[1], zorder=1)
            axes.axhline(row["judge_nats_per_token"], color="0.45", linewidth=0.8, linestyle=DASHES[1], zorder=1)
            return [("held-out data", style)]
    return []


def _label(row: Row) -> tuple[float, float, str]:
    return row["token_entropy"], row["judge_nats_per_token"], f"T={row['temperature']:g}"
