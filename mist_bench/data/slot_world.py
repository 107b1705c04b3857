"""Slot world: an oracle whose texts come from templates with hidden slots, so that its exact posterior is cheap.

A text is drawn in two steps: a plot, then independent groups of slots given the plot (a group is one slot, or two that
depend on each other). Every position shows a word of the plot or a form of one slot. Each visible token therefore
excludes values of one slot, and the posterior factorises over the groups: no sum over all stories is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..api.component import FloatArray, IntArray
from ..api.corpora import Oracle

if TYPE_CHECKING:
    from tinygrad import Tensor

IMPOSSIBLE = -1e9


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A template: each position is a piece of text, or `(slot, form)`."""

    pieces: tuple[str | tuple[str, int], ...]


class SlotWorld(Oracle):
    """The oracle of a slot world. A sequence is a plot's pieces, then end tokens up to `length`.

    `slots`: name -> the forms of each value (pieces of text). `groups`: one or two slot names -> their joint law given
    the plot, (plots, values) or (plots, values of the first, values of the second). `shown`: the slots whose joint law
    `shown_joint` compares.
    """

    def __init__(
        self,
        *,
        length: int,
        plots: Sequence[Plot],
        plot_law: FloatArray,
        slots: Mapping[str, Sequence[tuple[str, ...]]],
        groups: Mapping[tuple[str, ...], FloatArray],
        shown: tuple[str, ...],
    ) -> None:
        self.length, self.plots, self.slot_values = length, plots, slots
        self.plot_law = plot_law / plot_law.sum()
        self.groups = {
            names: law / law.reshape(len(plots), -1).sum(1).reshape(-1, *[1] * (law.ndim - 1))
            for names, law in groups.items()
        }
        self.order = [name for group in groups for name in group]
        self.shown = shown
        used = {p for plot in plots for p in plot.pieces if isinstance(p, str)}
        forms = {p for plot in plots for p in plot.pieces if not isinstance(p, str)}
        used |= {value[form] for name, form in forms for value in slots[name]}
        self.pieces = tuple(sorted(used))
        self.vocab_size, self.end = len(self.pieces) + 1, len(self.pieces)
        self._columns()

    def _columns(self) -> None:
        """Set `demand` (columns, L): the token that each (plot, slot value) requires at each position, -1 for any."""
        ids = {piece: i for i, piece in enumerate(self.pieces)}
        rows: list[IntArray] = []
        self.column: dict[tuple[int, str], slice] = {}
        for c, plot in enumerate(self.plots):
            literal = np.full((1, self.length), -1)
            literal[0, len(plot.pieces) :] = self.end
            demands = {name: np.full((len(values), self.length), -1) for name, values in self.slot_values.items()}
            for i, piece in enumerate(plot.pieces):
                if isinstance(piece, str):
                    literal[0, i] = ids[piece]
                else:
                    name, form = piece
                    demands[name][:, i] = [ids[value[form]] for value in self.slot_values[name]]
            for name, demand in {"": literal, **demands}.items():
                if (demand < 0).all():
                    raise ValueError(f"plot {c} never shows slot {name!r}")
                start = sum(len(r) for r in rows)
                self.column[c, name] = slice(start, start + len(demand))
                rows.append(demand)
        self.demand = np.concatenate(rows)

    @cached_property
    def _demand_onehot(self) -> FloatArray:
        """(columns, L, V): 1 where the column requires that token at that position."""
        return np.asarray(self.demand[:, :, None] == np.arange(self.vocab_size), dtype=np.float64)

    @cached_property
    def truth(self) -> FloatArray:
        """The probability of each (plot, slot values) combination, flattened in the order plot, then `order`."""
        return np.concatenate([self._plot_joint(c).ravel() * self.plot_law[c] for c in range(len(self.plots))])

    def _plot_joint(self, c: int) -> FloatArray:
        joint = np.ones(())
        for law in self.groups.values():
            joint = np.multiply.outer(joint, law[c])
        return joint

    def entropy(self) -> float:
        p = self.truth[self.truth > 0]
        return float(-(p * np.log(p)).sum())

    def render(self, combination: IntArray) -> IntArray:
        """(N,) indices into `truth` -> (N, L) tokens."""
        shape = tuple(len(self.slot_values[name]) for name in self.order)
        plot, rest = np.divmod(combination, int(np.prod(shape)))
        values = dict(zip(self.order, np.unravel_index(rest, shape), strict=True))
        out = np.full((len(combination), self.length), -1)
        for c in range(len(self.plots)):
            mine = plot == c
            out[mine] = self.demand[self.column[c, ""]][0]
            for name in self.order:
                shows = self.demand[self.column[c, name]][values[name][mine]]
                out[mine] = np.where(shows >= 0, shows, out[mine])
        return out.astype(np.int32)

    def sample(self, count: int, rng: np.random.Generator) -> IntArray:
        return self.render(rng.choice(len(self.truth), size=count, p=self.truth))

    def slots(self, tokens: IntArray) -> tuple[IntArray, FloatArray]:
        shape = tuple(len(self.slot_values[name]) for name in self.order)
        found = np.full(len(tokens), -1)
        for start in range(0, len(tokens), 1024):
            part = tokens[start : start + 1024]
            wrong = ((self.demand >= 0) & (self.demand != part[:, None, :])).any(-1)
            for c in range(len(self.plots)):
                fits = [~wrong[:, self.column[c, name]] for name in ["", *self.order]]
                whole = np.all([f.any(1) for f in fits], axis=0)
                index = np.ravel_multi_index([f.argmax(1) for f in fits[1:]], shape)
                found[start : start + 1024][whole] = index[whole] + c * int(np.prod(shape))
        found[(found >= 0) & (self.truth[found] == 0)] = -1
        return found, self.truth

    def shown_joint(self, combination: IntArray) -> tuple[IntArray, FloatArray]:
        """Combinations reduced to the slots in `shown`, with their law: few enough values to be compared by a few
        hundred samples."""
        shape = (len(self.plots), *(len(self.slot_values[name]) for name in self.order))
        axes = [1 + self.order.index(name) for name in self.shown]
        small = tuple(shape[a] for a in axes)
        every = np.ravel_multi_index([np.unravel_index(np.arange(len(self.truth)), shape)[a] for a in axes], small)
        law = np.bincount(every, weights=self.truth, minlength=int(np.prod(small)))
        return np.where(combination >= 0, every[combination], -1), np.asarray(law, dtype=np.float64)

    def log_probability(self, tokens: IntArray) -> FloatArray:
        found, truth = self.slots(tokens)
        with np.errstate(divide="ignore"):
            return np.where(found >= 0, np.log(truth[found]), -np.inf)

    def log_posterior(self, tokens: Tensor) -> Tensor:
        columns, weights = self._column_posterior((self._clashes(tokens) < 0.5).float().contiguous())
        demand = self._constant("demand onehot", self._demand_onehot.reshape(len(self.demand), -1))
        p = (columns @ demand).reshape(*tokens.shape, self.vocab_size)
        p = (weights > 0).reshape(-1, 1, 1).where(p, 1.0 / self.vocab_size).contiguous()
        answer = (p > 0).where(p.maximum(1e-30).log(), IMPOSSIBLE)
        itself = (tokens.unsqueeze(-1) == tokens.arange(self.vocab_size)).where(0.0, IMPOSSIBLE)
        return (tokens == self.vocab_size).unsqueeze(-1).where(answer, itself)

    def _constant(self, name: str, values: FloatArray) -> Tensor:
        """The device copy of a table, created once, since a captured graph needs the same buffer at every call."""
        from tinygrad import Tensor

        store: dict[str, Tensor] = self.__dict__.setdefault("_constants", {})
        if name not in store:
            store[name] = Tensor(values.astype(np.float32)).realize()
        return store[name]

    def log_left_out(self, tokens: Tensor) -> Tensor:
        """The clashes without one position are all clashes less its own, so one count serves the L texts."""
        demand = self._constant("demand", self.demand.T.astype(np.float64)).unsqueeze(0)  # (1, L, columns)
        mine = tokens.unsqueeze(-1)
        own = (demand >= 0) & (demand != mine) & (mine != self.vocab_size)
        allowed = (self._clashes(tokens).unsqueeze(1) - own.float() < 0.5).float().flatten(0, 1).contiguous()
        columns, weights = self._column_posterior(allowed)
        p = (demand == mine).where(columns.reshape(*tokens.shape, -1), 0.0).sum(axis=-1)
        p = (weights > 0).reshape(*tokens.shape).where(p, 1.0 / self.vocab_size)
        answer = (p > 0).where(p.maximum(1e-30).log(), IMPOSSIBLE)
        return (tokens == self.vocab_size).where(0.0, answer)

    def _clashes(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, columns): the number of visible tokens that contradict the column."""
        clash = ((self.demand >= 0)[:, :, None] - self._demand_onehot).reshape(len(self.demand), -1).T
        seen = (tokens.unsqueeze(-1) == tokens.arange(self.vocab_size)).float().reshape(tokens.shape[0], -1)
        return (seen.contiguous() @ self._constant("clash", clash)).contiguous()

    def _column_posterior(self, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of each (plot, slot value) column (B, columns) and the evidence (B, 1). `allowed`
        (B, columns) is 1 where no visible token contradicts the column."""
        from tinygrad import Tensor

        posterior, evidence = [], []
        for c in range(len(self.plots)):
            marginals, plot_evidence = self._plot_posterior(allowed, c)
            posterior.append(marginals)
            evidence.append(plot_evidence)
        total = evidence[0].stack(*evidence[1:]).sum(axis=0)
        safe = (total > 0).where(total, 1.0)
        blocks = [
            Tensor.cat(plot_evidence, *[m * plot_evidence for m in marginals], dim=1) / safe
            for marginals, plot_evidence in zip(posterior, evidence, strict=True)
        ]
        return Tensor.cat(*blocks, dim=1).contiguous(), total

    def _plot_posterior(self, allowed: Tensor, c: int) -> tuple[list[Tensor], Tensor]:
        """The law of each slot's values given plot c (B, values), in column order; p(plot c, visible tokens) (B, 1)."""
        evidence = allowed[:, self.column[c, ""]] * float(self.plot_law[c])
        marginals: dict[str, Tensor] = {}
        for group, law in self.groups.items():
            joint = self._constant(f"{c}.{'.'.join(group)}", law[c]).unsqueeze(0)
            for axis, name in enumerate(group):
                ok = allowed[:, self.column[c, name]]
                joint = joint * ok.reshape(ok.shape[0], *[-1 if a == axis else 1 for a in range(len(group))])
            joint = joint.contiguous()
            mass = joint.flatten(1).sum(axis=1, keepdim=True)
            safe = (mass > 0).where(mass, 1.0)
            for axis, name in enumerate(group):
                rest = tuple(1 + a for a in range(len(group)) if a != axis)
                marginals[name] = (joint.sum(axis=rest) if rest else joint) / safe
            evidence = evidence * mass
        return [marginals[name] for name in self.slot_values], evidence.contiguous()
