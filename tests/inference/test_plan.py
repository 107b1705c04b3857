"""`StepPlan` on the host alone: which steps there are, what they need, and how many evaluations they take."""

import subprocess
import sys

import numpy as np
import pytest
from mist_bench_plugins.sampler_confidence import ConfidenceSampler
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_semi_autoregressive import SemiAutoregressiveSampler
from mist_bench_plugins.sampler_threshold import ThresholdSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.answers import inputs_of
from mist_bench.engine import noise
from mist_bench.inference.plan import Block, StepPlan, blocks

BATCH, LENGTH, SEED = 3, 8, 5
IDS = np.arange(BATCH) + 7
ALL = np.ones((BATCH, LENGTH), dtype=np.bool_)
SOME = np.arange(LENGTH) < np.array([[8], [3], [0]])
"""All positions of the first text are masked, three of the second, none of the third."""


def whole(free=ALL, steps=4) -> Block:
    return Block(free=free, texts=np.ones(BATCH, dtype=np.bool_), steps=steps, seed=SEED)


def plan_of(sampler, free=ALL, steps=4, schedule=None, masked=None, **more) -> StepPlan:
    block, masked = whole(free, steps), free if masked is None else masked
    return StepPlan(sampler, schedule or LinearSchedule(), block, masked, IDS, **more)


def test_a_plan_needs_no_tinygrad():
    lines = """
        import sys, numpy as np
        from mist_bench.inference.plan import StepPlan, blocks
        from mist_bench_plugins.sampler_random import RandomSampler
        from mist_bench_plugins.schedule_linear import LinearSchedule
        sampler, masked = RandomSampler(cached=True), np.ones((2, 4), dtype=bool)
        (block,) = blocks(sampler, masked, 3, 0)
        assert list(StepPlan(sampler, LinearSchedule(), block, masked, np.arange(2)))
        assert "tinygrad" not in sys.modules
    """
    program = "\n".join(line.strip() for line in lines.splitlines())
    subprocess.run([sys.executable, "-c", program], check=True)


# ---- every step of the plan


def test_a_sampler_by_the_schedule_has_every_step_and_its_inputs():
    plan = plan_of(ConfidenceSampler(), SOME, steps=4, schedule=CosineSchedule(), temperature=0.5)
    steps = list(plan)
    assert [step.number for step in steps] == [0, 1, 2, 3] and plan.evaluations.tolist() == [4, 3, 0]
    for j, step in enumerate(steps):
        given = inputs_of(step.words, BATCH)
        np.testing.assert_allclose(given.t, 1 - j / 4)
        np.testing.assert_allclose(given.alpha_t, CosineSchedule().alpha(1 - j / 4) if j else 0.0, atol=1e-6)
        assert given.to_fill.tolist() == [8, 3, 0] and given.temperature == np.float32(0.5)
        assert (given.step, given.steps, given.last) == (j, 4, j == 3)
        assert given.key.tolist() == list(noise.key_words(SEED, j))


def test_no_text_has_more_masked_positions_than_the_plan_says():
    most = [step.most for step in plan_of(ConfidenceSampler(), SOME, steps=4)]
    assert most == [8, 6, 4, 2]
    beside = SOME | (np.arange(LENGTH) >= 5)  # masked positions outside the block
    assert [step.most for step in plan_of(ConfidenceSampler(), SOME, steps=4, masked=beside)] == [8, 6, 4, 3]


def test_where_nobody_knows_all_may_be_masked():
    class Secret(ConfidenceSampler):
        def most_left(self, *given):
            return None

    assert [step.most for step in plan_of(Secret(), steps=3)] == [8, 8, 8]


def test_a_limit_counts_evaluations():
    assert [step.number for step in plan_of(ConfidenceSampler(), steps=6, limit=2)] == [0, 1]
    assert len(list(plan_of(RandomSampler(cached=True), SOME, steps=1000, limit=2))) == 2


# ---- idle steps


def revealed_by(steps: int, free) -> np.ndarray:
    """(n, B, L) which positions `random` reveals at each step, from the noise: at t falling from 1 in equal steps, each
    masked position with probability 1 / (steps left)."""
    masked, out = free.copy(), []
    for j in range(steps):
        uniform = noise.uniform_numpy(SEED, j, noise.CHOICE, IDS, LENGTH)
        now = masked & (uniform < np.float32(1 / (steps - j)))
        masked = masked & ~now
        out.append(now)
    assert not masked.any()
    return np.array(out)


@pytest.mark.parametrize("steps", [1, 5, 60])
@pytest.mark.parametrize("free", [ALL, SOME], ids=["all", "some"])
def test_idle_steps_are_left_out_and_not_counted(free, steps):
    revealed = revealed_by(steps, free)
    plan = plan_of(RandomSampler(cached=True), free, steps)
    taken = list(plan)
    assert [step.number for step in taken] == np.flatnonzero(revealed.any(axis=(1, 2))).tolist()
    assert plan.evaluations.tolist() == revealed.any(axis=2).sum(axis=0).tolist()
    masked = free.sum(axis=1) - np.concatenate([np.zeros((1, BATCH), dtype=int), revealed.sum(axis=2).cumsum(axis=0)])
    assert [step.most for step in taken] == [masked[step.number].max() for step in taken]


def test_no_step_is_left_out_where_every_step_counts():
    plan = plan_of(RandomSampler(cached=True), SOME, steps=60, every_step=True)
    assert len(list(plan)) == 60 and plan.evaluations.tolist() == [60] * BATCH
    plain = plan_of(RandomSampler(), SOME, steps=60)
    assert len(list(plain)) == 60 and plain.evaluations.tolist() == [60] * BATCH


def test_by_rows_the_coins_say_how_many_are_masked():
    steps, revealed = list(plan_of(RandomSampler(), steps=12, by_rows=True)), revealed_by(12, ALL)
    left = LENGTH - np.concatenate([np.zeros((1, BATCH), dtype=int), revealed.sum(axis=2).cumsum(axis=0)])[:-1]
    assert [step.most for step in steps] == left.max(axis=1).tolist() and len(steps) == 12


# ---- the text decides


def test_an_adaptive_sampler_ends_when_nothing_is_left():
    plan, seen = plan_of(ThresholdSampler(), SOME), []
    for step, left in zip(plan, ([5, 1, 0], [2, 0, 0], [0, 0, 0]), strict=False):
        given = inputs_of(step.words, BATCH)
        seen.append((step.number, step.most, given.t.tolist()))
        assert not given.last
        plan.left = np.array(left)
    assert [(number, most) for number, most, _ in seen] == [(0, 8), (1, 5), (2, 2)]
    np.testing.assert_allclose(seen[1][2], [5 / 8, 1 / 3, 0], rtol=1e-6)
    assert not list(plan_of(ThresholdSampler(), SOME & False))


# ---- blocks


def test_without_blocks_there_is_one():
    (block,) = blocks(ConfidenceSampler(), SOME, 6, SEED)
    assert (block.free == SOME).all() and block.texts.all() and (block.steps, block.seed) == (6, SEED)


def test_texts_of_as_many_blocks_go_together():
    sampler = SemiAutoregressiveSampler(block=3, inner=ConfidenceSampler())
    found = list(blocks(sampler, SOME, 7, SEED))
    assert [(block.texts.tolist(), block.steps) for block in found] == [
        ([False, True, False], 7), ([True, False, False], 3), ([True, False, False], 2), ([True, False, False], 2),
    ]  # fmt: skip
    assert [np.argwhere(block.free).tolist() for block in found] == [
        [[1, 0], [1, 1], [1, 2]], [[0, 0], [0, 1], [0, 2]], [[0, 3], [0, 4], [0, 5]], [[0, 6], [0, 7]],
    ]  # fmt: skip
    assert found[0].seed == found[1].seed == SEED and len({block.seed for block in found}) == 3


def test_a_block_is_planned_as_if_the_rest_were_fixed():
    sampler = SemiAutoregressiveSampler(block=3, inner=ConfidenceSampler())
    masked, evaluations, most = SOME.copy(), np.zeros(BATCH, dtype=int), []
    for block in blocks(sampler, SOME, 7, SEED):
        plan = StepPlan(sampler, LinearSchedule(), block, masked, IDS)
        most += [step.most for step in plan]
        evaluations[block.texts] += plan.evaluations[block.texts]
        masked &= ~block.free
    assert most == [8, 8, 8, 8, 7, 6, 5, 4, 2, 1]
    assert evaluations.tolist() == [sampler.nfe(7, int(many)) for many in SOME.sum(axis=1)]
