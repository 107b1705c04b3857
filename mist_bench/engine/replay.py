"""Replays of captured graphs without Python between their kernels.

`Replay`, on any device: a capture bound to the very buffers of its last call, as in a loop that reuses them. tinygrad
examines each input anew at each call, copies inputs that the graph itself has written, and excludes kernels that read
a part of an input from its graphs of kernels. All of that takes a millisecond or more, and a replay does none of it.

`CpuGraph`, on a CPU: tinygrad 0.14 has graphs of kernels for GPUs. On a CPU it loops over the kernels of a capture in
Python, which takes some 50 microseconds each, as long as many a kernel, and runs the parts of a kernel that is split
over cores one after another. `CpuGraph` plugs into the same extension point: it writes the functions and the addresses
of their buffers into a table at capture, so that a replay fills in the inputs and starts `cpu_team`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tinygrad import Device, Tensor
from tinygrad.helpers import DEBUG, JIT, JIT_BATCH_SIZE, PROFILE

from . import cpu_team, tinygrad_private
from .tinygrad_private import (
    Buffer,
    CapturedJit,
    GraphRunner,
    Ops,
    UOp,
    buffers_of,
    get_call_arg_uops,
    get_graph_runtime,
    run_linear,
)

Values = dict[str, int]
"""Variables by name."""


def places(inputs: Sequence[Any]) -> tuple[tuple[UOp, ...], Values]:
    """The buffers of the tensors among a graph's inputs, also of those in lists, and the values of its variables."""
    tensors, values = [], {}
    for each in inputs:
        if isinstance(each, UOp):
            variable, value = each.unbind()
            values[variable.expr] = int(value)
        else:
            tensors += [each] if isinstance(each, Tensor) else list(each)
    return tuple(tensor.uop for tensor in tensors), values


class Replay:
    """A capture whose inputs are always these buffers."""

    def __init__(self, captured: CapturedJit[Any], inputs: Sequence[UOp]) -> None:
        calls = [tinygrad_private.with_buffers(call, tuple(inputs)) for call in kernels(captured.linear)]
        self.linear: UOp = UOp(Ops.LINEAR, src=tuple(calls))
        if JIT.value < 2:
            # a GPU starts on a small first graph while the next is queued; a CPU has nothing to wait for
            largest = 0 if getattr(Device[Device.DEFAULT], "graph", None) is CpuGraph else JIT_BATCH_SIZE.value
            self.linear = tinygrad_private.in_graphs(self.linear, largest)
        parts = [call.src[0] for call in self.linear.src]
        only_graphs = all(part.arg == "graph" for part in parts)
        self.graphs = [get_graph_runtime(part, ()) for part in parts] if only_graphs else []
        """tinygrad's graphs of kernels, if the capture consists of nothing else."""

    def __call__(self, values: Values) -> None:
        if not self.graphs or DEBUG >= 2 or PROFILE:
            run_linear(self.linear, values, jit=True)
            return
        for graph in self.graphs:  # as `run_linear`, without tinygrad's counters
            graph((), values)


def replay(captured: CapturedJit[Any], inputs: Sequence[Any]) -> Replay | None:
    """The replay of a capture for these inputs; None if one of them has no buffer yet, or is one that the graph writes
    a result into and that tinygrad therefore copies first."""
    if not all(place.is_realized for place in places(inputs)[0]):
        return None
    buffers = tinygrad_private.input_buffers(tuple(inputs))
    kinds = {call.src[0].op for call in kernels(captured.linear)}
    if tinygrad_private.written_buffers(captured).intersection(buffers) or not kinds <= {Ops.PROGRAM, Ops.COPY}:
        return None
    return Replay(captured, buffers)


def kernels(linear: UOp) -> Iterator[UOp]:
    """The calls of a capture, including those inside graphs of kernels."""
    for call in linear.src:
        graph = call.src[0].op is Ops.CUSTOM_FUNCTION and call.src[0].arg == "graph"
        yield from call.src[0].src[0].src if graph else (call,)


def buffers(linear: UOp) -> Iterator[Buffer]:
    """The buffers that the kernels of a capture read and write, without its inputs."""
    for call in kernels(linear):
        for part in get_call_arg_uops(call):
            if all(u.op is not Ops.PARAM for u in part.toposort()):
                yield from buffers_of(part)


class CpuGraph(GraphRunner):
    """Kernels of one CPU device, in order. Their arguments are 64-bit words: addresses, then variables."""

    def __init__(self, linear: UOp, input_uops: tuple[UOp, ...] = ()) -> None:
        super().__init__(linear, input_uops)
        words: list[int] = []
        steps: list[tuple[int, ...]] = []
        inputs: dict[int, list[int]] = {}
        variables: dict[str, list[int]] = {}
        runtimes: list[Any] = list(self.runtimes)
        for j, ((_, call, buffers, device_vars), runtime, replace) in enumerate(
            zip(self.calls, runtimes, self.uop_replace, strict=True)
        ):
            info, slots, core = call.arg, dict(replace), runtime.runtimevars.get("core_id")
            own = {**device_vars, **info.runtimevars}
            arguments = [tinygrad_private.address(buffers[place]) for place in info.globals]
            arguments += [own.get(v.expr, 0) or 0 for v in info.vars]
            parts = int(info.global_size[0]) if core is not None else 1
            steps.append((runtime.addr, parts, len(arguments), len(words)))
            for part in range(parts):
                for i, place in enumerate(info.globals):
                    if place in slots:
                        inputs.setdefault(slots[place], []).append(len(words) + i)
                for i, variable in self.var_vals_replace.get(j, ()):
                    variables.setdefault(self.vars[variable], []).append(len(words) + len(info.globals) + i)
                words += [part if i == core else argument for i, argument in enumerate(arguments)]
        self.words = np.array(words + [0] * (cpu_team.MOST_ARGUMENTS + 1), dtype=np.uint64)
        self.steps = np.array(steps, dtype=np.uint64)
        self.inputs = {slot: np.array(indices) for slot, indices in inputs.items()}
        """For each input, the words that hold its address."""
        self.variables = {name: np.array(indices) for name, indices in variables.items()}

    @staticmethod
    def supports_uop(batch_devs: list[Any], new_call: UOp) -> bool:
        """Whether a call can join: a compiled kernel of one device that takes no address inside an input."""
        if getattr(batch_devs[0].renderer, "suffix", "").startswith("LVP"):
            return False  # DEV=CPU:LVP: its programs are not functions of this process
        whole = all(b.op is Ops.PARAM or all(u.op is not Ops.PARAM for u in b.toposort())
                    for b in get_call_arg_uops(new_call))  # fmt: skip
        return whole and GraphRunner.supports_uop(batch_devs, new_call)

    def __call__(self, input_uops: tuple[UOp, ...], var_vals: Values, wait: bool = False) -> float | None:
        """Run all kernels with these inputs and variables; `wait`: return the seconds it took."""
        start = time.perf_counter()
        for slot, indices in self.inputs.items():
            self.words[indices] = tinygrad_private.address(buffers_of(input_uops[slot])[0])
        for name, indices in self.variables.items():
            self.words[indices] = var_vals[name]
        cpu_team.team().walk(self.steps, self.words)
        return time.perf_counter() - start if wait else None
