"""How long commands take that compute nothing: whole processes, by the wall clock."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mist_bench.bench.contest import Entry

GRID = Path(__file__).parent.parent / "tests" / "grid.toml"


def process(*arguments: str) -> Entry:
    """`python …`, its output thrown away."""
    command = [sys.executable, *arguments]
    return Entry(run=lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def command(*arguments: str) -> Entry:
    return process("-m", "mist_bench", *arguments)


def cached_run(*, whole: bool) -> Entry:
    """A run whose cells are all there: its first call makes them, in a folder of its own. `whole`: with networks that
    it must train first, and the tables and plots of all of them; else of the oracle alone."""
    folder = tempfile.mkdtemp(prefix="mist-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    where = ["--store", os.path.join(folder, "store"), "--out", os.path.join(folder, "out")]
    few = () if whole else ("--family", "oracle", "--steps", "2", "--set", "generation.judge=none")
    return command("run", "--preset", str(GRID), *where, *few)
