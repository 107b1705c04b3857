"""The transformer, causal or bidirectional, that all compared families share.

Pre-norm blocks with learned token and position tables. Queries and keys have a bias and are rotated by their position
(`rotation`), so that a head can attend to a neighbour before it knows any token: without that, a masked model of prose
stays at the unigram entropy for thousands of steps. A conditioned transformer takes the time as mist does: a sinusoidal
embedding, a two-layer perceptron, a scale and shift of each layer norm, and a gate of each branch, all of which begin
at zero (adaLN-Zero of DiT, arXiv 2212.09748); without a condition the gates are learned vectors. Whatever a variant has
or lacks, the width of its feed-forward gives it equal parameters (`width`).

Shapes: B sequences, L positions, D width, H heads, E width of a head, C conditioning width, V tokens.
`joint` stores a value that tinygrad would otherwise compute again in many kernels of the backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinygrad import Tensor, dtypes
from tinygrad.helpers import TRAINING

from ..api.families import NetworkSize
from ..engine.device import on_cpu
from .activations import ACTIVATIONS
from .initial import FREQUENCIES, initial_parameters
from .layers import attention, cross_entropy, joint, layer_norm, lookup, product
from .rotation import rotated, rotation
from .width import matched_width

LOOKED_UP = ("tokens", "positions")
"""Tables that are indexed, not multiplied."""
ROWS_PAY = 8
"""Ratio of the output table's columns to the width from which on reading fewer of its rows pays."""


class Transformer:
    """Transformer from token ids to logits of `vocab_size` tokens; id `vocab_size` is the mask, or the start token.

    `extra`: numbers that its family adds to the parameters, for which the feed-forward is narrower.
    """

    def __init__(
        self, size: NetworkSize, vocab_size: int, length: int, *, seed: int, causal: bool, conditioned: bool,
        extra: int = 0,
    ) -> None:  # fmt: skip
        width = matched_width(size, conditioned=conditioned, extra=extra)
        self.size, self.vocab_size, self.length = size, vocab_size, length
        self.causal, self.conditioned = causal, conditioned
        self.compute = dtypes.float
        self._copies: dict[str, Tensor] = {}
        self._cosine, self._sine = rotation(length, size.dim // size.heads)
        values = initial_parameters(size, width, vocab_size, length, seed=seed, conditioned=conditioned)
        self.parameters = {name: Tensor(value) for name, value in values.items()}
        Tensor.realize(*self.parameters.values())

    def add_zeros(self, name: str, shape: tuple[int, ...]) -> None:
        """Add a parameter, initialized to zero, for a family that needs it (and told of it as `extra`)."""
        self.parameters[name] = Tensor(np.zeros(shape, dtype=np.float32)).realize()

    @property
    def table_parameters(self) -> int:
        """Numbers in the token, position and output tables."""
        return sum(int(self.parameters[n].numel()) for n in ("tokens", "positions", "head"))

    def forward_flops(self) -> float:
        """Nominal FLOPs of the matrix products for one sequence: 2 per weight and position, and 4 D L per position and
        block for attention. A causal mask does not reduce it, nor do unread rows of the output table. The modulation of
        the norms counts once per sequence."""
        size, forward = self.size, ("0.feed_forward.in", "0.feed_forward.out")
        block = 4 * size.dim * size.dim + sum(int(self.parameters[name].numel()) for name in forward)
        weights = size.layers * block + size.dim * self.vocab_size
        modulation = int(self.parameters["modulation"].numel()) if self.conditioned else 0
        return self.length * (2.0 * weights + 4.0 * size.dim * self.length * size.layers) + 2.0 * modulation

    def linear(self, x: Tensor, name: str) -> Tensor:
        """`x` times the parameter of this name, in the compute type, summed and returned in float32."""
        w = self._weight(name)
        if on_cpu() and x.ndim == 3:
            # a gradient for each sequence, then their sum: two small operands stay in the first cache of a CPU
            w = w.unsqueeze(0).expand(x.shape[0], *w.shape).contiguous_backward()
        return product(x, w, self.compute)

    def _weight(self, name: str) -> Tensor:
        """A matrix in the compute type: its copy if there is one, otherwise converted once in each graph."""
        w = self.parameters[name]
        if self.compute == dtypes.float:
            return w
        return self._copies[name] if name in self._copies else w.cast(self.compute).contiguous()

    def keep_copies(self) -> None:
        """Copy the matrices into the compute type, for graphs that only read them; repeat it after each change."""
        if self.compute == dtypes.float:
            return
        for name, w in self.parameters.items():
            if w.ndim > 1 and name not in LOOKED_UP:
                copy = w.cast(self.compute).contiguous()
                if name in self._copies:
                    self._copies[name].assign(copy)
                else:
                    self._copies[name] = copy
        Tensor.realize(*self._copies.values())

    def _norm(self, x: Tensor, which: int, modulation: Tensor | None) -> Tensor:
        """Layer norm number `which`: two in each block, then the last one; modulated, or else with a learned gain."""
        if modulation is None:
            gain = self.parameters["norms"].reshape(-1, self.size.dim)[which]
            return joint(layer_norm(x) * gain, self.compute)
        scale_shift = modulation[2 * which : 2 * which + 2].contiguous_backward()
        return joint(layer_norm(x) * (1 + scale_shift[0]) + scale_shift[1], self.compute)

    def _gated(self, branch: Tensor, which: int, modulation: Tensor | None) -> Tensor:
        """Branch number `which`, two in each block, times its gate, which begins at 0. The gate's gradient alone needs
        the branch stored."""
        branch = joint(branch, self.compute) if TRAINING else branch
        if modulation is None:
            return branch * self.parameters["gates"].reshape(-1, self.size.dim)[which]
        return branch * modulation[2 * (2 * self.size.layers + 1) + which].contiguous_backward()

    def modulation(self, level: Tensor) -> Tensor:
        """What the time or masked fraction in 0..1 does: (B,) -> (N, B, 1, D) scales and shifts in turn, then gates."""
        frequency = (Tensor.arange(FREQUENCIES).float() * (-math.log(1e4) / FREQUENCIES)).exp()
        angle = level.reshape(-1, 1) * 1000.0 * frequency
        features = angle.sin().cat(angle.cos(), dim=-1).contiguous()
        c = joint(self.linear(joint(self.linear(features, "time.in").silu()), "time.out").silu())
        return joint(self.linear(c, "modulation")).reshape(-1, len(level), 1, self.size.dim)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token and position embeddings: (B, L) ids -> (B, L, D)."""
        return lookup(self.parameters["tokens"], tokens, self.compute) + self.parameters["positions"]

    def mean_embedding(self, probabilities: Tensor) -> Tensor:
        """Mean token embedding under a distribution: (B, L, V) -> (B, L, D)."""
        return product(probabilities, self._weight("tokens")[: self.vocab_size], self.compute)

    def loss(
        self, x: Tensor, modulation: Tensor | None, targets: Tensor, weights: Tensor, full: int | None = None
    ) -> Tensor:
        """Sum of weight times -log p(target): (B, L, D) embedded tokens, (B, L) ids, (B, L) weights -> scalar.

        `full`: positions with a weight fill at most this many sequences; where `rows_pay`, only they are read.
        """
        h, few = self.hidden(x, modulation), full if self.rows_pay else None
        return cross_entropy(h, self._weight("head"), targets, weights, self.vocab_size, self.compute, full=few)

    @property
    def rows_pay(self) -> bool:
        """Whether the output table is so large that computing logits only where they are needed pays."""
        return int(self.parameters["head"].shape[1]) >= ROWS_PAY * self.size.dim

    def scores(self, h: Tensor) -> Tensor:
        """Logits, with the table's padding at -1e9: (B, K, D) hidden states -> (B, K, V or more)."""
        logits = self.linear(h, "head")
        padded = int(logits.shape[-1])
        inside = logits if padded == self.vocab_size else (Tensor.arange(padded) < self.vocab_size).where(logits, -1e9)
        return inside.contiguous()

    def logits(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Logits: (B, L, D) embedded tokens -> (B, L, V).

        For (B, 2 L, D), a text followed by L masks -> (B, 2 L, V). Mask i attends to itself and to the text without
        token i, and no other position attends to it: its logits (nearly) predict token i from the rest of the text.
        """
        return self._head(self.hidden(x, modulation))

    def hidden(self, x: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Hidden states that the output table reads, in the compute type: (B, L, D) embedded tokens -> (B, L, D)."""
        return self._norm(self._blocks(x, modulation)[0], 2 * self.size.layers, modulation)

    def _blocks(self, x: Tensor, modulation: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """(B, L, D) after all blocks, and the keys and values (2, B, H, L, E) of each block."""
        x, kept = joint(x), []
        visible = self._visible(int(x.shape[1]))
        for i in range(self.size.layers):
            mixed, keys_values = self._attention(self._norm(x, 2 * i, modulation), i, visible)
            kept.append(keys_values)
            x = joint(x + self._gated(mixed, 2 * i, modulation))
            inner = self._feed_forward(self._norm(x, 2 * i + 1, modulation), i)
            x = joint(x + self._gated(inner, 2 * i + 1, modulation))
        return x, kept

    def _visible(self, length: int) -> Tensor | None:
        """(length, length), whether each position (row) sees each position (column); None: it sees all."""
        order = Tensor.arange(length)
        row, column = order.reshape(length, 1), order.reshape(1, length)
        if length == 2 * self.length:
            return (column < self.length) & (column + self.length != row) | (column == row)
        return column <= row if self.causal else None

    def _head(self, h: Tensor) -> Tensor:
        return joint(self.linear(h, "head"))[:, :, : self.vocab_size]

    def _feed_forward(self, h: Tensor, i: int) -> Tensor:
        inner = ACTIVATIONS[self.size.activation](self.linear(h, f"{i}.feed_forward.in"), self.compute)
        return self.linear(inner, f"{i}.feed_forward.out")

    def _attention(self, h: Tensor, i: int, visible: Tensor | None) -> tuple[Tensor, Tensor]:
        batch, length, heads = h.shape[0], h.shape[1], self.size.heads
        qkv = joint(self.linear(h, f"{i}.attention.in"), self.compute).reshape(batch, length, 3, heads, -1)
        q, k, v = (qkv[:, :, j].transpose(1, 2) for j in range(3))
        rows = length // self.length
        q, k = self._rotated(q, k, i, self._cosine.repeat(rows, 1), self._sine.repeat(rows, 1))
        q, k, v = (joint(each, self.compute) for each in (q, k, v))
        mixed = attention(q, k, v, visible, self.compute)
        mixed = joint(mixed.transpose(1, 2), self.compute).reshape(batch, length, -1)
        return self.linear(mixed, f"{i}.attention.out"), Tensor.stack(k, v)

    def _rotated(self, q: Tensor, k: Tensor, i: int, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, L, E) queries and keys of block i with their bias, rotated by their positions; tables (L, E)."""
        bias = self.parameters["biases"].reshape(-1, 2, self.size.heads, 1, q.shape[-1])[i]
        # a gradient for each sequence, then their sum: one long sum would run in few threads
        bias = bias.unsqueeze(1).expand(2, q.shape[0], *bias.shape[1:]).contiguous_backward()
        return rotated(q + bias[0], cosine, sine), rotated(k + bias[1], cosine, sine)

    def new_cache(self, batch: int) -> Tensor:
        """An empty cache of keys and values: (layers, 2, B, H, L, E) zeros."""
        s = self.size
        shape = (s.layers, 2, batch, s.heads, self.length, s.dim // s.heads)
        return Tensor.zeros(*shape, dtype=self.compute).contiguous().realize()

    def fill_cache(self, x: Tensor, cache: Tensor) -> Tensor:
        """Write the keys and values of all positions into the cache at once: (B, L, D) embedded tokens -> the cache.
        Those of a position depend on it and the ones before it alone, so that any tokens may follow a prompt."""
        return cache.assign(Tensor.stack(*self._blocks(x, None)[1]).cast(cache.dtype))

    def next_logits(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor:
        """Logits of the next token: (B, 1) last token, its position (a bound variable), the cache -> (B, 1, V)."""
        return self.next_scores(tokens, position, cache)[:, :, : self.vocab_size]

    def next_scores(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor:
        """As `next_logits`, with the padding of the output table."""
        batch, heads, width = tokens.shape[0], self.size.heads, self.size.dim // self.size.heads
        here = slice(position, position + 1)
        x = self.parameters["tokens"][tokens] + self.parameters["positions"][here]
        for i in range(self.size.layers):
            qkv = self.linear(self._norm(x, 2 * i, None), f"{i}.attention.in").contiguous()
            q, k, v = (qkv.reshape(batch, 1, 3, heads, width)[:, :, j].transpose(1, 2) for j in range(3))
            q, k = self._rotated(q, k, i, self._cosine[here], self._sine[here])
            layer = cache[i]
            written = layer[:, :, :, here].uop.store(Tensor.stack(k, v).cast(self.compute).uop)
            layer = Tensor(layer.uop.after(written))
            keys, values = layer[0, :, :, : position + 1], layer[1, :, :, : position + 1]
            weights = (product(q, keys.transpose(-1, -2), self.compute) * width**-0.5).softmax(-1)
            mixed = product(weights, values, self.compute).transpose(1, 2).reshape(batch, 1, -1).contiguous()
            x = (x + self._gated(self.linear(mixed, f"{i}.attention.out"), 2 * i, None)).contiguous()
            h = self._norm(x, 2 * i + 1, None)
            x = (x + self._gated(self._feed_forward(h, i), 2 * i + 1, None)).contiguous()
        return self.scores(self._norm(x, 2 * self.size.layers, None))
