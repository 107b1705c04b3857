"""`mist-bench bench`: speed of mist-bench and of its alternatives on this device, measured in one run.

The contestants are in the checkout's `benchmarks/` folder, not in the wheel: the peers are written for another library,
which an installed mist-bench never imports, and a published number needs the commit that it belongs to.
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
from ..run.execute import check_writable
from . import baseline
from .contest import Offer, Timing, race

TASKS = ("training", "generation", "likelihood", "startup")


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Options of `mist-bench bench`."""

    sizes: tuple[str, ...]
    """Names in `benchmarks/sizes.py`; empty for the device's defaults."""
    only: tuple[str, ...] = TASKS
    rounds: int = 7
    budget: float = 30.0
    """Seconds for the rounds of one contestant, which has at least three rounds in any case."""
    out: Path | None = None
    baseline: Path | None = None
    save_baseline: bool = False
    factor: float = 1.5


def benchmark_module(name: str) -> Any:
    """The module `benchmarks.<name>` of the checkout, imported without the checkout on `sys.path`."""
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
    return importlib.import_module(f"benchmarks.{name}")


def chosen_sizes(names: Sequence[str]) -> list[Any]:
    """The sizes of these names; without names the device's defaults, of which a CPU has only the small ones."""
    known = benchmark_module("sizes").sizes()
    wanted = names or (("quick", "small") if device.name() == "CPU" else ("quick", "small", "tinystories", "gpt2"))
    for name in wanted:
        if name not in known:
            raise UserError(f"unknown size {name!r}; known: {', '.join(known)}")
    return [known[name] for name in wanted]


def bench(options: BenchOptions) -> int:
    """Run the benchmarks, show and write the tables. Returns 1 if one of mist-bench's entries failed or is slower than
    the baseline allows, else 0."""
    from rich.console import Console

    from .report import show, write

    console, start = Console(stderr=True), time.monotonic()

    def say(line: str) -> None:
        console.print(f"{time.monotonic() - start:5.0f} s  {line}", style="dim", markup=False, highlight=False)

    for task in options.only:
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    if options.baseline is not None and options.rounds < FEWEST_FOR_INTERVAL:
        raise UserError(f"a baseline needs at least {FEWEST_FOR_INTERVAL} rounds, given {options.rounds}; "
                        f"type --rounds {FEWEST_FOR_INTERVAL}")  # fmt: skip
    if options.out is not None:
        check_writable(options.out, "the tables", "--out DIR")
    if options.baseline is not None and options.save_baseline and options.baseline.exists():
        baseline.read(options.baseline)
    compiler.prepare()
    sizes, old = chosen_sizes(options.sizes), None
    if options.baseline is not None and not options.save_baseline:
        old = baseline.rows_of(options.baseline, machine()["key"])  # before minutes are spent
    folder = options.out or Path("results") / f"bench-{device.name().lower()}"
    for results in measured(options, sizes, say):
        write(folder, results)  # after each group, so that a run that is interrupted leaves its results
    show(Console(), results)
    say(f"written: {folder}/bench.md, {folder}/bench.json")
    if options.baseline is not None and options.save_baseline:
        baseline.save(options.baseline, results)
        say(f"baseline of this machine: {options.baseline}")
    slower, uncertain = ([], []) if old is None else baseline.slower(old, results, options.factor)
    for line in slower + uncertain:
        say(line)
    return 1 if slower or results["failed"] else 0


def measured(options: BenchOptions, sizes: Sequence[Any], say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The results of a benchmark run: an unfinished document after each group, at the end the complete one."""
    from .report import document

    offers, others = benchmark_module("offers"), _watched()
    wanted = [offer for task in options.only for offer in offers.offers(task, sizes)]
    reasons = dict.fromkeys(offer.missing for offer in wanted if offer.missing)
    left_out = [f"{', '.join(dict.fromkeys(o.who for o in wanted if o.missing == why))} ({why})" for why in reasons]
    for line in left_out:
        say(f"left out: {line}")
    networks = any(task != "startup" for task in options.only)
    peaks = _peaks(say, torch=offers.has_torch()) if networks else {}
    notes: dict[str, Any] = {"busy": "", "left_out": left_out, "command": _command(options, sizes), "unfinished": ""}
    timings: list[list[Timing]] = []
    groups = len({offer.group for offer in wanted if not offer.missing})

    def so_far() -> dict[str, Any]:
        if (busy := others.look()) != notes["busy"]:  # a machine may become busy during an hour
            say(busy)
            notes["busy"] = busy
        return document(timings, peaks, sizes, provenance.collect(), machine()) | notes

    for group in _timed_groups(wanted, options, say, left_out):
        timings.append(group)
        yield so_far() | {"unfinished": f"{len(timings)} of {groups} groups"}
    if networks:  # measured again, since the machine may have been slower at the beginning
        after = _peaks(say, torch=offers.has_torch())
        peaks = {name: max(value, after[name]) for name, value in peaks.items()}
    finished = {str(timing.offer) for group in timings for timing in group}
    failed = [str(offer) for offer in wanted if offer.ours and not offer.missing and str(offer) not in finished]
    yield so_far() | {"failed": failed}


def _peaks(say: Callable[[str], None], *, torch: bool) -> dict[str, float]:
    """FLOP/s of the device by library."""
    say("peak of the device: large matrix products")
    peaks: dict[str, float] = benchmark_module("peak").peaks(torch=torch)
    return peaks


def _command(options: BenchOptions, sizes: Sequence[Any]) -> str:
    """The command that reproduces these numbers, without folders of this machine."""
    names, tasks = ",".join(size.name for size in sizes), ",".join(options.only)
    return f"mist-bench bench --size {names} --only {tasks} --rounds {options.rounds} --budget {options.budget:g}"


def _watched() -> Others:
    """A monitor of other processes' load. On a busy machine it makes PyTorch's idle threads sleep, which must be set
    before torch is imported: threads that spin cost seconds there. This favours the peer, never mist-bench."""
    others = Others()
    time.sleep(SHORTEST)
    if others.look():
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return others


def _timed_groups(
    offers: Sequence[Offer], options: BenchOptions, say: Callable[[str], None], left_out: list[str]
) -> Iterator[list[Timing]]:
    """The timings of each group that is available here; the device memory of a group is freed after it."""

    for _, group in groupby(offers, key=lambda offer: offer.group):
        available = [offer for offer in group if not offer.missing]
        if available:
            timings = race(available, options.rounds, options.budget, say, left_out)
            numbers = [_without_entry(timing) for timing in timings]
            del timings
            workbench.forget()
            if numbers:
                yield numbers


def _without_entry(timing: Timing) -> Timing:
    """The timing without references to networks and graphs."""
    memory = timing.memory
    bare = dataclasses.replace(timing.entry, run=lambda: None, memory=lambda: memory)
    return dataclasses.replace(timing, entry=bare)


def machine() -> dict[str, Any]:
    """Description of the device, machine and precision. Only times with the same `key` may be compared."""
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
