"""Samples that begin with what a test sequence begins with: `generation.prompt`."""

import base64
import dataclasses
import zlib

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world

from harness import GRID
from harness.experiments import bench_of, experiment, silent
from harness.runs import MEDIUM
from mist_bench import UserError
from mist_bench.host.presets import load_preset
from mist_bench.run.cells import Entry
from mist_bench.run.grid import lay_out
from mist_bench.run.kinds.control import ControlCell
from mist_bench.run.kinds.generation import GenerationCell
from mist_bench.run.store import pack_tokens, unpack_tokens

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


def test_a_baseline_that_read_its_prompt_token_by_token_is_measured_again():
    """Its evaluations and its speed are others now; those without a prompt, and of masked models, are not."""
    def marked(prompt):
        planned = lay_out(experiment(asked(prompt, ("random",), ("mdlm", "autoregressive"))))
        return {c.labels["family"] for c in planned if c.kind == "generation" and "prompt_read" in c.content}

    assert marked(0) == set() and marked(2) == {"autoregressive"}


def test_what_needs_a_prompt_is_refused_without_one_and_in_all_only_with_one():
    with pytest.raises(UserError, match=r"sampler 'guided' needs a prompt; .*--set generation.prompt=16"):
        laid(0, "guided")
    with pytest.raises(UserError, match="generation.prompt is 6, but texts have 6 tokens; give fewer"):
        laid(6, "random")
    assert "guided" not in samplers_of(0) and samplers_of(2) - {"guided"} == samplers_of(0) != samplers_of(2)


def test_texts_are_the_same_by_their_tokens_and_nothing_else():
    """Not by the names of samplers, nor by how the store compresses them."""
    entry = Entry(hash="a", kind="generation", title="", labels={"sampler": "x"})
    tokens = np.arange(12).reshape(3, 4)
    records = [{"tokens": pack_tokens(each)} for each in (tokens, tokens.copy(), tokens.reshape(4, 3), tokens + 1)]
    packed = {**records[0]["tokens"], "int32": base64.b64encode(zlib.compress(tokens.astype("<i4").tobytes(), 0)).decode()}
    digests = [kind.row(entry, record)["texts_digest"] for record in [*records, {"tokens": packed}] for kind in (GenerationCell, ControlCell)]
    assert len(set(digests[:4])) == 1 and len(set(digests)) == 3 and digests[8] == digests[0]


def test_confidence_top_k_and_p2_write_the_same_texts_under_linear():
    first = MEDIUM("confidence", steps=3)[0]
    for name in ("top-k", "p2"):
        assert np.array_equal(MEDIUM(name, steps=3)[0], first)
    assert not np.array_equal(MEDIUM("margin", steps=3)[0], first)


def test_all_rows_of_a_run_have_equally_many_samples():
    """Those of the oracle too: distinct pairs and the divergence depend on the number."""
    settings = SMALLEST.generation
    assert settings.samples != settings.oracle_samples
    for families, samples in ((("oracle",), settings.oracle_samples), (("oracle", "mdlm"), settings.samples)):
        planned = lay_out(experiment(asked(0, ("random",), families)))
        counts = {c.labels["family"] if c.kind == "generation" else c.labels["control"]: c.content["samples"]
                  for c in planned if c.file == "generation" and not c.adds}  # fmt: skip
        assert counts.keys() >= {*families, "data", "repeater"} and set(counts.values()) == {samples}
