"""Sizes of the benchmarks, the same for every contestant. Tokens are random: the speed does not depend on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mist_bench import IntArray, NetworkSize
from mist_bench.host.config import TrainingConfig
from mist_bench.host.presets import load_preset


@dataclass(frozen=True, kw_only=True)
class Size:
    """A network, its vocabulary and length, and the amount of work in a round."""

    name: str
    what: str
    network: NetworkSize
    vocab_size: int
    length: int
    batch: int
    generation_batch: int
    denoising_steps: int
    train_steps: int
    """Training steps in a round."""
    slow_train_steps: int = 1
    """Training steps in a round of a contestant that is many times slower."""
    likelihood_draws: int = 4

    def tokens(self, count: int, seed: int = 0) -> IntArray:
        """(count, L) random ids."""
        return np.random.default_rng(seed).integers(0, self.vocab_size, (count, self.length), dtype=np.int32)

    def training(self) -> TrainingConfig:
        """Hyperparameters of a training without end or validation, which fetches losses once per round."""
        return TrainingConfig(
            train_steps=10**9, batch_size=self.batch, learning_rate=1e-4, warmup_steps=0, weight_decay=0.01,
            beta1=0.9, beta2=0.99, gradient_clip=1.0, ema_decay=0.999, validate_every=10**9,
            checkpoint_every=self.train_steps,
        )  # fmt: skip


def _of_preset(name: str, vocab_size: int, *, denoising_steps: int, train_steps: int, what: str) -> Size:
    preset = load_preset(name)
    return Size(
        name=name, what=what, network=preset.model.size(), vocab_size=vocab_size, length=preset.length,
        batch=preset.training.batch_size, generation_batch=preset.generation.batch_size,
        denoising_steps=denoising_steps, train_steps=train_steps,
    )  # fmt: skip


def _network(dim: int, layers: int, heads: int, feed_forward: int, conditioning_dim: int) -> NetworkSize:
    return NetworkSize(
        dim=dim, layers=layers, heads=heads, feed_forward=feed_forward, conditioning_dim=conditioning_dim
    )


def sizes() -> dict[str, Size]:
    """All sizes by name, the smallest first."""
    ordered = [
        Size(
            name="tiny", what="for tests: does everything run?", network=_network(16, 1, 2, 32, 16), vocab_size=11,
            length=8, batch=4, generation_batch=4, denoising_steps=3, train_steps=2, likelihood_draws=2,
        ),
        _of_preset("quick", 86, denoising_steps=64, train_steps=20, what="the quick preset"),
        Size(
            name="small", what="1.49 million parameters", network=_network(128, 5, 4, 256, 128), vocab_size=1024,
            length=128, batch=16, generation_batch=16, denoising_steps=16, train_steps=4,
        ),
        _of_preset("tinystories", 50257, denoising_steps=32, train_steps=20, what="the tinystories preset"),
        Size(
            name="gpt2", what="the body of GPT-2 small (124 million with tied tables), 512 tokens",
            network=_network(768, 12, 12, 3072, 128), vocab_size=50257, length=512, batch=16, generation_batch=8,
            denoising_steps=32, train_steps=5,
        ),
    ]  # fmt: skip
    return {size.name: size for size in ordered}
