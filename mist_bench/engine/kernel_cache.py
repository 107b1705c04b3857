"""Compiled kernels kept on disk, so that a process that needs a graph again does not lower its kernels again.

tinygrad 0.14 keeps what the compiler makes of a kernel's source; but to get to that source it rewrites the kernel in
Python, some 75 milliseconds each, which is most of a capture. It looks finished kernels up in a table, by a key that
says all that they depend on. Here that table falls back on files in the user's own cache folder.

A file is data of tinygrad's own, but in Python's pickle, which can run code. So it is read only if no one else could
have written it, if its digest is right, and then by a reader that makes objects of a few named classes and nothing
else. Anything else is ignored and written anew.
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
"""What a finished kernel is made of."""


def install(folder: Path) -> None:
    """Gives tinygrad's table of finished kernels the folder behind it, unless its caches are off (CCACHE=0)."""
    from tinygrad import codegen
    from tinygrad.engine import realize
    from tinygrad.helpers import CCACHE

    if not CCACHE.value or isinstance(codegen.to_program_cache, Kernels):
        return
    codegen.to_program_cache = realize.to_program_cache = Kernels(folder, codegen.to_program_cache)


class Kernels(dict[Any, Any]):
    """Finished kernels by tinygrad's key, in memory and then on disk."""

    def __init__(self, folder: Path, known: dict[Any, Any]) -> None:
        super().__init__(known)
        self.folder = folder

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self.get(key) is not None

    def get(self, key: Any, default: Any = None) -> Any:
        if not super().__contains__(key) and (found := read(self.folder / name(key))) is not None:
            super().__setitem__(key, found)
        return super().get(key, default)

    def __setitem__(self, key: Any, program: Any) -> None:
        super().__setitem__(key, program)
        write(self.folder / name(key), program)


def name(key: tuple[Any, ...]) -> str:
    """The file of a kernel: its key, and what the key does not say (releases, how kernels are cut, the machine)."""
    ast, renderer, *rest = key
    text = [ast.hex(), renderer.__qualname__, *map(str, rest), *_surroundings()]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


@cache
def _surroundings() -> tuple[str, ...]:
    own = hashlib.sha256((Path(__file__).parent / "heuristic.py").read_bytes()).hexdigest()
    return version("tinygrad"), platform.python_version(), own, str(cpu_team.cores()), _processor()


def _processor() -> str:
    """What compiled code may use: a home folder may serve machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("flags", "Features", "model name"))))


def read(path: Path) -> Any | None:
    """The kernel, or None if there is no file that may be trusted."""
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
    except Exception:  # whatever an old or odd file may cause: it is made anew
        return None


def _mine(found: os.stat_result) -> bool:
    """Whether nobody but this user could have written it."""
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in READABLE.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a kernel")
        return super().find_class(module, name)


def write(path: Path, program: Any) -> None:
    """Whole or not at all; a folder that cannot be written costs time and nothing else."""
    try:
        data = pickle.dumps(program)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, path)
    except OSError:
        return
