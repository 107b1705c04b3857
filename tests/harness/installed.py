"""Distributions of third parties, and runs by what is installed in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from harness import GRID
from mist_bench.report import files


def setuptools_builds_wheels() -> bool:
    """From 70.1 on setuptools needs no `wheel`, so that a distribution is built offline."""
    try:
        return tuple(int(part) for part in metadata.version("setuptools").split(".")[:2]) >= (70, 1)
    except metadata.PackageNotFoundError:
        return False


def made(*grid: str, path: Path, out: Path) -> list[dict[str, object]]:
    """The rows of generation.csv of a run of the oracle, with the distributions in `path` installed."""
    where = ["--preset", GRID, "--store", str(out / "store"), "--out", str(out)]
    rest = ["--family", "oracle", "--steps", "2", "--set", "generation.judge=none", *grid]
    done = subprocess.run(
        [sys.executable, "-m", "mist_bench", "run", *where, *rest], capture_output=True, text=True, cwd=out,
        env={**os.environ, "PYTHONPATH": str(path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return files.read_csv(out / "generation.csv")
