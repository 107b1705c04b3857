"""Promises of every sampler, with its defaults as in `--sampler all`, and of some with parameters."""


import numpy as np
import pytest

from harness.runs import MEDIUM, REGISTRY
from mist_bench.api.view import NEEDS

MORE = ["random[cached=true]", "threshold[form=factor]", "threshold[tau=0.6]", "entropy-bound[gamma=0.7]",
        "klass[tau=0.5,kappa=0.1,history=1]"]  # fmt: skip
SPECS = [*REGISTRY.with_defaults("sampler"), *MORE]


@pytest.mark.parametrize("spec", SPECS)
def test_fills_keeps_and_is_the_same_in_any_batch(spec):
    rng, sampler = np.random.default_rng(0), MEDIUM.graph(spec).sampler
    text, fixed = MEDIUM.oracle.sample(MEDIUM.batch, rng), rng.random((MEDIUM.batch, MEDIUM.length)) < 0.4
    given = np.where(fixed, text, MEDIUM.mask).astype(np.int32)
    given[:8], given[8] = MEDIUM.mask, text[8]  # nothing given, all given
    shuffled = rng.permutation(MEDIUM.batch)
    for steps in (1, 4, 11):
        made, nfe = MEDIUM(spec, given, steps=steps, seed=3)
        assert (made < 3).all() and (made[given != MEDIUM.mask] == given[given != MEDIUM.mask]).all()
        most = [sampler.nfe(steps, int(m)) for m in (given == MEDIUM.mask).sum(axis=1)]
        assert (nfe <= most).all() and (sampler.adaptive or sampler.skips_idle_steps or (nfe == most).all())
        again, used = MEDIUM(spec, given[shuffled], steps=steps, seed=3, ids=shuffled)
        assert np.array_equal(made[shuffled], again) and np.array_equal(nfe[shuffled], used)


@pytest.mark.parametrize("spec", SPECS)
def test_tells_about_itself(spec):
    sampler = REGISTRY.make("sampler", spec)
    assert sampler.spec == spec and sampler.__doc__ and sampler.source
    assert sampler.needs <= NEEDS and (not sampler.skips_idle_steps or sampler.reveals == "chance")
