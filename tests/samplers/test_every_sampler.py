"""Every sampler with its defaults, as `--sampler all` takes them, and some with parameters: what all of them owe."""

from functools import cache

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world
from mist_bench_plugins.family_oracle import OracleModel
from mist_bench_plugins.schedule_linear import LinearSchedule

from mist_bench.api.view import NEEDS
from mist_bench.host.registry import Registry
from mist_bench.inference.generate import SamplerGraph, generate
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.inference.step import Needs

REGISTRY, ORACLE, BATCH, L = Registry.discover(), world(3, 6, 1.2), 64, 6
MASK = ORACLE.vocab_size
MORE = ["random[cached=true]", "threshold[form=factor]", "threshold[tau=0.6]", "entropy-bound[gamma=0.7]",
        "klass[tau=0.5,kappa=0.1,history=1]"]  # fmt: skip
SPECS = [*REGISTRY.with_defaults("sampler"), *MORE]


@cache
def evaluator(needs):
    return MaskedEvaluator("oracle", OracleModel(ORACLE), BATCH, needs=needs)


@cache
def graph(spec):
    return SamplerGraph(REGISTRY.make("sampler", spec), BATCH, L, MASK, np.array([0.5, 0.3, 0.15, 0.05]))


def run(spec, tokens, *, steps, ids=None):
    numbers = np.arange(BATCH) if ids is None else ids
    sampler = graph(spec).sampler
    asked = evaluator(Needs.of(sampler))
    return generate(
        asked, graph(spec), LinearSchedule(), steps, tokens, seed=3, sequences=numbers, temperature=1.0
    )  # fmt: skip


EMPTY = np.full((BATCH, L), MASK, dtype=np.int32)


@pytest.mark.parametrize("spec", SPECS)
def test_fills_keeps_and_is_the_same_in_any_batch(spec):
    rng, sampler = np.random.default_rng(0), graph(spec).sampler
    text, fixed = ORACLE.sample(BATCH, rng), rng.random((BATCH, L)) < 0.4
    given = np.where(fixed, text, MASK).astype(np.int32)
    given[:8], given[8] = MASK, text[8]
    shuffled = rng.permutation(BATCH)
    for steps in (1, 4, 11):
        made, nfe = run(spec, given, steps=steps)
        assert (made < 3).all() and (made[given != MASK] == given[given != MASK]).all()
        most = [sampler.nfe(steps, int(m)) for m in (given == MASK).sum(axis=1)]
        assert (nfe <= most).all() and (sampler.adaptive or sampler.skips_idle_steps or (nfe == most).all())
        again, used = run(spec, given[shuffled], steps=steps, ids=shuffled)
        assert np.array_equal(made[shuffled], again) and np.array_equal(nfe[shuffled], used)


@pytest.mark.parametrize("spec", SPECS)
def test_tells_about_itself(spec):
    sampler = REGISTRY.make("sampler", spec)
    assert sampler.spec == spec and sampler.__doc__ and sampler.source
    assert sampler.needs <= NEEDS and (not sampler.skips_idle_steps or sampler.reveals == "chance")
