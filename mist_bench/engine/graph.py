"""Captured graphs: few, each compiled once, each listed with what it cost."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from tinygrad import Tensor, TinyJit
from tinygrad.device import Buffer

from . import device, replay

captured: list[Graph] = []
MOST_REPLAYS = 32
"""Sets of buffers that one graph is replayed over without a look at them: a sampler may serve several networks."""


class Graph:
    """A function of tensors, captured at its first call and replayed from then on.

    TinyJit would first run it eagerly, which costs as much compile time again; it may be skipped because all state
    that the function closes over is realized before. Called again with the very same buffers, which a loop should keep
    its state in, it looks at nothing but variables: so after two calls all is made that a clock should not see.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        replay.install()
        self.name, self.compile_seconds = name, 0.0
        self._jit: Any = TinyJit(function)
        self._jit.cnt = 1
        self._last: tuple[Any, ...] = ()
        self._inputs: tuple[Any, ...] = ()
        self._replays: dict[tuple[Any, ...], replay.Replay | None] = {}

    def __call__(self, *inputs: Any) -> Any:
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
        """From now on these buffers are known; the oldest that are known make room."""
        while len(self._replays) >= MOST_REPLAYS:
            del self._replays[next(iter(self._replays))]
        self._replays[places] = replay.replay(self._jit.captured, inputs)

    def _capture(self, inputs: tuple[Any, ...]) -> Any:
        start = time.perf_counter()
        result = self._jit(*inputs)
        self._last = self._inputs = replay.places(inputs)[0]
        device.synchronize()
        _settle()
        self.compile_seconds = time.perf_counter() - start
        captured.append(self)
        return result

    def drop(self) -> None:
        """Gives back what a capture holds, also one that failed half way; the next call captures anew."""
        given: Any = self._jit.captured
        self._jit.reset()
        self._jit.cnt = 1
        self._last, self._inputs, self._replays = (), (), {}
        if given is not None:
            given.free_intermediates()
        if self in captured:
            captured.remove(self)

    @property
    def kernels(self) -> int:
        return 0 if self._jit.captured is None else sum(1 for _ in replay.kernels(self._jit.captured.linear))

    def buffers(self) -> Iterator[Buffer]:
        """All that its kernels read and write, with what it was given last."""
        if self._jit.captured is not None:
            yield from replay.buffers(self._jit.captured.linear)
        for place in self._inputs:
            yield from replay.buffers_of(place)


def _settle() -> None:
    """What a capture leaves, some hundred thousand small objects, is not looked at again by Python's collector: with
    six captures in a process, going through them made a sampling step 1.6 times as long."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def held(graphs: Iterable[Graph]) -> int:
    """Bytes of all buffers that these graphs work on: parameters, state and whatever lies between their kernels."""
    sizes = {id(buffer.base): int(buffer.base.nbytes) for graph in graphs for buffer in graph.buffers()}
    return sum(sizes.values())


def overwrite(tensor: Tensor, values: np.ndarray[Any, Any]) -> None:
    """New values into the same buffer, so that graphs which captured it see them; on every device that holds a copy."""
    flat = np.ascontiguousarray(values)
    if flat.shape != tensor.shape:
        raise ValueError(f"shape {flat.shape} does not fit {tensor.shape}")
    for target in _copies(tensor):
        target.copy_from(Buffer("PYTHON", target.size, target.dtype, opaque=memoryview(bytearray(flat.tobytes()))))


def fetch(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The values, from the first device that holds a copy."""
    return np.asarray(_copies(tensor)[0].numpy().reshape(tensor.shape))


def _copies(tensor: Tensor) -> list[Any]:
    """The buffer of a tensor, or those of one with a copy on each of several devices."""
    if isinstance(tensor.device, str):
        return [tensor._buffer()]
    if tensor.uop.axis is not None:
        raise ValueError("a tensor whose parts lie on several devices has no buffer that holds it")
    held: Any = tensor.realize().uop.buffer
    return list(held.bufs)


class Inbox:
    """A buffer in which a captured graph finds what the host tells it; it may keep its own state there too.

    A new tensor would cost a schedule each time, more than many a kernel. Writing waits for what was asked before, or
    is in order with it.
    """

    def __init__(self, *shape: int, dtype: str = "int32") -> None:
        self.dtype = np.dtype(dtype)
        self.tensor = Tensor.empty(*shape, dtype=dtype).realize()
        self._buffer: Any = self.tensor._buffer().ensure_allocated()
        self(np.zeros(shape, dtype=self.dtype))

    def __call__(self, values: npt.NDArray[Any]) -> Tensor:
        """The tensor, holding these values."""
        if values.dtype != self.dtype or values.shape != self.tensor.shape:
            raise ValueError(f"{values.dtype} of shape {values.shape} does not fit {self.dtype} of {self.tensor.shape}")
        data: Any = np.array(values, order="C")  # a copy: what is given may be read-only
        self._buffer.allocator._copyin(self._buffer._buf, memoryview(data).cast("B"))
        return self.tensor
