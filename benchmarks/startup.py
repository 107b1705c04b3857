"""Entries of start-up: commands that compute nothing, timed as whole processes."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mist_bench.bench.contest import Entry

GRID = Path(__file__).parent.parent / "tests" / "harness" / "grid.toml"


def process(*arguments: str) -> Entry:
    """The entry of `python …`, whose output is discarded."""
    command = [sys.executable, *arguments]
    return Entry(run=lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def command(*arguments: str) -> Entry:
    """The entry of `mist-bench …`."""
    return process("-m", "mist_bench", *arguments)


def cached_run(*, whole: bool) -> Entry:
    """The entry of a run whose cells are all stored; its first call computes them, in a folder of its own. With `whole`
    the run trains networks and makes their tables and plots, else it measures only the oracle."""
    folder = tempfile.mkdtemp(prefix="mist-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    where = ["--store", os.path.join(folder, "store"), "--out", os.path.join(folder, "out")]
    few = () if whole else ("--family", "oracle", "--steps", "2", "--set", "generation.judge=none")
    return command("run", "--preset", str(GRID), *where, *few)
