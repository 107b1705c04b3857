"""The transformer: one body, causal or bidirectional, the same for every family that is compared.

Pre-norm blocks with learned token and position tables. Queries and keys have a bias and are rotated by their place
(RoFormer, arXiv 2104.09864), so that a head can look at a neighbour before it knows any token: without that a masked
model of prose stays at the unigram's entropy for thousands of steps. A conditioned body has mist's way of being told
the time: a sinusoidal embedding, a two-layer perceptron, and shift and scale of each layer norm (adaptive layer norm,
started at the identity). The activation is the squared ReLU (Primer, arXiv 2109.08668): no exponential to compute.

Shape suffixes: B sequences, L positions, D width, H heads, E width of a head, C conditioning, V tokens.
`_joint` cuts the graph where tinygrad would else compute the same thing again in many kernels of the backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tinygrad import Device, Tensor, dtypes
from tinygrad.helpers import TRAINING

from .families import NetworkSize

FREQUENCIES = 32
ROTATION_BASE = 1e4
BIAS_SCALE = 0.5
"""Each head begins with a taste of its own for near or far; tried from 0 to 1 on prose, the best in the middle."""
LOCAL_SCALE, NEIGHBOURS = 5.0, (-1, 1, -2, 2)


def _padded(rows: int) -> int:
    """Table sizes that divide well: a kernel over 87 rows cannot be unrolled, one over 88 can."""
    multiple = 8 if rows <= 1024 else 64
    return -(-rows // multiple) * multiple


def _joint(x: Tensor) -> Tensor:
    return x.contiguous().contiguous_backward()


def _layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(axis=-1, keepdim=True)
    return centred * (centred.square().mean(axis=-1, keepdim=True) + 1e-5).rsqrt()


def _softmax(x: Tensor) -> Tensor:
    """Over the last axis, with one exponential in all: left to itself, the backward pass would compute it again.

    The value is y; the gradient comes from y (z - z) with z = x - sum(y x), that is y (dx - sum(y dx)).
    """
    fixed = x.detach()
    e = (fixed - fixed.max(axis=-1, keepdim=True)).exp().contiguous()
    y = (e / e.sum(axis=-1, keepdim=True)).contiguous()
    if not TRAINING:
        return y
    z = x - (y * x).sum(axis=-1, keepdim=True)
    return y + y * (z - z.detach())


def _rotation(length: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine (L, E) of the angle at which each place turns each pair of numbers (i, i + E/2)."""
    angle = np.arange(length)[:, None] * ROTATION_BASE ** (-np.arange(width // 2) / (width // 2))
    cosine, sine = np.tile(np.cos(angle), 2), np.concatenate([-np.sin(angle), np.sin(angle)], axis=1)
    return Tensor(cosine.astype(np.float32)).realize(), Tensor(sine.astype(np.float32)).realize()


class Transformer:
    """Token ids to logits. `vocab_size` counts what can be predicted; that id itself is the mask (or the beginning)."""

    def __init__(
        self, size: NetworkSize, vocab_size: int, length: int, *, seed: int, causal: bool, conditioned: bool
    ) -> None:
        self.size, self.vocab_size, self.length = size, vocab_size, length
        self.causal, self.conditioned = causal, conditioned
        self.compute = dtypes.float
        self.partial_gradients = str(Device.DEFAULT).startswith("CPU")
        self._rng = np.random.default_rng(np.random.Philox(key=seed))
        self.parameters: dict[str, Tensor] = {}
        self._cosine, self._sine = _rotation(length, size.dim // size.heads)
        d, c, f = size.dim, size.conditioning_dim, size.feed_forward
        # of the size of what the blocks add: a small table drowns in the residual stream and is learned late
        self._add("tokens", (_padded(vocab_size + 1), d), 0.2)
        self._add("positions", (length, d), 0.2)
        if conditioned:
            self._add("time.in", (2 * FREQUENCIES, c), (2 * FREQUENCIES) ** -0.5)
            self._add("time.out", (c, c), c**-0.5)
        for i in range(size.layers):
            self._add_norm(f"{i}.attention.norm")
            self._add(f"{i}.attention.in", (d, 3 * d), d**-0.5)
            self._add_bias(f"{i}.attention.bias")
            self._add(f"{i}.attention.out", (d, d), (2 * size.layers * d) ** -0.5)
            self._add_norm(f"{i}.feed_forward.norm")
            self._add(f"{i}.feed_forward.in", (d, f), d**-0.5)
            self._add(f"{i}.feed_forward.out", (f, d), (2 * size.layers * f) ** -0.5)
        self._add_norm("norm")
        self._add("head", (d, _padded(vocab_size)), 0.02)
        Tensor.realize(*self.parameters.values())

    def _add(self, name: str, shape: tuple[int, ...], scale: float) -> None:
        values = self._rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        self.parameters[name] = Tensor(values)

    def _add_norm(self, name: str) -> None:
        """A conditioned norm takes shift and scale from the time; a plain one has a learned gain."""
        d = self.size.dim
        if self.conditioned:
            self._add(name, (self.size.conditioning_dim, 2 * d), 0.0)
        else:
            self.parameters[name] = Tensor(np.ones(d, dtype=np.float32))

    def _add_bias(self, name: str) -> None:
        """(2 D) for queries and keys: random, but for local heads, whose score begins at its highest at a neighbour."""
        heads, width = self.size.heads, self.size.dim // self.size.heads
        bias = self._rng.standard_normal((2, heads, width), dtype=np.float32) * np.float32(BIAS_SCALE)
        angle = ROTATION_BASE ** (-np.arange(width // 2) / (width // 2))
        for head in range(self.size.local_heads):
            # the score of places i and j is LOCAL_SCALE^2 times the sum of cos((j - i - offset) angle)
            turn = angle * NEIGHBOURS[head % len(NEIGHBOURS)]
            bias[0, head] = LOCAL_SCALE * np.concatenate([np.ones_like(turn), np.zeros_like(turn)])
            bias[1, head] = LOCAL_SCALE * np.concatenate([np.cos(turn), -np.sin(turn)])
        self.parameters[name] = Tensor(bias.ravel())

    def add_zeros(self, name: str, shape: tuple[int, ...]) -> None:
        """One more parameter, started at zero, for a family that needs it."""
        self.parameters[name] = Tensor(np.zeros(shape, dtype=np.float32)).realize()

    @property
    def table_parameters(self) -> int:
        """Numbers in the token, position and output tables."""
        return sum(int(self.parameters[n].numel()) for n in ("tokens", "positions", "head"))

    def _linear(self, x: Tensor, name: str) -> Tensor:
        """Matrix product in the compute type, summed and given back in float32."""
        w = self.parameters[name]
        if self.partial_gradients and x.ndim == 3:
            # a gradient per sequence, then their sum: two small operands stay in the first cache of a CPU
            w = w.unsqueeze(0).expand(x.shape[0], *w.shape).contiguous_backward()
        return self._product(x, w)

    def _norm(self, x: Tensor, name: str, told: Tensor | None) -> Tensor:
        if told is None:
            return _joint(_layer_norm(x) * self.parameters[name])
        shift_scale = _joint(self._linear(told, name)).reshape(-1, 2, 1, self.size.dim)
        return _joint(_layer_norm(x) * (1 + shift_scale[:, 0]) + shift_scale[:, 1])

    def told(self, level: Tensor) -> Tensor:
        """(B,) time or masked fraction in 0..1 -> (B, C), what the adaptive layer norms are told."""
        frequency = (Tensor.arange(FREQUENCIES).float() * (-math.log(1e4) / FREQUENCIES)).exp()
        angle = level.reshape(-1, 1) * 1000.0 * frequency
        features = angle.sin().cat(angle.cos(), dim=-1).contiguous()
        return _joint(self._linear(_joint(self._linear(features, "time.in").silu()), "time.out").silu())

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, D)."""
        return self.parameters["tokens"][tokens] + self.parameters["positions"]

    def logits(self, x: Tensor, told: Tensor | None = None) -> Tensor:
        """(B, L, D) embedded tokens -> (B, L, V).

        (B, 2 L, D), where a row of L masks stands behind the text -> (B, 2 L, V). Mask i of that row sees itself and
        all of the text but token i, and nobody else sees it: it says (nearly) what the others say of token i.
        """
        x = _joint(x)
        visible = self._visible(int(x.shape[1]))
        for i in range(self.size.layers):
            x = _joint(x + self._attention(self._norm(x, f"{i}.attention.norm", told), i, visible))
            x = _joint(x + self._feed_forward(self._norm(x, f"{i}.feed_forward.norm", told), i))
        return self._head(self._norm(x, "norm", told))

    def _visible(self, length: int) -> Tensor | None:
        """(length, length) which place (column) each place (row) sees; None: all."""
        order = Tensor.arange(length)
        row, column = order.reshape(length, 1), order.reshape(1, length)
        if length == 2 * self.length:
            return (column < self.length) & (column + self.length != row) | (column == row)
        return column <= row if self.causal else None

    def _head(self, h: Tensor) -> Tensor:
        return _joint(self._linear(h, "head"))[:, :, : self.vocab_size]

    def _feed_forward(self, h: Tensor, i: int) -> Tensor:
        inner = _joint(self._linear(h, f"{i}.feed_forward.in").contiguous_backward().relu().square())
        return self._linear(inner, f"{i}.feed_forward.out")

    def _attention(self, h: Tensor, i: int, visible: Tensor | None) -> Tensor:
        batch, length, heads = h.shape[0], h.shape[1], self.size.heads
        qkv = _joint(self._linear(h, f"{i}.attention.in")).reshape(batch, length, 3, heads, -1)
        q, k, v = (qkv[:, :, j].transpose(1, 2) for j in range(3))
        rows = length // self.length
        q, k = self._placed(q, k, i, self._cosine.repeat(rows, 1), self._sine.repeat(rows, 1))
        q, k, v = _joint(q), _joint(k), _joint(v)
        scores = self._product(q, k.transpose(-1, -2)) * (self.size.dim // heads) ** -0.5
        if visible is not None:
            scores = visible.where(scores, -1e9)
        mixed = self._product(_joint(_softmax(_joint(scores))), v)
        return self._linear(_joint(mixed.transpose(1, 2)).reshape(batch, length, -1), f"{i}.attention.out")

    def _placed(self, q: Tensor, k: Tensor, i: int, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, L, E) queries and keys of block i with their bias, turned by their places; tables (L, E)."""
        bias = self.parameters[f"{i}.attention.bias"].reshape(2, self.size.heads, 1, -1)
        half = cosine.shape[1] // 2

        def turned(x: Tensor) -> Tensor:
            return x * cosine + x[..., half:].cat(x[..., :half], dim=-1) * sine

        return turned(q + bias[0]), turned(k + bias[1])

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        if self.compute == dtypes.float:
            return a @ b
        return a.cast(self.compute).matmul(b.cast(self.compute), dtype=dtypes.float)

    def new_cache(self, batch: int) -> Tensor:
        """(layers, 2, B, H, L, E) zeros: keys and values of the positions read so far."""
        s = self.size
        shape = (s.layers, 2, batch, s.heads, self.length, s.dim // s.heads)
        return Tensor.zeros(*shape).contiguous().realize()

    def next_logits(self, tokens: Tensor, position: Any, cache: Tensor) -> Tensor:
        """(B, 1) the token just read, its place (a bound variable), the cache -> (B, 1, V) of the token after it."""
        batch, heads, width = tokens.shape[0], self.size.heads, self.size.dim // self.size.heads
        here = slice(position, position + 1)
        x = self.parameters["tokens"][tokens] + self.parameters["positions"][here]
        for i in range(self.size.layers):
            qkv = self._linear(self._norm(x, f"{i}.attention.norm", None), f"{i}.attention.in").contiguous()
            q, k, v = (qkv.reshape(batch, 1, 3, heads, width)[:, :, j].transpose(1, 2) for j in range(3))
            q, k = self._placed(q, k, i, self._cosine[here], self._sine[here])
            layer = cache[i]
            written = layer[:, :, :, here].uop.store(Tensor.stack(k, v).uop)
            layer = Tensor(layer.uop.after(written))
            keys, values = layer[0, :, :, : position + 1], layer[1, :, :, : position + 1]
            weights = (self._product(q, keys.transpose(-1, -2)) * width**-0.5).softmax(-1)
            mixed = self._product(weights, values).transpose(1, 2).reshape(batch, 1, -1).contiguous()
            x = (x + self._linear(mixed, f"{i}.attention.out")).contiguous()
            h = self._norm(x, f"{i}.feed_forward.norm", None)
            x = (x + self._feed_forward(h, i)).contiguous()
        return self._head(self._norm(x, "norm", None))
