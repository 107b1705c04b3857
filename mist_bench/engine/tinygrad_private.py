"""Every use of what tinygrad does not document, so that a new release of tinygrad is work on this one file.

First the names that `engine` imports from here, then the functions of tinygrad that mist-bench replaces. Importing this
module imports tinygrad and changes nothing; `compiler.prepare` calls the `replace_*` functions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad import Device, Tensor, TinyJit
from tinygrad.codegen.opt import KernelOptError, Opt, OptOps
from tinygrad.device import Buffer, LRUAllocator, MultiBuffer, TinyELF
from tinygrad.engine import jit, realize
from tinygrad.engine.jit import CapturedJit, GraphRunner
from tinygrad.engine.realize import get_call_arg_uops, get_graph_runtime, run_linear
from tinygrad.uop.ops import AxisType, Ops, UOp

from . import surroundings

__all__ = [
    "AxisType", "Buffer", "CapturedJit", "Device", "GraphRunner", "KernelOptError", "MultiBuffer", "Ops", "Opt",
    "OptOps", "UOp", "get_call_arg_uops", "get_graph_runtime", "run_linear",
]  # fmt: skip


# ---- buffers and captures


def device_buffers(tensor: Tensor) -> list[Buffer]:
    """The buffer of a tensor, or those of one that is copied to each of several devices."""
    if isinstance(tensor.device, str):
        return [tensor._buffer()]
    if tensor.uop.axis is not None:
        raise ValueError("a tensor whose parts lie on several devices has no buffer that holds it")
    return buffers_of(tensor.realize().uop)


def buffers_of(place: UOp) -> list[Buffer]:
    """The buffer that a UOp stands for, or one on each of several devices."""
    buffer: Any = place.buffer
    return list(buffer.bufs) if isinstance(buffer, MultiBuffer) else [buffer]


def write_buffer(buffer: Buffer, data: memoryview) -> None:
    """Copy bytes of the host into an allocated buffer."""
    target: Any = buffer
    target.allocator._copyin(target._buf, data)


def address(buffer: Buffer) -> int:
    """Address of a CPU's buffer, which is allocated if it is not yet."""
    target: Any = buffer.ensure_allocated()
    return int(target._buf.va_addr)


def default_device() -> str:
    """tinygrad's default device without its number, which opens it unless `DEV` names one."""
    return str(Device.DEFAULT).split(":")[0]


def device_names() -> list[str]:
    """The devices that tinygrad has code for."""
    return sorted(set(Device._devices) - {"DISK", "TINYFS", "NPY"})


def opencl_processor() -> str:
    """The name of OpenCL's first device if that is a CPU; else empty."""
    import ctypes

    from tinygrad.runtime.autogen import opencl

    opened: Any = Device["CL"]
    kind = ctypes.c_uint64()
    opencl.clGetDeviceInfo(opened.cl_dev, opencl.CL_DEVICE_TYPE, 8, ctypes.byref(kind), None)
    return str(opened.device_name) if kind.value & opencl.CL_DEVICE_TYPE_CPU else ""


def use_device(name: str) -> None:
    """Make a device tinygrad's default, also in the processes that this one starts."""
    from tinygrad.helpers import DEV

    os.environ["DEV"] = name
    DEV.value = name


def free_cached_buffers() -> None:
    """Return to the default device the freed buffers that tinygrad caches."""
    allocator = Device[Device.DEFAULT].allocator
    if isinstance(allocator, LRUAllocator):
        allocator.free_cache()  # type: ignore[no-untyped-call]


def captured_at_first_call(function: Callable[..., Any]) -> Any:
    """A `TinyJit` without its first call, which runs the function eagerly; also after `capture_again`."""
    captured = TinyJit(function)
    captured.cnt = 1
    return captured


def capture_again(captured: Any) -> None:
    """Free the buffers of a capture, complete or not, so that the next call captures anew."""
    earlier = captured.captured
    captured.reset()
    captured.cnt = 1
    if earlier is not None:
        earlier.free_intermediates()


def input_buffers(inputs: tuple[Any, ...]) -> list[UOp]:
    """The buffers of the tensors among the inputs of a capture, in tinygrad's order."""
    return list(jit._prepare_jit_inputs(inputs, {})[0])  # type: ignore[no-untyped-call]


def written_buffers(captured: CapturedJit[Any]) -> set[UOp]:
    """Buffers that a capture writes without reading them: tinygrad copies an input that is one of them."""
    return set(captured._written_uops)


def with_buffers(call: UOp, buffers: tuple[UOp, ...]) -> UOp:
    """A call of a kernel with these buffers in place of its parameters; no substitution, which would reach into the
    kernel's own parameters."""
    arguments = [part if part.is_bound_var else realize._resolve(part, buffers) for part in call.src[1:]]
    return call.replace(src=(call.src[0], *arguments))


def in_graphs(linear: UOp, largest: int) -> UOp:
    """The calls of a capture joined into graphs of kernels; `largest`: calls in the first one, 0 for all."""
    return jit.graph_split_rewrite(linear, max_batch_size=largest)


def compiled_function(source: str, name: str) -> tuple[Callable[..., None], object]:
    """A function of C source, compiled by tinygrad's CPU compiler, and the object that owns its memory."""
    from tinygrad.runtime.ops_cpu import CPUProgram

    device: Any = Device["CPU"]
    library = device.renderer.compiler.compile_cached(source)
    program = CPUProgram(device, TinyELF(library, name, device.renderer.target, ()))
    return program.fxn, program


def settings() -> list[str]:
    """Every setting of tinygrad with its value in this process."""
    from tinygrad.helpers import ContextVar

    return [f"{key}={setting.value}" for key, setting in sorted(ContextVar._cache.items())]


def without_gradient(argument: Any) -> Any:
    """What a node of an expression holds, without the function that gives the gradient of a call."""
    from tinygrad.uop.ops import CallInfo

    return dataclasses.replace(argument, grad_fxn=None) if isinstance(argument, CallInfo) else argument


# ---- replaced functions


@dataclass(frozen=True)
class Patch:
    """A function, class or table of tinygrad that was replaced in this process."""

    place: str
    original: Any
    replacement: Any
    reason: str

    def __str__(self) -> str:
        return f"replaced {self.place}: {self.reason}"


patches: list[Patch] = []
"""All replacements of this process, in order; `--debug` lists them."""


def patch(owner: Any, name: str, wrap: Callable[[Any], Any], reason: str) -> None:
    """Replace `owner.name` by `wrap(owner.name)` and record it, unless it is replaced already."""
    original = getattr(owner, name)
    if any(original is done.replacement for done in patches):
        return
    replacement = wrap(original)
    if replacement is not original:
        setattr(owner, name, replacement)
        patches.append(Patch(f"{owner.__name__}.{name}", original, replacement, reason))


def original(place: str) -> Any:
    """What stood at a place, e.g. `tinygrad.engine.jit.graph_split_rewrite`, before it was replaced."""
    return next(done.original for done in patches if done.place == place)


def replace_cuda_context() -> None:
    """Use the card's primary context, PyTorch's too: two contexts in a process invalidate each other's streams."""
    from tinygrad.runtime.autogen import cuda

    def primary(context: Any, flags: int, number: Any) -> int:
        status = cuda.cuDevicePrimaryCtxRetain(context, number)
        return int(status or cuda.cuCtxSetCurrent(context._obj))

    patch(cuda, "cuCtxCreate_v2", lambda own: primary, "one CUDA context for tinygrad and PyTorch")


def replace_graph_arguments() -> None:
    """Trim the arguments of kernels before they are joined into graphs."""

    def wrap(own: Any) -> Any:
        def split(linear: Any, max_batch_size: int = 0) -> Any:
            return own(linear.replace(src=tuple(trimmed(call) for call in linear.src)), max_batch_size)

        return split

    patch(jit, "graph_split_rewrite", wrap, "kernels in a CUDA graph get only the buffers that they take")


def trimmed(call: Any) -> Any:
    """The call without the buffers that its kernel does not take.

    What cancels out of a kernel (best - (best + x)) is no parameter of it, but remains among the arguments of its call.
    A single launch skips it; a CUDA graph passes it on, so that every later argument is taken for its neighbour.
    """
    program = call.src[0]
    if program.op is not Ops.PROGRAM:
        return call
    arguments, used = get_call_arg_uops(call), program.arg.globals
    if tuple(used) == tuple(range(len(arguments))):
        return call
    place = {old: new for new, old in enumerate(used)}
    info = dataclasses.replace(
        program.arg, globals=tuple(range(len(used))), outs=tuple(place[i] for i in program.arg.outs),
        ins=tuple(place[i] for i in program.arg.ins),
    )  # fmt: skip
    variables = (part for part in call.src[1:] if part.is_bound_var)
    return call.replace(src=(program.replace(arg=info), *(arguments[i] for i in used), *variables))


def operations(call: UOp) -> int:
    """tinygrad's count of the arithmetic operations of a kernel; 0 for a copy, and where a variable decides it."""
    counted = call.src[0].src[0].arg.estimates.ops if call.src[0].op is Ops.PROGRAM else 0
    return counted if isinstance(counted, int) else 0


def replace_heuristic(optimize: Callable[[Any], Any | None]) -> None:
    """Optimize kernels by this function of a `Scheduler`; where it returns None, by tinygrad's own heuristic."""
    from tinygrad.codegen.opt import heuristic

    def wrap(own: Any) -> Any:
        def hand_coded_optimizations(k: Any) -> Any:
            optimized = optimize(k)
            return own(k) if optimized is None else optimized

        return hand_coded_optimizations

    patch(heuristic, "hand_coded_optimizations", wrap, "tiles on a CPU, a warp for each row on a GPU")


def replace_worker_start(start: Callable[[], None]) -> None:
    """Start tinygrad's compile workers by this function, which a new process imports by its name."""
    from tinygrad.engine import worker

    patch(worker, "_init_worker", lambda own: start, "compile workers optimize kernels as this process does")


def replace_compile_cache() -> None:
    """Go on without tinygrad's database of compiled kernels where it is damaged."""
    from tinygrad import device, helpers

    file = Path(helpers.CACHEDB)
    if not any(done.place.endswith("device.diskcache_get") for done in patches):
        surroundings.set_damaged_cache_aside(file)
    reason = "a damaged database of compiled kernels is set aside"
    patch(device, "diskcache_get", lambda own: surroundings.tolerant(own, file, lambda *_: None), reason)
    patch(device, "diskcache_put", lambda own: surroundings.tolerant(own, file, lambda t, k, value, **_: value), reason)


def shield_workers() -> None:
    """Keep a Ctrl-C of the terminal from compile workers, which would show a traceback while they start."""
    from tinygrad.engine import worker

    def shielded(own: Callable[[], Any]) -> Callable[[], Any]:
        @contextlib.contextmanager
        def start() -> Iterator[None]:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process inherits it
            try:
                with own():
                    yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        return start

    if hasattr(signal, "pthread_sigmask"):
        patch(worker, "_without_main", shielded, "compile workers are started without Ctrl-C")


def start_worker() -> None:
    """tinygrad's own start of a compile worker."""
    from tinygrad.engine import worker

    worker._init_worker()  # type: ignore[no-untyped-call]


def replace_kernel_table(wrap: Callable[[dict[Any, Any]], dict[Any, Any]]) -> None:
    """Wrap the table of finished kernels, unless tinygrad's caches are off (CCACHE=0)."""
    from tinygrad import codegen
    from tinygrad.helpers import CCACHE

    if CCACHE.value:
        patch(codegen, "to_program_cache", wrap, "finished kernels are stored on disk")
        patch(realize, "to_program_cache", lambda own: codegen.to_program_cache, "the same table, by its other name")


def replace_scheduler(wrap: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> None:
    """Wrap the function from the expression of a graph to its kernels, unless tinygrad's caches are off (CCACHE=0)."""
    from tinygrad import schedule
    from tinygrad.helpers import CCACHE

    if CCACHE.value:
        patch(schedule, "get_kernel_graph", wrap, "schedules are stored on disk")


def replace_beam_search(wrap: Callable[[Any], Any]) -> None:
    """Wrap tinygrad's search over the optimizations of a kernel."""
    from tinygrad.codegen.opt import search

    patch(search, "beam_search", wrap, "optimizations in the package's files spare the search")


def replace_cpu_graph(graph: type[GraphRunner]) -> None:
    """Run captures on the first CPU device by this class."""
    from tinygrad.device import Compiled

    def wrap(own: Any) -> Any:
        def __init__(self: Any, device: str, *arguments: Any, **options: Any) -> None:
            own(self, device, *arguments, **options)
            if device == "CPU":
                self.graph = graph

        return __init__

    patch(Compiled, "__init__", wrap, "captures on a CPU run without Python between kernels")
    if "CPU" in Device._opened_devices:
        opened: Any = Device["CPU"]
        opened.graph = opened.graph or graph
