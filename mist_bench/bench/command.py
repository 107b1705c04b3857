"""`mist-bench bench`: speed on the device at hand, beside what one would use instead, in one run.

What is timed lies in the checkout's `benchmarks/` folder and not in the wheel: the peers are code for another library,
which an installed mist-bench never imports, and a number is only worth publishing with the commit that it belongs to.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..api.component import UserError
from ..engine import beam, compiler, device
from ..engine.machine import SHORTEST, Others
from ..measure.statistics import FEWEST_FOR_INTERVAL
from ..run import provenance, workbench
from . import baseline
from .contest import Offer, Timing, race

TASKS = ("training", "generation", "likelihood", "startup")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What `mist-bench bench` was asked for."""

    sizes: tuple[str, ...]
    """Names of `benchmarks/sizes.py`; empty: those of the device."""
    only: tuple[str, ...] = TASKS
    rounds: int = 7
    budget: float = 30.0
    """Seconds that the rounds of one entry may take; three rounds are made anyway."""
    out: Path | None = None
    baseline: Path | None = None
    save_baseline: bool = False
    factor: float = 1.5


def load(module: str) -> Any:
    """`benchmarks.<module>` of the checkout, without putting the checkout on the path."""
    folder = Path(__file__).parents[2] / "benchmarks"
    if not (folder / "__init__.py").is_file():
        raise UserError(
            "mist-bench bench runs in a checkout of the repository, where the benchmarks and their peers are: "
            "clone it, then pip install -e '.[cpu,bench]'"
        )
    if "benchmarks" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "benchmarks", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["benchmarks"] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"benchmarks.{module}")


def chosen_sizes(names: Sequence[str]) -> list[Any]:
    """The sizes by name; on a CPU the smallest two that mean something, on a GPU also the larger ones."""
    known = load("sizes").sizes()
    wanted = names or (("quick", "small") if device.name() == "CPU" else ("quick", "small", "tinystories", "gpt2"))
    for name in wanted:
        if name not in known:
            raise UserError(f"unknown size {name!r}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def bench(options: BenchOptions) -> int:
    """Times what was asked for, shows and writes the tables. 1 if something of ours failed, or became slower than the
    baseline allows."""
    from rich.console import Console

    from .report import show, write

    console, start = Console(stderr=True), time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - start:5.0f} s  {line}", style="dim", markup=False, highlight=False)

    for task in options.only:
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}; there are {', '.join(TASKS)}")
    if options.baseline is not None and options.rounds < FEWEST_FOR_INTERVAL:
        raise UserError(f"a baseline needs intervals, and so --rounds {FEWEST_FOR_INTERVAL} or more")
    compiler.prepare()
    sizes, old = chosen_sizes(options.sizes), None
    if options.baseline is not None and not options.save_baseline:
        old = baseline.load(options.baseline, machine()["key"])  # before minutes are spent
    folder = options.out or Path("results") / f"bench-{device.name().lower()}"
    for made in measured(options, sizes, say):
        write(folder, made)  # after each group, so that what ends early has not been for nothing
    show(Console(), made)
    say(f"written: {folder}/bench.md, {folder}/bench.json")
    if options.baseline is not None and options.save_baseline:
        baseline.save(options.baseline, made)
        say(f"baseline of this machine: {options.baseline}")
    slower, untold = ([], []) if old is None else baseline.slower(old, made, options.factor)
    for line in slower + untold:
        say(line)
    return 1 if slower or made["failed"] else 0


def measured(options: BenchOptions, sizes: Sequence[Any], say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Everything that was asked for, timed: the document so far after each group, and at last the whole one."""
    from .report import document

    offers, others = load("offers"), _watched()
    found = [offer for task in options.only for offer in offers.offers(task, sizes)]
    reasons = dict.fromkeys(offer.missing for offer in found if offer.missing)
    left_out = [f"{', '.join(dict.fromkeys(o.who for o in found if o.missing == why))} ({why})" for why in reasons]
    for line in left_out:
        say(f"left out: {line}")
    networks = any(task != "startup" for task in options.only)
    peaks = _peaks(say, torch=offers.has_torch()) if networks else {}
    notes: dict[str, Any] = {"busy": "", "left_out": left_out, "command": _command(options, sizes), "unfinished": ""}
    timings: list[list[Timing]] = []
    groups = len({offer.group for offer in found if not offer.missing})

    def so_far() -> dict[str, Any]:
        if (busy := others.look()) != notes["busy"]:  # a machine may get busy in an hour
            say(busy)
            notes["busy"] = busy
        return document(timings, peaks, sizes, provenance.collect(), machine()) | notes

    for group in _all(found, options, say, left_out):
        timings.append(group)
        yield so_far() | {"unfinished": f"{len(timings)} of {groups} groups"}
    if networks:  # once more, since the machine may have been slower at the beginning: a peak is the best ever seen
        after = _peaks(say, torch=offers.has_torch())
        peaks = {name: max(value, after[name]) for name, value in peaks.items()}
    there = {str(timing.offer) for group in timings for timing in group}
    failed = [str(offer) for offer in found if offer.ours and not offer.missing and str(offer) not in there]
    yield so_far() | {"failed": failed}


def _peaks(say: Callable[[str], None], *, torch: bool) -> dict[str, float]:
    say("peak of the device: large matrix products")
    found: dict[str, float] = load("peak").peaks(torch=torch)
    return found


def _command(options: BenchOptions, sizes: Sequence[Any]) -> str:
    """What makes these numbers again, without anybody's folders."""
    names, tasks = ",".join(size.name for size in sizes), ",".join(options.only)
    return f"mist-bench bench --size {names} --only {tasks} --rounds {options.rounds} --budget {options.budget:g}"


def _watched() -> Others:
    """A look at what others do before anything is timed. Threads that spin while another one waits for its turn cost
    seconds on a busy machine, so PyTorch's are told to sleep there, which must be said before it is imported; that is
    the peer's gain, never ours."""
    others = Others()
    time.sleep(SHORTEST)
    if others.look():
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return others


def _all(
    found: Sequence[Offer], options: BenchOptions, say: Callable[[str], None], left_out: list[str]
) -> Iterator[list[Timing]]:
    """One list for each group of offers that can be made; what a group held on the device is let go after it."""

    for _, group in groupby(found, key=lambda offer: offer.group):
        here = [offer for offer in group if not offer.missing]
        if here:
            made = race(here, options.rounds, options.budget, say, left_out)
            bare = [_without_entry(timing) for timing in made]
            del made
            workbench.forget()
            if bare:
                yield bare


def _without_entry(timing: Timing) -> Timing:
    """The same numbers, holding neither networks nor graphs."""
    memory = timing.memory
    bare = dataclasses.replace(timing.entry, run=lambda: None, memory=lambda: memory)
    return dataclasses.replace(timing, entry=bare)


def machine() -> dict[str, Any]:
    """What a time belongs to. Two runs with the same `key` may be compared."""
    origin = provenance.collect()
    gpu = ", ".join(dict.fromkeys(gpu["name"] for gpu in origin["gpus"]))
    known = {
        "device": device.name(), "gpu": gpu, "cpu": origin["cpu"], "cores": origin["cores"],
        "precision": device.precision_name("auto"), "beam": f"beam {beam.width()}" if beam.width() else None,
    }  # fmt: skip
    torch = sys.modules.get("torch")
    key = " · ".join(str(value) for value in known.values() if value)
    return known | {
        "tinygrad": origin["libraries"].get("tinygrad"), "torch": str(torch.__version__) if torch else None,
        "torch_threads": torch.get_num_threads() if torch else None, "key": key,
    }  # fmt: skip
