"""ReMDM: ancestral sampling in which a revealed token may be masked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mist_bench import FloatArray, IntArray, Sampler, Schedule, State, View, hookimpl, parameter

if TYPE_CHECKING:
    from tinygrad import Tensor

ETA = {"cap": 0.008, "rescale": 0.015, "conf": 1.0, "loop": 0.02}


@dataclass(frozen=True, kw_only=True)
class RemdmSampler(Sampler):
    """Mask each revealed token again with probability sigma, and reveal as many more, which keeps the marginals.

    A masked token is revealed with probability (alpha(s) - (1 - sigma) alpha(t)) / (1 - alpha(t)). With sigma_max =
    min(1, (1 - alpha(s)) / alpha(t)), `cap` has sigma = min(eta, sigma_max) and `rescale` eta sigma_max. `conf` has at
    each revealed position eta sigma_max times the softmax over these positions of minus the p with which the token was
    drawn, and sigma = 0 where masked, as in the paper: more stays masked than the schedule says. `loop` is MDLM until
    alpha_on is reached at time t_on, holds alpha, with the sigma of `cap`, until t_off, and ends as MDLM; its time is
    the share of steps that are left. The last step reveals all. eta = 0 is `random`, token for token.

    The published `loop` takes each step's alphas from the phase in which it begins: the step across t_on goes beyond
    alpha_on, and the one across t_off jumps, so that the marginals do. Here alpha is continuous, on the schedule's own
    clock. The nucleus of 0.9 of the published scripts is not a default here.
    """

    name = "remdm"
    source = "ReMDM, arXiv 2503.00307"
    remasks = True
    choice = "coin"
    kind: str = parameter("cap", "which sigma: cap, rescale, conf or loop")
    eta: float | None = parameter(None, "0 to 1; none: 0.008 for cap, 0.015 rescale, 1 conf, 0.02 loop")
    t_on: float = parameter(0.55, "loop: the time from which alpha is held")
    t_off: float = parameter(0.05, "loop: the time until which alpha is held, below t_on")
    alpha_on: float = parameter(0.9, "loop: the alpha that is held")

    def __post_init__(self) -> None:
        if self.kind not in ETA:
            raise ValueError(f"kind is one of {', '.join(ETA)}, not {self.kind!r}")
        if self.eta is not None and not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta is from 0 to 1, not {self.eta}")
        if not 0.0 < self.t_off < self.t_on < 1.0:
            raise ValueError(f"t_off and t_on are 0 < t_off < t_on < 1, not {self.t_off} and {self.t_on}")
        if not 0.0 < self.alpha_on < 1.0:
            raise ValueError(f"alpha_on is between 0 and 1, not {self.alpha_on}")

    def nfe(self, steps: int, to_fill: int) -> int:
        return steps

    def times(self, schedule: Schedule, steps: int, to_fill: IntArray, uniform: FloatArray) -> FloatArray:
        plain = super().times(schedule, steps, to_fill, uniform)
        if self.kind != "loop":
            return plain
        held = schedule.inverse(np.array(1.0 - self.alpha_on))
        before = held + (1.0 - held) * (plain - self.t_on) / (1.0 - self.t_on)
        return np.where(plain > self.t_on, before, held * np.minimum(plain / self.t_off, 1.0))

    def initial_state(self, batch: int, length: int) -> State:
        from tinygrad import Tensor

        return {"drawn": Tensor.zeros(batch, length).contiguous()} if self.kind == "conf" else {}

    def sigma(self, view: View, state: State) -> Tensor:
        """(B, L) the probability of masking a token again; masked positions are revealed more often in return."""
        eta = ETA[self.kind] if self.eta is None else self.eta
        largest = ((1.0 - view.alpha_s) / view.alpha_t.maximum(1e-30)).minimum(1.0).unsqueeze(-1)
        if self.kind == "conf":
            shown = view.free & (view.tokens != view.mask)
            share = shown.where(-state["drawn"], -1e9).softmax(-1)
            return shown.where(eta * largest * share, 0.0)
        sigma = eta * largest if self.kind == "rescale" else largest.minimum(eta)
        if self.kind == "loop":  # tokens are masked again only where alpha is held
            sigma = (view.alpha_s == view.alpha_t).unsqueeze(-1).where(sigma, 0.0)
        return sigma.expand(*view.masked.shape)

    def coin(self, view: View, state: State) -> Tensor:
        """(B, L) where masked the probability of a reveal, elsewhere that of masking again."""
        sigma = self.sigma(view, state)
        # (alpha(s) - (1 - sigma) alpha(t)) / (1 - alpha(t)), in a form that is the host's own number at sigma = 0
        odds = (view.alpha_t / (1.0 - view.alpha_t).maximum(1e-30)).unsqueeze(-1)
        return view.masked.where(view.reveal_probability.unsqueeze(-1) + sigma * odds, sigma)

    def step(self, view: View, state: State) -> tuple[Tensor, State]:
        heads = view.uniform < self.coin(view, state)
        reveal = view.masked & heads
        again = view.free & (view.tokens != view.mask) & heads
        if self.kind == "conf":
            state = {"drawn": reveal.where(view.log_probability.exp(), state["drawn"])}
        return reveal.where(view.proposal, again.where(view.mask, view.tokens)), state


@hookimpl
def mist_bench_samplers() -> Iterator[type[Sampler]]:
    yield RemdmSampler
