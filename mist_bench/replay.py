"""A captured graph on a CPU, replayed as one walk along a list of calls into compiled code.

tinygrad 0.14 has graphs for GPUs; on a CPU it goes through each kernel of a capture in Python, which takes some 50
microseconds, as long as many a kernel, and runs the parts of a kernel that is split over cores one after another. Its
own extension point for such graphs is used here: what can be known at capture (the functions, the addresses of their
buffers) is put down once, and a replay only fills in the inputs and walks (`walker`).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from tinygrad import Device
from tinygrad.engine.jit import GraphRunner
from tinygrad.engine.realize import get_call_arg_uops
from tinygrad.uop.ops import Ops, UOp

from . import walker


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
        words: list[int] = []
        steps: list[tuple[int, ...]] = []
        self.inputs: list[tuple[int, int]] = []
        """(the word to fill, the slot of the input whose address it is)"""
        runtimes: list[Any] = list(self.runtimes)
        for (_, call, buffers, device_vars), runtime, replace in zip(
            self.calls, runtimes, self.uop_replace, strict=True
        ):
            info, slots, core = call.arg, dict(replace), runtime.runtimevars.get("core_id")
            own = {**device_vars, **info.runtimevars}
            arguments = [buffers[place]._buf.va_addr for place in info.globals]
            arguments += [own.get(v.expr, 0) or 0 for v in info.vars]
            parts = int(info.global_size[0]) if core is not None else 1
            steps.append((runtime.addr, parts, len(arguments), len(words), self._wait(steps, parts)))
            for part in range(parts):
                self.inputs += [(len(words) + i, slots[place]) for i, place in enumerate(info.globals)
                                if place in slots]  # fmt: skip
                words += [part if i == core else argument for i, argument in enumerate(arguments)]
        self.words = np.array(words + [0] * (walker.MOST_ARGUMENTS + 1), dtype=np.uint64)
        self.steps = np.array(steps, dtype=np.uint64)

    @staticmethod
    def _wait(before: list[tuple[int, ...]], parts: int) -> int:
        """Whether all must be there before a step; not between two that the same core does."""
        return int(bool(before) and (parts > 1 or before[-1][1] > 1))

    @staticmethod
    def supports_uop(batch_devs: list[Any], new_call: UOp) -> bool:
        """Kernels of one device, whose inputs are whole: the address of a part of one is not filled in."""
        whole = all(b.op is Ops.PARAM or all(u.op is not Ops.PARAM for u in b.toposort())
                    for b in get_call_arg_uops(new_call))  # fmt: skip
        return whole and GraphRunner.supports_uop(batch_devs, new_call)

    def __call__(self, input_uops: tuple[UOp, ...], var_vals: dict[str, int], wait: bool = False) -> float | None:
        start = time.perf_counter()
        addresses: dict[int, int] = {}
        for word, slot in self.inputs:
            if slot not in addresses:
                buffer: Any = input_uops[slot].buffer
                addresses[slot] = buffer.ensure_allocated()._buf.va_addr
            self.words[word] = addresses[slot]
        for j, place, value in self.updated_vars(var_vals):
            _, parts, arguments, first, _ = (int(field) for field in self.steps[j])
            place += len(self.calls[j][1].arg.globals)
            self.words[first + place : first + place + parts * arguments : arguments] = value
        walker.team().walk(self.steps, self.words)
        return time.perf_counter() - start if wait else None
