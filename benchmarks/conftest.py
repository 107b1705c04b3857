"""Fixtures that run each benchmark file under pytest-benchmark; `mist-bench bench` times the same offers in turn.

    .venv/bin/python -m pytest benchmarks/bench_training.py --benchmark-only            the sizes of the device
    .venv/bin/python -m pytest benchmarks --benchmark-only --sizes small                another size
    .venv/bin/python -m pytest benchmarks/bench_*.py --benchmark-disable -n auto        once each, untimed, tiny

Compilation and warm-up are not timed; `extra_info` lists the time of the first call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("PARALLEL", "0")  # as for the tests: the processes of pytest-xdist keep the cores busy

from mist_bench.engine import compiler  # noqa: E402

compiler.prepare()  # before tinygrad compiles anything

from mist_bench.bench import command  # noqa: E402
from mist_bench.bench.contest import Offer, prepare  # noqa: E402
from mist_bench.measure.speed import FEWEST_ROUNDS  # noqa: E402
from mist_bench.run import workbench  # noqa: E402

ROUNDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sizes", help="names in benchmarks/sizes.py, separated by commas; default: those of the device")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Call the test of a benchmark file with each offer of the file's TASK."""
    if "offer" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("--sizes")
    untimed = metafunc.config.getoption("benchmark_disable")
    names = given.split(",") if given else ["tiny"] if untimed else []
    offers = command.benchmark_module("offers").offers(metafunc.module.TASK, command.chosen_sizes(names))
    metafunc.parametrize("offer", [_marked(offer) for offer in offers])


def _marked(offer: Offer) -> Any:
    marks = [
        pytest.mark.skipif(bool(offer.missing), reason=offer.missing),
        pytest.mark.benchmark(group=offer.group, disable_gc=True),
    ]
    if not offer.ours:  # warnings of another library cannot be fixed here
        marks.append(pytest.mark.filterwarnings("default"))
    return pytest.param(offer, id=str(offer), marks=marks)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add device, processor, precision and libraries to the report; remove the machine's name, which is private."""
    machine_info["node"] = ""
    machine_info.update(command.machine())


@pytest.fixture(scope="session")
def peak(request: pytest.FixtureRequest) -> tuple[str, float] | None:
    """The library with the fastest large matrix products, and their FLOP/s; None where nothing is timed."""
    if request.config.getoption("benchmark_disable"):
        return None
    peaks = command.benchmark_module("peak").peaks(torch=command.benchmark_module("offers").has_torch())
    name = max(peaks, key=lambda who: peaks[who])
    return name, peaks[name]


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[Offer], None]]:
    """`measure(offer)`: creates the entry, warms it up, times it, and adds its numbers to the report."""

    def measure(offer: Offer) -> None:
        if not benchmark.enabled:
            entry = offer.make()
            benchmark.pedantic(entry.run, rounds=1)
            return
        entry, first = prepare(offer)
        memory = entry.memory()
        benchmark.pedantic(entry.run, rounds=ROUNDS if offer.ours else FEWEST_ROUNDS)
        seconds = benchmark.stats.stats.median
        info = {"first_call_seconds": first, "nfe": entry.nfe, "peak_memory_bytes": memory, "note": entry.note}
        if entry.tokens:
            info["tokens_per_second"] = entry.tokens / seconds
        if entry.flops:
            who, best = request.getfixturevalue("peak")
            info |= {
                "flops_per_second": entry.flops / seconds,
                "share_of_peak": entry.flops / seconds / best,
                "peak_of": who,
            }
        benchmark.extra_info.update(info)

    yield measure
    workbench.forget()
