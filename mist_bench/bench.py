"""`mist-bench bench`: speed on the device at hand, beside what one would use instead, in one run.

What is timed lies in the checkout's `benchmarks/` folder and not in the wheel: the peers are code for another library,
which an installed mist-bench never imports, and a number is only worth publishing with the commit that it belongs to.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from . import device, provenance
from .contest import Offer, Timing, race
from .interfaces import UserError

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
    folder = Path(__file__).parent.parent / "benchmarks"
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


def bench(options: BenchOptions, command: Sequence[str]) -> int:
    """Times what was asked for, shows and writes the tables. 1 if something became slower than the baseline allows."""
    from rich.console import Console

    from . import baseline
    from .bench_report import document, show, write

    for task in options.only:
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}; there are {', '.join(TASKS)}")
    offers, sizes = load("offers"), chosen_sizes(options.sizes)
    found = [offer for task in options.only for offer in offers.offers(task, sizes)]
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, style="dim", markup=False, highlight=False)

    for reason in dict.fromkeys(offer.missing for offer in found if offer.missing):
        say(f"left out: {', '.join(dict.fromkeys(o.who for o in found if o.missing == reason))} ({reason})")
    say("peak of the device: large matrix products")
    networks = any(task != "startup" for task in options.only)
    peaks = load("peak").peaks(torch=offers.has_torch()) if networks else {}
    timings = _all(found, options, say)
    origin = provenance.collect()
    made = document(timings, peaks, sizes, origin, machine(), shlex.join(["mist-bench", *command]))
    show(Console(), made)
    folder = options.out or Path("results") / f"bench-{device.name().lower()}"
    write(folder, made)
    say(f"written: {folder}/bench.md, {folder}/bench.json")
    if options.baseline is None:
        return 0
    if options.save_baseline:
        baseline.save(options.baseline, made)
        say(f"baseline of this machine: {options.baseline}")
        return 0
    slower = baseline.slower(baseline.load(options.baseline, made["machine"]["key"]), made, options.factor)
    for line in slower:
        say(line)
    return 1 if slower else 0


def _all(found: Sequence[Offer], options: BenchOptions, say: Callable[[str], None]) -> list[list[Timing]]:
    """One list for each group of offers that can be made; what a group held on the device is let go after it."""
    timings = []
    for _, group in groupby(found, key=lambda offer: offer.group):
        here = [offer for offer in group if not offer.missing]
        if here:
            timings.append([_without_entry(t) for t in race(here, options.rounds, options.budget, say)])
    return timings


def _without_entry(timing: Timing) -> Timing:
    """The same numbers, holding neither networks nor graphs."""
    import dataclasses

    bare = dataclasses.replace(timing.entry, run=lambda: None, memory=lambda: timing.memory)
    return dataclasses.replace(timing, entry=bare)


def machine() -> dict[str, Any]:
    """What a time belongs to. Two runs with the same `key` may be compared."""
    origin = provenance.collect()
    gpu = ", ".join(dict.fromkeys(gpu["name"] for gpu in origin["gpus"]))
    known = {
        "device": device.name(), "gpu": gpu, "cpu": origin["cpu"], "cores": origin["cores"],
        "precision": device.precision_name("auto"),
    }  # fmt: skip
    torch = sys.modules.get("torch")
    key = " · ".join(str(value) for value in known.values() if value)
    return known | {
        "tinygrad": origin["libraries"].get("tinygrad"), "torch": str(torch.__version__) if torch else None,
        "torch_threads": torch.get_num_threads() if torch else None, "key": key,
    }  # fmt: skip
