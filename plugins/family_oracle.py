"""The oracle: a perfect denoiser, for corpora that know their own truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mist_bench import Family, MaskedModel, NetworkSize, Oracle, UserError, hookimpl

if TYPE_CHECKING:
    from tinygrad import Tensor


class OracleModel(MaskedModel):
    """The exact posterior p(x_i | what is seen); it needs no time and has no parameters."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.vocab_size, self.length, self.parameters = oracle.vocab_size, oracle.length, {}

    def log_probabilities(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> Tensor:
        return self.oracle.log_posterior(tokens)

    def left_out(self, tokens: Tensor, t: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.oracle.log_posterior(tokens), self.oracle.log_left_out(tokens)


@dataclass(frozen=True, kw_only=True)
class OracleFamily(Family):
    """The exact posterior of an oracle world, for `tales` and `markov`: no training, and no error but the sampler's.

    Its own bound equals the world's entropy: the best single test of estimators, weights and normalisers.
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
