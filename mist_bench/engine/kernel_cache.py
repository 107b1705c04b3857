"""Finished kernels on disk, so that a new process need not lower the kernels of a graph again.

tinygrad 0.14 caches what the C compiler makes of a kernel's source. To get to that source it rewrites the kernel in
Python, some 75 milliseconds each, which is most of the time of a capture. It looks finished kernels up in a table whose
key covers all that they depend on; `Kernels` is such a table, backed by files in the user's cache folder.

A file holds tinygrad's own objects in Python's pickle format, which can run code. So a file is read only if nobody else
could have written it and its digest is right, and by a reader that creates objects of a few named classes and nothing
else. Any other file is ignored and replaced.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import platform
import stat
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from . import cpu_team

DIGEST = hashlib.sha256().digest_size
READABLE = {
    "tinygrad.codegen.opt": {"Opt", "OptOps"},
    "tinygrad.dtype": {"AddrSpace", "ConstFloat", "DType"},
    "tinygrad.helpers": {"Metadata", "Target"},
    "tinygrad.renderer": {"Estimates"},
    "tinygrad.uop": {"Ops"},
    "tinygrad.uop.ops": {"AxisType", "KernelInfo", "ParamArg", "ProgramInfo", "UOp"},
}
"""The classes in a finished kernel, by module."""


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
    return version("tinygrad"), platform.python_version(), own, str(cpu_team.cores()), _processor()


def _processor() -> str:
    """Model and instruction sets of the processor: machines of several kinds may share a home folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("flags", "Features", "model name"))))


def read(path: Path) -> Any | None:
    """The kernel of a file, or None if there is no file that can be trusted."""
    try:
        with open(path, "rb") as file:
            if not (_mine(os.fstat(file.fileno())) and _mine(os.stat(path.parent))):
                return None
            data = file.read()
    except OSError:
        return None
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        return None
    try:
        return _Reader(io.BytesIO(data[DIGEST:])).load()
    except Exception:  # an old or odd file may raise anything; the kernel is compiled and written again
        return None


def _mine(status: os.stat_result) -> bool:
    """Whether only this user can write the file."""
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class _Reader(pickle.Unpickler):
    """A pickle reader that creates objects of the `READABLE` classes alone."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in READABLE.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a kernel")
        return super().find_class(module, name)


def write(path: Path, program: Any) -> None:
    """Write a kernel, whole or not at all; a folder that cannot be written is ignored, and costs only time."""
    try:
        data = pickle.dumps(program)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, path)
    except OSError:
        return
