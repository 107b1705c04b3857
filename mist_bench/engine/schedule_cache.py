"""Schedules on disk, so that a new process need not cut a graph that it has seen before into kernels again.

tinygrad 0.14 turns the expression of all tensors of a graph into calls of kernels (a schedule) by rewriting it in
Python: two seconds for a training step of two layers, half of a capture whose kernels are finished. It remembers the
schedules of a process by a key, in which the function of a gradient is the address that it happens to have. The name
of a file here is made of all that the key has but for those addresses: a schedule has no gradient left to take.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .trusted_files import FORMAT, read, write

VARIABLES = ("LATE_ALLREDUCE", "REDUCEOP_SPLIT_SIZE", "REDUCEOP_SPLIT_THRESHOLD", "RING_ALLREDUCE_THRESHOLD")
"""Variables of the environment that tinygrad reads as it schedules, besides its settings."""


def on_disk(own: Callable[[Any], Any], folder: Path) -> Callable[[Any], Any]:
    """tinygrad's function from the expression of a graph to its schedule, with files behind it."""

    def schedule(graph: Any) -> Any:
        path = folder / name(graph)
        if (known := read(path)) is not None:
            return known
        made = own(graph)
        write(path, made)
        return made

    return schedule


def name(graph: Any) -> str:
    """File name of a schedule: a hash of the graph, of tinygrad's settings and of the releases."""
    from .tinygrad_private import settings, without_gradient

    keys: dict[Any, bytes] = {}
    for node in graph.toposort():
        text = str((node.op, node.dtype, without_gradient(node.arg))).encode()
        keys[node] = hashlib.sha256(text + b"".join(keys[part] for part in node.src)).digest()
    around = [keys[graph].hex(), *_releases(), *settings(), *(os.environ.get(key, "") for key in VARIABLES)]
    return hashlib.sha256("\n".join(around).encode()).hexdigest()


@cache
def _releases() -> tuple[str, ...]:
    return FORMAT, version("tinygrad"), platform.python_version()
