"""Contestant "mist's way": the same network in plain tinygrad, as mist itself writes it, without captured graphs.

It uses no TinyJit and no cuts in the graph, tinygrad's own layer norm, attention, cross-entropy and AdamW, and fetches
the loss at every step. Kernels are compiled once (tinygrad caches them); each step pays for scheduling in Python and
for the kernels that tinygrad chooses for the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tinygrad import Tensor, dtypes
from tinygrad.helpers import Context
from tinygrad.nn.optim import AdamW, OptimizerGroup

from mist_bench import NetworkSize
from mist_bench.bench.contest import Entry
from mist_bench.engine import device
from mist_bench.host.config import TrainingConfig

from . import ours
from .sizes import Size

FREQUENCIES, ROTATION_BASE = 32, 1e4
ACTIVATIONS = {"gelu": Tensor.gelu, "squared-relu": lambda x: x.relu().square()}


class PlainNetwork:
    """The masked, bidirectional network. `parameters` are those of mist-bench's model, under the same names."""

    def __init__(
        self, size: NetworkSize, vocab_size: int, length: int, parameters: dict[str, Tensor], kind: Any
    ) -> None:
        self.size, self.vocab_size, self.length, self.parameters, self.kind = size, vocab_size, length, parameters, kind
        width = size.dim // size.heads
        angle = np.arange(length)[:, None] * ROTATION_BASE ** (-np.arange(width // 2) / (width // 2))
        self.cosine = Tensor(np.tile(np.cos(angle), 2).astype(np.float32))
        self.sine = Tensor(np.concatenate([-np.sin(angle), np.sin(angle)], axis=1).astype(np.float32))

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x.cast(self.kind).matmul(self.parameters[name].cast(self.kind), dtype=dtypes.float)

    def _told(self, which: int, conditioning: Tensor) -> Tensor:
        """Vector number `which` of those that the condition gives: (B, 1, D)."""
        weight = self.parameters["modulation"][which].cast(self.kind)
        return conditioning.cast(self.kind).matmul(weight, dtype=dtypes.float).unsqueeze(1)

    def _norm(self, x: Tensor, which: int, conditioning: Tensor) -> Tensor:
        scale, shift = (self._told(2 * which + each, conditioning) for each in range(2))
        return x.layernorm() * (1 + scale) + shift

    def _gate(self, which: int, conditioning: Tensor) -> Tensor:
        return self._told(2 * (2 * self.size.layers + 1) + which, conditioning)

    def _attention(self, h: Tensor, i: int) -> Tensor:
        batch, heads = h.shape[0], self.size.heads
        qkv = self._linear(h, f"{i}.attention.in").reshape(batch, self.length, 3, heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.parameters["biases"].reshape(self.size.layers, 2, heads, 1, -1)[i]
        q, k = (self._turned(qkv[j] + bias[j]).cast(self.kind) for j in range(2))
        mixed = q.scaled_dot_product_attention(k, qkv[2].cast(self.kind))
        return self._linear(mixed.transpose(1, 2).reshape(batch, self.length, -1), f"{i}.attention.out")

    def _turned(self, x: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        return x * self.cosine + x[..., half:].cat(x[..., :half], dim=-1) * self.sine

    def logits(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens and masks -> (B, L, V) logits."""
        fraction = (tokens == self.vocab_size).float().mean(axis=-1, keepdim=True)
        frequency = (Tensor.arange(FREQUENCIES).float() * (-math.log(1e4) / FREQUENCIES)).exp()
        angle = fraction * 1000.0 * frequency
        conditioning = self._linear(angle.sin().cat(angle.cos(), dim=-1), "time.in").silu()
        conditioning = self._linear(conditioning, "time.out").silu()
        x = self.parameters["tokens"][tokens] + self.parameters["positions"]
        for i in range(self.size.layers):
            mixed = self._attention(self._norm(x, 2 * i, conditioning), i)
            x = x + self._gate(2 * i, conditioning) * mixed
            inner = self._linear(self._norm(x, 2 * i + 1, conditioning), f"{i}.feed_forward.in")
            inner = self._linear(ACTIVATIONS[self.size.activation](inner), f"{i}.feed_forward.out")
            x = x + self._gate(2 * i + 1, conditioning) * inner
        return self._linear(self._norm(x, 2 * self.size.layers, conditioning), "head")[..., : self.vocab_size]

    def loss(self, tokens: Tensor, uniform: Tensor, probability: Tensor, weight: Tensor) -> Tensor:
        """The bound in nats per token."""
        masked = uniform < probability.reshape(-1, 1)
        logits = self.logits(masked.where(self.vocab_size, tokens))
        cross_entropy = logits.sparse_categorical_crossentropy(tokens, reduction="none")
        return ((cross_entropy * masked).sum(axis=-1) * weight).mean() / self.length


class Training:
    """Training with tinygrad's AdamW, each step scheduled in Python."""

    def __init__(self, net: PlainNetwork, config: TrainingConfig) -> None:
        self.net, self.config, self.steps = net, config, 0
        self.parameters = list(net.parameters.values())
        how = {"lr": config.learning_rate, "b1": config.beta1, "b2": config.beta2}
        matrices = [p for p in self.parameters if p.ndim > 1]
        vectors = [p for p in self.parameters if p.ndim == 1]
        decayed, plain = (
            AdamW(matrices, weight_decay=config.weight_decay, **how),
            AdamW(vectors, weight_decay=0.0, **how),
        )
        self.optimizer = OptimizerGroup(decayed, plain)
        self.average = [p.detach().clone().realize() for p in self.parameters]

    def step(self, tokens: Tensor, uniform: Tensor, probability: Tensor, weight: Tensor) -> float:
        with Context(TRAINING=1):
            self.optimizer.zero_grad()
            loss = self.net.loss(tokens, uniform, probability, weight).backward()
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            norm = Tensor.stack(*[g.square().sum() for g in gradients]).sum().sqrt()
            for p, g in zip(self.parameters, gradients, strict=True):
                p.grad = g * (self.config.gradient_clip / (norm + 1e-6)).minimum(1.0)
            self.optimizer.step()
        self.steps += 1
        decay = min(self.config.ema_decay, self.steps / (self.steps + 10))
        for average, p in zip(self.average, self.parameters, strict=True):
            average.assign(decay * average + (1 - decay) * p.detach())
        Tensor.realize(*self.average)
        return float(loss.item())


def create(size: Size) -> tuple[PlainNetwork, Any]:
    """The network with the weights of mist-bench's model, and that model."""
    _, model = ours.create(size, "mdlm")
    kind = device.compute_type("auto")
    return PlainNetwork(size.network, size.vocab_size, size.length, model.parameters, kind), model


def _unsplit(run: Callable[[], None]) -> Callable[[], None]:
    """The same round with kernels that are not split over cores: outside a captured graph the parts run in sequence."""

    def alone() -> None:
        with Context(NUM_CPU_THREADS=1):
            run()

    return alone


def training(size: Size) -> Entry:
    """The entry of a training step."""
    net, model = create(size)
    trainer, data, rng = Training(net, size.training()), size.tokens(ours.DATA), np.random.default_rng(0)

    def run() -> None:
        for _ in range(size.slow_train_steps):
            t = (rng.random() + np.arange(size.batch) / size.batch) % 1.0
            probability = Tensor(np.maximum(t, 2.0**-24).astype(np.float32))
            rows = Tensor(data[rng.integers(len(data), size=size.batch)])
            loss = trainer.step(rows, Tensor.rand(size.batch, size.length), probability, 1 / probability)
            assert math.isfinite(loss)
        device.synchronize()

    sequences = size.slow_train_steps * size.batch
    return Entry(
        run=_unsplit(run), tokens=sequences * size.length, flops=3 * sequences * model.forward_flops(),
        note=f"{size.slow_train_steps} step{'s' * (size.slow_train_steps > 1)} a round",
    )  # fmt: skip


def generation(size: Size) -> Entry:
    """The entry of the `confidence` sampler: evaluation and Gumbel draw on the device, ranking on the host."""
    net, model = create(size)
    batch, steps, length = size.generation_batch, size.denoising_steps, size.length

    def run() -> None:
        tokens = np.full((batch, length), size.vocab_size, dtype=np.int32)
        for j in range(steps):
            logits = net.logits(Tensor(tokens)).realize()
            drawn = (logits - (-Tensor.rand(*logits.shape).log()).log()).argmax(-1).realize()
            probability = logits.softmax(-1).gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
            proposal, confidence = drawn.numpy(), probability.numpy()
            confidence = np.where(tokens == size.vocab_size, confidence, -1.0)
            stay_masked = int((1 - (j + 1) / steps) * length + 0.5)
            count = (tokens == size.vocab_size).sum(axis=1, keepdims=True) - stay_masked
            rank = (-confidence).argsort(axis=1).argsort(axis=1)
            tokens = np.where(rank < count, proposal, tokens).astype(np.int32)
        assert (tokens < size.vocab_size).all()

    work = steps * batch * model.forward_flops()
    return Entry(run=_unsplit(run), tokens=batch * length, flops=work, nfe=steps)
