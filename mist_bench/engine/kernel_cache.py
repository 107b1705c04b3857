"""Finished kernels on disk, so that a new process need not lower the kernels of a graph again.

tinygrad 0.14 caches what the C compiler makes of a kernel's source. To get to that source it rewrites the kernel in
Python, some 75 milliseconds each, which is most of the time of a capture. It looks finished kernels up in a table whose
key covers all that they depend on; `Kernels` is such a table, backed by files in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import cpu_team
from .trusted_files import FORMAT, read, write


class Kernels(dict[Any, Any]):
    """Finished kernels by tinygrad's key, in memory and on disk."""

    def __init__(self, folder: Path, known: dict[Any, Any]) -> None:
        super().__init__(known)
        self.folder = folder

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self.get(key) is not None

    def get(self, key: Any, default: Any = None) -> Any:
        if not super().__contains__(key) and (program := read(self.folder / name(key))) is not None:
            super().__setitem__(key, program)
        return super().get(key, default)

    def __setitem__(self, key: Any, program: Any) -> None:
        super().__setitem__(key, program)
        write(self.folder / name(key), program)


def on_disk(table: dict[Any, Any], folder: Path) -> Kernels:
    """The table with files behind it; one that has some already stays as it is."""
    return table if isinstance(table, Kernels) else Kernels(folder, table)


def name(key: tuple[Any, ...]) -> str:
    """File name of a kernel: a hash of its key and of what the key lacks (releases, our heuristic, the machine)."""
    ast, renderer, *rest = key
    text = [ast.hex(), renderer.__qualname__, *map(str, rest), *_surroundings()]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


@cache
def _surroundings() -> tuple[str, ...]:
    own = hashlib.sha256((Path(__file__).parent / "heuristic.py").read_bytes()).hexdigest()
    return FORMAT, version("tinygrad"), platform.python_version(), own, str(cpu_team.cores()), _processor()


def _processor() -> str:
    """Model and instruction sets of the processor: machines of several kinds may share a home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("flags", "Features", "model name"))))
