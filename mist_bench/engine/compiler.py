"""The compiler of the CPU device, and what must be in place before tinygrad compiles anything."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ..api.component import UserError
from . import beam, heuristic, kernel_cache, tinygrad_private
from .machine import cache_folder

LAUNCHER = """#!/bin/sh
# zig's clang spells a bare target in its own way, and by default adds what a bare object file cannot link
count=$#
while [ "$count" -gt 0 ]; do
  argument=$1; shift; count=$((count - 1))
  case "$argument" in
    --target=*-none-unknown-elf) argument="${argument%-none-unknown-elf}-freestanding-none" ;;
  esac
  set -- "$@" "$argument"
done
exec "ZIG" cc "$@" -g0 -fno-sanitize=all -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-stack-protector
"""


def prepare() -> None:
    """Call before tinygrad compiles anything: a clang for its CPU if the machine has none, tiles, kept kernels."""
    _give_compiler()
    tinygrad_private.install()
    heuristic.install()
    kernel_cache.install(cache_folder() / "kernels")
    beam.install()


def _give_compiler() -> None:
    compiler = os.environ.get("CC", "")
    if "clang" in compiler or "zig" in compiler or (not compiler and shutil.which("clang")):
        return
    zig = importlib.util.find_spec("ziglang")
    if zig is not None and zig.origin is not None:
        os.environ["CC"] = str(_launcher(Path(zig.origin).parent / "zig"))
    elif shutil.which("clang"):
        os.environ["CC"] = "clang"


def _launcher(zig: Path) -> Path:
    """The script that stands for clang, in the user's own cache; its name is its content."""
    text = LAUNCHER.replace("ZIG", str(zig))
    path = cache_folder() / f"zig-cc-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if path.exists() and path.read_text() == text:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(temporary, stat.S_IRWXU)
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write the compiler's launcher to {path.parent}: {reason}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return path
