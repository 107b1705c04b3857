"""Plot of paired differences: how the sequences of the test split are distributed around the mean of table 3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..run.columns import Row
from .plot_style import COLOURS, DASHES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PAIRS = 12


def differences(axes: Axes, rows: list[Row]) -> bool:
    """A violin with quartiles for each pair of models; below 0 are the sequences that the first predicts better."""
    import pandas as pd
    import seaborn as sns  # type: ignore[import-untyped]

    if not rows:
        return False
    kinds = {row["kind"] for row in rows}
    frame = pd.DataFrame(
        {
            "difference": [row["difference"] for row in rows],
            "pair": [f"{row['pair']}\n({row['kind']})" if len(kinds) > 1 else row["pair"] for row in rows],
        }
    )
    shown = list(dict.fromkeys(frame["pair"]))[:MOST_PAIRS]
    sns.violinplot(frame, x="difference", y="pair", order=shown, inner="quart", cut=0, density_norm="width",
                   color=COLOURS[6], linewidth=1.0, saturation=1.0, ax=axes)  # fmt: skip
    axes.axvline(0.0, color="0.35", linestyle=DASHES[1], linewidth=1.2)
    means = frame.groupby("pair", sort=False)["difference"].mean()
    axes.plot([means[name] for name in shown], range(len(shown)), linestyle="none", marker="D", color="black",
              markersize=5.0, label="mean")  # fmt: skip
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), borderaxespad=0.0)
    axes.set(xlabel="difference of a sequence, nats per token (below 0: the first is better)", ylabel="")
    return True
