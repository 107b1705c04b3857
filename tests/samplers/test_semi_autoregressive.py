"""Blocks from left to right: which positions are open, which steps a block gets, the law, and the sampler inside."""

import shutil
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.sampler_semi_autoregressive import SemiAutoregressiveSampler
from mist_bench_plugins.schedule_cosine import CosineSchedule

from harness.answers import inputs_of
from harness.brute_force import WORLD, L, assert_counts_follow
from harness.chain import LINEAR, TEXTS, law_of, posterior
from harness.experiments import cells
from harness.runs import LONG, REGISTRY, SMALL
from mist_bench import Count, Sampler, ScoreSampler, UserError, block_shares
from mist_bench.api.samplers import FACTS
from mist_bench.cli import listing
from mist_bench.host.registry import Registry
from mist_bench.inference.plan import StepPlan, blocks
from mist_bench.measure.sampler_law import law_distance, total_variation


def made(spec: str) -> Sampler:
    return REGISTRY.make("sampler", spec)


@pytest.mark.parametrize(
    ("steps", "to_fill", "size", "shares"),
    [(8, 16, 4, [(2, 4)] * 4), (10, 16, 4, [(3, 4), (3, 4), (2, 4), (2, 4)]), (2, 9, 4, [(1, 4), (1, 4), (1, 1)]),
     (7, 3, 16, [(7, 3)]), (5, 10, 5, [(3, 5), (2, 5)]), (5, 0, 5, [])],
)  # fmt: skip
def test_steps_are_shared_out_and_the_rest_goes_to_the_earliest(steps, to_fill, size, shares):
    assert block_shares(steps, to_fill, size) == shares


# ---- the law, on a world small enough

MASK = 3


def by_count(best, counts):
    """In each step of each block reveal so many of the block, by p of the draw or by the largest p."""

    def outcomes(block, step, places, shown, p):
        for values in product(range(3), repeat=len(places)):
            x = dict(zip(places, values, strict=True))
            score = {i: p[i, x[i]] if best == "draw" else max(p[i]) for i in places}
            order = sorted(places, key=lambda i: (-round(score[i], 9), i))
            yield {i: x[i] for i in order[: counts[block][step]]}, np.prod([p[i, x[i]] for i in places])

    return outcomes


def by_coins(chances):
    def outcomes(block, step, places, shown, p):
        r = chances[block][step]
        for k in range(len(places) + 1):
            for some in combinations(places, k):
                for values in product(range(3), repeat=k):
                    chance = np.prod([p[i, a] for i, a in zip(some, values, strict=True)])
                    yield dict(zip(some, values, strict=True)), chance * r**k * (1 - r) ** (len(places) - k)

    return outcomes


def by_coins_and_back(eta, shares):
    """ReMDM's cap under `linear` in each block: sigma for what the block shows."""

    def outcomes(block, step, places, shown, p):
        t, s = step / shares[block], (step + 1) / shares[block]  # alphas
        sigma = min(eta, 1.0 if t == 0 else (1 - s) / t)
        r = (s - (1 - sigma) * t) / (1 - t)
        for again in product([False, True], repeat=len(shown)):
            back = {i: MASK for i, lost in zip(shown, again, strict=True) if lost}
            chance = sigma ** len(back) * (1 - sigma) ** (len(shown) - len(back))
            for values in product(range(MASK + 1), repeat=len(places)):
                law = [1 - r if a == MASK else r * p[i, a] for i, a in zip(places, values, strict=True)]
                yield {**dict(zip(places, values, strict=True)), **back}, chance * np.prod(law)

    return outcomes


def law_of_rule(size, steps_of_block, outcomes) -> np.ndarray:
    law = {(MASK,) * L: 1.0}
    for block, steps in enumerate(steps_of_block):
        for step in range(steps):
            after: dict = {}
            for state, weight in law.items():
                places = [i for i in range(L) if i // size == block and state[i] == MASK]
                shown = [i for i in range(L) if i // size == block and state[i] != MASK]
                for changed, chance in outcomes(block, step, places, shown, posterior(state)):
                    new = tuple(changed.get(i, state[i]) for i in range(L))
                    if chance > 0:
                        after[new] = after.get(new, 0.0) + weight * chance
            law = after
    assert all(MASK not in state for state in law)
    return np.array([law[x] for x in TEXTS])


RUNS = [
    ("semi-autoregressive[block=2,inner=confidence]", 3, 2, [2, 1], by_count("draw", [[1, 1], [2]])),
    ("semi-autoregressive[block=2]", 2, 2, [1, 1], by_count("draw", [[2], [2]])),
    ("semi-autoregressive[block=3,inner=top-k]", 3, 3, [2, 1], by_count("draw", [[2, 1], [1]])),
    ("semi-autoregressive[block=2,inner=random]", 5, 2, [3, 2], by_coins([[1 / 3, 1 / 2, 1], [1 / 2, 1]])),
    ("semi-autoregressive[block=2,inner=remdm[eta=0]]", 5, 2, [3, 2], by_coins([[1 / 3, 1 / 2, 1], [1 / 2, 1]])),
    ("semi-autoregressive[block=2,inner=remdm[eta=0.3]]", 7, 2, [4, 3], by_coins_and_back(0.3, [4, 3])),
]


@pytest.mark.parametrize(("spec", "steps", "size", "shares", "outcomes"), RUNS, ids=lambda x: x if isinstance(x, str) else "")
def test_the_law_is_the_rule_in_each_block(spec, steps, size, shares, outcomes):
    law = law_of(made(spec), LINEAR, steps)
    assert total_variation(law, law_of_rule(size, shares, outcomes)) < 1e-5


@pytest.mark.parametrize("inner", ["margin", "entropy", "confidence[score=max]", "first-hitting", "autoregressive"])
def test_one_position_a_step_is_exact_where_the_inner_sampler_is(inner):
    sampler = made(f"semi-autoregressive[block=2,inner={inner}]")
    assert sampler.exact_one_at_a_time
    assert law_distance(sampler, LINEAR, 4, WORLD) < 1e-5


def test_blocks_make_another_law_and_one_block_the_inner_one():
    inner = law_distance(made("confidence"), LINEAR, 2, WORLD)
    assert law_distance(made("semi-autoregressive[block=4,inner=confidence]"), LINEAR, 2, WORLD) == inner
    assert abs(law_distance(made("semi-autoregressive[block=2,inner=confidence]"), LINEAR, 2, WORLD) - inner) > 0.01


# ---- the device

END, BATCH = LONG.mask, LONG.batch
EMPTY = LONG.empty


def run(spec, tokens=EMPTY, *, steps=6, **how):
    return LONG(spec, tokens, steps=steps, seed=4, **how)


INNER = ["random", "top-k", "first-hitting", "confidence[noise=1.0]", "remdm[kind=conf]", "p2"]


@pytest.mark.parametrize("inner", INNER)
def test_one_block_is_the_inner_sampler_token_for_token(inner):
    np.testing.assert_array_equal(
        run(f"semi-autoregressive[block=12,inner={inner}]", schedule=CosineSchedule())[0],
        run(inner, schedule=CosineSchedule())[0],
    )


def given_here_and_there() -> tuple[np.ndarray, np.ndarray]:
    """Texts with different numbers of fixed tokens at different positions: none, all, half of them."""
    rng = np.random.default_rng(0)
    fixed = rng.random((BATCH, 12)) < np.linspace(0, 1, BATCH)[:, None]
    fixed[-1] = True
    return fixed, np.where(fixed, LONG.oracle.sample(BATCH, rng), END).astype(np.int32)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("steps", [2, 7, 40])
def test_blocks_are_filled_from_left_to_right_and_then_left_alone(inner, steps):
    fixed, given = given_here_and_there()
    seen: list = []
    spec = f"semi-autoregressive[block=5,inner={inner}]"
    made_here, used = run(spec, given, steps=steps, watch=lambda step, now, guesses: seen.append(now))
    assert (made_here < 3).all() and (made_here[fixed] == given[fixed]).all()
    sampler = made(spec)
    assert used.tolist() == [sampler.nfe(steps, int(many)) for many in (~fixed).sum(axis=1)]
    states = np.array([*seen, made_here])
    block = np.where(fixed, -1, ((~fixed).cumsum(axis=1) - 1) // 5)
    for b in range(BATCH):
        blocks = range(block[b].max() + 1)
        changes = [np.flatnonzero((states[1:, b] != states[:-1, b])[:, block[b] == i].any(axis=1)) for i in blocks]
        for one, other in zip(changes, changes[1:], strict=False):
            assert one.max() < other.min(), "a block was touched before the one before it was full"


@pytest.mark.parametrize("inner", ["random", "remdm[kind=conf]", "first-hitting", "confidence[noise=1.0]"])
def test_no_batch_matters(inner):
    spec = f"semi-autoregressive[block=5,inner={inner}]"
    _, given = given_here_and_there()
    other = np.random.default_rng(1).permutation(BATCH)
    whole, used = run(spec, given)
    shuffled, again = run(spec, given[other], ids=other)
    assert np.array_equal(whole[other], shuffled) and np.array_equal(used[other], again)
    alone = np.repeat(given[9:10], BATCH, axis=0)  # beside sequences with as many blocks only
    assert np.array_equal(run(spec, alone, ids=np.full(BATCH, 9))[0], np.repeat(whole[9:10], BATCH, axis=0))


def test_counts_steps_and_the_last_step_are_those_of_the_block():
    seen: list = []
    run("semi-autoregressive[block=5]", steps=7, watch=lambda step, now, guesses: seen.append((step, (now == END).sum())))
    left = [12, 10, 8, 7, 4, 2, 1, 0]  # 5 in 3 steps: 2, 2, 1; 5 in 2: 3, 2; 2 in 2: 1, 1
    assert seen == [(j, BATCH * many) for j, many in enumerate(left[:-1])]


def planned(spec, steps=6):
    """The inputs of all steps for texts of masks, planned on the host."""
    sampler, masked = made(spec), EMPTY == END
    plans = [StepPlan(sampler, LINEAR, block, masked, np.arange(BATCH)) for block in blocks(sampler, masked, steps, 4)]
    return [inputs_of(step.words, BATCH) for plan in plans for step in plan]


def test_random_times_are_others_in_each_block():
    times = [step.t[0] for step in planned("semi-autoregressive[block=4,inner=first-hitting]")]
    one, two, three = np.reshape(times, (3, 4))
    assert not (one == two).any() and not (two == three).any() and not (one == three).any()


class Everything(Count):
    adaptive = True

    def of(self, view, score):
        return view.to_fill


class AllAtOnce(ScoreSampler):
    """Adaptive: it is done when nothing of the block is masked."""

    name = "all-at-once"
    count = Everything()

    def scores(self, view):
        return view.margin


def test_an_adaptive_sampler_goes_on_as_soon_as_the_block_is_full():
    seen: list = []
    sampler = SemiAutoregressiveSampler(block=5, inner=AllAtOnce())
    made_here, used = run(sampler, steps=9, watch=lambda step, now, guesses: seen.append((step, (now == END).sum())))
    assert seen == [(0, 12 * BATCH), (1, 7 * BATCH), (2, 2 * BATCH)] and (used == 3).all() and (made_here < 3).all()


def test_each_step_has_the_time_of_the_block():
    found = [(round(float(x.t[0]), 6), *(int(n[0]) for n in (x.step, x.steps, x.last, x.to_fill, x.target_masked)))
             for x in planned("semi-autoregressive[block=5]", steps=7)]  # fmt: skip
    third = round(1 / 3, 6)  # t, step, steps, last, M, how many stay masked
    assert found == [(1, 0, 3, 0, 5, 3), (round(2 / 3, 6), 1, 3, 0, 5, 2), (third, 2, 3, 1, 5, 0), (1, 0, 2, 0, 5, 3),
                     (0.5, 1, 2, 1, 5, 0), (1, 0, 2, 0, 2, 1), (0.5, 1, 2, 1, 2, 0)]  # fmt: skip


@pytest.mark.parametrize("inner", ["first-hitting", "remdm[kind=loop]"])
def test_times_are_those_of_the_inner_sampler(inner):
    uniform = np.random.default_rng(0).random((2, 12))
    given = (CosineSchedule(), 40, np.array([4, 2]), uniform)
    np.testing.assert_array_equal(made(f"semi-autoregressive[inner={inner}]").times(*given), made(inner).times(*given))


class InBlocks(RandomSampler):
    """A sampler that declares blocks of its own."""

    block_size = 5


def test_any_sampler_may_have_blocks():
    fixed, given = given_here_and_there()
    filled, used = run(InBlocks(), given, steps=7)
    ours, as_ours = run("semi-autoregressive[block=5,inner=random]", given, steps=7)
    np.testing.assert_array_equal(filled, ours)
    np.testing.assert_array_equal(used, as_ours)


def test_a_limit_stops_in_the_first_block():
    made_here, used = run("semi-autoregressive[block=5,inner=confidence]", limit=1)
    assert (used <= 2).all() and ((made_here == END).sum(axis=1) == 12 - 2).all()


@pytest.mark.parametrize(("spec", "steps", "size", "shares", "outcomes"), RUNS[3::2], ids=lambda x: x if isinstance(x, str) else "")
def test_what_the_device_draws_follows_the_law(spec, steps, size, shares, outcomes):
    counts = SMALL.counts(spec, 12_288, steps=steps)
    assert_counts_follow(counts, law_of_rule(size, shares, outcomes))


# ---- the sampler inside


def test_every_fact_is_that_of_the_inner_sampler():
    """Every fact of the contract, also a future one: an inner sampler with different facts shows through."""
    properties = [name for name, value in vars(Sampler).items() if isinstance(value, property)]
    values = [n for n, value in vars(Sampler).items() if isinstance(value, bool | frozenset) and not n.startswith("_")]
    assert set(properties + values) - {"default"} == set(FACTS)  # an outer sampler is not what `sample` takes
    facts = [name for name in values if name not in ("needs", "default")]
    contrary = type("Contrary", (type(made("random")),), {name: not getattr(Sampler, name) for name in facts})()
    outer = SemiAutoregressiveSampler(inner=contrary)
    assert {name: getattr(outer, name) for name in facts} == {name: not getattr(Sampler, name) for name in facts}
    for spec in ("first-hitting", "remdm", "margin", "confidence[noise=1.0]", "klass", "random[cached=true]"):
        outer = made(f"semi-autoregressive[inner={spec}]")
        for name in set(FACTS) - {"block_size"}:
            assert getattr(outer, name) == getattr(outer.inner, name)
    assert outer.block_size == 16


def test_the_spec_makes_the_same_object_again_in_its_shortest_form():
    plain = made("semi-autoregressive")
    assert plain.inner == made("top-k") and plain.block == 16 and plain.spec == "semi-autoregressive"
    assert made("semi-autoregressive[inner=top-k,block=16]").spec == "semi-autoregressive"
    nested = "semi-autoregressive[block=8,inner=confidence[score=max,noise=1.5]]"
    assert made(nested).spec == nested and made(made(nested).spec) == made(nested)
    assert made("semi-autoregressive[inner=confidence[score=proposal]]").spec == "semi-autoregressive[inner=confidence]"


def test_the_content_holds_all_of_the_inner_sampler():
    inner = made("confidence[noise=1.5]")
    assert made("semi-autoregressive[inner=confidence[noise=1.5]]").content() == {
        "name": "semi-autoregressive", "block": 16, "inner": inner.content(),
    }  # fmt: skip
    assert inner.content() == {"name": "confidence", "score": "proposal", "noise": 1.5, "cool": 0.0}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("semi-autoregressive[inner=confidance]", "unknown sampler 'confidance'; did you mean 'confidence'?"),
        ("semi-autoregressive[inner=confidence[score=best]]", "score is one of proposal, max, not 'best'"),
        ("semi-autoregressive[inner=confidence[taw=1]]", "sampler 'confidence' has no parameter 'taw'"),
        ("semi-autoregressive[block=0]", "block is 1 or more, not 0"),
        ("semi-autoregressive[inner=semi-autoregressive[block=4]]", "inner has blocks itself"),
    ],
)
def test_what_cannot_be_inside_is_refused(spec, message):
    with pytest.raises(UserError) as caught:
        made(spec)
    assert message in str(caught.value)


def test_listing_shows_the_default():
    row = listing.describe_component(REGISTRY, "sampler", "semi-autoregressive")
    inner = next(p for p in row["parameters"] if p["name"] == "inner")
    assert inner["default"] == "top-k" and not inner["required"]


FOREIGN = """
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench import hookimpl

class Other(RandomSampler):
    name = "other-sampler"

@hookimpl
def mist_bench_samplers():
    yield Other
"""


def generations(registry, samplers):
    return {cell.hash for cell in cells(registry=registry, samplers=samplers) if cell.kind == "generation"}


def test_the_inner_sampler_decides_the_name_of_a_cell(tmp_path):
    first = generations(REGISTRY, "semi-autoregressive[inner=confidence]")
    assert first == generations(REGISTRY, "semi-autoregressive[inner=confidence[score=proposal]]")
    assert first - generations(REGISTRY, "semi-autoregressive[inner=confidence[score=max]]")
    file = tmp_path / "foreign.py"
    file.write_text(FOREIGN)
    before = generations(Registry.discover([file]), "semi-autoregressive[inner=other-sampler]")
    moved = Path(shutil.copy(file, tmp_path / "elsewhere.py"))
    assert generations(Registry.discover([moved]), "semi-autoregressive[inner=other-sampler]") == before
    file.write_text(FOREIGN + "# edited\n")
    after = generations(Registry.discover([file]), "semi-autoregressive[inner=other-sampler]")
    assert len(after) == len(before) and len(before - after) > 0
    assert before & after == generations(REGISTRY, "random") & before, "only the baseline's own rows stay"
