"""The benchmarks of learning: variants of the recipe, and the network that the authors of MDLM train."""

import importlib.util
import re
import sys

import numpy as np
import pytest

from harness import GRID
from mist_bench.bench import command

command.benchmark_module("sizes")
from benchmarks import recipe  # noqa: E402

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def lines(main, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    main()
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]


@pytest.mark.slow
def test_a_recipe_is_a_line_for_each_variant_and_goes_on_from_its_store(monkeypatch, capsys, tmp_path):
    given = ["--preset", GRID, "--seeds", "0,1", "--store", str(tmp_path), "--only", "base,rate-6"]
    header, _, base, other = lines(recipe.main, monkeypatch, capsys, *given)
    assert [cell.strip() for cell in header.strip("|").split("|")] == ["variant", "nats/sequence", "difference", "seeds"]
    assert re.fullmatch(r"\| base \| \S+ ±\S+ \|  \| \S+ \S+ \|", base)
    assert re.fullmatch(r"\| rate-6 \| \S+ ±\S+ \| -?\S+ ±\S+ \(95 % ±\S+\) \| \S+ \S+ \|", other)
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert lines(recipe.main, monkeypatch, capsys, *given)[2:] == [base, other]
    assert made == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}


@needs_torch
def test_the_authors_network_has_the_parameters_asked_for_and_begins_at_nothing():
    import torch

    from benchmarks.dit_peer import DitNetwork

    for wanted in (46_016, 60_000):
        net = DitNetwork(48, 2, 4, 16, 86, 64, parameters_wanted=wanted)
        assert abs(net.parameter_count() / wanted - 1) < 0.01
    tokens = torch.randint(0, 87, (3, 64))
    assert (net(tokens) == 0).all(), "the output layer begins at zero"
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.3)
    first, moved = net(tokens), net(tokens.roll(1, dims=1)).roll(-1, dims=1)
    assert not torch.allclose(first, moved, atol=1e-3), "it knows where it is"
    other = tokens.clone()
    other[:, -1] = (other[:, -1] + 1) % 86
    assert (net(other)[:, 0] != first[:, 0]).any(), "it looks both ways"


@needs_torch
@pytest.mark.slow
def test_both_networks_learn_from_the_same_data(monkeypatch, capsys):
    from benchmarks import learning

    settings = [x for text in ("training.train_steps=40", "training.warmup_steps=4", "training.ema_decay=0") for x in ("--set", text)]
    header, _, *rows = lines(learning.main, monkeypatch, capsys, "--preset", GRID, "--seeds", "0,1", *settings)
    assert header.count("|") == 7 and len(rows) == learning.POINTS
    nats = np.array([[float(cell.split()[0]) for cell in row.strip("|").split("|")[1:3]] for row in rows])
    assert (nats[-1] < nats[0]).all(), "both learn"
    tokens = [row.strip("|").split("|")[0].strip() for row in rows]
    assert tokens == [f"{16 * 4 * 10 * i:,}" for i in range(1, 5)]
