"""Captured graphs without Python between their kernels.

`Replay`, on any device: what a capture is told lies where it lay at the last call, as it does in a loop over buffers
that stay. tinygrad looks at each input anew at each call, copies what the graph itself has written, and leaves kernels
that read a part of an input out of its graphs of kernels; all of that is a millisecond or more, and none of it is left.

`CpuGraph`, on a CPU: tinygrad 0.14 has graphs for GPUs; on a CPU it goes through each kernel of a capture in Python,
which takes some 50 microseconds, as long as many a kernel, and runs the parts of a kernel that is split over cores one
after another. Its own extension point for such graphs is used here: what can be known at capture (the functions, the
addresses of their buffers) is put down once, and a replay only fills in the inputs and walks (`walker`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from tinygrad import Device, Tensor
from tinygrad.device import Buffer, MultiBuffer
from tinygrad.engine import jit, realize
from tinygrad.engine.jit import CapturedJit, GraphRunner, _prepare_jit_inputs
from tinygrad.helpers import DEBUG, JIT, JIT_BATCH_SIZE, PROFILE
from tinygrad.uop.ops import Ops, UOp

from . import cpu_team

Values = dict[str, int]
"""Variables by name."""


def install() -> None:
    """Gives tinygrad's CPU this kind of graph, if the CPU is the device; a second call does nothing."""
    if str(Device.DEFAULT).split(":")[0] != "CPU":
        return
    device: Any = Device[Device.DEFAULT]
    if device.graph is None and not getattr(device.renderer, "suffix", "").startswith("LVP"):
        device.graph = CpuGraph


def places(inputs: Sequence[Any]) -> tuple[tuple[UOp, ...], Values]:
    """Where the tensors among a graph's inputs lie, also those in lists, and what its variables are."""
    tensors, values = [], {}
    for given in inputs:
        if isinstance(given, UOp):
            variable, value = given.unbind()
            values[variable.expr] = int(value)
        else:
            tensors += [given] if isinstance(given, Tensor) else list(given)
    return tuple(tensor.uop for tensor in tensors), values


class Replay:
    """A capture whose inputs are these very buffers, for good."""

    def __init__(self, captured: CapturedJit[Any], buffers: Sequence[UOp]) -> None:
        calls = [_told(call, buffers) for call in kernels(captured.linear)]
        self.linear: UOp = UOp(Ops.LINEAR, src=tuple(calls))
        if JIT.value < 2:
            # a GPU begins with a first, small part while the next is given to it; a CPU has nothing to wait for
            most = 0 if getattr(Device[Device.DEFAULT], "graph", None) is CpuGraph else JIT_BATCH_SIZE.value
            self.linear = jit.graph_split_rewrite(self.linear, max_batch_size=most)
        parts = [call.src[0] for call in self.linear.src]
        alone = all(part.arg == "graph" for part in parts)
        self.graphs = [realize.get_graph_runtime(part, ()) for part in parts] if alone else []
        """Those of tinygrad's kind, if there is nothing else."""

    def __call__(self, values: Values) -> None:
        if not self.graphs or DEBUG >= 2 or PROFILE:
            realize.run_linear(self.linear, values, jit=True)
            return
        for graph in self.graphs:  # what tinygrad would do, but for its counters
            graph((), values)


def replay(captured: CapturedJit[Any], inputs: Sequence[Any]) -> Replay | None:
    """The capture for these inputs; None if it cannot be: one of them has no buffer yet, or is one into which the graph
    writes a result, and which tinygrad copies first."""
    if not all(place.is_realized for place in places(inputs)[0]):
        return None
    given = _prepare_jit_inputs(tuple(inputs), {})[0]  # type: ignore[no-untyped-call]
    kinds = {call.src[0].op for call in kernels(captured.linear)}
    if captured._written_uops.intersection(given) or not kinds <= {Ops.PROGRAM, Ops.COPY}:
        return None
    return Replay(captured, given)


def kernels(linear: UOp) -> Iterator[UOp]:
    """The calls of a capture, those in graphs of kernels too."""
    for call in linear.src:
        whole = call.src[0].op is Ops.CUSTOM_FUNCTION and call.src[0].arg == "graph"
        yield from call.src[0].src[0].src if whole else (call,)


def buffers(linear: UOp) -> Iterator[Buffer]:
    """What the kernels of a capture read and write, but for what it is given."""
    for call in kernels(linear):
        for part in realize.get_call_arg_uops(call):
            if all(u.op is not Ops.PARAM for u in part.toposort()):
                yield from buffers_of(part)


def buffers_of(place: UOp) -> list[Buffer]:
    """The buffer of a tensor, or one on each of several devices."""
    buffer = place.buffer
    return list(buffer.bufs) if isinstance(buffer, MultiBuffer) else [buffer]


def _told(call: UOp, buffers: Sequence[UOp]) -> UOp:
    """The call with buffers for what stands for them; not by a substitution: a kernel has stand-ins of its own."""
    given = [part if part.is_bound_var else realize._resolve(part, tuple(buffers)) for part in call.src[1:]]
    return call.replace(src=(call.src[0], *given))


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
            arguments = [buffers[place]._buf.va_addr for place in info.globals]
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
        self.inputs = {slot: np.array(places) for slot, places in inputs.items()}
        """The words to fill with the address of the input of a slot."""
        self.variables = {name: np.array(places) for name, places in variables.items()}

    @staticmethod
    def supports_uop(batch_devs: list[Any], new_call: UOp) -> bool:
        """Kernels of one device, whose inputs are whole: the address of a part of one is not filled in."""
        whole = all(b.op is Ops.PARAM or all(u.op is not Ops.PARAM for u in b.toposort())
                    for b in realize.get_call_arg_uops(new_call))  # fmt: skip
        return whole and GraphRunner.supports_uop(batch_devs, new_call)

    def __call__(self, input_uops: tuple[UOp, ...], var_vals: Values, wait: bool = False) -> float | None:
        start = time.perf_counter()
        for slot, words in self.inputs.items():
            buffer: Any = input_uops[slot].buffer
            self.words[words] = buffer.ensure_allocated()._buf.va_addr
        for name, words in self.variables.items():
            self.words[words] = var_vals[name]
        cpu_team.team().walk(self.steps, self.words)
        return time.perf_counter() - start if wait else None
