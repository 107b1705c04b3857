"""Everything that can be timed at a size: what mist-bench does, and beside it what one would use instead."""

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
    more = ("torch CUDA graphs",) if device.name() in ("CUDA", "NV") else ()
    return ("torch eager", "torch compiled", *more)


def _theirs(name: str, *arguments: Any) -> Callable[[], Entry]:
    """torch is imported when the entry is made, and not before."""

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
    missing = "" if has_torch() else NO_TORCH
    found = [Offer(task=task, group=group, who=OURS, make=ours)]
    for who in torch_modes():
        found.append(Offer(task=task, group=group, who=who, make=_theirs(*theirs, who), missing=missing))
    return found


def training(size: Size) -> list[Offer]:
    """A training step of either family."""
    found = []
    for family in ("mdlm", "autoregressive"):
        group = f"training step, {family}, {size.name}"
        found += _group("training", group, _ours("training", size, family), ("training", size, family))
        if family == "mdlm":
            made = _mists_way("training", size)
            found.append(Offer(task="training", group=group, who=MISTS_WAY, make=made))
    return found


def generation(size: Size) -> list[Offer]:
    """A batch of texts: confidence beside its peers, other samplers beside confidence, and the cached baseline."""
    group = f"generation, confidence at {size.denoising_steps} steps, {size.name}"
    found = _group("generation", group, _ours("generation", size, "confidence"), ("generation", size, "mdlm"))
    if size.network.layers < 12:  # seconds a step, which a larger network would not tell better
        found.append(Offer(task="generation", group=group, who=MISTS_WAY, make=_mists_way("generation", size)))
    for sampler in ("random", "top-k"):
        other = f"generation, {sampler} at {size.denoising_steps} steps, {size.name}"
        found.append(Offer(task="generation", group=other, who=OURS, make=_ours("generation", size, sampler)))
    cached = f"generation, autoregressive with a cache, {size.name}"
    return found + _group("generation", cached, _ours("autoregressive", size), ("generation", size, "autoregressive"))


def likelihood(size: Size) -> list[Offer]:
    """Exact-k of the masked model, the chain rule of the baseline."""
    found = []
    for family, name in (("mdlm", f"exact-k at {size.likelihood_draws} draws"), ("autoregressive", "chain rule")):
        group = f"likelihood, {name}, {size.name}"
        found += _group("likelihood", group, _ours("likelihood", size, family), ("likelihood", size, family))
    return found


def startup(*, whole: bool) -> list[Offer]:
    """Commands that compute nothing, beside a Python that does nothing and the import of torch alone."""
    from .startup import cached_run, command, process

    torch = "" if has_torch() else NO_TORCH
    rows: list[tuple[str, str, Callable[[], Entry], str]] = [
        ("start, --help", OURS, lambda: command("--help"), ""),
        ("start, --help", "python alone", lambda: process("-c", "pass"), ""),
        ("start, ls samplers", OURS, lambda: command("ls", "samplers"), ""),
        ("start, a finished run again", OURS, lambda: cached_run(whole=whole), ""),
        ("start, a finished run again", "import torch", lambda: process("-c", "import torch"), torch),
    ]
    return [Offer(task="startup", group=group, who=who, make=make, missing=no) for group, who, make, no in rows]


def offers(task: str, sizes: Sequence[Size]) -> list[Offer]:
    """All of a task; starting a command has no size, but for tests less is made first."""
    if task == "startup":
        return startup(whole=any(size.name != "tiny" for size in sizes))
    of = {"training": training, "generation": generation, "likelihood": likelihood}[task]
    return [offer for size in sizes for offer in of(size)]
