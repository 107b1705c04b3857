"""Checks of a metric: columns with names, finite values, the same at every call, for any text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..api.component import UserError
from ..api.metrics import Metric, columns_problem
from ..host.registry import Registry
from .core import Failed, Skipped, Study, check, fail_on

TEXTS = {
    "plain text": ["One day, Mia took the kite.", "It flew far.", "It flew far."],
    "one text": ["a"],
    "empty texts": ["", ""],
    "hard text": ["👩‍👩‍👧‍👦 e\u0301\x00", "a" * 5000],
}
REFERENCES = ["Tom went to the park.", "Mia saw a dog there."]


class MetricStudy(Study):
    """A metric, and its values for some texts."""

    component: Metric

    def measure(self, texts: Sequence[str]) -> Mapping[str, float]:
        self.once("identity", self.identity)
        return self.component.measure(texts, REFERENCES)

    def identity(self) -> Mapping[str, object]:
        """Its identity. Skips if a library or a model that it needs is missing."""
        try:
            return self.component.identity()
        except UserError as error:
            raise Skipped(str(error)) from error

    def first(self) -> Mapping[str, float]:
        return self.once("first", lambda: self.measure(TEXTS["plain text"]))


def study(component: Metric, registry: Registry) -> MetricStudy:
    return MetricStudy(component, registry)


@check("metric")
def columns(its: MetricStudy) -> str:
    """It gives columns with plain names, the same for all texts."""
    names = list(its.first())
    wrong = [name for name in names if not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]*", name))]
    if not names or wrong:
        raise Failed(f"columns are {names}; give at least one, in lower-case letters, digits and _")
    for what, texts in TEXTS.items():
        if list(its.measure(texts)) != names:
            raise Failed(f"of {what} it gives {list(its.measure(texts))}, else {names}; a column must not come and go")
    return ", ".join(names)


@check("metric")
def finite(its: MetricStudy) -> None:
    """Its values are finite numbers."""
    for what, texts in TEXTS.items():
        problem = columns_problem(its.measure(texts))
        fail_on(problem and f"of {what}: {problem}")


@check("metric")
def measures_the_same_again(its: MetricStudy) -> None:
    """The same texts give the same values."""
    if dict(its.measure(TEXTS["plain text"])) != dict(its.first()):
        raise Failed("measured again, the values differ; give every random generator a fixed seed, and sort sets")
