"""Samples that begin with what a test sequence begins with: `generation.prompt`."""

import dataclasses

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world

from harness import GRID
from harness.experiments import bench_of, experiment, silent
from mist_bench import UserError
from mist_bench.host.presets import load_preset
from mist_bench.run.grid import lay_out
from mist_bench.run.store import unpack_tokens

SMALLEST = load_preset(GRID)


def asked(prompt: int, samplers: tuple[str, ...], families=("oracle",)):
    generation = dataclasses.replace(SMALLEST.generation, prompt=prompt, judge="none")
    return dataclasses.replace(
        SMALLEST, corpus="markov[symbols=3,length=6]", tokenizer="word", families=families, schedules=("linear",),
        samplers=samplers, steps=(6,), generation=generation,
    )  # fmt: skip


def laid(prompt: int, *samplers: str):
    return lay_out(experiment(asked(prompt, samplers)))


def samplers_of(prompt: int) -> set[str]:
    return set(experiment(asked(prompt, ("all",))).config.samplers)


def made(folder, prompt: int, sampler: str):
    whole = experiment(asked(prompt, (sampler,)))
    bench = bench_of(whole, folder)
    [cell] = [cell for cell in lay_out(whole) if cell.kind == "generation"]
    record = cell.make(bench, silent)
    return unpack_tokens(record["tokens"]), record, bench


def test_the_prompt_is_kept_and_what_follows_is_the_world_given_it(tmp_path):
    """64 texts by left to right, 4 letters after 2: -log p of the rest given the prompt is near its entropy."""
    tokens, record, bench = made(tmp_path, 2, "autoregressive")
    test = bench.dataset.test.tokens[: len(tokens)]
    assert (tokens[:, :2] == test[:, :2]).all() and (tokens[:, 2:] != test[:, 2:]).any()
    assert record["nfe"] == 4.0 and record["law_distance"] is None
    oracle = world(3, 6, 1.2)
    rest = -(oracle.log_probability(tokens) - np.log(_beginning(oracle, tokens[:, :2])))
    own = -(oracle.log_probability(test) - np.log(_beginning(oracle, test[:, :2])))
    assert abs(rest.mean() - own.mean()) < 4 * np.hypot(rest.std(), own.std()) / np.sqrt(len(tokens))


def _beginning(oracle, pairs):
    return oracle.initial[pairs[:, 0]] * oracle.transition[pairs[:, 0], pairs[:, 1]]


def test_without_a_prompt_the_cells_are_those_of_before():
    cells = laid(0, "autoregressive")
    assert all("prompt" not in cell.content for cell in cells)
    given = {cell.hash for cell in laid(2, "autoregressive")}
    assert len(given - {cell.hash for cell in cells}) == 2  # the generation, and its speed


def test_what_needs_a_prompt_is_refused_without_one_and_in_all_only_with_one():
    with pytest.raises(UserError, match=r"sampler 'guided' needs a prompt; .*--set generation.prompt=16"):
        laid(0, "guided")
    with pytest.raises(UserError, match="generation.prompt is 6, but texts have 6 tokens; give fewer"):
        laid(6, "random")
    assert "guided" not in samplers_of(0) and samplers_of(2) - {"guided"} == samplers_of(0) != samplers_of(2)


def test_an_untrained_familys_rows_have_samples_of_their_own():
    oracle, both = laid(0, "random"), lay_out(experiment(asked(0, ("random",), ("oracle", "mdlm"))))
    counts = {c.labels.get("family"): c.content["samples"] for c in both if c.file == "generation" and not c.adds}
    assert counts == {"oracle": SMALLEST.generation.oracle_samples, "mdlm": SMALLEST.generation.samples, None: SMALLEST.generation.samples}
    samples = {c.content["samples"] for c in oracle if c.file == "generation" and not c.adds}
    assert samples == {SMALLEST.generation.oracle_samples}
