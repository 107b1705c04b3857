"""Captured graphs: functions of tensors, compiled once each, that `--debug` lists with the time it took."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor

from . import device, replay, tinygrad_private
from .tinygrad_private import Buffer

captured: list[Graph] = []
"""The captured graphs of this process, in order."""
_dropped = False
"""Whether a capture was dropped since objects were last frozen."""
MOST_REPLAYS = 32
"""Sets of input buffers for which a graph holds a replay: one sampler may serve several networks."""


class Graph:
    """A function of tensors, captured at its first call and replayed from then on.

    All state that the function closes over must be realized before the first call, which runs nothing eagerly. Call it
    with the same buffers each time, with new values in them: from the third call on, it then reads only the variables
    among its inputs. So two calls before a clock starts include all compilation.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        if not tinygrad_private.patches:
            raise RuntimeError("call mist_bench.engine.compiler.prepare() before the first Graph")
        self.name, self.compile_seconds = name, 0.0
        self._jit = tinygrad_private.captured_at_first_call(function)
        self._last: tuple[Any, ...] = ()
        self._inputs: tuple[Any, ...] = ()
        self._replays: dict[tuple[Any, ...], replay.Replay | None] = {}

    def __call__(self, *inputs: Any) -> Any:
        """The function's result, in buffers that the next call overwrites."""
        if self._jit.captured is None:
            return self._capture(inputs)
        places, values = replay.places(inputs)
        self._inputs = places
        if places not in self._replays:
            if places != self._last:
                self._last = places
                return self._jit(*inputs)
            self._settle_on(places, inputs)
        known = self._replays[places]
        if known is None:
            return self._jit(*inputs)
        known(values)
        return self._jit.captured.ret

    def _settle_on(self, places: tuple[Any, ...], inputs: tuple[Any, ...]) -> None:
        """Build the replay for these buffers, in place of the oldest one if there are too many."""
        while len(self._replays) >= MOST_REPLAYS:
            del self._replays[next(iter(self._replays))]
        self._replays[places] = replay.replay(self._jit.captured, inputs)

    def _capture(self, inputs: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        result = self._jit(*inputs)
        self._last = self._inputs = replay.places(inputs)[0]
        device.synchronize()
        _freeze()
        self.compile_seconds = time.perf_counter() - start
        captured.append(self)
        return result

    def drop(self) -> None:
        """Free the memory of the capture, also of one that failed midway; the next call captures anew."""
        global _dropped
        tinygrad_private.capture_again(self._jit)
        self._last, self._inputs, self._replays = (), (), {}
        _dropped = True
        if self in captured:
            captured.remove(self)

    @property
    def kernels(self) -> int:
        """Calls of kernels and copies in the capture."""
        return 0 if self._jit.captured is None else sum(1 for _ in replay.kernels(self._jit.captured.linear))

    @property
    def operations(self) -> int:
        """Arithmetic operations of one call, as tinygrad counts those of its kernels."""
        calls = [] if self._jit.captured is None else replay.kernels(self._jit.captured.linear)
        return sum(map(tinygrad_private.operations, calls))

    def buffers(self) -> Iterator[Buffer]:
        """All buffers that its kernels read and write, with the inputs of the last call."""
        if self._jit.captured is not None:
            yield from replay.buffers(self._jit.captured.linear)
        for place in self._inputs:
            yield from tinygrad_private.buffers_of(place)


def _freeze() -> None:
    """Freeze the ~100 000 objects of a capture, so that the garbage collector skips them.

    With six captures in a process, visiting them made a sampling step 1.6 times as long. Those of earlier captures are
    visited here only if one has been dropped: a visit of all takes a quarter of a second and grows with each capture.
    """
    global _dropped
    if _dropped:
        gc.unfreeze()
        _dropped = False
    gc.collect()
    gc.freeze()


def held(graphs: Iterable[Graph]) -> int:
    """Bytes of all buffers of these graphs, each counted once: parameters, state and what lies between kernels."""
    sizes = {id(buffer.base): int(buffer.base.nbytes) for graph in graphs for buffer in graph.buffers()}
    return sum(sizes.values())


def overwrite(tensor: Tensor, values: np.ndarray[Any, Any]) -> None:
    """Write values into the tensor's own buffer, which captured graphs read, on every device that holds a copy."""
    flat = np.ascontiguousarray(values)
    if flat.shape != tensor.shape:
        raise ValueError(f"shape {flat.shape} does not fit {tensor.shape}")
    for target in tinygrad_private.device_buffers(tensor):
        data: Any = memoryview(bytearray(flat.tobytes()))
        target.copy_from(Buffer("PYTHON", target.size, target.dtype, opaque=data))


def fetch(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The values of a tensor, from the first device that holds a copy."""
    return np.asarray(tinygrad_private.device_buffers(tensor)[0].numpy().reshape(tensor.shape))


class Inbox:
    """A buffer through which the host passes values to a captured graph, which may also store its own state there.

    A new tensor for each call would have to be scheduled each time, which takes longer than many a kernel. A write
    waits for the work that was queued before it, or is queued behind that.
    """

    def __init__(self, *shape: int, dtype: str = "int32") -> None:
        self.dtype = np.dtype(dtype)
        self.tensor = Tensor.empty(*shape, dtype=dtype).realize()
        [self._buffer] = tinygrad_private.device_buffers(self.tensor)
        self._buffer.ensure_allocated()
        self(np.zeros(shape, dtype=self.dtype))

    def __call__(self, values: npt.NDArray[Any]) -> Tensor:
        """The tensor, with these values in it."""
        if values.dtype != self.dtype or values.shape != self.tensor.shape:
            raise ValueError(f"{values.dtype} of shape {values.shape} does not fit {self.dtype} of {self.tensor.shape}")
        data: Any = np.array(values, order="C")  # a copy: the argument may be read-only
        tinygrad_private.write_buffer(self._buffer, memoryview(data).cast("B"))
        return self.tensor


def debug_lines() -> list[str]:
    """What `--debug` shows at the end: the captured graphs, and what was replaced in tinygrad."""
    graphs = [f"graph {graph.name}: {graph.kernels} calls, compiled in {graph.compile_seconds:.1f} s"
              for graph in captured]  # fmt: skip
    return [*graphs, f"{len(captured)} graphs captured", *map(str, tinygrad_private.patches)]
