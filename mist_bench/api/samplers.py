"""What a sampler implements, and the facts that it declares about itself.

Shapes: B sequences, L positions, V tokens that can be predicted (the mask is not one of them: its id is V).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from .component import Component, FloatArray, IntArray
from .counts import Count, Reveals, ScheduledCount, reveal_best, scheduled_left
from .schedules import Schedule
from .view import State, View, needs_problem

if TYPE_CHECKING:
    from tinygrad import Tensor

Choice = Literal["none", "bernoulli", "order", "coin", "continuous"]
Order = Literal["shown", "noise", "drawn"]
Network = Callable[["Tensor"], "Tensor"]
"""(B, L) tokens with masks -> (B, L, V) log-probabilities, seen tokens carried over: one evaluation."""

NOT_SCORED = -1
"""What stands for a token where a score is not a number (NaN), so that the generation can say so at its end."""
FACTS = (
    "uses_steps", "adaptive", "remasks", "left_to_right", "needs", "needs_prompt", "asks_itself", "evaluations",
    "choice", "order", "exact_one_at_a_time", "reveals", "skips_idle_steps", "block_size",
)  # fmt: skip
"""All that a sampler declares about its rule: class attributes or properties of `Sampler`."""


class Sampler(Component, ABC):
    """One pure step from a state of the tokens to the next, which is captured as a graph."""

    default: ClassVar[bool] = False
    """True: `mist-bench sample` takes it where no sampler is named."""
    uses_steps: ClassVar[bool] = True
    """False: `steps` is ignored, and the sampler gives one row, placed by its NFE."""
    adaptive: ClassVar[bool] = False
    """True: the number of evaluations depends on the text; generation goes on until nothing is masked."""
    remasks: ClassVar[bool] = False
    """Whether a revealed position may be masked again."""
    left_to_right: ClassVar[bool] = False
    """True: reveals the first masked position at each step; the only order that a causal family can follow."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """The costly fields of `View` that it reads, by name (`view.NEEDS`). With `left_out_log_probability` an evaluation
    is twice the work, and counts as two."""
    needs_prompt: ClassVar[bool] = False
    """True: without fixed tokens it does nothing of its own."""
    asks_itself: ClassVar[bool] = False
    """True: the answer of a step comes from `evaluate`, which asks the network as often as `evaluations` says."""

    @property
    def evaluations(self) -> int:
        """Network evaluations of one step."""
        return 2 if "left_out_log_probability" in self.needs else 1

    def evaluate(self, network: Network, tokens: Tensor, free: Tensor) -> Tensor:
        """(B, L) tokens with masks, (B, L) bool -> (B, L, V) the log-probabilities that the step uses: normalised, seen
        tokens carried over. Each call of `network` is one evaluation; used if `asks_itself`."""
        return network(tokens)

    def heat(self, step: int, steps: int) -> float:
        """Factor on the temperature of the proposals at this step; computed on the host, so no new graph."""
        return 1.0

    @property
    def choice(self) -> Choice:
        """How `view.uniform` enters: not at all; only through uniform < reveal_probability (`bernoulli`); only through
        its order among masked positions (`order`); only through uniform < `coin(view, state)`, at all free
        positions (`coin`); or otherwise (`continuous`: its exact law is not computed)."""
        return "none"

    @property
    def order(self) -> Order:
        """What decides which positions a step reveals: only what is `shown`, with how certain the network is of what is
        masked and with what is remembered of both; only `noise`; or also what was `drawn`, or noise beside the text.

        Given a text, `shown` makes every state on the way certain, so that the sampler's own likelihood is exact, and
        `noise` gives a bound (arXiv 2603.01367, 2510.25544). One that masks again has neither, and declares `drawn`."""
        return "drawn"

    def coin(self, view: View, state: State) -> Tensor:
        """(B, L) the probability of heads at each free position, for `choice` = `coin`; it must not use `uniform`."""
        raise TypeError(f"sampler {self.spec!r} declares choice = 'coin' and does not implement `coin`")

    @property
    def exact_one_at_a_time(self) -> bool:
        """Whether the law is the model's own when it reveals one position a step, at temperature 1."""
        return False

    @property
    def reveals(self) -> Reveals:
        """What decides how many positions stay masked after a step: `chance`, at exactly the masked positions where
        `uniform` < `reveal_probability`, so that the host predicts them from the noise; `schedule`, a number that
        `most_left` computes on the host; or the `text`. Where the host knows it, a network with a large vocabulary is
        evaluated at the masked positions alone."""
        return "text"

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray:
        """(B,) masked before a step at most, and the numbers of the view on the host -> (B,) masked after it at most.

        Used if `reveals` is "schedule". Too small a number is detected, and ends the generation with an error."""
        return scheduled_left(masked, target_masked)

    @property
    def skips_idle_steps(self) -> bool:
        """True, for `reveals` = "chance": evaluations at steps that reveal nothing are left out, and each sequence
        counts only those that it needed."""
        return False

    @property
    def block_size(self) -> int | None:
        """Positions that are filled at a time, from left to right; None: all at once.

        Each block is a run of its own, as if the rest were fixed: it has its share of the steps (`block_shares`), its
        own times, noise and state, and `free`, `masked` and all counts of the view are the block's.
        """
        return None

    @abstractmethod
    def nfe(self, steps: int, to_fill: int) -> int:
        """Network evaluations for one sequence with `to_fill` positions to fill (at most, if adaptive or skipping).

        That is the number of steps times `evaluations`.
        """

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        """The falling times of each sequence, (B, n + 1), the last 0: step j goes from column j to column j + 1.

        1, 1 - 1/steps, …, 0 unless overridden.

        `to_fill` (B,) is M; `uniform` (B, L) is host noise keyed by (seed, sequence), for samplers with random times.
        """
        return np.broadcast_to(1.0 - np.arange(steps + 1) / steps, (len(to_fill), steps + 1)).copy()

    def initial_state(self, batch: int, length: int) -> State:
        """Tensors that the sampler remembers from step to step; none by default."""
        return {}

    @abstractmethod
    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        """The tokens (B, L) after this step, and the new state. Tensor operations only: no Python on values."""


class Forwarded:
    """A fact that is read from a part of the sampler. Read from the class, it is the default of `Sampler`."""

    def __init__(self, part: str, name: str) -> None:
        self.part, self.name = part, name

    def __get__(self, sampler: Any, owner: type) -> Any:
        return getattr(Sampler if sampler is None else getattr(sampler, self.part), self.name)


class ScoreSampler(Sampler):
    """Reveal the positions with the best `scores`, as many as `count` says: most samplers only score."""

    uses_steps: ClassVar[Any] = Forwarded("count", "uses_steps")
    adaptive: ClassVar[Any] = Forwarded("count", "adaptive")

    @abstractmethod
    def scores(self, view: View) -> Tensor:
        """(B, L); the highest are revealed first; ties go to the left."""

    @property
    def count(self) -> Count:
        """How many to reveal; what the schedule says unless overridden."""
        return ScheduledCount()

    @property
    def reveals(self) -> Reveals:
        return self.count.reveals if type(self).step is ScoreSampler.step else "text"

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray:
        return self.count.left(masked, target_masked, to_fill, step, steps)

    def nfe(self, steps: int, to_fill: int) -> int:
        return self.evaluations * self.count.steps(steps, to_fill)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        score = self.scores(view)
        reveal = reveal_best(score, view.masked, self.count.of(view, score))
        return (view.masked & score.isnan()).where(NOT_SCORED, reveal.where(view.proposal, view.tokens)), state


def facts_problem(sampler: Sampler) -> str:
    """Why something that a sampler declares about its rule cannot be; empty if all can."""
    if problem := needs_problem(sampler.needs):
        return problem
    for name, known in (("choice", get_args(Choice)), ("reveals", get_args(Reveals)), ("order", get_args(Order))):
        if (declared := getattr(sampler, name)) not in known:
            return f"{name} is {declared!r}; it is one of {', '.join(map(repr, known))}"
    size = sampler.block_size
    whole = isinstance(sampler.evaluations, int) and sampler.evaluations >= 1
    if not whole or (size is not None and not (isinstance(size, int) and size >= 1)):
        name = "block_size" if whole else "evaluations"
        return f"{name} is {getattr(sampler, name)!r}; it is a whole number from 1 on"
    return ""


def most_steps(sampler: Sampler, steps: int, to_fill: int) -> int:
    """How many steps a sequence takes, at most if the sampler is adaptive."""
    return -(-sampler.nfe(steps, to_fill) // sampler.evaluations)


def block_shares(steps: int, to_fill: int, size: int) -> list[tuple[int, int]]:
    """Steps and positions to fill of each block of `size`: steps // blocks, one more for the earliest, at least one."""
    count = -(-to_fill // size)
    return [(max(1, steps // count + (i < steps % count)), min(size, to_fill - i * size)) for i in range(count)]
