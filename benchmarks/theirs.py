"""Entries of PyTorch: the networks of `torch_peer.py` on the device that mist-bench uses, eager and compiled."""

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
from .torch_peer import TorchNetwork, Training
from .torch_sampling import Generator, Likelihood

MODES = {"torch eager": None, "torch compiled": "default", "torch CUDA graphs": "reduce-overhead"}
KINDS = {"CUDA": "cuda", "NV": "cuda", "AMD": "cuda", "METAL": "mps"}


def torch_device() -> torch.device:
    return torch.device(KINDS.get(device.name(), "cpu"))


def half() -> bool:
    """Whether the benchmarks compute in bfloat16."""
    return device.precision_name("auto") == "bfloat16"


def create(size: Size, family: str) -> tuple[TorchNetwork, Any]:
    """The network with the weights of mist-bench's model, and that model. The model is created on tinygrad's PYTHON
    device, which needs no compiler and no GPU memory, so that only torch uses the GPU."""
    with Context(DEV="PYTHON"):
        _, model = ours.create(size, family)
    shape = replace(size.network, feed_forward=ours.feed_forward(model))
    rows = (model.parameters["tokens"].shape[0], model.parameters["head"].shape[1])
    net = TorchNetwork(shape, size.vocab_size, size.length, rows, causal=family == "autoregressive")
    net.copy_from({name: tensor.numpy() for name, tensor in model.parameters.items()})
    return net.to(torch_device()), model


def wait() -> None:
    """Wait until the GPU has finished."""
    if torch_device().type == "cuda":
        torch.cuda.synchronize()


def _fresh(who: str) -> None:
    """Reset torch before an entry is created: its memory statistics, and what it compiled for another group, whose
    guards would be checked at every call. The eager entry is the first of its group."""
    if MODES[who] is None:
        torch._dynamo.reset()
    torch._dynamo.config.cache_size_limit = 64  # one function is compiled in several modes on purpose
    # warnings of the compiler cannot be fixed here
    warnings.filterwarnings("ignore", module=r"torch\..*")
    if torch_device().type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory() -> Callable[[], int | None]:
    """A function that returns the largest number of bytes allocated from now on; None on a CPU, where torch
    does not count."""
    if torch_device().type != "cuda":
        return lambda: None
    before = torch.cuda.memory_allocated()
    return lambda: torch.cuda.max_memory_allocated() - before


def training(size: Size, family: str, who: str) -> Entry:
    """The entry of a training step. Batches are drawn at each step and the loss is fetched at the end of the round, as
    in mist-bench.

    The data is on the device, since copies from the host at each step, which torch waits for, are not compared.
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
    """The entry of a batch of texts: `confidence` with the same steps, or the baseline with its cache."""
    _fresh(who)
    memory = _memory()
    net, model = create(size, family)
    generator, batch, steps = Generator(net, half=half(), mode=MODES[who]), size.generation_batch, size.denoising_steps
    nfe = size.length if net.causal else min(steps, size.length)

    def run() -> None:
        texts = generator.cached(batch) if net.causal else generator.masked(batch, steps)
        assert (texts < size.vocab_size).all()

    read = batch * model.forward_flops()
    return Entry(
        run=run, tokens=batch * size.length, flops=read if net.causal else nfe * read, nfe=nfe, memory=memory
    )  # fmt: skip


def likelihood(size: Size, family: str, who: str) -> Entry:
    """The entry of a likelihood: exact-k with the same draws, or the chain rule of as many batches."""
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
