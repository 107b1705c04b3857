"""How kernels are optimized where tinygrad's own heuristic is slow: on a CPU, and for sums of rows on a GPU.

tinygrad 0.14 unrolls axes by 3 or 4, which fills neither the vectors nor the registers of a CPU and hides the inner
loop from the compiler's own vectorizer. Here

- a sum over two free axes (a product of matrices, a table's gradient) is cut into tiles of 16 x 4 or smaller, or into
  vectors of 16 if it is of medium size;
- a kernel without a sum stays unchanged, so that the compiler vectorizes its last axis;
- so does a small kernel of any kind, which tiles would make slow to compile and hardly faster;
- the others are split into a part for each core, which `cpu_team` runs side by side.

On a GPU tinygrad lets threads share a sum only for at most 2048 rows. Layer norm and softmax have more, each of which a
single thread would read, far from the rows of its neighbours; here a warp shares a row.

Everything else is left to tinygrad's heuristic. Results differ by the rounding of a sum's order. The gains are in
docs/performance.md.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from . import cpu_team
from .tinygrad_private import AxisType, KernelOptError, Ops, Opt, OptOps

WIDE, NARROW, DEEP = (16, 12, 8), (4, 3, 2), 4
"""Tile sizes to try, best first, of the axis that vectors run along and of the other one; terms of the sum at once."""
VECTOR = 16
"""From this length on, an inner loop is left to the compiler's vectorizer."""
SHARE = 1 << 15
"""Least number of terms for each core: some microseconds of work, while handing out parts takes one."""
WORTH = 1 << 17
"""Least number of terms of a kernel that is optimized at all. A smaller one takes a tenth of a millisecond at most, and
compiles in a tenth of a second; in tiles, of up to 256 terms that are written out, it takes up to 4 s to compile."""
MEDIUM = 1 << 19
"""Least number of terms of a kernel that is cut along two axes, and unrolled. In vectors alone a smaller one compiles
more than twice as fast."""
WARP, FEW, MANY = 32, 2048, 1 << 17
"""Threads that share a row of a GPU's sum, and the numbers of rows between which they do: tinygrad shares smaller sums
itself, and in larger ones a thread for each row keeps the GPU busy."""


def optimized(k: Any) -> Any | None:
    """The kernel with our optimizations, or None to leave it to tinygrad; `k`: a `Scheduler`, which is not changed."""
    return tiled(k) if k.ren.target.device == "CPU" else grouped(k)


def tiled(k: Any) -> Any | None:
    """A CPU's kernel cut into tiles and split over the cores, or None if it is of another kind."""
    if _terms(k) < WORTH:
        return k.copy()
    tiles = _cut(k)
    return None if tiles is None else _split(tiles)


def _terms(k: Any) -> int:
    """How many terms the kernel computes, at most where variables set its sizes."""
    return math.prod(size if isinstance(size, int) else int(size.vmax) for size in k.full_shape)


def grouped(k: Any) -> Any | None:
    """A GPU's kernel with a warp for each row that it sums, or None if it is no such sum, or too small or too large."""
    sums = [u for u in k.ast.backward_slice if u.op is Ops.REDUCE]
    along = k.ranges_of(AxisType.REDUCE)
    if not (k.ren.has_local and k.ren.has_shared) or len(sums) != 1 or len(along) != 1:
        return None
    rows, terms = math.prod(_number(size) for size in k.output_shape), _number(k.full_shape[k.rngs.index(along[0])])
    if not FEW < rows <= MANY or terms < 8 * WARP or terms % WARP or not _by_rows(k, sums[0].src[0], along[0]):
        return None
    k = k.copy()
    try:
        k.apply_opt(Opt(OptOps.GROUP, 0, WARP))
    except KernelOptError:
        return None
    return k


def _by_rows(k: Any, term: Any, along: Any) -> bool:
    """Whether each row that is summed is contiguous and its own; a factor of a product is shared between rows."""
    free = set(k.ranges_of(AxisType.GLOBAL, AxisType.WEAK))
    reads = [u.src[1].get_idx() for u in term.toposort() if u.op is Ops.INDEX]
    own = [idx for idx in reads if along in idx.ranges]
    return bool(own) and all(free <= set(idx.ranges) and any(p is along for p in idx.split_uop(Ops.ADD)) for idx in own)


def _split(k: Any) -> Any:
    """Split the outermost axis that divides into a part for each core, if each part is worth a core."""
    parts, sizes = cpu_team.cores(), [_number(size) for size in k.full_shape]
    if parts > 1 and math.prod(sizes) >= parts * SHARE:
        for axis in k.axes_of(AxisType.WEAK):
            if _divides(parts, sizes[axis]):
                with contextlib.suppress(KernelOptError):
                    k.apply_opt(Opt(OptOps.THREAD, axis, parts))
                    break
    return k


def _cut(k: Any) -> Any | None:
    """A copy of the kernel whose sum is cut into tiles, or an unchanged copy of one without a sum; None for others."""
    sums = [u for u in k.ast.backward_slice if u.op is Ops.REDUCE]
    if not sums:
        return k.copy() if k.full_shape and _number(k.full_shape[-1]) >= VECTOR else None
    if len(sums) != 1 or sums[0].arg[0] is not Ops.ADD or (axes := _axes(k, sums[0].src[0])) is None:
        return None
    k, (wide, narrow, along), whole = k.copy(), axes, _terms(k) >= MEDIUM
    try:
        for axis, sizes in ((wide, WIDE), (narrow, NARROW)) if whole else ((wide, WIDE),):
            place = k.rngs.index(axis)
            size = next((size for size in sizes if _divides(size, k.full_shape[place])), None)
            if size is None:
                return None
            k.apply_opt(Opt(OptOps.UPCAST, place, size))
        # where a factor is contiguous along the sum, its terms make a vector; elsewhere unrolling gains nothing
        if whole and not along and _divides(DEEP, k.full_shape[k.unrollable_dims[-1]]):
            k.apply_opt(Opt(OptOps.UNROLL, len(k.unrollable_dims) - 1, DEEP))
    except KernelOptError:
        return None
    return k


def _number(size: Any) -> int:
    """The size of an axis; 0 where a variable sets it."""
    return size if isinstance(size, int) else 0


def _divides(part: int, size: Any) -> bool:
    """Whether an axis of this size, if it is no variable, can be cut into parts of this size."""
    return _number(size) > 0 and size % part == 0


def _axes(k: Any, term: Any) -> tuple[Any, Any, bool] | None:
    """The two axes of a tile, the wide one first, and whether a buffer that the sum reads is contiguous along it.

    For a product they are the last axis of each factor that the other lacks, so that each number read is used often.
    The wide axis is the inner one of those along which a buffer is contiguous, or else the outer axis.
    """
    free = [r for r in k.rngs if r.arg[-1] in (AxisType.WEAK, AxisType.GLOBAL)]
    if term.op is Ops.MUL:
        first, second = (set(factor.ranges) for factor in term.src)
        rows, columns = [r for r in free if r in first - second], [r for r in free if r in second - first]
        pair = sorted([*rows[-1:], *columns[-1:]], key=k.rngs.index)
    else:
        pair = free[-2:]
    along = [r for r in pair if _along(term, r)]
    if len(pair) < 2 or (term.op is not Ops.MUL and not along):
        return None
    wide = along[-1] if along else pair[0]
    return wide, pair[1] if wide is pair[0] else pair[0], bool(along)


def _along(term: Any, axis: Any) -> bool:
    """Whether a buffer that is read is contiguous along the axis."""
    reads = [u for u in term.toposort() if u.op is Ops.INDEX]
    return any(part is axis for read in reads for part in read.src[1].get_idx().split_uop(Ops.ADD))
