"""Offers of the benchmarks: mist-bench's own work at each size, and the alternatives that it is timed beside."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from mist_bench.bench.contest import OURS, Entry, Offer
from mist_bench.engine import device

from .sizes import Size

TASKS = ("training", "generation", "likelihood", "startup")
MISTS_WAY = "mist's way"
NO_TORCH = "torch is not installed: pip install -e '.[cpu,bench]'"


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def torch_modes() -> tuple[str, ...]:
    """Names of the PyTorch contestants on this device."""
    more = ("torch CUDA graphs",) if device.name() in ("CUDA", "NV") else ()
    return ("torch eager", "torch compiled", *more)


def _theirs(name: str, *arguments: Any) -> Callable[[], Entry]:
    """The function that creates a PyTorch entry, which imports torch only when it is called."""

    def make() -> Entry:
        from . import theirs

        entry: Entry = getattr(theirs, name)(*arguments)
        return entry

    return make


def _ours(name: str, *arguments: Any) -> Callable[[], Entry]:
    def make() -> Entry:
        from . import ours

        entry: Entry = getattr(ours, name)(*arguments)
        return entry

    return make


def _mists_way(name: str, size: Size) -> Callable[[], Entry]:
    def make() -> Entry:
        from . import mist_way

        entry: Entry = getattr(mist_way, name)(size)
        return entry

    return make


def _group(task: str, group: str, ours: Callable[[], Entry], theirs: tuple[Any, ...]) -> list[Offer]:
    """mist-bench's offer and those of PyTorch for the same work."""
    missing = "" if has_torch() else NO_TORCH
    return [Offer(task=task, group=group, who=OURS, make=ours)] + [
        Offer(task=task, group=group, who=who, make=_theirs(*theirs, who), missing=missing) for who in torch_modes()
    ]


def training(size: Size) -> list[Offer]:
    """Offers of a training step of each family."""
    result = []
    for family in ("mdlm", "autoregressive"):
        group = f"training step, {family}, {size.name}"
        result += _group("training", group, _ours("training", size, family), ("training", size, family))
        if family == "mdlm":
            plain = _mists_way("training", size)
            result.append(Offer(task="training", group=group, who=MISTS_WAY, make=plain))
    return result


def generation(size: Size) -> list[Offer]:
    """Offers of a batch of texts: `confidence` and the cached baseline beside their peers, other samplers alone."""
    group = f"generation, confidence at {size.denoising_steps} steps, {size.name}"
    result = _group("generation", group, _ours("generation", size, "confidence"), ("generation", size, "mdlm"))
    if size.network.layers < 12:  # a step of a large network takes seconds and would show nothing more
        result.append(Offer(task="generation", group=group, who=MISTS_WAY, make=_mists_way("generation", size)))
    for sampler in ("random", "top-k"):
        other = f"generation, {sampler} at {size.denoising_steps} steps, {size.name}"
        result.append(Offer(task="generation", group=other, who=OURS, make=_ours("generation", size, sampler)))
    cached = f"generation, autoregressive with a cache, {size.name}"
    return result + _group("generation", cached, _ours("autoregressive", size), ("generation", size, "autoregressive"))


def likelihood(size: Size) -> list[Offer]:
    """Offers of exact-k of the masked model, and of the chain rule of the baseline."""
    result = []
    for family, name in (("mdlm", f"exact-k at {size.likelihood_draws} draws"), ("autoregressive", "chain rule")):
        group = f"likelihood, {name}, {size.name}"
        result += _group("likelihood", group, _ours("likelihood", size, family), ("likelihood", size, family))
    return result


def startup(*, whole: bool) -> list[Offer]:
    """Offers of commands that compute nothing, beside an empty Python program and the import of torch."""
    from .startup import cached_run, command, process

    torch = "" if has_torch() else NO_TORCH
    rows: list[tuple[str, str, Callable[[], Entry], str]] = [
        ("start, --help", OURS, lambda: command("--help"), ""),
        ("start, --help", "python alone", lambda: process("-c", "pass"), ""),
        ("start, ls samplers", OURS, lambda: command("ls", "samplers"), ""),
        ("start, a finished run again", OURS, lambda: cached_run(whole=whole), ""),
        ("start, a finished run again", "import torch", lambda: process("-c", "import torch"), torch),
    ]
    return [Offer(task="startup", group=group, who=who, make=make, missing=why) for group, who, make, why in rows]


def offers(task: str, sizes: Sequence[Size]) -> list[Offer]:
    """All offers of a task at these sizes. Start-up does not depend on the size, except that tests prepare less."""
    if task == "startup":
        return startup(whole=any(size.name != "tiny" for size in sizes))
    offers_of = {"training": training, "generation": generation, "likelihood": likelihood}[task]
    return [offer for size in sizes for offer in offers_of(size)]
