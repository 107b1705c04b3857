"""The likelihood of samplers in a run: columns of their rows, and the truth where a sampler is exact."""

import pytest

from harness import GRID
from mist_bench import cli
from mist_bench.report import files

pytestmark = pytest.mark.slow
L = 4


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    given = ["run", "--preset", GRID, "--store", str(folder / "store"), "--out", str(folder / "out"), "--family", "oracle",
             "--schedule", "linear", "--sampler", "margin,entropy,autoregressive,random,confidence,wino", "--steps", f"1,{L}", "--seed", "0,1",
             "--set", "generation.judge=none"]  # fmt: skip
    assert cli.main(given) == 0
    found = {(row["sampler"], row["steps"], row["seed"]): row for row in files.read_csv(folder / "out" / "generation.csv")}
    return found, (folder / "out" / "tables.md").read_text()


def test_one_position_a_step_is_the_truth_and_more_at_once_costs_nats(rows):
    found, _ = rows
    exact = found["margin", L, 0]
    assert exact["sampler_kind"] == "exact" and exact["sampler_sequences"] == 16
    at_once = found["margin", 1, 0]
    assert at_once["sampler_nats_per_token"] > exact["sampler_nats_per_token"]
    # three orders give one number only if it is the truth's
    for other in (found["entropy", L, 0], found["autoregressive", None, 0]):
        assert other["sampler_nats_per_token"] == pytest.approx(exact["sampler_nats_per_token"], abs=1e-5)


def test_a_bound_is_named_so_and_what_is_not_known_is_empty(rows):
    found, tables = rows
    assert found["random", L, 0]["sampler_kind"] == "bound"
    # all at once there is one order: the bound is what any sampler gives
    assert found["random", 1, 0]["sampler_nats_per_token"] == pytest.approx(found["margin", 1, 0]["sampler_nats_per_token"])
    for sampler, steps in (("confidence", L), ("wino", None)):
        assert found[sampler, steps, 0]["sampler_nats_per_token"] is None
    for sampler, kind in (("margin", "="), ("random", "≤")):
        first, second = (found[sampler, L, seed] for seed in (0, 1))
        assert first["sampler_nats_per_token"] == second["sampler_nats_per_token"], "seeds of sampling share it"
        (row,) = (line for line in tables.split("## Throughput")[1].splitlines() if line.startswith("|")
                  and f" {sampler} " in line and f"| {L} |" in line)  # fmt: skip
        assert f" {kind}" in row, "pooled over the seeds, a bound is still named so"
    assert "| perplexity ↓ [95%CI] |" in tables
