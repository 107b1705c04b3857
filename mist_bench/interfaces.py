"""What a plugin implements, and the facts that it declares about itself.

A plugin is a file with one class and one hook. The class is a frozen dataclass: its fields are the parameters that
a user may set, `name[param=value]`. Nothing here imports tinygrad, so that listing plugins stays instant.

Shapes: B sequences, L positions, V tokens that can be predicted (the mask is not one of them: its id is V).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tinygrad import Tensor

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]
LikelihoodKind = Literal["bound", "exact", "chain-rule"]


def parameter(default: Any, doc: str) -> Any:
    """A documented parameter of a plugin: `power: float = parameter(2.0, "the exponent p")`."""
    return dataclasses.field(default=default, metadata={"doc": doc})


def part(spec: str, doc: str) -> Any:
    """A parameter that is a plugin object itself, annotated with its kind: the host makes it of the text that is given,
    or of `spec`, so that no plugin imports another: `inner: Sampler = part("top-k", "the sampler of a block")`."""
    return dataclasses.field(metadata={"doc": doc, "spec": spec})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """What all plugin objects share: a name, a source, and parameters that are the fields of a frozen dataclass."""

    name: ClassVar[str]
    source: ClassVar[str] = ""
    """The paper or origin of the rule, e.g. `MDLM, arXiv 2406.07524`."""

    @property
    def spec(self) -> str:
        """The shortest text that makes this object again: `confidence[score=max]`; defaults are left out."""
        changed = [
            f"{f.name}={_show(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default and _show(getattr(self, f.name)) != f.metadata.get("spec")
        ]
        return f"{self.name}[{','.join(changed)}]" if changed else self.name

    def content(self) -> dict[str, Any]:
        """Name and every parameter, defaults included: what a cell's hash is made of."""
        inside = {name: component.content() for name, component in parts(self).items()}
        return {"name": self.name, **dataclasses.asdict(self), **inside}


def parts(component: Component) -> dict[str, Component]:
    """The parameters that are plugin objects themselves."""
    values = {field.name: getattr(component, field.name) for field in dataclasses.fields(component)}
    return {name: value for name, value in values.items() if isinstance(value, Component)}


def _show(value: Any) -> str:
    if isinstance(value, Component):
        return value.spec
    return str(value).lower() if isinstance(value, bool) else str(value)


class Schedule(Component, ABC):
    """How likely a token is still clean at time t, from t = 0 (clean) to t = 1 (all masked). Float64 on the host."""

    reaches_all: ClassVar[bool] = True
    """Whether alpha(0) = 1 and alpha(1) = 0. If not, its bound is taken by exact-k."""

    @abstractmethod
    def alpha(self, t: FloatArray) -> FloatArray:
        """Probability that a token is still clean at t."""

    @abstractmethod
    def dalpha(self, t: FloatArray) -> FloatArray:
        """Derivative of alpha by t; at most 0."""

    def mask_probability(self, t: FloatArray) -> FloatArray:
        """1 - alpha(t), in a form without cancellation near t = 0."""
        return 1.0 - self.alpha(t)

    def weight(self, t: FloatArray) -> FloatArray:
        """Weight of the bound, w(t) = -alpha'(t) / (1 - alpha(t)); infinite at t = 0."""
        return -self.dalpha(t) / self.mask_probability(t)

    def inverse(self, mask_probability: FloatArray) -> FloatArray:
        """The time at which the mask probability is reached, by bisection (to 1e-15); clipped to 0..1."""
        goal = np.asarray(mask_probability, dtype=np.float64)
        low, high = np.zeros_like(goal), np.ones_like(goal)
        for _ in range(60):
            middle = (low + high) / 2
            below = self.mask_probability(middle) < goal
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


class Codec(ABC):
    """A fitted tokenizer: text to ids and back, byte for byte."""

    vocab_size: int

    @abstractmethod
    def encode(self, text: str) -> IntArray:
        """Ids of the text (N,). Raises `UserError` in one line if the text cannot round-trip; never `<unk>`."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | IntArray) -> str:
        """The text of the ids; bytes that are no UTF-8 (cut characters) are shown as U+FFFD."""

    @abstractmethod
    def token_bytes(self) -> IntArray:
        """(vocab_size,) bytes of raw UTF-8 that each token stands for."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[IntArray]:
        """Ids of each text; override it where many texts at once are faster."""
        return [self.encode(text) for text in texts]

    def state(self) -> dict[str, Any] | None:
        """What `Tokenizer.restore` needs, as JSON; None: the tokenizer is fitted again whenever it is needed."""
        return None


class Tokenizer(Component, ABC):
    """How text becomes tokens. Fitted on the train split (nothing to do for `byte` or `gpt2`)."""

    @abstractmethod
    def fit(self, texts: Sequence[str], vocabulary: Sequence[str] | None) -> Codec:
        """A codec for these texts. `vocabulary`: the corpus's own pieces in its own order, if it declares them."""

    def restore(self, state: dict[str, Any]) -> Codec:
        """The codec whose `state()` this is, without its texts. Only for codecs that give a state."""
        raise TypeError(f"tokenizer {self.name!r} cannot be restored")


Layout = Literal["padded", "packed", "windows"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """The documents of a corpus. Splits never overlap by construction; what overlap there is, is counted."""

    train: Sequence[str]
    validation: Sequence[str]
    test: Sequence[str]


class Corpus(Component, ABC):
    """Named splits of text, and perhaps the truth about them (an oracle)."""

    layout: ClassVar[Layout] = "packed"
    """`padded`: a document is a sequence, the end token fills its tail and is scored. `packed`: documents joined by
    the end token, then cut. `windows`: each document cut by itself, no end token, the rest dropped."""

    @abstractmethod
    def load(self, cache: Path) -> Texts:
        """The documents; downloads go to `cache`, once. Raises `UserError` that says what to type when offline."""

    def identity(self) -> dict[str, Any]:
        """What makes the content another: name, parameters, and e.g. a file's hash. Part of every cell's hash."""
        return self.content()

    def fixed_length(self) -> int | None:
        """The sequence length in tokens, if the corpus has one of its own (oracle worlds)."""
        return None

    def vocabulary(self) -> Sequence[str] | None:
        """The pieces of which all its texts are made, in the oracle's order, for the `word` tokenizer."""
        return None

    def oracle(self) -> Oracle | None:
        """The truth, for worlds that know it. Its ids are those of `vocabulary()`, then the end token."""
        return None


class Oracle(ABC):
    """A world that knows its own law over sequences of L tokens out of V (the end token included)."""

    length: int
    vocab_size: int

    @abstractmethod
    def entropy(self) -> float:
        """Nats per sequence, exact."""

    @abstractmethod
    def log_probability(self, tokens: IntArray) -> FloatArray:
        """(N, L) -> (N,) log p, minus infinity for what the world never says."""

    @abstractmethod
    def sample(self, count: int, rng: np.random.Generator) -> IntArray:
        """(count, L) independent draws."""

    @abstractmethod
    def log_posterior(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens with masks (id V) -> (B, L, V) log p(x_i | what is seen). Uniform if what is seen cannot be."""

    def log_left_out(self, tokens: Tensor) -> Tensor:
        """(B, L) with masks -> (B, L) log p(x_i | all others that are seen) of each token seen; 0 where masked.

        Unless overridden by asking for L texts at once, one with each token masked.
        """
        from .log_probabilities import one_left_out

        return one_left_out(self.log_posterior, tokens, self.vocab_size)

    @abstractmethod
    def slots(self, tokens: IntArray) -> tuple[IntArray, FloatArray]:
        """Which of a finite number of slot combinations each valid sequence shows (-1: not valid), and their truth."""

    def expected_distinct(self, count: int) -> float:
        """How many distinct slot combinations `count` perfect samples show on average."""
        _, truth = self.slots(np.zeros((0, self.length), dtype=np.int32))
        return float(-np.expm1(count * np.log1p(-np.minimum(truth, 1 - 1e-12))).sum())


class Metric(Component, ABC):
    """Numbers about generated text, columns of the generation table. Measured where `generation.metrics` names it."""

    def identity(self) -> dict[str, Any]:
        """What makes its values others: name, parameters, and e.g. the version of a model that it asks.

        Called before anything is made: raises `UserError` if what it needs is not there.
        """
        return self.content()

    @abstractmethod
    def measure(self, texts: Sequence[str], references: Sequence[str]) -> Mapping[str, float]:
        """Columns and their values for these samples; a column `X_se` is the standard error of `X`.

        `references` are held-out sequences, as many as the texts if there are, none of them in the row `data`.
        """


class Launcher(Component, ABC):
    """Where cells run."""

    @abstractmethod
    def launch(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Run each command (one cell each) and give their exit statuses."""


class UserError(Exception):
    """A wrong call: one line that says what was given, what is known, what to type. Exit status 2."""
