"""What a model family and its models implement: creation, training loss, and log-probabilities.

Shapes: B sequences, L positions, V tokens that can be predicted (the mask is not one of them: its id is V).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .component import Component, FloatArray
from .corpora import Oracle
from .log_probabilities import one_left_out
from .schedules import Schedule
from .times import uniform_times

if TYPE_CHECKING:
    from tinygrad import Tensor

CONTROLS = ("data", "unigram", "repeater")
"""Names of the control rows that every run has: held-out text, independent tokens, one train sequence repeated."""
LikelihoodKind = Literal["bound", "exact", "chain-rule"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSize:
    """The shape of the transformer, the same for every family that is compared."""

    dim: int
    layers: int
    heads: int
    feed_forward: int
    """Inner width of a conditioned transformer's feed-forward; every other variant has a width that gives it as many
    parameters."""
    conditioning_dim: int
    local_heads: int = 0
    """Heads of each block that are initialised to attend to a neighbour."""
    activation: str = "gelu"
    """Of the feed-forward: gelu, squared-relu or swiglu."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """The inputs of a training step. Schedules enter as numbers, so that one graph serves all of one `full`."""

    tokens: Tensor  # (B, L) int32, clean
    uniform: Tensor  # (B, L) in (0, 1)
    coin: Tensor  # (B,) in (0, 1)
    t: Tensor  # (B,)
    mask_probability: Tensor  # (B,)
    weight: Tensor  # (B,) of each time, as `Family.times` gives it: by default w(t)
    full: int | None = None
    """Upper bound on the masked positions of the batch, in whole sequences; None: not known."""


class Model(ABC):
    """A network (or an oracle) that gives log-probabilities. Training changes its `parameters`."""

    vocab_size: int
    length: int
    parameters: dict[str, Tensor]

    def embedding_parameters(self) -> int:
        """How many of the parameters are token or position tables (counted apart)."""
        return 0

    def forward_flops(self) -> float:
        """Multiplications and additions of one evaluation of one sequence: by default 2 for each parameter and
        position; one of the two tables is looked up, and costs nothing."""
        return 2.0 * self.length * (self.parameter_count() + self.embedding_parameters() // 2)

    def set_compute(self, dtype: Any) -> None:  # noqa: B027 - a model without matrix products ignores it
        """Set the type of its matrix products (a tinygrad dtype); sums and statistics stay float32."""

    def keep_copies(self) -> None:  # noqa: B027 - most have none
        """Make copies of the parameters in that type; called when they have their final values."""

    def parameter_count(self) -> int:
        """Trained numbers outside the tables."""
        return sum(int(p.numel()) for p in self.parameters.values()) - self.embedding_parameters()


class MaskedModel(Model):
    """p(x_i | seen tokens) at every position at once."""

    self_conditioned: bool = False

    @abstractmethod
    def log_probabilities(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        """(B, L) with masks, (B,) times -> (B, L, V). SUBS: the mask has probability 0, seen tokens have 1.

        `previous` (B, L, D) is `self.condition(...)` of the last evaluation, for self-conditioned models.
        """

    def free_log_probabilities(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        """As `log_probabilities` before the carry-over: the network's own answer where a token is seen.

        By default a seen token has log-probability 0.
        """
        return self.log_probabilities(tokens, t, previous)

    rows_pay: bool = False
    """Whether `scores` are so expensive that they should be computed at the masked positions alone."""

    def hidden(self, tokens: Tensor, t: Tensor) -> Tensor | None:
        """(B, L, D) the input of `scores`, for each position. None: `log_probabilities` is used instead.

        With both nothing of the size (B, L, V) is computed twice, or where it is not needed.
        """
        return None

    def scores(self, hidden: Tensor) -> Tensor:
        """(B, K, D) some positions of `hidden` -> (B, K, V or more): `free_log_probabilities` up to a constant for each
        position, columns from V on impossible (-1e9)."""
        raise TypeError(f"{type(self).__name__} has no scores")

    def left_out(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`log_probabilities`, and (B, L) log p of each seen token given the other ones, as if it alone were masked as
        well; 0 where masked. By default from L texts, each with one more token masked."""

        length = tokens.shape[1]

        def many(x: Tensor) -> Tensor:
            return x.unsqueeze(1).expand(x.shape[0], length, *x.shape[1:]).reshape(-1, *x.shape[1:])

        before = None if previous is None else many(previous)
        left = one_left_out(lambda each: self.log_probabilities(each, many(t), before), tokens, self.vocab_size)
        return self.log_probabilities(tokens, t, previous), left

    def condition(self, log_probabilities: Tensor) -> Tensor:
        """The input (B, L, D) that a self-conditioned model makes of its last answer."""
        raise TypeError(f"{type(self).__name__} is not self-conditioned")


class CausalModel(Model):
    """p(x_i | x_<i)."""

    @abstractmethod
    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """(B, L) clean -> (B, L, V): entry i is the law of token i given the tokens before it."""

    def scores(self, tokens: Tensor) -> Tensor | None:
        """(B, L, V or more): `log_probabilities` up to a constant for each position, columns from V on impossible
        (-1e9). None: that is not cheaper."""
        return None

    def next_scores(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor | None:
        """(B, 1, V or more): `next_log_probabilities` in the same way."""
        return None

    @abstractmethod
    def new_cache(self, batch: int) -> Tensor:
        """Room for keys and values of `batch` sequences."""

    fills_cache: bool = False
    """Whether `fill_cache` reads a prompt in one evaluation; otherwise it is read token by token."""

    def fill_cache(self, tokens: Tensor, cache: Tensor) -> Tensor:
        """(B, L) tokens, the cache -> the cache, written as `next_log_probabilities` at every position in turn does."""
        raise TypeError(f"{type(self).__name__} does not read several tokens at once")

    @abstractmethod
    def next_log_probabilities(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor:
        """(B, L), a bound variable i, the cache -> (B, 1, V): the law of token i; writes the cache for token i - 1."""


class Family(Component, ABC):
    """A kind of model: its creation, its training loss, and the kind of its likelihood."""

    likelihood_kind: ClassVar[LikelihoodKind]
    uses_schedule: ClassVar[bool] = False
    trained: ClassVar[bool] = True
    control: ClassVar[str] = ""
    """Name of its control rows in the tables, for a family that is not a model to compare; empty for models."""
    needs_oracle: ClassVar[bool] = False
    """True: it is the exact law of the corpus, and needs a corpus that knows it."""
    judges: ClassVar[bool] = False
    """True: its networks may judge samples (`generation.judge`). Its likelihood must be exact."""

    @property
    def causal(self) -> bool:
        """Whether its models are `CausalModel`s, which generate left to right, rather than `MaskedModel`s."""
        return self.likelihood_kind == "exact"

    @property
    def one_bound(self) -> bool:
        """Whether all estimators of its bound have the same expectation, at the times of the schedule of its training;
        False for a family whose answers depend on more than the text and that time."""
        return True

    @abstractmethod
    def create(self, size: NetworkSize, vocab_size: int, length: int, seed: int, oracle: Oracle | None) -> Model:
        """A fresh model; the same seed gives the same numbers. Raises `UserError` if it cannot be created."""

    def times(self, uniform: FloatArray, schedule: Schedule) -> tuple[FloatArray, FloatArray]:
        """Numbers spread evenly over (0, 1) -> as many times in (0, 1], which rise with them, and the weight of each in
        the loss (`TrainingBatch.t`, `weight`). By default uniform times and w(t); `mist_bench.bell_times` gives others.

        Computed on the host: a training with other times or weights has the same graph.
        """
        return uniform_times(uniform, schedule)

    def loss(self, model: Any, batch: TrainingBatch) -> Tensor:
        """The training loss in nats per token, a scalar, and a mean over sequences: a batch may be split.

        Untrained families need none.
        """
        raise TypeError(f"family {self.name!r} is not trained")
