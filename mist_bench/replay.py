"""A captured graph on a CPU, replayed as a list of calls into compiled code.

tinygrad 0.14 has graphs for GPUs; on a CPU it goes through each kernel of a capture in Python, which takes some 50
microseconds, as long as many a kernel. Its own extension point for such graphs is used here: what can be known at
capture (the function, the addresses of its buffers, how often it is called) is put down once, and a replay only fills
in the inputs and calls.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

from tinygrad import Device
from tinygrad.engine.jit import GraphRunner
from tinygrad.engine.realize import get_call_arg_uops
from tinygrad.uop.ops import Ops, UOp


def install() -> None:
    """Gives tinygrad's CPU this kind of graph, if the CPU is the device; a second call does nothing."""
    if str(Device.DEFAULT).split(":")[0] != "CPU":
        return
    device: Any = Device[Device.DEFAULT]
    if device.graph is None and not getattr(device.renderer, "suffix", "").startswith("LVP"):
        device.graph = CpuGraph


class CpuGraph(GraphRunner):
    """Kernels of one CPU device, in order. Their arguments are 64-bit words: addresses, then variables."""

    def __init__(self, linear: UOp, input_uops: tuple[UOp, ...] = ()) -> None:
        super().__init__(linear, input_uops)
        self.words: list[list[Any]] = []
        self.steps: list[tuple[Any, list[Any]]] = []
        self.inputs: list[tuple[Any, int]] = []
        """(the argument to fill, the slot of the input whose address it is)"""
        for (_, call, buffers, device_vars), runtime, replace in zip(
            self.calls, self.runtimes, self.uop_replace, strict=True
        ):
            info = call.arg
            slots = dict(replace)
            words = [ctypes.c_uint64(buffers[place]._buf.va_addr) for place in info.globals]
            self.inputs += [(word, slots[place]) for word, place in zip(words, info.globals, strict=True)
                            if place in slots]  # fmt: skip
            own = {**device_vars, **info.runtimevars}
            words += [ctypes.c_uint64(own.get(v.expr, 0) or 0) for v in info.vars]
            self.words.append(words)
            self._add(runtime, words, info)

    def _add(self, runtime: Any, words: list[Any], info: Any) -> None:
        """The call, once for each thread that the kernel is split over: there is one core to run them."""
        core = runtime.runtimevars.get("core_id")
        for number in range(int(info.global_size[0]) if core is not None else 1):
            own = list(words)
            if core is not None:
                own[core] = ctypes.c_uint64(number)
            self.steps.append((runtime.fxn, own))

    @staticmethod
    def supports_uop(batch_devs: list[Any], new_call: UOp) -> bool:
        """Kernels of one device, whose inputs are whole: the address of a part of one is not filled in."""
        whole = all(b.op is Ops.PARAM or all(u.op is not Ops.PARAM for u in b.toposort())
                    for b in get_call_arg_uops(new_call))  # fmt: skip
        return whole and GraphRunner.supports_uop(batch_devs, new_call)

    def __call__(self, input_uops: tuple[UOp, ...], var_vals: dict[str, int], wait: bool = False) -> float | None:
        start = time.perf_counter()
        for word, slot in self.inputs:
            buffer: Any = input_uops[slot].buffer
            word.value = buffer.ensure_allocated()._buf.va_addr
        for j, place, value in self.updated_vars(var_vals):
            self.words[j][len(self.calls[j][1].arg.globals) + place].value = value
        for function, words in self.steps:
            function(*words)
        return time.perf_counter() - start if wait else None
