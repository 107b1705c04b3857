"""Counts: what the host computes for a schedule is what the device leaves, and any score goes with any count."""

from types import SimpleNamespace

import numpy as np
import pytest
from tinygrad import Tensor

from mist_bench import (
    EntropyBoundCount,
    EqualSharesCount,
    FactorCount,
    OneCount,
    ScheduledCount,
    ScoreSampler,
    ThresholdCount,
)

L, STEPS = 7, 3


class ByMargin(ScoreSampler):
    name = "by-margin"
    source = "tests"

    def __init__(self, count):
        vars(self)["made"] = count  # a sampler is frozen

    @property
    def count(self):
        return self.made

    def scores(self, view):
        return view.margin


def situation(step):
    """A view of 32 sequences with some positions masked, and its masked positions, targets and M on the host."""
    rng = np.random.default_rng(step)
    masked = rng.random((32, L)) < 0.6
    masked[0], masked[1] = True, False
    left = masked.sum(axis=1)
    target, to_fill = rng.integers(0, L + 1, 32), np.maximum(left, rng.integers(1, L + 1, 32))
    p = rng.uniform(0.05, 1.0, (32, L)).astype(np.float32)
    view = SimpleNamespace(
        masked=Tensor(masked), margin=Tensor(p), log_probability=Tensor(np.log(p)), entropy=Tensor(1 - p),
        proposal=Tensor(np.ones((32, L), dtype=np.int32)), tokens=Tensor(np.where(masked, 9, 0).astype(np.int32)),
        step=Tensor([step]), steps=Tensor([STEPS]), last=Tensor([step == STEPS - 1]),
        target_masked=Tensor(target.astype(np.int32)), to_fill=Tensor(to_fill.astype(np.int32)),
    )  # fmt: skip
    return view, left, target, to_fill


@pytest.mark.parametrize("count", [ScheduledCount(), EqualSharesCount(), OneCount()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("step", [0, 1])
def test_the_host_knows_what_the_device_leaves(count, step):
    view, left, target, to_fill = situation(step)
    sampler = ByMargin(count)
    after = sampler.step(view, {})[0].numpy()
    assert sampler.reveals == "schedule" and not sampler.adaptive
    assert ((after == 9).sum(axis=1) == sampler.most_left(left, target, to_fill, step, STEPS)).all()


@pytest.mark.parametrize("count", [ThresholdCount(0.7), FactorCount(1.0), EntropyBoundCount(0.3)], ids=repr)
def test_a_count_of_the_text_makes_any_score_adaptive(count):
    view, left, _, _ = situation(0)
    sampler = ByMargin(count)
    revealed = left - (sampler.step(view, {})[0].numpy() == 9).sum(axis=1)
    assert sampler.adaptive and not sampler.uses_steps and sampler.reveals == "text" and sampler.nfe(3, 5) == 5
    assert (revealed[left > 0] >= 1).all() and len(set(revealed[left > 0])) > 1
