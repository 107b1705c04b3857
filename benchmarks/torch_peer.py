"""The same networks in plain PyTorch, which mist-bench is timed beside.

They use fused attention, fused AdamW, in-place updates of the average, and `torch.compile` as an option. Tests compare
losses, log-probabilities and whole training steps with those of mist-bench at the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from mist_bench import NetworkSize
from mist_bench.host.config import TrainingConfig
from mist_bench.training.loop import learning_rate

FREQUENCIES, ROTATION_BASE = 32, 1e4
ACTIVATIONS = {"gelu": lambda x: F.gelu(x, approximate="tanh"), "squared-relu": lambda x: F.relu(x).square()}


class Told(nn.Module):
    """A vector (D) learned, from `start` on, or given by the condition."""

    def __init__(self, dim: int, conditioning_dim: int | None, start: float) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.full((dim,), start)) if conditioning_dim is None else None
        self.told = None if conditioning_dim is None else nn.Linear(conditioning_dim, dim, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.own if self.told is None else self.told.weight

    def forward(self, conditioning: Tensor | None) -> Tensor:
        return self.own if self.told is None else self.told(conditioning).unsqueeze(1)


class Norm(nn.Module):
    """Layer norm with a learned gain, or with scale and shift from the conditioning."""

    def __init__(self, dim: int, conditioning_dim: int | None) -> None:
        super().__init__()
        self.dim, self.scale = dim, Told(dim, conditioning_dim, 1.0)
        self.shift = None if conditioning_dim is None else Told(dim, conditioning_dim, 0.0)

    def forward(self, x: Tensor, conditioning: Tensor | None) -> Tensor:
        if self.shift is None:
            return F.layer_norm(x, (self.dim,), self.scale(None))
        return F.layer_norm(x, (self.dim,)) * (1 + self.scale(conditioning)) + self.shift(conditioning)


class Block(nn.Module):
    """A block of the transformer: attention with rotated, biased queries and keys; feed-forward with GELU or squared
    ReLU; both gated."""

    def __init__(self, size: NetworkSize, conditioning_dim: int | None) -> None:
        super().__init__()
        d, f, self.heads = size.dim, size.feed_forward, size.heads
        self.attention_norm, self.feed_forward_norm = Norm(d, conditioning_dim), Norm(d, conditioning_dim)
        self.attention_gate, self.feed_forward_gate = (Told(d, conditioning_dim, 0.0) for _ in range(2))
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.bias = nn.Parameter(torch.zeros(2 * d))
        self.up, self.down = nn.Linear(d, f, bias=False), nn.Linear(f, d, bias=False)
        self.activation = ACTIVATIONS[size.activation]

    def heads_of(self, h: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D) -> queries, keys, values (B, H, L, E)."""
        batch, length, _ = h.shape
        q, k, v = self.qkv(h).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias.to(q.dtype).view(2, self.heads, 1, -1)
        return turned(q + bias[0], cosine, sine), turned(k + bias[1], cosine, sine), v

    def mixed(self, x: Tensor, attended: Tensor, conditioning: Tensor | None) -> Tensor:
        """The output of the block, from its input and its attention (B, H, L, E)."""
        x = x + self.attention_gate(conditioning) * self.out(attended.transpose(1, 2).flatten(2))
        inner = self.activation(self.up(self.feed_forward_norm(x, conditioning)))
        return x + self.feed_forward_gate(conditioning) * self.down(inner)


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding."""
    half = x.shape[-1] // 2
    return x * cosine + torch.cat([x[..., half:], x[..., :half]], dim=-1) * sine


class TorchNetwork(nn.Module):
    """The transformer, masked or causal. Its tables have `rows`, padded as in mist-bench to sizes that divide well."""

    def __init__(self, size: NetworkSize, vocab_size: int, length: int, rows: tuple[int, int], *, causal: bool) -> None:
        super().__init__()
        self.vocab_size, self.length, self.causal = vocab_size, length, causal
        conditioning_dim = None if causal else size.conditioning_dim
        self.tokens, self.positions = nn.Embedding(rows[0], size.dim), nn.Parameter(torch.zeros(length, size.dim))
        if conditioning_dim is not None:
            self.time_in, self.time_out = (
                nn.Linear(2 * FREQUENCIES, conditioning_dim, bias=False),
                nn.Linear(conditioning_dim, conditioning_dim, bias=False),
            )
        self.blocks = nn.ModuleList([Block(size, conditioning_dim) for _ in range(size.layers)])
        self.norm = Norm(size.dim, conditioning_dim)
        self.head = nn.Linear(size.dim, rows[1], bias=False)
        width = size.dim // size.heads
        angle = torch.arange(length)[:, None] * ROTATION_BASE ** (-torch.arange(width // 2) / (width // 2))
        self.register_buffer("cosine", angle.cos().repeat(1, 2))
        self.register_buffer("sine", torch.cat([-angle.sin(), angle.sin()], dim=1))
        self.register_buffer("frequency", torch.exp(torch.arange(FREQUENCIES) * (-math.log(1e4) / FREQUENCIES)))

    def conditioning(self, tokens: Tensor) -> Tensor | None:
        """(B, L) -> (B, C): embedding of the masked fraction; None for a causal network."""
        if self.causal:
            return None
        angle = (tokens == self.vocab_size).float().mean(dim=-1, keepdim=True) * 1000.0 * self.frequency
        features = torch.cat([angle.sin(), angle.cos()], dim=-1)
        return F.silu(self.time_out(F.silu(self.time_in(features))))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens and masks -> (B, L, V) logits."""
        conditioning, x = self.conditioning(tokens), self.tokens(tokens) + self.positions
        for block in self.blocks:
            q, k, v = block.heads_of(block.attention_norm(x, conditioning), self.cosine, self.sine)
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
            x = block.mixed(x, attended, conditioning)
        return self.head(self.norm(x, conditioning))[..., : self.vocab_size]

    def seen(self, tokens: Tensor) -> Tensor:
        """The inputs of a causal network that predicts these tokens: the beginning, then all but the last."""
        return F.pad(tokens[:, :-1], (1, 0), value=self.vocab_size)

    def log_probabilities(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, L, V) float32; visible positions of a masked network predict themselves (SUBS)."""
        if self.causal:
            return self(self.seen(tokens)).float().log_softmax(-1)
        answer, masked = self(tokens).float().log_softmax(-1), (tokens == self.vocab_size).unsqueeze(-1)
        itself = tokens.unsqueeze(-1) == torch.arange(self.vocab_size, device=tokens.device)
        return torch.where(masked, answer, torch.where(itself, 0.0, -1e9))

    def copy_from(self, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Set the parameters from those of mist-bench, by name; its matrices are transposed."""
        by_name = self.by_name()
        with torch.no_grad():
            for name, parameters in by_name.items():
                for parameter, value in zip(parameters, np.split(values[name], len(parameters)), strict=True):
                    parameter.copy_(_transposed(name, torch.from_numpy(value).reshape(value.shape[-2:])))
        assert set(values) == set(by_name)

    def by_name(self) -> dict[str, list[Tensor]]:
        """The parameters by mist-bench's names; a list, since mist-bench stacks some of all blocks in one."""
        norms = [norm for b in self.blocks for norm in (b.attention_norm, b.feed_forward_norm)] + [self.norm]
        gates = [gate.weight for b in self.blocks for gate in (b.attention_gate, b.feed_forward_gate)]
        parameters = {"tokens": [self.tokens.weight], "positions": [self.positions], "head": [self.head.weight],
                      "biases": [b.bias for b in self.blocks]}  # fmt: skip
        if self.causal:
            parameters |= {"norms": [norm.scale.weight for norm in norms], "gates": gates}
        else:
            told = [each.weight for norm in norms for each in (norm.scale, norm.shift)]
            parameters |= {"time.in": [self.time_in.weight], "time.out": [self.time_out.weight]}
            parameters["modulation"] = [*told, *gates]
        for i, b in enumerate(self.blocks):
            parameters |= {
                f"{i}.attention.in": [b.qkv.weight], f"{i}.attention.out": [b.out.weight],
                f"{i}.feed_forward.in": [b.up.weight], f"{i}.feed_forward.out": [b.down.weight],
            }  # fmt: skip
        return parameters


def as_ours(name: str, values: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    """Parameters of `by_name`, or their averages, in mist-bench's format."""
    parts = [_transposed(name, value.detach()).numpy() for value in values]
    return np.stack(parts) if name == "modulation" else np.concatenate(parts)


def _transposed(name: str, value: Tensor) -> Tensor:
    return value if name in ("tokens", "positions") or value.ndim == 1 else value.T


def masked_loss(net: TorchNetwork, tokens: Tensor, uniform: Tensor, probability: Tensor, weight: Tensor) -> Tensor:
    """The bound in nats per token: w(t) times the masked cross-entropy, over L. Inputs (B, L), (B, L), (B,), (B,)."""
    masked = uniform < probability[:, None]
    logits = net(torch.where(masked, net.vocab_size, tokens)).float()
    cross_entropy = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)
    return ((cross_entropy * masked).sum(dim=-1) * weight).mean() / net.length


def causal_loss(net: TorchNetwork, tokens: Tensor) -> Tensor:
    """Nats per token by the chain rule."""
    return F.cross_entropy(net(net.seen(tokens)).float().flatten(0, 1), tokens.flatten())


class Training:
    """Training with AdamW (no decay of vectors), clipped gradients and averaged weights. `mode`: None runs eagerly."""

    def __init__(self, net: TorchNetwork, config: TrainingConfig, *, half: bool, mode: str | None) -> None:
        self.net, self.config, self.half, self.step_number = net, config, half, 0
        self.device, self.graphs = net.positions.device, mode == "reduce-overhead"
        self.parameters = list(net.parameters())
        groups = [
            {"params": [p for p in self.parameters if p.ndim == 2], "weight_decay": config.weight_decay},
            {"params": [p for p in self.parameters if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), fused=True
        )
        self.average = [p.detach().clone() for p in self.parameters]
        loss = causal_loss if net.causal else masked_loss
        self.loss = loss if mode is None else torch.compile(loss, mode=mode, dynamic=False)

    def draw(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noise of the linear schedule: (B, L) uniform numbers, (B,) mask probabilities and weights."""
        t = (torch.rand((), device=self.device) + torch.arange(batch, device=self.device) / batch) % 1.0
        t = t.clamp(min=2.0**-24)
        return torch.rand(batch, self.net.length, device=self.device), t, 1 / t

    def step(self, tokens: Tensor, noise: tuple[Tensor, ...] | None = None) -> Tensor:
        """One optimiser step. Returns the loss, which stays on the device."""
        config, n = self.config, self.step_number + 1
        if noise is None:
            noise = () if self.net.causal else self.draw(len(tokens))
        if self.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            loss: Tensor = self.loss(self.net, tokens, *noise)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, config.gradient_clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step_number)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - min(config.ema_decay, n / (n + 10)))
        self.step_number = n
        return loss.detach()
