"""Checks of a sampler: its step is pure, can be captured, and depends on nothing else. Declared facts: `sampler_facts`.

It runs with a perfect denoiser on Markov chains of 2, 4 and 16 letters.
"""

from __future__ import annotations

import numpy as np

from ..api.samplers import Sampler
from ..host.registry import Registry
from .core import Failed, check
from .sampler_study import FEW, SMALL, SamplerStudy
from .worlds import follow


def study(component: Sampler, registry: Registry) -> SamplerStudy:
    return SamplerStudy(component, registry)


@check("sampler")
def runs(its: SamplerStudy) -> str:
    """It runs on texts of 2, 4 and 16 tokens, in 1 step, a few, as many as tokens, and more."""
    steps = {place.length: len(run.states) - 1 for _, run, place in its.runs()}
    return "at most " + ", ".join(f"{n} evaluations for {length}" for length, n in steps.items())


@check("sampler")
def no_mask_left(its: SamplerStudy) -> None:
    """Nothing is masked after the last step."""
    for name, run, place in its.runs():
        wrong = (run.final < 0) | (run.final >= place.mask)
        if wrong.any():
            rows = int(wrong.any(axis=1).sum())
            end = "stops after nfe(steps, M) evaluations" if its.component.adaptive else "ends where view.last is true"
            raise Failed(
                f"{name}: {rows} of {place.batch} texts still hold masks (or no token) at the end; generation {end}: "
                "reveal all that is masked by then"
            )


@check("sampler")
def fixed_tokens(its: SamplerStudy) -> None:
    """Fixed tokens do not change."""
    for seen in its.eager()[1]:
        before, free = seen.view.tokens.numpy(), seen.view.free.numpy()
        if (seen.after != before)[~free].any():
            raise Failed(
                "a step changes tokens that the user fixed (the host puts them back, but counts would be wrong); "
                "change only where view.masked, or at least view.free, is true"
            )


@check("sampler")
def deterministic(its: SamplerStudy) -> None:
    """The same seed gives the same text, another seed another."""
    place, run = its.world(SMALL), its.run(SMALL, FEW)
    again = follow(place, its.graph(SMALL), FEW, run.given)
    # a graph may replay even a random number: so the step is called twice as well
    first = its.eager()[1][0]
    called = first.again(its.component, first.view.uniform.numpy())
    if (again.states != run.states).any() or (called != first.own()).any():
        raise Failed(
            "the same seed gives a different text; take all noise from view.uniform (no Tensor.rand, no numpy.random)"
        )
    other = follow(place, its.graph(SMALL), FEW, run.given, seed=1)
    if (other.final == run.final).all():
        raise Failed(
            "another seed gives the same texts; reveal view.proposal, which is drawn, not the likeliest token"
        )


@check("sampler")
def batch_invariant(its: SamplerStudy) -> None:
    """A sequence gets the same tokens in any batch and at any place in it."""
    place, run = its.world(SMALL), its.run(SMALL, FEW)
    half = place.batch // 2
    order = np.random.default_rng(0).permutation(place.batch)
    strangers = order >= half  # other texts, with other noise
    given = np.where(strangers[:, None], place.empty(), run.given[order])
    numbers = np.where(strangers, order + 10 * place.batch, order)
    other = follow(place, its.graph(SMALL), FEW, given, sequences=numbers)
    if (other.final != run.final[order])[~strangers].any():
        raise Failed(
            "a text depends on the rest of its batch; never sum, sort or compare over the batch axis (axis=0, or no "
            "axis)"
        )


@check("sampler")
def captured(its: SamplerStudy) -> None:
    """In every step the captured graph gives what calling the step gives."""
    replayed, called = its.run(SMALL, FEW), its.eager()[0]
    steps = min(len(replayed.states), len(called.states))
    differs = (replayed.states[:steps] != called.states[:steps]).any(axis=(1, 2))
    if differs.any() or len(replayed.states) != len(called.states):
        raise Failed(
            f"replayed, the text differs from step {max(0, int(np.argmax(differs)) - 1)} on; a step is captured once: "
            "no Python on values (.item(), .numpy(), if, counters, numpy.random); use view.step and view.steps"
        )


@check("sampler")
def state(its: SamplerStudy) -> None:
    """The state keeps its names, shapes and types."""
    its.eager()  # the new state is written into the buffers of the old one, which fails if it does not fit
