"""The answers of a denoiser, and the inputs of a step, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from mist_bench.inference.step import StepInputs, step_inputs
from mist_bench.inference.texts import DeviceTexts


def step_words(texts: DeviceTexts, t: Any = 0.5, *, key=(0, 0), temperature: float = 1.0) -> np.ndarray:
    """The packed inputs of a step that only the model reads."""
    batch = texts.layout.fields["t"].shape
    none = np.zeros(batch)
    return texts.layout.pack(
        t=np.broadcast_to(t, batch), reveal_probability=none, alpha_t=none, alpha_s=none, to_fill=none,
        target_masked=none, temperature=[temperature], step=[0], steps=[1], last=[0], key=key,
    )  # fmt: skip


def answers(
    evaluator, tokens, targets=None, *, t: Any = 0.5, sequences=None, most=None, previous=None, **step: Any
) -> dict[str, np.ndarray]:
    """All parts of the answer for (B, L) tokens with masks, each of which may change.

    `previous`: what a self-conditioned model is conditioned on; empty if not given.
    """
    texts, denoiser = evaluator.texts, evaluator.denoiser
    ids = np.arange(len(tokens)) if sequences is None else sequences
    texts.begin(tokens, np.ones(tokens.shape, dtype=np.bool_), ids, targets)
    texts.give(step_words(texts, t, **step))
    denoiser.begin()
    if previous is not None:
        denoiser._last[0](np.asarray(previous, dtype=np.float32))
    found = denoiser.answer(texts, tokens.shape[1] if most is None else most)
    return {name: value.numpy() for name, value in found.items()}


def inputs_of(words: np.ndarray, batch: int) -> StepInputs:
    """The inputs of a step as arrays, from the packed words."""
    layout = step_inputs(batch)
    parts = {name: words[layout.places[name]].view(f.dtype).reshape(f.shape) for name, f in layout.fields.items()}
    return StepInputs(**parts)
