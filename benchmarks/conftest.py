"""What the benchmarks stand on: the networks of a preset, untrained, on the device at hand.

    make bench                                               the preset of the device, timed
    .venv/bin/python -m pytest benchmarks --preset austen    another one
    .venv/bin/python -m pytest benchmarks --benchmark-disable    once each, untimed, on the grid of the tests

An untrained network takes as long as a trained one. Captures happen before the clock starts, and are listed apart.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mist_bench import device

device.prepare()  # before tinygrad compiles anything

from mist_bench.cells import plan  # noqa: E402
from mist_bench.graphs import Graph  # noqa: E402
from mist_bench.registry import Registry  # noqa: E402
from mist_bench.settings import default_preset, load_preset, resolve  # noqa: E402
from mist_bench.store import Store  # noqa: E402
from mist_bench.workbench import Workbench  # noqa: E402

ROUNDS = 5
SMALLEST = str(Path(__file__).parent.parent / "tests" / "grid.toml")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--preset", help="preset whose networks are timed; that of the device by default")


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    untimed = request.config.getoption("benchmark_disable")
    chosen = request.config.getoption("--preset") or (SMALLEST if untimed else default_preset(device.name()))
    registry = Registry.discover()
    config = resolve(load_preset(chosen), registry)
    laid = plan(config, registry, device.name(), device.precision_name(config.training.precision))
    return Workbench(laid, Store(tmp_path_factory.mktemp("store")), registry)


@pytest.fixture
def measure(benchmark: Any) -> Callable[..., None]:
    """`measure(work, tokens, graphs)`: times `work()`, which makes so many tokens and has been called before."""

    def measure(work: Callable[[], object], tokens: int, graphs: list[Graph]) -> None:
        def synchronised() -> None:
            work()
            device.synchronize()

        device.synchronize()
        benchmark.pedantic(synchronised, rounds=ROUNDS, warmup_rounds=1)
        benchmark.extra_info["compile_seconds"] = sum(graph.compile_seconds for graph in graphs)
        if benchmark.stats is not None:  # with --benchmark-disable nothing is timed
            benchmark.extra_info["tokens_per_second"] = tokens / benchmark.stats.stats.median

    return measure
