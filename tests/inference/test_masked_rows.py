"""Evaluating masked positions alone gives the same answers as the graph that evaluates all positions."""

import numpy as np
import pytest
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.sampler_autoregressive import AutoregressiveSampler
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_first_hitting import FirstHittingSampler
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_semi_autoregressive import SemiAutoregressiveSampler
from mist_bench_plugins.sampler_threshold import ThresholdSampler
from mist_bench_plugins.sampler_top_k import TopKSampler
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Tensor

from harness.answers import answers
from harness.brute_force import masked
from mist_bench import NetworkSize
from mist_bench.engine import noise
from mist_bench.inference import masked_rows
from mist_bench.inference.denoiser import WholeDenoiser
from mist_bench.inference.generate import SamplerGraph, generate
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.measure.likelihood import masked_likelihood
from mist_bench.network import transformer

LENGTH, VOCAB, MANY = 8, 11, 16
SIZE = NetworkSize(dim=16, layers=1, heads=2, feed_forward=32, conditioning_dim=8)


@pytest.fixture(scope="module")
def both():
    """The same network with one graph and by masked rows; the row counts are 1, 2, 4, 6 and 8 of 8."""
    made = []
    for pay in (10**6, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transformer, "ROWS_PAY", pay)
            patch.setattr(masked_rows, "MULTIPLE", 1)
            model = MdlmFamily().create(SIZE, VOCAB, LENGTH, 0, None)
            for name, p in model.parameters.items():
                values = np.random.default_rng(len(name)).standard_normal(p.shape) * 0.3
                p.assign(Tensor(values.astype(np.float32))).realize()
            made.append(MaskedEvaluator("rows" if pay == 0 else "whole", model, MANY))
    whole, rows = made
    assert isinstance(whole.denoiser, WholeDenoiser) and rows.denoiser.counts == [1, 2, 4, 6, 8]
    return whole, rows


def asked(both, most):
    """All answers of both for texts with at most `most` masked positions, one of them with exactly as many."""
    rng = np.random.default_rng(most)
    clean = rng.integers(0, VOCAB, (MANY, LENGTH))
    hidden = rng.random((MANY, LENGTH)).argsort(axis=1) < rng.integers(0, most + 1, (MANY, 1))
    hidden[0] = np.arange(LENGTH) >= LENGTH - most
    step = {"t": rng.random(MANY), "key": noise.key_words(1, 2), "temperature": 0.8, "sequences": np.arange(MANY) + 3}
    return [answers(evaluator, np.where(hidden, VOCAB, clean), clean, most=most, **step) for evaluator in both]


@pytest.mark.parametrize("most", [1, 2, 3, 5, 8])
def test_the_answer_is_the_same(both, most):
    one, other = asked(both, most)
    assert other.pop("missed") == 0
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=0, atol=2e-6, err_msg=name)


def test_what_is_not_asked_is_counted(both):
    _, rows = both
    tokens = np.zeros((MANY, LENGTH))
    tokens[0, :5], tokens[3, :3] = VOCAB, VOCAB
    answers(rows, tokens, most=2)
    assert rows.denoiser.unanswered() == 3 + 1
    rows.denoiser.answer(rows.texts, 2)
    assert rows.denoiser.unanswered() == 2 * (3 + 1)
    rows.denoiser.begin()
    assert rows.denoiser.unanswered() == 0


SAMPLERS = [
    ConfidenceSampler(), TopKSampler(), RandomSampler(), RandomSampler(cached=True), FirstHittingSampler(),
    ThresholdSampler(), AutoregressiveSampler(), SemiAutoregressiveSampler(block=3, inner=ConfidenceSampler()),
]  # fmt: skip


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.spec)
def test_texts_are_the_same(both, sampler, monkeypatch):
    rows, seen = both[1].denoiser, []
    answer = rows.answer
    monkeypatch.setattr(rows, "answer", lambda texts, most: seen.append(most) or answer(texts, most))
    graph = SamplerGraph(sampler, MANY, LENGTH, VOCAB)
    given = np.full((MANY, LENGTH), VOCAB, dtype=np.int32)
    given[1, :3], given[2, 4:] = 5, 7  # prompts
    made = [generate(evaluator, graph, LinearSchedule(), 5, given, seed=0, sequences=np.arange(MANY), temperature=1.0)
            for evaluator in both]  # fmt: skip
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][1], made[1][1])
    assert max(seen) == LENGTH and min(seen) < LENGTH  # less is asked in the end


class Liar(ConfidenceSampler):
    """Declares that it leaves half of what it really leaves masked."""

    name = "liar"

    def most_left(self, masked, *told):
        return super().most_left(masked, *told) // 2


def test_a_sampler_that_leaves_more_than_it_says_is_found_out(both):
    graph = SamplerGraph(Liar(), MANY, LENGTH, VOCAB)
    given = np.full((MANY, LENGTH), VOCAB, dtype=np.int32)
    with pytest.raises(TypeError, match="sampler 'liar' leaves more masked than `most_left`"):
        generate(both[1], graph, LinearSchedule(), 8, given, seed=0, sequences=np.arange(MANY), temperature=1.0)


def test_likelihoods_are_the_same(both):
    tokens = np.random.default_rng(1).integers(0, VOCAB, (MANY + 3, LENGTH))
    for schedule in (None, LinearSchedule()):
        found = [masked_likelihood(evaluator, tokens, 4, schedule) for evaluator in both]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


@pytest.mark.parametrize("sampler", [ConfidenceSampler(), RandomSampler()], ids=lambda sampler: sampler.spec)
def test_a_warm_up_captures_all_and_accuses_nobody(sampler, monkeypatch):
    """Graphs for few positions are captured before the first step, with a text that may be all masks."""
    monkeypatch.setattr(transformer, "ROWS_PAY", 0)
    monkeypatch.setattr(masked_rows, "MULTIPLE", 1)
    evaluator = MaskedEvaluator("warm", MdlmFamily().create(SIZE, VOCAB, 7, 0, None), 2)
    assert evaluator.denoiser.counts == [1, 3, 5, 7]
    graph = SamplerGraph(sampler, 2, 7, VOCAB)
    given = np.full((2, 7), VOCAB, dtype=np.int32)

    def made(limit=None):
        return generate(evaluator, graph, LinearSchedule(), 4, given, seed=0, sequences=np.arange(2), temperature=1.0,
                        limit=limit)  # fmt: skip

    evaluator.texts.begin(given, given == VOCAB, np.arange(2))  # what an earlier text may have left
    made(limit=2)
    settled = [graph for graph in evaluator.graphs if graph.kernels] + [graph.graph]
    assert all(list(each._replays.values()) != [] for each in settled) and len(settled) > len(evaluator.denoiser.counts)
    monkeypatch.setattr("mist_bench.engine.graph.Graph._settle_on", lambda *_: pytest.fail("something is left to be made"))
    assert (made()[0] < VOCAB).all()


def test_small_tables_are_read_whole():
    evaluator, _ = masked()
    assert isinstance(evaluator.denoiser, WholeDenoiser) and not evaluator.model.rows_pay


def test_dropped_rows_hold_nothing(both):
    rows = both[1].denoiser
    assert any(graph.kernels for graph in rows.heads.values()) and rows.body.kernels
    rows.drop()
    assert not any(graph.kernels for graph in (rows.body, *rows.heads.values()))
    one, other = asked(both, 3)  # and are captured anew
    np.testing.assert_allclose(other["entropy"], one["entropy"], rtol=0, atol=2e-6)
