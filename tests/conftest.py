"""What every test has: an environment without the user's settings, and plugins made for one test."""

from __future__ import annotations

import os

os.environ.setdefault("DEV", "CPU")  # before anything imports tinygrad
if "PYTEST_XDIST_WORKER" in os.environ:
    # the processes of pytest-xdist keep the cores busy: tinygrad's workers beside them cost a quarter more in all
    os.environ.setdefault("PARALLEL", "0")

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("harness")

from harness import TESTS  # noqa: E402
from harness.plugins import Plugins  # noqa: E402
from mist_bench.engine import compiler  # noqa: E402

compiler.prepare()  # where there is no clang: tests call tinygrad directly, without the command that prepares it


DEVICE = ("inference", "network", "samplers", "training", "engine/test_noise.py", "measure/test_likelihood.py")
"""Whose tests run kernels on the device: marked `device`, except those of a CPU alone."""

COLLECTING = ("lint", "../benchmarks", "inference/test_batch_size.py", "bench/test_bench.py")
"""Groups that go first."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the device, and run the tests of a file in one process, unless they name a group themselves."""
    for item in items:
        file = Path(os.path.relpath(item.path, TESTS)).as_posix()  # benchmarks stand beside the tests
        if file.startswith(DEVICE):
            item.add_marker(pytest.mark.device)
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(file))
    # those that collect garbage while the process is young: later it takes seconds each time; then the slow ones, so that
    # no core is idle at the end
    slow = {_group(item) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not _group(item).startswith(COLLECTING), _group(item) not in slow))


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker else ""


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIST_BENCH_PLUGINS", "MIST_BENCH_STRICT", "MIST_BENCH_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Plugins(folder)
    for name in set(sys.modules) - before:  # so that the next test may use the same names
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
