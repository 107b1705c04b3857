"""The oracle: a perfect denoiser, for corpora whose exact law is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Family, MaskedModel, NetworkSize, Oracle, UserError, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class OracleModel(MaskedModel):
    """The exact posterior p(x_i | seen tokens); it has no parameters and does not depend on t."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.vocab_size, self.length, self.parameters = oracle.vocab_size, oracle.length, {}

    def log_probabilities(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        return self.oracle.log_posterior(tokens)

    def left_out(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.oracle.log_posterior(tokens), self.oracle.log_left_out(tokens)


@dataclass(frozen=True, kw_only=True)
class OracleFamily(Family):
    """The exact posterior of `tales` or `markov`: no training, and the only error is the sampler's.

    Its bound equals the entropy of the corpus: the best single test of estimators, weights and normalisers.
    """

    name = "oracle"
    source = "the idea: arXiv 2602.19619"
    likelihood_kind = "bound"
    trained = False
    control = "oracle"
    needs_oracle = True

    def create(self, size: NetworkSize, vocab_size: int, length: int, seed: int, oracle: Oracle | None) -> OracleModel:
        if oracle is None:
            raise UserError(
                "family 'oracle' needs a corpus that knows its own truth: --corpus tales or markov, --tokenizer word"
            )
        return OracleModel(oracle)


@hookimpl
def mist_bench_families() -> Iterator[type[Family]]:
    yield OracleFamily
