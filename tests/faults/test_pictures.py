"""Pictures of any names: text is text, and a picture that fails costs a line."""

import pytest

from harness import synthetic_rows as rows
from mist_bench.report import plots

NAMES = ["x$^$.txt", "a$b$.txt", "\\frac{", "日本語.txt", "<script>", "a" * 300, "new\nline", "\u202eright to left", "%s {0}"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_drawn_as_it_is(name):
    def named(table):
        return [{**row, "corpus": f"file[path={name}]", "sampler": row.get("sampler") and f"{row['sampler']}{name}"}
                for row in table]  # fmt: skip

    drawn, failed = plots.draw({file: named(table) for file, table in rows.everything().items()})
    assert not failed and list(drawn) == ["loss-curves.svg", "quality-steps.svg", "quality-throughput.svg"]


def test_a_picture_that_fails_costs_a_line(monkeypatch):
    def fail(*_):
        raise ValueError("no such\ncolour")

    monkeypatch.setattr(plots, "_quality_steps", fail)
    drawn, failed = plots.draw(rows.everything())
    assert list(drawn) == ["loss-curves.svg", "quality-throughput.svg"]
    assert failed == ["plots/quality-steps.svg could not be drawn: ValueError: no such colour"]
