"""An untrained family that is no oracle: it runs on any text, and its rows are control rows of its own name."""

import textwrap

from harness import GRID
from mist_bench import cli
from mist_bench.api import hooks
from mist_bench.report import files


def test_the_uniform_family_of_the_hooks_example_runs_on_prose(tmp_path, capsys):
    text = textwrap.dedent(hooks.mist_bench_families.__doc__.partition("Example::")[2])
    plugin, prose, out = tmp_path / "uniform.py", tmp_path / "prose.txt", tmp_path / "out"
    plugin.write_text(text)
    prose.write_text("\n\n".join(f"It was a day like any other, the {i} of them said." for i in range(400)))
    given = ["run", "--preset", GRID, "--plugin", str(plugin), "--corpus", f"file:{prose}", "--tokenizer", "byte",
             "--family", "uniform", "--schedule", "linear", "--sampler", "random", "--steps", "4",
             "--set", "generation.judge=none", "--set", "length=16",
             "--store", str(tmp_path / "store"), "--out", str(out)]  # fmt: skip
    assert cli.main(given) == 0
    assert "† uniform" in capsys.readouterr().out
    (row,) = [row for row in files.read_csv(out / "likelihood.csv") if row["family"] == "uniform"]
    assert row["control"] == "uniform" and abs(row["perplexity"] - 257) < 1, "256 bytes and the end token"
    rows = [row for row in files.read_csv(out / "generation.csv") if row["family"] == "uniform"]
    assert [row["control"] for row in rows] == ["uniform"] and rows[0]["nfe"] <= 4
