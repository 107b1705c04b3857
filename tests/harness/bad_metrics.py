"""Small metrics: one is right, each of the rest breaks one promise."""

from __future__ import annotations

from itertools import count

from mist_bench import Metric

KIND = "metric"


class Words(Metric):
    name = "bad"

    def measure(self, texts, references):
        return {"words": sum(len(text.split()) for text in texts) / max(1, len(texts))}


class NamedBadly(Words):
    def measure(self, texts, references):
        return {"Words / text": 1.0}


class ComesAndGoes(Words):
    def measure(self, texts, references):
        return {"words": 1.0} | ({"pairs": 1.0} if len(texts) > 1 else {})


class NotFinite(Words):
    def measure(self, texts, references):
        return {"words": float("nan") if not texts[0] else 1.0}


class NotANumber(Words):
    def measure(self, texts, references):
        return {"words": None}


class AnotherOneEachTime(Words):
    calls = count()

    def measure(self, texts, references):
        return {"words": next(self.calls)}


BAD = [
    (NamedBadly, "columns", r"columns are \['Words / text'\]; give at least one, in lower-case letters"),
    (ComesAndGoes, "columns", "of one text it gives .*; a column must not come and go"),
    (NotFinite, "finite", "of empty texts: words is nan; give a finite float"),
    (NotANumber, "finite", "of plain text: words is None"),
    (AnotherOneEachTime, "measures-the-same-again", "measured again, the values differ; .* a fixed seed"),
]
FINE = [(Words, name, "ok", "") for name in ("columns", "finite", "measures-the-same-again")]
