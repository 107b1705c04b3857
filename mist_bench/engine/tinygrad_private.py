"""What tinygrad 0.14 gets wrong on CUDA, mended by its own names. Elsewhere calls are trimmed too, to no effect."""

from __future__ import annotations

import dataclasses
from typing import Any

_own: Any = None


def install() -> None:
    """Call before the device is opened; a second call does nothing."""
    from tinygrad.engine import jit
    from tinygrad.runtime.autogen import cuda

    global _own
    if _own is not None:
        return
    _own = jit.graph_split_rewrite
    jit.graph_split_rewrite = split
    cuda.cuCtxCreate_v2 = _shared_context


def split(linear: Any, max_batch_size: int = 0) -> Any:
    """tinygrad's cut of a capture into graphs of kernels, each kernel with the arguments that it takes."""
    return _own(linear.replace(src=tuple(trimmed(call) for call in linear.src)), max_batch_size)


def trimmed(call: Any) -> Any:
    """The call without buffers that its kernel does not take.

    What cancels out of a kernel (best - (best + x)) is no parameter of it, but stays among the arguments of its call. A
    single launch leaves it out; a graph of kernels on CUDA passes all, so that those behind it are taken for others.
    """
    from tinygrad.engine.realize import get_call_arg_uops
    from tinygrad.uop.ops import Ops

    program = call.src[0]
    if program.op is not Ops.PROGRAM:
        return call
    given, taken = get_call_arg_uops(call), program.arg.globals
    if tuple(taken) == tuple(range(len(given))):
        return call
    now = {old: new for new, old in enumerate(taken)}
    info = dataclasses.replace(
        program.arg, globals=tuple(range(len(taken))), outs=tuple(now[i] for i in program.arg.outs),
        ins=tuple(now[i] for i in program.arg.ins),
    )  # fmt: skip
    variables = (part for part in call.src[1:] if part.is_bound_var)
    return call.replace(src=(program.replace(arg=info), *(given[i] for i in taken), *variables))


def _shared_context(context: Any, flags: int, number: Any) -> int:
    """The card's primary context, which is PyTorch's too, made the current one, in place of one of tinygrad's own: two
    in a process hold each other's streams and modules for invalid."""
    from tinygrad.runtime.autogen import cuda

    status = cuda.cuDevicePrimaryCtxRetain(context, number)
    return int(status or cuda.cuCtxSetCurrent(context._obj))
