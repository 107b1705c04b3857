"""Files of tinygrad's expressions in the user's cache folder, read only where nobody else could have written them.

An expression (`UOp`) is written as a flat list of its nodes, each with the numbers of those it is made of: expressions
of a training step are deeper than Python may recurse. What is in a node is in Python's pickle format, which can run
code. So a file is read only if nobody else could have written it and its digest is right, and by a reader that creates
objects of a few named classes and nothing else. Any other file is ignored and replaced.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import stat
import tempfile
from pathlib import Path
from typing import Any

FORMAT = "2"
"""Part of every file's name: another version of mist-bench beside this one reads and writes files of its own."""
DIGEST = hashlib.sha256().digest_size
READABLE = {
    "tinygrad.codegen.opt": {"Opt", "OptOps"},
    "tinygrad.dtype": {"AddrSpace", "ConstFloat", "DType", "InvalidType"},
    "tinygrad.helpers": {"Target"},
    "tinygrad.renderer": {"Estimates"},
    "tinygrad.uop": {"Ops"},
    "tinygrad.uop.ops": {"AxisType", "CallInfo", "KernelInfo", "ParamArg", "ProgramInfo", "UOp"},
}
"""The classes in an expression, by module."""


def read(path: Path) -> Any | None:
    """The expression of a file, or None if there is no file that can be trusted."""
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
        return _whole(_Reader(io.BytesIO(data[DIGEST:])).load())
    except Exception:  # an old or odd file may raise anything; what it held is made and written again
        return None


def write(path: Path, expression: Any) -> None:
    """Write an expression, whole or not at all. A folder that cannot be written, or a node that holds what cannot be
    pickled, costs only time."""
    try:
        data = pickle.dumps(_nodes(expression))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(temporary, path)
    except (OSError, pickle.PicklingError, AttributeError, TypeError):
        return


def _nodes(expression: Any) -> list[tuple[Any, ...]]:
    """Every node once, after those that it is made of, which stand as numbers. What a node holds in memory is left out:
    tinygrad keeps one object of equal nodes, so a placeholder may happen to be somebody's tensor."""
    numbers: dict[Any, int] = {}
    nodes = []
    for node in expression.toposort():
        nodes.append((node.op, node.dtype, tuple(numbers[part] for part in node.src), node.arg, node.tag))
        numbers[node] = len(numbers)
    return nodes


def _whole(nodes: list[tuple[Any, ...]]) -> Any:
    """The expression of such a list."""
    from .tinygrad_private import UOp

    made: list[UOp] = []
    for op, dtype, parts, arg, tag in nodes:
        made.append(UOp(op, dtype, tuple(made[part] for part in parts), arg, tag))
    return made[-1]


def _mine(status: os.stat_result) -> bool:
    """Whether only this user can write the file."""
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class _Reader(pickle.Unpickler):
    """A pickle reader that creates objects of the `READABLE` classes alone."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in READABLE.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an expression")
        return super().find_class(module, name)
