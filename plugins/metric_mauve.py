"""MAUVE: how close the samples are to held-out text, in the features of a language model."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mist_bench import FloatArray, HubModel, IntArray, Metric, UserError, find_model, hookimpl, parameter, require

INSTALL = "pip install 'mist-bench[mauve]'"
SEEDS, SHUFFLES, WEIGHTS = range(5), 200, np.linspace(1e-6, 1 - 1e-6, 25)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MauveMetric(Metric):
    """Area under the divergence curve of samples and held-out text, quantised by k-means; 1: no difference.

    With r = w p + (1 - w) q of the two histograms, the curve is (exp(-c KL(q | r)), exp(-c KL(p | r))) over w.
    Features: the model's last state at a text's last token, of length 1, on the principal axes of 9/10 of the variance.
    `mauve` is the mean over five seeds of k-means, `mauve_spread` their standard deviation. It depends on the number
    of samples, `mauve_samples` on each side: do not compare across numbers, models or clusters. `mauve_ceiling` is its
    mean if samples and held-out texts are shuffled, the value of as many samples of one law; 1 shuffle of 20 is below
    `mauve_ceiling_low`.
    """

    name = "mauve"
    source = "MAUVE, arXiv 2102.01454; 2212.14578"
    model: str = parameter("gpt2-large", "the model of the features: OWNER/NAME on the Hub, or a folder")
    revision: str = parameter("", "commit, tag or branch on the Hub; the newest if empty")
    clusters: int = parameter(0, "k of k-means; 0: a tenth of the samples of one side, at least 2")
    scale: float = parameter(5.0, "the c of the curve")
    tokens: int = parameter(1024, "the most tokens of a text that the model reads")

    def __post_init__(self) -> None:
        if self.clusters < 0 or self.clusters == 1 or self.scale <= 0 or self.tokens < 1:
            raise UserError("clusters is 0 or at least 2, scale above 0, tokens at least 1")

    def identity(self) -> dict[str, Any]:
        require(f"metric {self.spec!r}", ("sklearn",), INSTALL)
        found = find_model(self.model, revision=self.revision, asked=f"metric {self.spec!r}", install=INSTALL)
        _known[self.model, self.revision] = found
        asked = {k: v for k, v in self.content().items() if k not in ("model", "revision")}
        return {**asked, **found.identity()}

    def measure(self, texts: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
        if (self.model, self.revision) not in _known:
            self.identity()
        count, model = min(len(texts), len(references)), _known[self.model, self.revision]
        p, q = (_features(model, self.tokens, tuple(side[:count])) for side in (texts, references))
        labels = clusterings(p, q, self.clusters or max(2, round(count / 10)))
        ours, rng = np.arange(2 * count) < count, np.random.default_rng(0)
        found = areas(labels, ours, self.scale)
        # clusters do not depend on which side a text is of, so a shuffle does not change them
        null = [areas(labels, rng.permutation(ours), self.scale).mean() for _ in range(SHUFFLES)]
        return {"mauve": float(found.mean()), "mauve_spread": float(found.std(ddof=1)),
                "mauve_ceiling": float(np.mean(null)), "mauve_ceiling_low": float(np.quantile(null, 0.05)),
                "mauve_samples": count}  # fmt: skip


_known: dict[tuple[str, str], HubModel] = {}  # a folder's files are hashed once
_loaded = functools.lru_cache(maxsize=1)(HubModel.load)


@functools.lru_cache(maxsize=2)
def _features(model: HubModel, tokens: int, texts: tuple[str, ...]) -> FloatArray:
    """Cached, because all rows are compared with the same held-out text."""
    return _loaded(model).features(texts, tokens)


def clusterings(p: FloatArray, q: FloatArray, clusters: int) -> IntArray:
    """(N, D) features of two sides -> (seeds, 2N) the cluster of each text, those of p first."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    points = np.concatenate([p, q])
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    distinct = len(np.unique(points.astype(np.float32), axis=0))
    if distinct == 1:
        return np.zeros((len(SEEDS), len(points)), dtype=int)
    with warnings.catch_warnings():  # fewer distinct points than clusters, by repeated texts, is not an error
        warnings.simplefilter("ignore")
        axes = PCA(n_components=0.9, svd_solver="full").fit_transform(points)
        k = min(clusters, distinct)
        return np.stack([KMeans(k, n_init=5, max_iter=500, random_state=s).fit_predict(axes) for s in SEEDS])


def areas(labels: IntArray, ours: Any, scale: float) -> FloatArray:
    """(seeds, N) clusters of the texts, (N,) which are ours -> (seeds,) MAUVE, from 0 to 1."""
    sides = [[np.bincount(row[which], minlength=row.max() + 1) for which in (ours, ~ours)] for row in labels]
    return np.array([mauve(p / p.sum(), q / q.sum(), scale) for p, q in sides])


def mauve(p: FloatArray, q: FloatArray, scale: float) -> float:
    """The area of two histograms (k,) without clusters that are empty on both sides."""
    r = WEIGHTS[:, None] * p + (1 - WEIGHTS[:, None]) * q  # from all q to all p
    x, y = (np.exp(-scale * (side * np.log(np.where(side > 0, side, r) / r)).sum(axis=1)) for side in (q, p))
    return float(-np.trapezoid([0.0, *y, 1.0], [1.0, *x, 0.0]))


@hookimpl
def mist_bench_metrics() -> Iterator[type[Metric]]:
    yield MauveMetric
