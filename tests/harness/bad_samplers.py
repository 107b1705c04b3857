"""Small samplers that each break one promise, with the check that must fail."""

from __future__ import annotations

from itertools import count

from tinygrad import Tensor

from mist_bench import Count, Sampler, ScoreSampler


class Margin(ScoreSampler):
    name = "bad"
    source = "tests"

    def scores(self, view):
        return view.margin


class AsksForTheWholeAnswer(Margin):
    def scores(self, view):
        return view.log_probabilities.max(axis=-1)


class One(Count):
    def of(self, view, score):
        return view.to_fill.ones_like()


class OneEachTime(Margin):
    count = One()


class WritesOverWhatIsFixed(Margin):
    def step(self, view, state):
        after, state = super().step(view, state)
        return view.masked.where(after, (view.tokens + 1) % 3), state


class DrawsForItself(Margin):
    def scores(self, view):
        return Tensor.rand(*view.masked.shape)


class Greedy(Margin):
    needs = frozenset({"log_probabilities"})

    def step(self, view, state):
        reveal = view.masked & view.last
        return reveal.where(view.log_probabilities.argmax(axis=-1).int(), view.tokens), state

    def nfe(self, steps, to_fill):
        return steps


class OfTheBatch(Count):
    def of(self, view, score):
        left = view.masked.sum(axis=-1).int()
        return view.last.where(left, (view.masked.sum() % 3).int().expand(*left.shape))


class LooksAtTheBatch(Margin):
    count = OfTheBatch()


class LooksAtValues(Margin):
    def scores(self, view):
        return view.margin * (1 if view.step.item() % 2 else -1)


class CountsItsCalls(Margin):
    calls = count()

    def scores(self, view):
        return view.margin * (1 if next(self.calls) % 2 else -1)


class StateChangesType(Margin):
    def initial_state(self, batch, length):
        return {"count": Tensor.zeros(batch, dtype="int32").contiguous()}

    def step(self, view, state):
        return super().step(view, state)[0], {"count": state["count"] * 0.5}


class StateLosesAName(StateChangesType):
    def step(self, view, state):
        return super().step(view, state)[0], {}


class Replaces(Margin):
    def step(self, view, state):
        after, state = super().step(view, state)
        revealed = view.free & ~view.masked & (view.step == 1)
        return revealed.where((view.tokens + 1) % 3, after), state


class ReplacesAndSaysSo(Replaces):
    remasks = True


class SaysThatItRemasks(Margin):
    remasks = True


class DeclaresTooFew(OneEachTime):
    def nfe(self, steps, to_fill):
        return 1


class DeclaresTooMany(Margin):
    def nfe(self, steps, to_fill):
        return steps + 1


class SaysStepsDoNotMatter(Margin):
    uses_steps = False


class TimesRise(Margin):
    def times(self, schedule, steps, to_fill, uniform):
        return super().times(schedule, steps, to_fill, uniform)[:, ::-1]


class TimesOfOneRow(Margin):
    def times(self, schedule, steps, to_fill, uniform):
        return super().times(schedule, steps, to_fill, uniform)[0]


class SaysLeftToRight(Margin):
    left_to_right = True


class SaysByChance(Margin):
    reveals = "chance"


class LeavesMoreThanItSays(Margin):
    def most_left(self, masked, target_masked, to_fill, step, steps):
        return target_masked // 2


class SkipsByTheText(Margin):
    skips_idle_steps = True


class RevealsByLuck(Margin):
    reveals = "luck"


class NoiseUndeclared(Margin):
    def scores(self, view):
        return (view.uniform * 20).sin()


class OrderIsNotAll(NoiseUndeclared):
    choice = "order"


class CoinIsNotAll(Margin):
    choice = "bernoulli"

    def nfe(self, steps, to_fill):
        return steps

    def step(self, view, state):
        reveal = view.masked & ((view.uniform < 1.2 * view.reveal_probability.unsqueeze(-1)) | view.last)
        return reveal.where(view.proposal, view.tokens), state


class ChoosesByTheDraw(Margin):
    exact_one_at_a_time = True

    def scores(self, view):
        return view.log_probability


class ChoosesByTheDrawWithNoise(ChoosesByTheDraw):
    choice = "continuous"

    def scores(self, view):
        return view.log_probability + 0.1 * view.uniform


class ChoosesByTheDrawAndRemembers(ChoosesByTheDraw):
    def initial_state(self, batch, length):
        return {"nothing": Tensor.zeros(batch).contiguous()}


class SaysThatDrawsDoNotMatter(ChoosesByTheDraw):
    order = "shown"


class SaysThatNoiseAloneMatters(Margin):
    order = "noise"


class MasksAgainInOrder(ReplacesAndSaysSo):
    order = "noise"


class ExactByNoise(Margin):
    """Right: its law can only be sampled, and is the world's."""

    exact_one_at_a_time = True
    choice = "continuous"

    def scores(self, view):
        return view.margin + view.uniform


class Unsure(Sampler):
    """Right: adaptive, and exact only where it reveals one at a time."""

    name = "unsure"
    adaptive = True
    uses_steps = False
    exact_one_at_a_time = True

    def nfe(self, steps, to_fill):
        return to_fill

    def step(self, view, state):
        best = view.masked.where(view.margin, -1.0).max(axis=-1, keepdim=True)
        reveal = view.masked & (view.margin >= 0.3 * best)
        return reveal.where(view.proposal, view.tokens), state


BAD = [
    (AsksForTheWholeAnswer, "runs", r"raised AttributeError at bad_samplers.py:\d+: .*set needs = frozenset\(\{'log_probabilities'\}\)"),
    (StateLosesAName, "runs", "step gives no state 'count', which initial_state has"),
    (LooksAtValues, "runs", r"raised JitError at bad_samplers.py:\d+: .*a step is captured once: tensor operations only"),
    (OneEachTime, "no-mask-left", r"L = 2, 1 steps: \d+ of 64 texts still hold masks .* view.last is true"),
    (WritesOverWhatIsFixed, "fixed-tokens", "changes tokens that the user fixed .* change only where view.masked"),
    (DrawsForItself, "deterministic", "the same seed gives a different text; take all noise from view.uniform"),
    (Greedy, "deterministic", "another seed gives the same texts; reveal view.proposal"),
    (LooksAtTheBatch, "batch-invariant", "depends on the rest of its batch; never sum"),
    (DrawsForItself, "captured", "replayed, the text differs from step"),
    (CountsItsCalls, "captured", r"replayed, the text differs from step \d on; .* no Python on values"),
    (StateChangesType, "state", "'count' begins as .*int.* and becomes .*float.*; give the same shapes"),
    (StateLosesAName, "state", r"a state of the names \[\] for \['count'\]; return the same names"),
    (Replaces, "remasks", "a revealed token was replaced, and remasks is False; set remasks = True"),
    (DeclaresTooFew, "nfe", r"nfe\(1, 2\) says 1, but texts with 2 positions to fill still hold masks after 1 evaluations; reveal faster"),
    (DeclaresTooMany, "nfe", r"nfe\(1, 2\) says 2, but all 1?\d+ texts with 2 positions .* after 1; declare 1"),
    (SaysStepsDoNotMatter, "steps-are-used", "uses_steps is False, but 3 steps give another result than 1"),
    (TimesRise, "times", "times fall, within 1..0, and end at 0"),
    (TimesOfOneRow, "times", r"gives shape \(2,\) for 5 sequences; give \(B, n \+ 1\)"),
    (SaysLeftToRight, "left-to-right", "reveals another position than the first masked one; set left_to_right = False"),
    (SaysByChance, "reveals", "reveals is 'chance', but a step does not reveal exactly .* set reveals = 'text'"),
    (LeavesMoreThanItSays, "reveals", "a step leaves more masked than most_left says; correct most_left"),
    (SkipsByTheText, "reveals", "skips_idle_steps is True and reveals is 'schedule'; .* with reveals = 'chance'"),
    (RevealsByLuck, "reveals", "reveals is 'luck'; it is one of 'chance', 'schedule', 'text'"),
    (NoiseUndeclared, "choice", "choice is 'none', but equivalent noise changes the outcome"),
    (OrderIsNotAll, "choice", "choice is 'order', but"),
    (CoinIsNotAll, "choice", "choice is 'bernoulli', but"),
    (ChoosesByTheDraw, "exact-one-at-a-time", r"its law is 0.52\d .* revealing at most 1 at once; .*never by the drawn value"),
    (ChoosesByTheDrawWithNoise, "exact-one-at-a-time", "standard deviations from the world's law .*or set exact_one_at_a_time = False"),
    (ChoosesByTheDrawAndRemembers, "exact-one-at-a-time", "standard deviations from the world's law"),
    (SaysThatDrawsDoNotMatter, "order", "order is 'shown', but other draws or other noise reveal other positions; set order = 'drawn'"),
    (SaysThatNoiseAloneMatters, "order", "order is 'noise', but other answers of the network reveal other positions"),
    (MasksAgainInOrder, "order", "order is 'noise', and it masks again"),
    (NoiseUndeclared, "exact-one-at-a-time", "law cannot be computed: .* does not use its noise as"),
]
FINE = [
    (ReplacesAndSaysSo, "remasks", "ok", "^$"),
    (SaysThatItRemasks, "remasks", "ok", "remasks is True, but nothing revealed was changed in these runs"),
    (ExactByNoise, "exact-one-at-a-time", "ok", r"by 16384 texts, -?\d"),
    (Unsure, "exact-one-at-a-time", "skipped", "it reveals up to [234] at once here, where nothing is declared"),
    (Margin, "order", "ok", "order = 'shown' may be declared: then its likelihood is measured"),
    (ChoosesByTheDraw, "order", "ok", "^$"),
    (Margin, "exact-one-at-a-time", "ok", "exact_one_at_a_time = True may be declared"),
]
