"""Automatic batch size: how many sequences to evaluate at once, by measuring the speed of several sizes.

The size doubles as long as that gives a tenth more tokens a second. The result is stored in the user's cache folder, so
that the next run takes the same size without measuring. Sequences are the same in any batch.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..api.component import UserError
from ..engine import beam, cpu_team, device, machine
from ..engine.machine import write_atomically
from .causal import CausalEvaluator
from .masked import MaskedEvaluator

FIRST, LARGEST = 8, 4096
GAIN = 1.1
"""How much faster twice as many sequences at once must be, for the size to double."""
ROUNDS, SECONDS = 5, 0.5
"""A size is timed for at least so many rounds and seconds."""
PLACES = 4
"""Tokens that a causal model generates in a round."""

Evaluator = MaskedEvaluator | CausalEvaluator


def search(speed: Callable[[int], float]) -> int:
    """The batch size. `speed(size)`: tokens a second; it raises an error if memory does not suffice.

    If memory ends the search, the result is half of what fits: a run has several graphs in memory at once. Raises
    `UserError` if not even one sequence fits.
    """
    batch, fastest = FIRST, _unless_full(speed, FIRST)
    while fastest is None and batch > 1:
        batch //= 2
        fastest = _unless_full(speed, batch)
    if fastest is None:
        raise UserError("the device has not enough memory to evaluate one sequence; a smaller network may fit")
    if batch < FIRST:
        return max(1, batch // 2)
    while batch < LARGEST:
        faster = _unless_full(speed, 2 * batch)
        if faster is None:
            return batch // 2
        if faster < GAIN * fastest:
            break
        batch, fastest = 2 * batch, faster
    return batch


def _unless_full(speed: Callable[[int], float], batch: int) -> float | None:
    """The speed at this size, or None if the memory does not suffice."""
    try:
        return speed(batch)
    except (MemoryError, RuntimeError) as error:
        if not device.out_of_memory(error):
            raise
        return None


def speed(evaluator: Evaluator) -> float:
    """Tokens a second of a denoising step, or of a causal model's next tokens. The evaluator is dropped afterwards."""
    batch, length = evaluator.batch, evaluator.model.length
    tokens, everywhere = np.zeros((batch, length), dtype=np.int32), np.ones((batch, length), dtype=np.bool_)

    def once() -> None:
        if isinstance(evaluator, CausalEvaluator):
            masks = tokens + evaluator.model.vocab_size
            evaluator.generate(masks, 0, np.arange(batch), 1.0, limit=min(PLACES, length))
        else:
            evaluator.target_log_probability(tokens, everywhere, np.ones(batch))

    try:
        once()
        once()
        seconds: list[float] = []
        while len(seconds) < ROUNDS or sum(seconds) < SECONDS:
            start = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - start)
    finally:
        evaluator.drop()
    places = min(PLACES, length) if isinstance(evaluator, CausalEvaluator) else length
    return batch * places / min(seconds)  # other work on the machine can only slow a round down


def key(shape: str, vocab_size: int, length: int, precision: str, nucleus: float) -> str:
    """Everything that a batch size depends on: the machine, the network, and the release of tinygrad."""
    gpus = sorted({gpu["name"] for gpu in machine.gpus()}) if device.name() != "CPU" else []
    place = [device.name(), *(gpus or [str(machine.cpu_model()), f"{cpu_team.cores()} cores"])]
    place += [f"beam {beam.width()}"] if beam.width() else []
    network = [shape, f"vocabulary {vocab_size}", f"length {length}", precision, f"nucleus {nucleus}"]
    return ", ".join([*place, *network, f"tinygrad {version('tinygrad')}"])


def remembered(path: Path, key: str) -> int | None:
    """The stored size for this key; None if there is none, or if the file is damaged."""
    batch = _read(path).get(key)
    possible = isinstance(batch, int) and not isinstance(batch, bool) and 1 <= batch <= LARGEST
    return batch if possible else None


def remember(path: Path, key: str, batch: int) -> None:
    """Store the size for this key. If the folder cannot be written, the next run measures again."""
    try:
        write_atomically(path, json.dumps({**_read(path), key: batch}, indent=1, sort_keys=True) + "\n")
    except OSError:
        return


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
