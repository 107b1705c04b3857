"""What a sampler sees, what it implements, and the facts that it declares about itself.

Shapes: B sequences, L positions, V tokens that can be predicted (the mask is not one of them: its id is V).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .component import Component, FloatArray, IntArray
from .schedules import Schedule

if TYPE_CHECKING:
    from tinygrad import Tensor

Choice = Literal["none", "bernoulli", "order", "coin", "continuous"]
Network = Callable[["Tensor"], "Tensor"]
"""(B, L) tokens with masks -> (B, L, V) log-probabilities, what is seen carried over: one evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """What a sampler sees at one step: tensors, so that one captured graph serves every step and every step count.

    All probabilities are the network's own (temperature 1); only the proposal follows temperature and nucleus.
    """

    tokens: Tensor  # (B, L) int32; the mask's id where masked
    mask: int  # V, the mask's id: what a sampler writes to mask a position again
    masked: Tensor  # (B, L) bool; what may be revealed now
    free: Tensor  # (B, L) bool; False where the user fixed the token: never to be changed
    proposal: Tensor  # (B, L) int32; x̂ drawn from the network's p at every position
    log_probability: Tensor  # (B, L) log p(x̂)
    max_log_probability: Tensor  # (B, L) log of the largest p
    margin: Tensor  # (B, L) largest p minus the second largest
    entropy: Tensor  # (B, L) nats
    log_probabilities: Tensor | None = None  # (B, L, V), only if the sampler declares that it needs them
    log_frequency: Tensor | None = None  # (B, L) log of how often x̂ occurs in training, only if the sampler needs it
    shown_log_probability: Tensor | None = None  # (B, L) log p of the token shown, only if declared; 0 where masked
    left_out_log_probability: Tensor | None = None  # (B, L) the same from the other tokens alone, only if declared
    uniform: Tensor  # (B, L) in (0, 1): independent noise for choices, keyed by (seed, sequence, step, position)
    step: Tensor  # (1,) int32; 0, 1, …
    steps: Tensor  # (1,) int32; denoising steps asked for
    last: Tensor  # (1,) bool; all must be revealed now
    to_fill: Tensor  # (B,) int32; M, the positions to fill when generation began
    target_masked: Tensor  # (B,) int32; round(m(s) M): how many would stay masked after this step
    reveal_probability: Tensor  # (B,) (alpha(s) - alpha(t)) / (1 - alpha(t)); 1 at the last step
    alpha_t: Tensor  # (B,)
    alpha_s: Tensor  # (B,)


State = dict[str, "Tensor"]


class Sampler(Component, ABC):
    """One pure step from a state of the tokens to the next; the host captures it as a graph."""

    default: ClassVar[bool] = False
    """True: `mist-bench sample` takes it where no sampler is named."""
    uses_steps: ClassVar[bool] = True
    """False: `steps` is ignored, and the sampler makes one row, placed by its NFE."""
    adaptive: ClassVar[bool] = False
    """True: the number of evaluations depends on the text; the host goes on until nothing is masked."""
    remasks: ClassVar[bool] = False
    """Whether a revealed position may be masked again."""
    left_to_right: ClassVar[bool] = False
    """True: reveals the first masked position at each step; the only order that a causal family can follow."""
    needs_log_probabilities: ClassVar[bool] = False
    """True: the view carries the whole answer (B, L, V)."""
    remembers_answer: ClassVar[bool] = False
    """True: `state["answer"]` is the whole answer (B, L, V) of the step before, which the host keeps; 0 at the first.
    Asks for `needs_log_probabilities` as well."""

    needs_frequencies: ClassVar[bool] = False
    """True: the view carries `log_frequency`, of the train split, where each token counts once more than it occurs."""
    needs_shown_log_probability: ClassVar[bool] = False
    """True: the view carries what the network itself thinks of the tokens that are shown, before the carry-over."""
    needs_left_out_log_probability: ClassVar[bool] = False
    """True: the view carries log p of each shown token given all others, as if it alone were masked. An evaluation then
    is twice the work of another, and counts twice."""
    needs_prompt: ClassVar[bool] = False
    """True: without fixed tokens there is nothing for it to do."""
    asks_itself: ClassVar[bool] = False
    """True: the answer of a step is what `evaluate` gives, with as many evaluations as `evaluations` says."""

    @property
    def evaluations(self) -> int:
        """Network evaluations of one step."""
        return 2 if self.needs_left_out_log_probability else 1

    def evaluate(self, network: Network, tokens: Tensor, free: Tensor) -> Tensor:
        """(B, L) tokens with masks, (B, L) bool -> (B, L, V) log-probabilities that the step goes by, normalised, with
        what is seen carried over. Asks the `network` as often as it must; called if `asks_itself`."""
        return network(tokens)

    def heat(self, step: int, steps: int) -> float:
        """What the temperature of the proposals is multiplied by at this step; on the host, so no new graph."""
        return 1.0

    @property
    def choice(self) -> Choice:
        """How `view.uniform` enters: not at all; only through uniform < reveal_probability (`bernoulli`); only through
        its order among masked positions (`order`); only through uniform < `coin(view, state)`, at all free
        positions (`coin`); or otherwise (`continuous`: its exact law is not computed)."""
        return "none"

    def coin(self, view: View, state: State) -> Tensor:
        """(B, L) the probability of heads at each free position, for `choice` = `coin`; it must not use `uniform`."""
        raise TypeError(f"sampler {self.spec!r} tosses no coins of its own")

    @property
    def exact_one_at_a_time(self) -> bool:
        """Whether the law is the model's own when it reveals one position a step, at temperature 1."""
        return False

    @property
    def skips_idle_steps(self) -> bool:
        """Whether it reveals exactly where `uniform` < `reveal_probability`. Noise alone then tells the host the steps
        at which nothing is revealed: it leaves them out, and counts for each sequence only its others."""
        return False

    @property
    def reveals_by_chance(self) -> bool:
        """Whether it reveals exactly where `uniform` < `reveal_probability`: noise alone tells how many stay masked."""
        return self.skips_idle_steps

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray | None:
        """(B,) masked before a step at most, and what the view says of it (on the host) -> (B,) masked after it at
        most; None: the text decides. Where it is known the network need not be asked about what is seen; too small a
        number is found out, and ends the generation with an error."""
        return None

    @property
    def block_size(self) -> int | None:
        """The positions to fill are filled so many at a time, from left to right; None: all at once.

        Each block is a run of its own, as if the rest were fixed: it has its share of the steps (`block_shares`), its
        own times, noise and memory, and `free`, `masked` and all counts of the view are the block's.
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


class ScoreSampler(Sampler):
    """Reveal the best-scored positions, as many as `reveal_count` says: most samplers are three lines of `score`."""

    @abstractmethod
    def score(self, view: View) -> Tensor:
        """(B, L); the highest are revealed first; ties go to the left."""

    def reveal_count(self, view: View) -> Tensor:
        """(B,) how many to reveal; `scheduled_count` unless overridden."""
        return scheduled_count(view)

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray | None:
        usual = type(self).step is ScoreSampler.step and type(self).reveal_count is ScoreSampler.reveal_count
        return scheduled_left(masked, target_masked) if usual else None

    def nfe(self, steps: int, to_fill: int) -> int:
        return min(steps, to_fill)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        reveal = reveal_best(self.score(view), view.masked, self.reveal_count(view))
        return reveal.where(view.proposal, view.tokens), state


def most_steps(sampler: Sampler, steps: int, to_fill: int) -> int:
    """How many steps a sequence takes, at most if the sampler is adaptive."""
    return -(-sampler.nfe(steps, to_fill) // sampler.evaluations)


def scheduled_count(view: View) -> Tensor:
    """(B,) how many to reveal: down to round(m(s) M) masked, at least one, all at the last step."""
    left = view.masked.sum(axis=-1).int()
    return view.last.where(left, (left - view.target_masked).maximum(1))


def scheduled_left(masked: IntArray, target_masked: IntArray) -> IntArray:
    """(B,) how many `scheduled_count` leaves masked."""
    return np.clip(target_masked, 0, np.maximum(masked - 1, 0))


def block_shares(steps: int, to_fill: int, size: int) -> list[tuple[int, int]]:
    """Steps and positions to fill of each block of `size`: steps // blocks, one more for the earliest, at least one."""
    count = -(-to_fill // size)
    return [(max(1, steps // count + (i < steps % count)), min(size, to_fill - i * size)) for i in range(count)]


def reveal_best(score: Tensor, masked: Tensor, count: Tensor) -> Tensor:
    """Which masked positions (B, L) are among the `count` (B,) highest scores; ties go to the left.

    By rank rather than by sorting: position i is revealed if fewer than `count` masked positions come before it.
    """
    rank = comes_before(score, masked).int().sum(axis=-1)
    return masked & (rank < count.unsqueeze(-1))


def comes_before(score: Tensor, masked: Tensor) -> Tensor:
    """(B, L), (B, L) -> (B, L, L): [b, i, j] says that masked position j comes before i, by a higher score or, where
    scores are equal, by standing further left."""
    from tinygrad import Tensor

    length = score.shape[-1]
    order = Tensor.arange(length)
    mine, other = score.unsqueeze(-1), score.unsqueeze(-2)
    before = (other > mine) | ((other == mine) & (order.reshape(1, 1, length) < order.reshape(1, length, 1)))
    return before & masked.unsqueeze(-2)

if TYPE_CHECKING:
    from tinygrad import Tensor


class _OfInner:
    """A fact that is the inner sampler's."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, sampler: Any, owner: type) -> Any:
        return getattr(Sampler if sampler is None else sampler.inner, self.name)


class OuterSampler(Sampler):
    """Its facts and its rule are those of `inner` wherever it does not say otherwise.

    Declare `inner: Sampler = part("confidence", "what it is")`, so that no plugin imports another.
    """

    inner: Sampler
    uses_steps: ClassVar[Any] = _OfInner()
    adaptive: ClassVar[Any] = _OfInner()
    remasks: ClassVar[Any] = _OfInner()
    left_to_right: ClassVar[Any] = _OfInner()
    needs_log_probabilities: ClassVar[Any] = _OfInner()
    needs_shown_log_probability: ClassVar[Any] = _OfInner()
    needs_left_out_log_probability: ClassVar[Any] = _OfInner()
    needs_frequencies: ClassVar[Any] = _OfInner()
    remembers_answer: ClassVar[Any] = _OfInner()
    needs_prompt: ClassVar[Any] = _OfInner()
    asks_itself: ClassVar[Any] = _OfInner()

    @property
    def skips_idle_steps(self) -> bool:
        return self.inner.skips_idle_steps

    @property
    def reveals_by_chance(self) -> bool:
        return self.inner.reveals_by_chance

    def most_left(
        self, masked: IntArray, target_masked: IntArray, to_fill: IntArray, step: int, steps: int
    ) -> IntArray | None:
        return self.inner.most_left(masked, target_masked, to_fill, step, steps)

    @property
    def block_size(self) -> int | None:
        return self.inner.block_size

    @property
    def choice(self) -> Choice:
        return self.inner.choice

    @property
    def exact_one_at_a_time(self) -> bool:
        return self.inner.exact_one_at_a_time

    @property
    def evaluations(self) -> int:
        return self.inner.evaluations

    def evaluate(self, network: Network, tokens: Tensor, free: Tensor) -> Tensor:
        return self.inner.evaluate(network, tokens, free)

    def heat(self, step: int, steps: int) -> float:
        return self.inner.heat(step, steps)

    def coin(self, view: View, state: State) -> Tensor:
        return self.inner.coin(view, state)

    def nfe(self, steps: int, to_fill: int) -> int:
        return self.inner.nfe(steps, to_fill)

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        return self.inner.times(schedule, steps, to_fill, uniform)

    def initial_state(self, batch: int, length: int) -> State:
        return self.inner.initial_state(batch, length)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        return self.inner.step(view, state)
