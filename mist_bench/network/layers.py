"""The layers of a transformer, with explicit backward passes where tinygrad's own would store or compute too much.

Matrix products take their operands in a `compute` type and sum in float32. Values that a backward pass needs are stored
in that type; statistics (maxima, sums, logarithms) are float32. All functions are stateless.

Shapes: B sequences, L positions, D width, H heads, E width of a head, V tokens, N = B L rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tinygrad import Tensor, dtypes
from tinygrad.helpers import TRAINING

from ..engine.device import on_cpu

if TYPE_CHECKING:
    from tinygrad import UOp
    from tinygrad.dtype import DType

CHUNK = 1 << 27
"""Logits that are stored at once: with 50 257 tokens those of 2600 positions, 256 MiB in bfloat16."""
Backward = Callable[[Tensor], Sequence[Tensor]]
"""The gradient of a value -> the gradients of its inputs."""


def with_gradient(value: Tensor, inputs: Sequence[Tensor], backward: Backward) -> Tensor:
    """`value`, with `backward` in place of tinygrad's gradients with respect to `inputs`.

    Only in training (`Context(TRAINING=1)`): outside it, tinygrad would no longer recognize two equal values as one.
    """
    if not TRAINING:
        return value

    def gradients(upstream: UOp, call: UOp) -> tuple[UOp | None, ...]:
        pairs = zip(backward(Tensor(upstream)), inputs, strict=True)
        return None, *(gradient.cast(tensor.dtype).uop for gradient, tensor in pairs)

    return Tensor.call(value.detach(), *inputs, fxn=value.as_param(0), grad_fxn=gradients)


def joint(x: Tensor, dtype: DType = dtypes.float) -> Tensor:
    """`x`, stored once, and its gradient too, instead of computed again in each kernel that reads it."""
    return x.cast(dtype).contiguous().contiguous_backward()


def product(a: Tensor, b: Tensor, compute: DType) -> Tensor:
    """Matrix product of operands in the compute type, summed and returned in float32."""
    if compute == dtypes.float:
        return a @ b
    return a.cast(compute).matmul(b.cast(compute), dtype=dtypes.float)


def layer_norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis, without gain or bias."""
    centred = x - x.mean(axis=-1, keepdim=True)
    return centred * (centred.square().mean(axis=-1, keepdim=True) + 1e-5).rsqrt()


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, compute: DType) -> Tensor:
    """Attention: (B, H, L, E) queries, keys and values in the compute type -> (B, H, L, E).

    `visible`: (L, L), whether each position (row) sees each position (column); None: it sees all.

    Of the (L, L) values only the exponentials are kept for the backward pass: their sum divides the output, which is
    smaller. The gradient of the scores is y (dy - sum(y dy)), and this sum equals that of the output times its gradient
    (Dao et al., arXiv 2205.14135, section 3.1), so that it needs no second pass over (L, L).
    """
    scale = float(q.shape[-1]) ** -0.5
    scores = product(q, k.transpose(-1, -2), compute) * scale
    if visible is not None:
        scores = visible.where(scores, -1e9)
    scores = scores.contiguous()
    e = (scores - scores.max(axis=-1, keepdim=True).contiguous()).exp().cast(compute).contiguous()
    total = e.float().sum(axis=-1, keepdim=True).contiguous()
    out = (product(e, v, compute) / total).cast(compute).contiguous()

    def backward(upstream: Tensor) -> Sequence[Tensor]:
        mean = ((upstream.float() * out.float()).sum(axis=-1, keepdim=True) / total).contiguous()
        scaled = (upstream.float() / total).cast(compute).contiguous()
        to_scores = (product(scaled, v.transpose(-1, -2), compute) - mean) * e.float() * scale
        to_scores = to_scores.cast(compute).contiguous()
        gradients = (product(to_scores, k, compute), product(to_scores.transpose(-1, -2), q, compute),
                     product(e.transpose(-1, -2), scaled, compute))  # fmt: skip
        return [each.cast(compute).contiguous() for each in gradients]

    return with_gradient(out, [q, k, v], backward)


def cross_entropy(
    h: Tensor, w: Tensor, targets: Tensor, weights: Tensor, vocab_size: int, compute: DType, *, full: int | None = None
) -> Tensor:
    """Sum of weight times -log p(target): (B, L, D), (D, V or more), (B, L) ids, (B, L) weights -> scalar.

    The gradients are computed with the loss, a few positions at a time, so that at most `CHUNK` logits are stored at
    once, in the compute type. Columns from `vocab_size` on are padding without probability.

    `full`: the positions with a weight fill at most this many sequences, and only they are read; the loss is NaN if
    there are more.
    """
    rows, some = h.contiguous(), None
    if full is not None and full < int(h.shape[0]):
        some = _Weighed(weights, full)
        rows, targets = some.at(rows).contiguous(), some.at(targets)
        weights = some.inside.where(some.at(weights), 0.0).contiguous()
    loss, to_rows, to_w = _loss_and_gradients(rows, w, targets, weights, vocab_size, compute)
    loss = loss if some is None else some.too_many.where(float("nan"), loss)

    def backward(upstream: Tensor) -> Sequence[Tensor]:
        return (to_rows if some is None else some.back(to_rows)) * upstream, to_w() * upstream

    return with_gradient(loss, [h, w], backward)


class _Weighed:
    """The positions of a batch that have a weight, packed into `full` sequences.

    `at` packs a tensor, `back` unpacks one, with 0 at positions without a weight. Slots that are not `inside` are
    unused, and hold an arbitrary position.
    """

    def __init__(self, weights: Tensor, full: int) -> None:
        batch, length = (int(size) for size in weights.shape)
        self.shape, self.weighed = (full, length), weights != 0
        within = self.weighed.int().cumsum(axis=1).contiguous()  # 1: the first of its sequence
        counts = within[:, -1]
        ends = counts.cumsum().contiguous()
        slot = Tensor.arange(full * length).reshape(-1, 1)
        sequence = (ends <= slot).sum(axis=1).int().clip(0, batch - 1).contiguous()
        place = slot.reshape(-1) - (ends - counts)[sequence]
        position = (within[sequence] <= place.reshape(-1, 1)).sum(axis=1).int().clip(0, length - 1)
        self._from = (sequence * length + position).contiguous()
        self._to = (within - 1 + (ends - counts).reshape(-1, 1)).clip(0, full * length - 1).contiguous()
        self.inside = (slot < ends[-1]).reshape(self.shape)
        self.too_many = ends[-1] > full * length

    def at(self, x: Tensor) -> Tensor:
        """Pack (B, L, ...) -> (full, L, ...)."""
        rest = x.shape[2:]
        return x.reshape(-1, *rest)[self._from].reshape(*self.shape, *rest)

    def back(self, x: Tensor) -> Tensor:
        """Unpack (full, L, D) -> (B, L, D)."""
        return self.weighed.unsqueeze(-1).where(x.reshape(-1, int(x.shape[-1]))[self._to], 0.0)


def _loss_and_gradients(
    h: Tensor, w: Tensor, targets: Tensor, weights: Tensor, vocab_size: int, compute: DType
) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    """The loss, its gradient with respect to h, and a function that computes the one with respect to w."""
    length, most = int(h.shape[1]), CHUNK // (int(h.shape[0]) * int(w.shape[1]))
    size = max(part for part in range(1, length + 1) if length % part == 0 and part <= max(1, most))
    # equal parts share their kernels; positions are divided, since sequences may lie on several devices
    parts = [slice(start, start + size) for start in range(0, length, size)]
    results = [_part(h[:, part].contiguous(), w, targets[:, part], weights[:, part], vocab_size, compute)
               for part in parts]  # fmt: skip
    loss = results[0][0]
    for value, _, _ in results[1:]:
        loss = loss + value

    def to_w() -> Tensor:
        total = results[0][2].contiguous()
        for _, _, part in results[1:]:
            total = (total + part).contiguous()
        return total

    return loss, Tensor.cat(*[to_h for _, to_h, _ in results], dim=1), to_w


def _part(
    h: Tensor, w: Tensor, targets: Tensor, weights: Tensor, vocab_size: int, compute: DType
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of some positions, and its gradients with respect to h and w."""
    column = Tensor.arange(w.shape[1])
    logits = product(h, w, compute).cast(compute).contiguous()
    inside = logits.float() if w.shape[1] == vocab_size else (column < vocab_size).where(logits.float(), -1e9)
    largest = inside.max(axis=-1, keepdim=True).contiguous()
    e = (inside - largest).exp()
    e = e.contiguous() if on_cpu() else e
    total = e.sum(axis=-1, keepdim=True).contiguous()
    target = targets.unsqueeze(-1) == column
    each = weights.unsqueeze(-1) * (total.log() + largest - _of_targets(logits, targets))
    loss = each.contiguous().sum().contiguous()  # otherwise the sum computes all of it, in very few threads
    to_logits = (((e / total) - target.float()) * weights.unsqueeze(-1)).cast(compute).contiguous()
    to_h = product(to_logits, w.transpose(), compute).contiguous()
    return loss, to_h, weight_gradient(h, to_logits, compute)


def _of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit of each target: (B, L, V), (B, L) ids -> (B, L, 1) float32."""
    columns = int(logits.shape[-1])
    if isinstance(logits.device, tuple):  # row numbers would count the rows of all devices
        values = (targets.unsqueeze(-1) == Tensor.arange(columns)).where(logits.float(), 0.0).sum(axis=-1)
    else:
        row = Tensor.arange(int(targets.numel())) * columns
        values = logits.reshape(-1)[row + targets.reshape(-1)].float().reshape(targets.shape)
    return values.unsqueeze(-1).contiguous()


def weight_gradient(x: Tensor, upstream: Tensor, compute: DType) -> Tensor:
    """Gradient of a matrix: (B, L, D) inputs, (B, L, F) gradients of its outputs -> (D, F), summed over all rows."""
    if on_cpu():  # a product for each sequence, then their sum: two small operands stay in the first cache
        return product(x.transpose(1, 2), upstream, compute).contiguous().sum(axis=0)
    x, upstream = x.reshape(-1, x.shape[-1]), upstream.reshape(-1, upstream.shape[-1])
    return product(x.transpose(), upstream, compute)


def lookup(table: Tensor, ids: Tensor, compute: DType) -> Tensor:
    """Rows of a table: (V, D) float32, (B, L) ids -> (B, L, D) float32.

    The table's gradient is a product with a matrix of zeros and ones: V by N, or, where the table has more rows than
    are read, N by N, which marks the positions with the same token. Both sum in a fixed order.
    """
    value = table[ids]
    rows, count = int(table.shape[0]), int(ids.shape[0]) * int(ids.shape[1])
    if on_cpu() and rows <= count:
        return value

    def backward(upstream: Tensor) -> Sequence[Tensor]:
        gradient, flat = upstream.reshape(count, -1).cast(compute).contiguous(), ids.reshape(count)
        if rows <= count or isinstance(ids.device, tuple):  # a device needs no sequences of another
            same = (Tensor.arange(rows).reshape(rows, 1) == flat).cast(compute).contiguous()
            return [product(same, gradient, compute)]
        same = (flat.reshape(count, 1) == flat).cast(compute).contiguous()
        summed = product(same, gradient, compute).contiguous()
        place = (Tensor.arange(rows).reshape(rows, 1) == flat).where(Tensor.arange(count) + 1, 0)
        last = place.max(axis=-1).contiguous()  # 1 + the last position that holds the token; 0: none does
        return [(last > 0).unsqueeze(-1).where(summed[(last - 1).maximum(0)], 0.0)]

    return with_gradient(value, [table], backward)
