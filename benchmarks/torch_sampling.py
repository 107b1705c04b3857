"""Generation and likelihood with the PyTorch networks, by the same rules as in mist-bench."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from .torch_peer import TorchNetwork


def draw(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(…, V) logits -> (…) ids drawn by inverse CDF, (…) their log-probabilities."""
    answer = logits.float().log_softmax(-1)
    cumulative = answer.exp().cumsum(-1)
    goal = torch.rand(cumulative.shape[:-1], device=cumulative.device).unsqueeze(-1) * cumulative[..., -1:]
    chosen = (cumulative <= goal).sum(-1).clamp(max=logits.shape[-1] - 1)
    return chosen, answer.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def confidence_step(net: TorchNetwork, tokens: Tensor, stay_masked: Tensor) -> Tensor:
    """A step of `confidence`: one evaluation, then the most confident proposals are revealed until `stay_masked` masks
    are left."""
    masked = tokens == net.vocab_size
    proposal, confidence = draw(net(tokens))
    order = torch.where(masked, confidence, -torch.inf).argsort(dim=-1, descending=True)
    rank = order.argsort(dim=-1)
    reveal = masked & (rank < (masked.sum(-1) - stay_masked)[:, None])
    return torch.where(reveal, proposal, tokens)


def next_step(net: TorchNetwork, token: Tensor, place: Tensor, cache: Tensor) -> Tensor:
    """The next token (B, 1), from the last one (B, 1), its position (1,) and the cache (layers, 2, B, H, L, E).

    The cache has its full length and unwritten positions are masked, so that shapes are the same at every step.
    """
    x = net.tokens(token) + net.positions[place]
    visible = torch.arange(net.length, device=token.device) <= place
    for block, layer in zip(net.blocks, cache, strict=True):
        q, k, v = block.heads_of(block.attention_norm(x, None), net.cosine[place], net.sine[place])
        layer[0].index_copy_(2, place, k.to(layer.dtype))
        layer[1].index_copy_(2, place, v.to(layer.dtype))
        attended = F.scaled_dot_product_attention(q.to(layer.dtype), layer[0], layer[1], attn_mask=visible[None])
        x = block.mixed(x, attended, None)
    return draw(net.head(net.norm(x, None))[..., : net.vocab_size])[0]


def growing_step(net: TorchNetwork, token: Tensor, place: int, cache: Tensor) -> Tensor:
    """`next_step` with a growing slice of the cache: it reads less, but shapes change at each step. For eager use."""
    x = net.tokens(token) + net.positions[place]
    here = slice(place, place + 1)
    for block, layer in zip(net.blocks, cache, strict=True):
        q, k, v = block.heads_of(block.attention_norm(x, None), net.cosine[here], net.sine[here])
        layer[0, :, :, here], layer[1, :, :, here] = k, v
        keys, values = layer[:, :, :, : place + 1]
        x = block.mixed(x, F.scaled_dot_product_attention(q.to(layer.dtype), keys, values), None)
    return draw(net.head(net.norm(x, None))[..., : net.vocab_size])[0]


def halved(net: TorchNetwork) -> TorchNetwork:
    """The network with its matrices converted to bfloat16 in place, so that they are not cast at every call."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    return net


class Generator:
    """Generation with a masked network, or with a causal network and its cache. `mode`: None runs eagerly."""

    def __init__(self, net: TorchNetwork, *, half: bool, mode: str | None) -> None:
        self.net, self.half, self.device = halved(net) if half else net, half, net.positions.device
        self.compiled, self.caches = mode is not None, dict[int, Tensor]()
        step = next_step if net.causal else confidence_step
        self.step = torch.compile(step, mode=mode, dynamic=False) if self.compiled else step

    @torch.no_grad()
    def masked(self, batch: int, steps: int) -> Tensor:
        """(B, L) texts from a masked network, in `steps` steps of the linear schedule."""
        length = self.net.length
        tokens = torch.full((batch, length), self.net.vocab_size, device=self.device)
        # the numbers of positions that stay masked, sent in one copy
        left = torch.tensor([int((1 - (j + 1) / steps) * length + 0.5) for j in range(steps)], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            for j in range(steps):
                tokens = self._called(tokens, left[j])
        return tokens.cpu()

    @torch.no_grad()
    def cached(self, batch: int) -> Tensor:
        """(B, L) texts from a causal network with a cache of keys and values."""
        net, cache = self.net, self.cache(batch)
        token = torch.full((batch, 1), net.vocab_size, device=self.device)
        texts, places = [], torch.arange(net.length, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            for i in range(net.length):
                if self.compiled:
                    token = self._called(token, places[i : i + 1], cache)
                else:
                    token = growing_step(net, token, i, cache)
                texts.append(token)
        return torch.cat(texts, dim=1).cpu()

    def cache(self, batch: int) -> Tensor:
        """The cache of a batch size, always the same buffer, since a captured graph writes to a fixed address."""
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
            return result.clone()  # the next replay of a CUDA graph overwrites its result
        answer: Tensor = self.step(self.net, *inputs)
        return answer


class Likelihood:
    """Likelihood of a batch: exact-k of a masked network, the chain rule of a causal one."""

    def __init__(self, net: TorchNetwork, *, half: bool, mode: str | None) -> None:
        self.net, self.half, self.device = halved(net) if half else net, half, net.positions.device
        self.answer = target_log_probability if mode is None else torch.compile(
            target_log_probability, mode=mode, dynamic=False
        )  # fmt: skip

    @torch.no_grad()
    def __call__(self, tokens: Tensor, draws: int) -> Tensor:
        """(B, L) tokens on the host -> (B,) nats of each sequence; a causal network evaluates them `draws` times."""
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


def target_log_probability(net: TorchNetwork, tokens: Tensor, seen: Tensor) -> Tensor:
    """(B, L) tokens, (B, L) inputs -> (B, L) log p of the tokens given the inputs."""
    logits = net(seen).float()
    return -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)
