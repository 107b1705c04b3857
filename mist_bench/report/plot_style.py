"""Parts that the plots share: style, a panel for each corpus, legends outside, and SVG that is the same each time."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..run.columns import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 10.0, "axes.titlesize": 11.0, "axes.titleweight": "bold",
    "svg.hashsalt": "mist-bench", "svg.fonttype": "path", "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "legend.fontsize": 9.0, "lines.linewidth": 1.6, "lines.markersize": 5.5,
    "axes.edgecolor": "0.3", "grid.color": "0.9", "text.parse_math": False,  # a name may hold two dollar signs
}  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
COLOURS = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#8a5a2b", "#56b4e9", "#8f8f00",
    "#4b2fb5", "#e3326f", "#00504a", "#7a0f12", "#86c240", "#5f6b73", "#9d8ff0", "#1c1c6b",
)  # fmt: skip
"""Seaborn's colour-blind palette without its pale yellow, then as many that are darker or lighter than those."""
FILLED = 8
STAR = {"color": "black", "marker": "*", "markeredgecolor": "white", "markeredgewidth": 0.6}
"""The baseline, which is not one of the samplers."""
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.2, 1.4)), (0, (5, 1.5, 1.2, 1.5)))


def svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": "mist-bench"})
    return file.getvalue()


def panels(
    rows: Sequence[Row], fill: Callable[[Axes, list[Row]], bool], *, by: Sequence[str] = ("corpus", "tokenizer")
) -> Figure | None:
    """One panel below the other, as `fill` draws them; None if none of them has anything to show."""
    from matplotlib.figure import Figure

    worlds: dict[str, list[Row]] = {}
    for row in rows:
        name = " · ".join(str(row[part]) for part in by if row.get(part))
        worlds.setdefault(name, []).append(row)
    figure = Figure(figsize=(7.2, 4.4 * max(1, len(worlds))))
    shown = False
    for number, (name, members) in enumerate(worlds.items(), start=1):
        axes = figure.add_subplot(len(worlds), 1, number)
        axes.set_title(name, loc="left")
        if fill(axes, members):
            shown = True
        else:
            axes.set_axis_off()
    figure.subplots_adjust(hspace=0.35)
    return figure if shown else None


def is_baseline(row: Row) -> bool:
    """Whether a row is of a trained causal model, which no sampler of masked models shapes."""
    return bool(row.get("causal")) and not row.get("control")


def series_of(row: Row) -> str:
    """What a line is named by: the sampler, or the baseline's family."""
    return f"{row['family']} (baseline)" if is_baseline(row) else str(row.get("sampler") or "")


def legend_of(axes: Axes, *parts: tuple[str, list[tuple[str, dict[str, Any]]]]) -> None:
    """Draw a legend to the right of the panel: parts with a bold heading, each entry with the style of its line."""
    from matplotlib.lines import Line2D

    handles: list[Line2D] = []
    heads = []
    for head, entries in parts:
        if entries:
            heads.append(len(handles))
            handles.append(Line2D([], [], linestyle="none", label=head))
            handles += [Line2D([], [], label=_broken(label), **style) for label, style in entries]
    legend = axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0)
    for index in heads:
        legend.get_texts()[index].set_fontweight("bold")


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Write (x, y, text) beside points where there is room; of neighbours with the same text, one is labelled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(axes.figure.get_figure(root=True)).get_renderer()  # type: ignore[no-untyped-call]
    centres = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken: list[Bbox] = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in centres]
    frame = axes.get_window_extent(renderer)
    halo = withStroke(linewidth=2.5, foreground="white")
    labelled: list[tuple[str, float, float]] = []
    for (at, height, words), (x, y) in sorted(zip(points, centres, strict=True), key=lambda pair: -pair[0][1]):
        if any(words == other and abs(x - u) + abs(y - v) < 90 for other, u, v in labelled):
            continue
        for right, up in ((7, 6), (-7, 6), (7, -6), (-7, -6)):
            text = axes.annotate(words, (at, height), (right, up), fontsize=8.0, textcoords="offset points",
                                 va="center", color="0.2", path_effects=[halo],
                                 ha="left" if right > 0 else "right")  # fmt: skip
            box = text.get_window_extent(renderer).padded(1.5)
            if not any(box.overlaps(other) for other in taken) and frame.contains(*box.p0) and frame.contains(*box.p1):
                taken.append(box)
                labelled.append((words, x, y))
                break
            text.remove()


def _broken(label: str) -> str:
    return label.replace("[", "\n[", 1) if len(label) > 30 else label


def model_of(row: Row) -> str:
    return " · ".join(str(row[part]) for part in ("family", "schedule") if row.get(part))


def unique(items: Any) -> list[Any]:
    return list(dict.fromkeys(items))


def styles_of(names: Sequence[str], styles: Sequence[Any]) -> dict[str, Any]:
    return {name: styles[index % len(styles)] for index, name in enumerate(names)}


def looks_of(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each name: 16 colours, 12 shapes, and hollow shapes from the ninth on, so that no two of 48
    look alike, also in grey."""
    looks: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(names):
        colour = COLOURS[index % len(COLOURS)]
        hollow = index % (2 * FILLED) >= FILLED
        inside, edge, width = ("white", colour, 1.2) if hollow else (colour, "white", 0.6)
        looks[name] = {"color": colour, "marker": MARKERS[index % len(MARKERS)], "markerfacecolor": inside,
                       "markeredgecolor": edge, "markeredgewidth": width}  # fmt: skip
    return looks
