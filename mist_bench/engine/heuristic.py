"""How kernels are cut: what tinygrad's own choice leaves undone, on a CPU and for sums of rows on a GPU.

tinygrad 0.14 unrolls axes by 3 or 4, which fills neither vectors nor registers of a CPU and hides the inner loop from
the compiler's own vectoriser. Here

- a sum over two free axes (a product of matrices, a table's gradient) is cut into tiles of 16 x 4, or what divides;
- a kernel without a sum is left as it is, so that the compiler runs its vectors along the last axis;
- either is split into a part for each core, which `walker` runs side by side;

On a GPU tinygrad lets threads share a sum only where at most 2048 are asked for. Layer norm and softmax have more, each
of a row that a thread would read alone, away from its neighbours': there a warp shares a row.

Everything else keeps tinygrad's choice. Results differ by the rounding of a sum's order.
What it brings: docs/performance.md. tinygrad has no public hook for this; it is pinned to the release whose names are
used.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from . import cpu_team

WIDE, NARROW, DEEP = (16, 12, 8), (4, 3, 2), 4
"""Sizes to try, best first, of the axis that vectors run along and of the other one; and terms of the sum at once."""
VECTOR = 16
"""An inner loop of so many steps is worth leaving to the compiler."""
SHARE = 1 << 15
"""Terms that each core must have to do: some microseconds, beside the one in which they meet."""
WARP, FEW, MANY = 32, 2048, 1 << 17
"""Threads that share a row of a GPU's sum, and between how many rows: tinygrad does it below, and above, each thread
has enough company without."""
_start: Any = None


def install() -> None:
    """Puts the choice into this process and into the compile workers that it will start; a second call does nothing."""
    from tinygrad.codegen.opt import heuristic
    from tinygrad.engine import worker

    global _start
    if getattr(heuristic.hand_coded_optimizations, "of_tiles", False):
        return
    own = heuristic.hand_coded_optimizations

    def choose(k: Any) -> Any:
        found = tiled(k) if k.ren.target.device == "CPU" else grouped(k)
        return own(k) if found is None else found

    choose.of_tiles = True  # type: ignore[attr-defined]
    heuristic.hand_coded_optimizations = choose
    if worker._init_worker is not start_worker:
        _start, worker._init_worker = worker._init_worker, start_worker


def start_worker() -> None:
    """What a compile worker begins with: found by its name, in a process of its own."""
    from tinygrad.engine import worker

    (_start or worker._init_worker)()
    install()


def tiled(k: Any) -> Any | None:
    """The kernel as it is cut here, or None; `k`: tinygrad's Scheduler, which is left as it is."""
    found = _cut(k)
    return None if found is None else _split(found)


def grouped(k: Any) -> Any | None:
    """The kernel with a warp for each row that it adds up, or None: it does something else, or is small or large."""
    from tinygrad.codegen.opt import KernelOptError, Opt, OptOps
    from tinygrad.uop.ops import AxisType, Ops

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
    """Whether all that is added up lies in rows of its own, one number after another: no factor of a product."""
    from tinygrad.uop.ops import AxisType, Ops

    free = set(k.ranges_of(AxisType.GLOBAL, AxisType.WEAK))
    reads = [u.src[1].get_idx() for u in term.toposort() if u.op is Ops.INDEX]
    own = [idx for idx in reads if along in idx.ranges]
    return bool(own) and all(free <= set(idx.ranges) and any(p is along for p in idx.split_uop(Ops.ADD)) for idx in own)


def _split(k: Any) -> Any:
    """Its outermost axis that divides, in a part for each core, if that is worth their meeting."""
    from tinygrad.codegen.opt import KernelOptError, Opt, OptOps
    from tinygrad.uop.ops import AxisType

    parts, sizes = cpu_team.cores(), [_number(size) for size in k.full_shape]
    if parts > 1 and math.prod(sizes) >= parts * SHARE:
        for axis in k.axes_of(AxisType.WEAK):
            if _divides(parts, sizes[axis]):
                with contextlib.suppress(KernelOptError):
                    k.apply_opt(Opt(OptOps.THREAD, axis, parts))
                    break
    return k


def _cut(k: Any) -> Any | None:
    from tinygrad.codegen.opt import KernelOptError, Opt, OptOps
    from tinygrad.uop.ops import Ops

    sums = [u for u in k.ast.backward_slice if u.op is Ops.REDUCE]
    if not sums:
        return k.copy() if k.full_shape and _number(k.full_shape[-1]) >= VECTOR else None
    if len(sums) != 1 or sums[0].arg[0] is not Ops.ADD or (found := _axes(k, sums[0].src[0])) is None:
        return None
    k, (wide, narrow, along) = k.copy(), found
    try:
        for axis, sizes in ((wide, WIDE), (narrow, NARROW)):
            place = k.rngs.index(axis)
            size = next((size for size in sizes if _divides(size, k.full_shape[place])), None)
            if size is None:
                return None
            k.apply_opt(Opt(OptOps.UPCAST, place, size))
        # where a factor lies along the sum, several of its terms make a vector; else more code would gain nothing
        if not along and _divides(DEEP, k.full_shape[k.unrollable_dims[-1]]):
            k.apply_opt(Opt(OptOps.UNROLL, len(k.unrollable_dims) - 1, DEEP))
    except KernelOptError:
        return None
    return k


def _number(size: Any) -> int:
    """The size of an axis; 0 where a variable sets it."""
    return size if isinstance(size, int) else 0


def _divides(part: int, size: Any) -> bool:
    return _number(size) > 0 and size % part == 0


def _axes(k: Any, term: Any) -> tuple[Any, Any, bool] | None:
    """The two axes of a tile, the wide one first, and whether something that the sum reads lies along it.

    Of a product they are the last axis of each factor that the other does not have, so that each number read is used
    often. The wide one is the inner one along which something lies in memory, or else the outer one.
    """
    from tinygrad.uop.ops import AxisType, Ops

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
    """Whether a step along the axis is a step to the next number in a buffer that is read."""
    from tinygrad.uop.ops import Ops

    reads = [u for u in term.toposort() if u.op is Ops.INDEX]
    return any(part is axis for read in reads for part in read.src[1].get_idx().split_uop(Ops.ADD))
