"""The parts of a transformer whose backward pass is written out, where tinygrad's own would store or compute too much.

Matrix products take their operands in a `compute` type and sum in float32. What a backward pass needs of the forward
one is kept in that type; statistics (largest, sums, logarithms) are float32. Nothing here has a state.

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
"""Logits that are held at once: of 50 257 tokens, those of 2600 positions, 256 MiB in bfloat16."""
Backward = Callable[[Tensor], Sequence[Tensor]]


def with_gradient(value: Tensor, inputs: Sequence[Tensor], backward: Backward) -> Tensor:
    """`value`, whose gradients with respect to the `inputs` are what `backward` makes of its own gradient.

    Only in training (`Context(TRAINING=1)`): else tinygrad could not see that two such values are the same.
    """
    if not TRAINING:
        return value

    def gradients(upstream: UOp, call: UOp) -> tuple[UOp | None, ...]:
        found = zip(backward(Tensor(upstream)), inputs, strict=True)
        return None, *(gradient.cast(given.dtype).uop for gradient, given in found)

    return Tensor.call(value.detach(), *inputs, fxn=value.as_param(0), grad_fxn=gradients)


def joint(x: Tensor, kind: DType = dtypes.float) -> Tensor:
    """A cut in the graph, forward and backward: stored once, instead of computed again in each kernel that reads it."""
    return x.cast(kind).contiguous().contiguous_backward()


def product(a: Tensor, b: Tensor, compute: DType) -> Tensor:
    """Matrix product in the compute type, summed and given back in float32."""
    if compute == dtypes.float:
        return a @ b
    return a.cast(compute).matmul(b.cast(compute), dtype=dtypes.float)


def layer_norm(x: Tensor) -> Tensor:
    """Over the last axis, without gain or bias."""
    centred = x - x.mean(axis=-1, keepdim=True)
    return centred * (centred.square().mean(axis=-1, keepdim=True) + 1e-5).rsqrt()


def squared_relu(x: Tensor, compute: DType) -> Tensor:
    """In the compute type. Its gradient is 2 sqrt(y): the input need not be kept."""
    y = x.relu().square().cast(compute).contiguous()
    return with_gradient(y, [x], lambda upstream: [(2 * y.float().sqrt() * upstream).cast(compute).contiguous()])


def attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, compute: DType) -> Tensor:
    """(B, H, L, E) queries, keys and values in the compute type, (L, L) what each place sees -> (B, H, L, E).

    Of (L, L) only the exponentials are kept: what they add up to divides the output, which is smaller. The gradient of
    the scores is y (dy - sum(y dy)), and the sum is that of the output times its gradient (Dao et al., arXiv
    2205.14135, section 3.1): so it is one product with no second pass over (L, L).
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
        given = (upstream.float() / total).cast(compute).contiguous()
        change = (product(given, v.transpose(-1, -2), compute) - mean) * e.float() * scale
        change = change.cast(compute).contiguous()
        found = (product(change, k, compute), product(change.transpose(-1, -2), q, compute),
                 product(e.transpose(-1, -2), given, compute))  # fmt: skip
        return [each.cast(compute).contiguous() for each in found]

    return with_gradient(out, [q, k, v], backward)


def cross_entropy(
    h: Tensor, w: Tensor, targets: Tensor, weights: Tensor, vocab_size: int, compute: DType, *, full: int | None = None
) -> Tensor:
    """(B, L, D), (D, V or more), (B, L) ids, (B, L) -> scalar: the sum of weight times -log p(target).

    The gradients are made with the loss, a few positions at a time, so that logits are stored in the compute type and
    no more than `CHUNK` of them at once. Columns from `vocab_size` on are padding, and have no probability.

    `full`: positions that have a weight fill at most so many sequences, and only they are looked at; the loss is NaN if
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
    """The positions of a batch that have a weight, one after another as if they were `full` sequences of their own.

    `at` takes what is said of all positions to them, `back` returns it, with 0 where there is no weight. What is left
    of the last sequences is not `inside`, and holds some position or other.
    """

    def __init__(self, weights: Tensor, full: int) -> None:
        batch, length = (int(size) for size in weights.shape)
        self.shape, self.weighed = (full, length), weights != 0
        within = self.weighed.int().cumsum(axis=1).contiguous()  # 1: the first of its sequence
        many = within[:, -1]
        ends = many.cumsum().contiguous()
        slot = Tensor.arange(full * length).reshape(-1, 1)
        sequence = (ends <= slot).sum(axis=1).int().clip(0, batch - 1).contiguous()
        place = slot.reshape(-1) - (ends - many)[sequence]
        position = (within[sequence] <= place.reshape(-1, 1)).sum(axis=1).int().clip(0, length - 1)
        self._from = (sequence * length + position).contiguous()
        self._to = (within - 1 + (ends - many).reshape(-1, 1)).clip(0, full * length - 1).contiguous()
        self.inside = (slot < ends[-1]).reshape(self.shape)
        self.too_many = ends[-1] > full * length

    def at(self, x: Tensor) -> Tensor:
        """(B, L, ...) -> (full, L, ...)."""
        more = x.shape[2:]
        return x.reshape(-1, *more)[self._from].reshape(*self.shape, *more)

    def back(self, x: Tensor) -> Tensor:
        """(full, L, D) -> (B, L, D)."""
        return self.weighed.unsqueeze(-1).where(x.reshape(-1, int(x.shape[-1]))[self._to], 0.0)


def _loss_and_gradients(
    h: Tensor, w: Tensor, targets: Tensor, weights: Tensor, vocab_size: int, compute: DType
) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    """The loss, and its gradients with respect to h and w."""
    length, most = int(h.shape[1]), CHUNK // (int(h.shape[0]) * int(w.shape[1]))
    size = max(part for part in range(1, length + 1) if length % part == 0 and part <= max(1, most))
    # equal parts, so that they share their kernels; of the positions, since sequences may be on several devices
    parts = [slice(start, start + size) for start in range(0, length, size)]
    done = [_part(h[:, part].contiguous(), w, targets[:, part], weights[:, part], vocab_size, compute)
            for part in parts]  # fmt: skip
    loss = done[0][0]
    for value, _, _ in done[1:]:
        loss = loss + value

    def to_w() -> Tensor:
        found = done[0][2].contiguous()
        for _, _, more in done[1:]:
            found = (found + more).contiguous()
        return found

    return loss, Tensor.cat(*[to_h for _, to_h, _ in done], dim=1), to_w


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
    loss = each.contiguous().sum().contiguous()  # else all of it is computed within the sum, by very few threads
    change = (((e / total) - target.float()) * weights.unsqueeze(-1)).cast(compute).contiguous()
    to_h = product(change, w.transpose(), compute).contiguous()
    return loss, to_h, weight_gradient(h, change, compute)


def _of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, L, V), (B, L) -> (B, L, 1) float32, the logit of each target."""
    columns = int(logits.shape[-1])
    if isinstance(logits.device, tuple):  # no device has the numbers of another's rows
        found = (targets.unsqueeze(-1) == Tensor.arange(columns)).where(logits.float(), 0.0).sum(axis=-1)
    else:
        row = Tensor.arange(int(targets.numel())) * columns
        found = logits.reshape(-1)[row + targets.reshape(-1)].float().reshape(targets.shape)
    return found.unsqueeze(-1).contiguous()


def weight_gradient(x: Tensor, upstream: Tensor, compute: DType) -> Tensor:
    """(B, L, D), (B, L, F) -> (D, F), their product summed over all rows."""
    if on_cpu():  # for each sequence, then their sum: two small operands stay in the first cache
        return product(x.transpose(1, 2), upstream, compute).contiguous().sum(axis=0)
    x, upstream = x.reshape(-1, x.shape[-1]), upstream.reshape(-1, upstream.shape[-1])
    return product(x.transpose(), upstream, compute)


def lookup(table: Tensor, ids: Tensor, compute: DType) -> Tensor:
    """(V, D) float32, (B, L) ids -> (B, L, D) float32.

    The table's gradient is a product with a matrix of zeros and ones, of V columns; or, where the table has more rows
    than are read, of N columns: which rows hold the same token as this one. Both are sums in a fixed order.
    """
    value = table[ids]
    rows, count = int(table.shape[0]), int(ids.shape[0]) * int(ids.shape[1])
    if on_cpu() and rows <= count:
        return value

    def backward(upstream: Tensor) -> Sequence[Tensor]:
        given, flat = upstream.reshape(count, -1).cast(compute).contiguous(), ids.reshape(count)
        if rows <= count or isinstance(ids.device, tuple):  # no sequence need know of those on another device
            same = (Tensor.arange(rows).reshape(rows, 1) == flat).cast(compute).contiguous()
            return [product(same, given, compute)]
        same = (flat.reshape(count, 1) == flat).cast(compute).contiguous()
        summed = product(same, given, compute).contiguous()
        place = (Tensor.arange(rows).reshape(rows, 1) == flat).where(Tensor.arange(count) + 1, 0)
        last = place.max(axis=-1).contiguous()  # 1 + the last row that holds the token; 0: none does
        return [(last > 0).unsqueeze(-1).where(summed[(last - 1).maximum(0)], 0.0)]

    return with_gradient(value, [table], backward)
