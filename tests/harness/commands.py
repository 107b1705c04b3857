"""`mist-bench run` on the smallest grid: its words, and its exit status without a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness import GRID
from mist_bench import cli


def run_command(store: Path, out: Path, *more: str, settings: Sequence[str] = ()) -> list[str]:
    """The words of the command, with a `--set` for each setting."""
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["run", "--preset", GRID, "--store", str(store), "--out", str(out), *more, *sets]


def in_process(*words: str) -> int:
    """The exit status of a command in this process, whose graphs it shares."""
    return cli.main(list(words))
