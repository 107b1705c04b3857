"""The PyTorch entries: the networks of `torch_peer.py`, on the device that mist-bench uses, eager and compiled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tinygrad.helpers import Context

from mist_bench.bench.contest import Entry
from mist_bench.engine import device

from . import ours
from .sizes import Size
from .torch_peer import Network, Training
from .torch_sampling import Generator, Likelihood

MODES = {"torch eager": None, "torch compiled": "default", "torch CUDA graphs": "reduce-overhead"}
KINDS = {"CUDA": "cuda", "NV": "cuda", "AMD": "cuda", "METAL": "mps"}


def torch_device() -> torch.device:
    return torch.device(KINDS.get(device.name(), "cpu"))


def half() -> bool:
    return device.precision_name("auto") == "bfloat16"


def create(size: Size, family: str) -> tuple[Network, Any]:
    """The network with the weights of mist-bench's, and mist-bench's model: made on a device that only holds arrays, so
    that nothing but torch takes room on the card (and a CPU would need a compiler)."""
    with Context(DEV="PYTHON"):
        _, model = ours.create(size, family)
    shape = replace(size.network, feed_forward=ours.feed_forward(model))
    rows = (model.parameters["tokens"].shape[0], model.parameters["head"].shape[1])
    net = Network(shape, size.vocab_size, size.length, rows, causal=family == "autoregressive")
    net.load({name: tensor.numpy() for name, tensor in model.parameters.items()})
    return net.to(torch_device()), model


def wait() -> None:
    if torch_device().type == "cuda":
        torch.cuda.synchronize()


def _fresh(who: str) -> None:
    """Before an entry is made: the memory counted from here, and nothing kept that was compiled for another group,
    whose guards would be asked at every call. The eager entry is the first of its group."""
    if MODES[who] is None:
        torch._dynamo.reset()
    torch._dynamo.config.cache_size_limit = 64  # several modes of one function are no accident here
    # the compiler's own warnings are not ours to act upon
    warnings.filterwarnings("ignore", module=r"torch\..*")
    if torch_device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory() -> Callable[[], int | None]:
    """The most that was allocated since, where torch counts it: on a GPU."""
    if torch_device().type != "cuda":
        return lambda: None
    before = torch.cuda.memory_allocated()
    return lambda: torch.cuda.max_memory_allocated() - before


def training(size: Size, family: str, who: str) -> Entry:
    """Training steps with batches drawn anew, the loss fetched at the end of the round, as mist-bench does.

    The data lies on the device: copies from the host at each step, which torch waits for, are not what is compared.
    """
    _fresh(who)
    memory = _memory()
    net, model = create(size, family)
    trainer = Training(net, size.training(), half=half(), mode=MODES[who])
    data = torch.from_numpy(size.tokens(max(ours.DATA, 4 * size.batch))).long().to(torch_device())

    def run() -> None:
        for _ in range(size.train_steps):
            rows = torch.randint(len(data), (size.batch,), device=data.device)
            loss = trainer.step(data[rows])
        assert np.isfinite(loss.item())

    sequences = size.train_steps * size.batch
    return Entry(
        run=run, tokens=sequences * size.length, flops=3 * sequences * model.forward_flops(), memory=memory,
        note=f"{size.train_steps} steps a round",
    )  # fmt: skip


def generation(size: Size, family: str, who: str) -> Entry:
    """A batch of texts: confidence at as many steps, or the baseline with its cache."""
    _fresh(who)
    memory = _memory()
    net, model = create(size, family)
    maker, batch, steps = Generator(net, half=half(), mode=MODES[who]), size.generation_batch, size.denoising_steps
    nfe = size.length if net.causal else min(steps, size.length)

    def run() -> None:
        made = maker.cached(batch) if net.causal else maker.masked(batch, steps)
        assert (made < size.vocab_size).all()

    read = batch * model.forward_flops()
    return Entry(
        run=run, tokens=batch * size.length, flops=read if net.causal else nfe * read, nfe=nfe, memory=memory
    )  # fmt: skip


def likelihood(size: Size, family: str, who: str) -> Entry:
    """Exact-k with as many draws, or as many batches by the chain rule."""
    _fresh(who)
    memory = _memory()
    net, model = create(size, family)
    measure, draws, batch = Likelihood(net, half=half(), mode=MODES[who]), size.likelihood_draws, size.generation_batch
    tokens = torch.from_numpy(size.tokens(batch)).long()

    def run() -> None:
        assert torch.isfinite(measure(tokens, draws)).all()

    work = draws * batch * model.forward_flops()
    return Entry(run=run, tokens=draws * tokens.numel(), flops=work, nfe=draws, memory=memory)


def threads() -> int:
    return int(torch.get_num_threads())


os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1" if threads() <= 2 else str(min(threads(), 8)))
