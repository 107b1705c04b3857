"""Sampling and likelihood with the PyTorch networks: the same steps, the same rule, as one would write them there."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn

from .torch_peer import Network


def draw(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(…, V) -> (…) ids drawn by inverse CDF and their log-probabilities."""
    answer = logits.float().log_softmax(-1)
    upto = answer.exp().cumsum(-1)
    goal = torch.rand(upto.shape[:-1], device=upto.device).unsqueeze(-1) * upto[..., -1:]
    chosen = (upto <= goal).sum(-1).clamp(max=logits.shape[-1] - 1)
    return chosen, answer.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def confidence_step(net: Network, tokens: Tensor, stay: Tensor) -> Tensor:
    """One evaluation, a proposal everywhere, then the surest masked positions are revealed until `stay` are left."""
    masked = tokens == net.vocab_size
    proposal, sure = draw(net(tokens))
    order = torch.where(masked, sure, -torch.inf).argsort(dim=-1, descending=True)
    rank = order.argsort(dim=-1)
    reveal = masked & (rank < (masked.sum(-1) - stay)[:, None])
    return torch.where(reveal, proposal, tokens)


def next_step(net: Network, token: Tensor, place: Tensor, cache: Tensor) -> Tensor:
    """(B, 1) the token just read, its place (1,), the cache (layers, 2, B, H, L, E) -> (B, 1) the next token.

    The cache has its full length and unwritten places are masked, so that shapes stay the same at every step."""
    x = net.tokens(token) + net.positions[place]
    visible = torch.arange(net.length, device=token.device) <= place
    for block, layer in zip(net.blocks, cache, strict=True):
        q, k, v = block.heads_of(block.attention_norm(x, None), net.cosine[place], net.sine[place])
        layer[0].index_copy_(2, place, k.to(layer.dtype))
        layer[1].index_copy_(2, place, v.to(layer.dtype))
        attended = F.scaled_dot_product_attention(q.to(layer.dtype), layer[0], layer[1], attn_mask=visible[None])
        x = block.mixed(x, attended, None)
    return draw(net.head(net.norm(x, None))[..., : net.vocab_size])[0]


def growing_step(net: Network, token: Tensor, place: int, cache: Tensor) -> Tensor:
    """`next_step` with a slice of the cache that grows: less to read, other shapes at every step; for eager use."""
    x = net.tokens(token) + net.positions[place]
    here = slice(place, place + 1)
    for block, layer in zip(net.blocks, cache, strict=True):
        q, k, v = block.heads_of(block.attention_norm(x, None), net.cosine[here], net.sine[here])
        layer[0, :, :, here], layer[1, :, :, here] = k, v
        keys, values = layer[:, :, :, : place + 1]
        x = block.mixed(x, F.scaled_dot_product_attention(q.to(layer.dtype), keys, values), None)
    return draw(net.head(net.norm(x, None))[..., : net.vocab_size])[0]


def halved(net: Network) -> Network:
    """Its matrices in bfloat16 from now on, for good: what only reads them need not cast them at every call."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    return net


class Generator:
    """Masked or cached generation. `mode`: None runs eagerly."""

    def __init__(self, net: Network, *, half: bool, mode: str | None) -> None:
        self.net, self.half, self.device = halved(net) if half else net, half, net.positions.device
        self.compiled, self.caches = mode is not None, dict[int, Tensor]()
        step = next_step if net.causal else confidence_step
        self.step = torch.compile(step, mode=mode, dynamic=False) if self.compiled else step

    @torch.no_grad()
    def masked(self, batch: int, steps: int) -> Tensor:
        """(B, L): all positions filled in `steps` steps of the linear schedule."""
        length = self.net.length
        tokens = torch.full((batch, length), self.net.vocab_size, device=self.device)
        # the numbers that stay masked, all sent at once
        left = torch.tensor([int((1 - (j + 1) / steps) * length + 0.5) for j in range(steps)], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            for j in range(steps):
                tokens = self._called(tokens, left[j])
        return tokens.cpu()

    @torch.no_grad()
    def cached(self, batch: int) -> Tensor:
        """(B, L) from left to right with a cache of keys and values."""
        net, cache = self.net, self.cache(batch)
        token = torch.full((batch, 1), net.vocab_size, device=self.device)
        made, places = [], torch.arange(net.length, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            for i in range(net.length):
                if self.compiled:
                    token = self._called(token, places[i : i + 1], cache)
                else:
                    token = growing_step(net, token, i, cache)
                made.append(token)
        return torch.cat(made, dim=1).cpu()

    def cache(self, batch: int) -> Tensor:
        """Keys and values of a batch, always the same buffer: a captured graph may write only where it expects to."""
        if batch not in self.caches:
            net, heads = self.net, self.net.blocks[0].heads
            shape = (len(net.blocks), 2, batch, heads, net.length, net.positions.shape[1] // heads)
            kind = torch.bfloat16 if self.half else torch.float32
            self.caches[batch] = torch.zeros(shape, dtype=kind, device=self.device)
            torch._dynamo.mark_static_address(self.caches[batch])
        return self.caches[batch]

    def _called(self, *inputs: Tensor) -> Tensor:
        if self.device.type == "cuda" and self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
            result: Tensor = self.step(self.net, *inputs)
            return result.clone()  # a CUDA graph writes its next answer over this one
        answer: Tensor = self.step(self.net, *inputs)
        return answer


class Likelihood:
    """Exact-k of a masked network, the chain rule of a causal one; one batch at a time."""

    def __init__(self, net: Network, *, half: bool, mode: str | None) -> None:
        self.net, self.half, self.device = halved(net) if half else net, half, net.positions.device
        self.answer = target_log_probability if mode is None else torch.compile(
            target_log_probability, mode=mode, dynamic=False
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, tokens: Tensor, draws: int) -> Tensor:
        """(B, L) on the host, draws -> (B,) nats of each sequence; a causal network reads them `draws` times."""
        tokens, length = tokens.to(self.device), self.net.length
        total = torch.zeros(len(tokens), device=self.device)
        first = torch.rand(len(tokens), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            for draw_number in range(draws):
                if self.net.causal:
                    total -= self.answer(self.net, tokens, self.net.seen(tokens)).sum(-1)
                    continue
                k = 1 + (length * (draw_number + first) / draws).long().clamp(max=length - 1)
                rank = torch.rand(tokens.shape, device=self.device).argsort(-1).argsort(-1)
                masked = rank < k[:, None]
                seen = torch.where(masked, self.net.vocab_size, tokens)
                total -= (self.answer(self.net, tokens, seen) * masked).sum(-1) * length / k
        return (total / draws).cpu()


def target_log_probability(net: Network, tokens: Tensor, seen: Tensor) -> Tensor:
    """(B, L), (B, L) -> (B, L) log p of the tokens given what is seen."""
    logits = net(seen).float()
    return -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)
