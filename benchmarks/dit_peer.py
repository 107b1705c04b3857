"""The network that the authors of MDLM train (arXiv 2406.07524), written again in PyTorch from its description.

A diffusion transformer (DiT, arXiv 2212.09748): each block's two branches are shifted, scaled and gated by a condition,
all of which starts at zero, as does the output layer; rotary positions, tanh GELU, biases in the feed-forward. As in
MDLM without time conditioning, the condition is that of one fixed time. With `positions` it also has a learned table of
positions: with rotary positions alone it does not find absolute places.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from .torch_peer import turned

FREQUENCIES, BASE = 32, 1e4


class DitBlock(nn.Module):
    """Attention and feed-forward, each shifted, scaled and gated by the condition."""

    def __init__(self, dim: int, heads: int, width: int, conditioning_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(dim, bias=False) for _ in range(2)])
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, width), nn.Linear(width, dim)
        self.modulation = zeroed(nn.Linear(conditioning_dim, 6 * dim))

    def forward(self, x: Tensor, condition: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        batch, length, _ = x.shape
        h = self.norms[0](x) * (1 + scale) + shift
        q, k, v = self.qkv(h).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(turned(q, cosine, sine), turned(k, cosine, sine), v)
        x = x + gate * self.out(mixed.transpose(1, 2).flatten(2))
        h = self.norms[1](x) * (1 + scale2) + shift2
        return x + gate2 * self.down(F.gelu(self.up(h), approximate="tanh"))


class DitNetwork(nn.Module):
    """(B, L) tokens and masks -> (B, L, V) logits. `parameters_wanted`: outside the tables, which decides the width of
    the feed-forward."""

    def __init__(
        self, dim: int, layers: int, heads: int, conditioning_dim: int, vocab_size: int, length: int, *,
        parameters_wanted: int, positions: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.vocab_size, self.length, self.causal = vocab_size, length, False
        self.tokens = nn.Embedding(vocab_size + 1, dim)
        nn.init.kaiming_uniform_(self.tokens.weight, a=math.sqrt(5))
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.02) if positions else None
        width = self._width(dim, layers, conditioning_dim, parameters_wanted)
        self.told = nn.Sequential(nn.Linear(2 * FREQUENCIES, conditioning_dim), nn.SiLU(),
                                  nn.Linear(conditioning_dim, conditioning_dim), nn.SiLU())  # fmt: skip
        self.blocks = nn.ModuleList([DitBlock(dim, heads, width, conditioning_dim) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim, bias=False)
        self.modulation = zeroed(nn.Linear(conditioning_dim, 2 * dim))
        self.head = zeroed(nn.Linear(dim, vocab_size))
        angle = torch.arange(length)[:, None] * BASE ** (-torch.arange(dim // heads // 2) / (dim // heads // 2))
        self.register_buffer("cosine", angle.cos().repeat(1, 2))
        self.register_buffer("sine", torch.cat([-angle.sin(), angle.sin()], dim=1))
        # the sinusoids of time 0: all sines are 0, all cosines 1
        self.register_buffer("time", torch.cat([torch.ones(FREQUENCIES), torch.zeros(FREQUENCIES)]))

    @staticmethod
    def _width(dim: int, layers: int, c: int, wanted: int) -> int:
        block = 4 * dim * dim + 2 * dim + (c + 1) * 6 * dim + dim
        fixed = layers * block + (2 * FREQUENCIES + 1) * c + (c + 1) * c + dim + (c + 1) * 2 * dim
        return max(1, round((wanted - fixed) / (layers * (2 * dim + 1))))

    def parameter_count(self) -> int:
        """Trained numbers outside the tables of token, position and output."""
        tables: list[Tensor] = [self.tokens.weight, *self.head.parameters()]
        tables += [] if self.positions is None else [self.positions]
        return int(sum(p.numel() for p in self.parameters()) - sum(p.numel() for p in tables))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions
        condition = self.told(self.time)
        for block in self.blocks:
            x = block(x, condition, self.cosine, self.sine)
        shift, scale = self.modulation(condition).chunk(2, dim=-1)
        return self.head(self.norm(x) * (1 + scale) + shift)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer with all its numbers at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
