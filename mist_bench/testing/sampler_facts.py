"""Checks of the facts that a sampler declares, on recorded trajectories; on the chain of 4 its exact law is known."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from ..api.component import FloatArray, UserError
from ..api.counts import Reveals
from ..api.samplers import Sampler, most_steps
from .core import Failed, Skipped, check
from .sampler_study import SMALL, STEPS, SamplerStudy
from .worlds import Seen, chi_square_z, follow

BoolArray = npt.NDArray[np.bool_]

ENOUGH = 16_384
LAW_TOLERANCE = 1e-5
"""Float32 rounding of the posterior, as a total variation."""
MOST_Z = 5.0
"""A true law fails by chance once in some three million samplers."""


@check("sampler")
def remasks(its: SamplerStudy) -> str | None:
    """Revealed tokens stay, unless remasks is True."""
    changed = 0
    for name, run, place in its.runs():
        masked = run.masked(place.mask)
        moved = (run.states[1:] != run.states[:-1]) & ~masked[:-1]
        changed += int(moved.sum())
        if moved.any() and not its.component.remasks:
            what = "masked again" if masked[1:][moved].any() else "replaced"
            raise Failed(
                f"{name}: a revealed token was {what}, and remasks is False; set remasks = True, or reveal only where "
                "view.masked: reveal.where(view.proposal, view.tokens) with reveal inside view.masked"
            )
    if its.component.remasks and not changed:
        return "remasks is True, but nothing revealed was changed in these runs"
    return None


@check("sampler")
def nfe(its: SamplerStudy) -> None:
    """It uses the declared number of evaluations (if adaptive: at most)."""
    sampler = its.component
    for name, run, place in its.runs():
        left = np.asarray(run.masked(place.mask).any(axis=2))  # (n + 1, B): before each evaluation, and at the end
        to_fill = (run.given == place.mask).sum(axis=1)
        for many in np.unique(to_fill):
            said, rows = sampler.nfe(run.steps, int(many)), to_fill == many
            if not isinstance(said, int | np.integer) or said < 0:
                raise Failed(f"nfe({run.steps}, {many}) is {said!r}; it is the number of evaluations, an int")
            steps = int(run.begins[rows][0]) + most_steps(sampler, run.steps, int(many))
            late = run.used[rows].max() > said if sampler.adaptive else left[min(steps, len(left) - 1)][rows].any()
            if late:
                raise Failed(
                    f"{name}: nfe({run.steps}, {many}) says {said}, but texts with {many} positions to fill still hold "
                    f"masks after {said} evaluations; reveal faster, or declare more"
                )
            # only if all of many texts are complete too early; a sampler that remasks may go on after that
            all_masked = many == place.length and said > 0 and not sampler.remasks
            if all_masked and not sampler.adaptive and not left[min(steps, len(left) - 1) - 1][rows].any():
                done = int(np.argmax(~left[:, rows].any(axis=1)))
                raise Failed(
                    f"{name}: nfe({run.steps}, {many}) says {said}, but all {rows.sum()} texts with {many} positions "
                    f"to fill were complete after {done}; declare {done} (min(steps, to_fill) if each step reveals at "
                    "least one)"
                )


@check("sampler")
def steps_are_used(its: SamplerStudy) -> None:
    """If uses_steps is False, the number of steps changes nothing."""
    if its.component.uses_steps:
        return
    first, *rest = (its.run(SMALL, steps) for steps in STEPS[SMALL])
    for run in rest:
        counts = [its.component.nfe(r.steps, SMALL) for r in (first, run)]
        if counts[0] != counts[1] or (run.final != first.final).any():
            raise Failed(
                f"uses_steps is False, but {run.steps} steps give another result than {first.steps}; set uses_steps = "
                "True, or do not look at steps"
            )


@check("sampler")
def times(its: SamplerStudy) -> None:
    """The times fall from at most 1 to 0, one row for each sequence."""
    place = its.world(SMALL)
    to_fill = np.array([4, 3, 1, 4, 2])
    uniform = np.random.default_rng(0).random((5, SMALL))
    for steps in STEPS[SMALL]:
        t = np.asarray(its.component.times(place.schedule, steps, to_fill, uniform))
        if t.ndim != 2 or len(t) != 5 or t.shape[1] < 2:
            raise Failed(f"times gives shape {t.shape} for 5 sequences; give (B, n + 1)")
        inside = np.isfinite(t).all() and (t >= 0).all() and (t <= 1).all()
        if not inside or (np.diff(t) > 0).any() or (t[:, -1] != 0).any():
            raise Failed(
                f"times with {steps} steps gives {np.round(t[0], 3).tolist()}; times fall, within 1..0, and end at 0"
            )


@check("sampler")
def left_to_right(its: SamplerStudy) -> None:
    """If left_to_right is True, each step reveals the first masked position and no other."""
    if not its.component.left_to_right:
        return
    for name, run, place in its.runs():
        masked = run.masked(place.mask)
        first = masked & (masked.cumsum(axis=2) == 1)
        if ((masked[:-1] & ~masked[1:]) != first[:-1]).any():
            raise Failed(
                f"{name}: a step reveals another position than the first masked one; set left_to_right = False"
            )


def _disturbed(sampler: Sampler, seen: Seen, choice: str) -> FloatArray:
    """(B, L) noise that is equivalent under the declared `choice`: random wherever the choice must not use it."""
    noise, view = seen.view.uniform.numpy().astype(np.float64), seen.view
    if choice == "continuous":
        return noise
    anything = np.random.default_rng(3).random(noise.shape)
    if choice == "order":
        return np.where(view.masked.numpy(), noise**2, anything)
    if choice in ("bernoulli", "coin"):
        # the schedule's coins where something is masked, or the sampler's own wherever it may write
        own = choice == "coin"
        heads = sampler.coin(view, seen.state).numpy() if own else view.reveal_probability.numpy()[:, None]
        same = np.where(noise < heads, noise / 2, (1 + noise) / 2)
        return np.where((view.free if own else view.masked).numpy(), same, anything)
    return anything


@check("sampler")
def choice(its: SamplerStudy) -> str | None:
    """Noise is used as choice declares."""
    declared = its.component.choice
    used = False
    for seen in its.eager()[1]:
        if (seen.again(its.component, _disturbed(its.component, seen, declared)) != seen.own()).any():
            raise Failed(
                f"choice is {declared!r}, but equivalent noise changes the outcome; declare how view.uniform is "
                "used: 'bernoulli' (only through uniform < reveal_probability), 'order' (only through its order "
                "among masked positions), else 'continuous'"
            )
        used |= bool((seen.again(its.component, _disturbed(its.component, seen, "none")) != seen.own()).any())
    return f"choice is {declared!r}, but noise changes nothing here" if declared != "none" and not used else None


def _revealed_with(its: SamplerStudy, seen: Seen, declared: str) -> tuple[BoolArray, BoolArray]:
    """(B, L) which positions a step reveals, and which it would if all were different that `declared` leaves out."""
    from tinygrad import Tensor

    view, numbers = seen.view, np.random.default_rng(5)
    masked = view.masked.numpy()
    other: dict[str, npt.NDArray[Any]] = {"log_probability": np.log(numbers.uniform(0.01, 1, masked.shape))}
    if declared == "shown":
        other["uniform"] = numbers.uniform(0.01, 0.99, masked.shape)
    else:
        certain = numbers.uniform(0.1, 1, masked.shape)
        other |= {"max_log_probability": np.log(certain), "margin": certain, "entropy": 1 - certain}
    fields = {name: Tensor(values.astype(np.float32)).realize() for name, values in other.items()}
    fields["proposal"] = Tensor(numbers.integers(0, view.mask, masked.shape).astype(np.int32)).realize()
    again = seen.with_fields(its.component, **fields)
    return masked & (seen.own() != view.mask), masked & (again != view.mask)


@check("sampler")
def order(its: SamplerStudy) -> str | None:
    """Which positions are revealed depends on what order declares, and on nothing else."""
    declared, remasks = its.component.order, its.component.remasks
    if remasks and declared != "drawn":
        raise Failed(f"order is {declared!r}, and it masks again, so that its order has no end; set order = 'drawn'")
    tried = "shown" if declared == "drawn" else declared
    same = all(np.array_equal(*_revealed_with(its, seen, tried)) for seen in its.eager()[1])
    if declared == "drawn":
        return "order = 'shown' may be declared: then its likelihood is measured" if same and not remasks else None
    if not same:
        what = "draws or other noise reveal" if declared == "shown" else "answers of the network reveal"
        raise Failed(f"order is {declared!r}, but other {what} other positions; set order = 'drawn'")
    return None


@check("sampler")
def exact_one_at_a_time(its: SamplerStudy) -> str | None:
    """If exact_one_at_a_time is True, its law with one position a step is the world's."""
    from ..measure.sampler_law import law_distance

    sampler, place = its.component, its.world(SMALL)
    try:
        distance = law_distance(sampler, place.schedule, SMALL, place.oracle, **place.frequencies(sampler))
    except UserError as error:
        raise Failed(f"its law cannot be computed: {error}; fix that first") from error
    if not sampler.exact_one_at_a_time:
        exact = distance is not None and distance < LAW_TOLERANCE
        return "it is exact here: exact_one_at_a_time = True may be declared" if exact else None
    advice = "choose by what is visible and by noise, never by the drawn value; or set exact_one_at_a_time = False"
    if distance is not None and distance > LAW_TOLERANCE:
        many = _most_at_once(its)
        if sampler.adaptive and many > 1:
            raise Skipped(
                f"it reveals up to {many} at once here, where nothing is declared; try parameters that reveal one"
            )
        raise Failed(
            f"its law is {distance:.3g} (total variation) from the truth, revealing at most {many} at once; {advice}"
        )
    if distance is None:
        z = _z_of_law(its)
        if z > MOST_Z:
            raise Failed(f"{ENOUGH} texts are {z:.3g} standard deviations from the world's law (chi-square); {advice}")
        return f"by {ENOUGH} texts, {z:.2g} standard deviations from the law"
    return None


@check("sampler")
def reveals(its: SamplerStudy) -> None:
    """What it reveals is decided by what reveals declares."""
    sampler = its.component
    if sampler.reveals not in get_args(Reveals):
        raise Failed(f"reveals is {sampler.reveals!r}; it is one of {', '.join(map(repr, get_args(Reveals)))}")
    if sampler.skips_idle_steps and sampler.reveals != "chance":
        raise Failed(
            f"skips_idle_steps is True and reveals is {sampler.reveals!r}; the host finds idle steps only of a sampler "
            "with reveals = 'chance'"
        )
    for seen in its.eager()[1]:
        view, after = seen.view, seen.own()
        masked, left = view.masked.numpy(), after == view.mask
        stays = masked & (view.uniform.numpy() >= view.reveal_probability.numpy()[:, None])
        if sampler.reveals == "chance" and (left != stays).any():
            raise Failed(
                "reveals is 'chance', but a step does not reveal exactly the masked positions where uniform < "
                "reveal_probability; set reveals = 'text'"
            )
        counts = masked.sum(axis=1), view.target_masked.numpy(), view.to_fill.numpy()
        step, steps = int(view.step.item()), int(view.steps.item())
        if sampler.reveals == "schedule" and (left.sum(axis=1) > sampler.most_left(*counts, step, steps)).any():
            raise Failed(
                "reveals is 'schedule', but a step leaves more masked than most_left says; correct most_left, or set "
                "reveals = 'text'"
            )


def _most_at_once(its: SamplerStudy) -> int:
    masked = its.run(SMALL, SMALL).masked(its.world(SMALL).mask)
    revealed: npt.NDArray[np.bool_] = masked[:-1] & ~masked[1:]
    return int(revealed.sum(axis=2).max())


def _z_of_law(its: SamplerStudy) -> float:
    """How far the law of many texts is from the world's, in standard deviations."""
    place = its.world(SMALL)
    vocab, length = place.oracle.vocab_size, place.length
    batches = ENOUGH // place.batch
    numbers = np.arange(ENOUGH).reshape(batches, place.batch)
    made = np.concatenate(
        [follow(place, its.graph(SMALL), SMALL, place.empty(), sequences=ids).final for ids in numbers]
    )
    counts = np.bincount(np.ravel_multi_index(tuple(made.T), (vocab,) * length), minlength=vocab**length)
    everything = np.indices((vocab,) * length).reshape(length, -1).T
    return chi_square_z(counts, np.exp(place.oracle.log_probability(everything)))
