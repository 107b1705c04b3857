"""Each benchmark file by itself, under pytest-benchmark: `mist-bench bench` times the same offers, in turn.

    .venv/bin/python -m pytest benchmarks/bench_training.py --benchmark-only            the sizes of the device
    .venv/bin/python -m pytest benchmarks --benchmark-only --sizes small                another size
    .venv/bin/python -m pytest benchmarks/bench_*.py --benchmark-disable                once each, untimed, tiny

Compilation and warm-up happen before the clock starts; the first call is listed in `extra_info`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mist_bench.engine import compiler

compiler.prepare()  # before tinygrad compiles anything

from mist_bench.bench import command  # noqa: E402
from mist_bench.bench.contest import FEWEST_ROUNDS, Offer, prepare  # noqa: E402
from mist_bench.run import workbench  # noqa: E402

load = command.load
ROUNDS = 5


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sizes", help="names of benchmarks/sizes.py, with commas; those of the device by default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A benchmark file names its TASK; its test is called with each offer of the task."""
    if "offer" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("--sizes")
    untimed = metafunc.config.getoption("benchmark_disable")
    names = given.split(",") if given else ["tiny"] if untimed else []
    found = load("offers").offers(metafunc.module.TASK, command.chosen_sizes(names))
    marked = [_marked(offer) for offer in found]
    metafunc.parametrize("offer", marked)


def _marked(offer: Offer) -> Any:
    marks = [
        pytest.mark.skipif(bool(offer.missing), reason=offer.missing),
        pytest.mark.benchmark(group=offer.group, disable_gc=True),
    ]
    if not offer.ours:  # what another library warns of is not ours to mend
        marks.append(pytest.mark.filterwarnings("default"))
    return pytest.param(offer, id=str(offer), marks=marks)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """What a time belongs to: device, processor, precision, libraries. The machine's own name is nobody's business."""
    machine_info["node"] = ""
    machine_info.update(command.machine())


@pytest.fixture(scope="session")
def peak(request: pytest.FixtureRequest) -> tuple[str, float] | None:
    """Whose large matrix products are fastest here, and their FLOP/s; not asked where nothing is timed."""
    if request.config.getoption("benchmark_disable"):
        return None
    found = load("peak").peaks(torch=load("offers").has_torch())
    name = max(found, key=lambda who: found[who])
    return name, found[name]


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Iterator[Callable[[Offer], None]]:
    """`measure(offer)`: makes it, warms it, times it, and says what its rounds were."""

    def measure(offer: Offer) -> None:
        if not benchmark.enabled:
            entry = offer.make()
            benchmark.pedantic(entry.run, rounds=1)
            return
        entry, first = prepare(offer)
        memory = entry.memory()
        benchmark.pedantic(entry.run, rounds=ROUNDS if offer.ours else FEWEST_ROUNDS)
        seconds = benchmark.stats.stats.median
        told = {"first_call_seconds": first, "nfe": entry.nfe, "peak_memory_bytes": memory, "note": entry.note}
        if entry.tokens:
            told["tokens_per_second"] = entry.tokens / seconds
        if entry.flops:
            who, best = request.getfixturevalue("peak")
            told |= {
                "flops_per_second": entry.flops / seconds,
                "share_of_peak": entry.flops / seconds / best,
                "peak_of": who,
            }
        benchmark.extra_info.update(told)

    yield measure
    workbench.forget()
