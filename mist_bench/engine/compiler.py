"""The C compiler of tinygrad's CPU device, and `prepare`, the call with which a process begins to compute."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ..api.component import UserError
from . import beam, kernel_cache, schedule_cache
from .machine import cache_folder

LAUNCHER = """#!/bin/sh
# zig holds a whole clang; `zig cc` in its place starts two more processes for each kernel and leaves files behind
exec "ZIG" clang "$@"
"""


def prepare() -> None:
    """Prepare this process to compute: choose a C compiler, and replace the functions of tinygrad that are too slow.

    Call it before anything of tinygrad computes. It opens no device, and a second call changes nothing.
    """
    _choose_compiler()
    from . import replay, tinygrad_private

    tinygrad_private.replace_cuda_context()
    tinygrad_private.replace_graph_arguments()
    tinygrad_private.replace_cpu_graph(replay.CpuGraph)
    tinygrad_private.replace_kernel_table(lambda own: kernel_cache.on_disk(own, cache_folder() / "kernels"))
    tinygrad_private.replace_scheduler(lambda own: schedule_cache.on_disk(own, cache_folder() / "schedules"))
    tinygrad_private.replace_worker_start(start_compile_worker)
    tinygrad_private.shield_workers()
    _replace_heuristic()
    if beam.width():
        tinygrad_private.replace_beam_search(beam.read_or_search)


def start_compile_worker() -> None:
    """Start a process that compiles kernels for this one; it finds this function by its name."""
    from . import tinygrad_private

    tinygrad_private.start_worker()
    _replace_heuristic()


def _replace_heuristic() -> None:
    from . import heuristic, tinygrad_private

    tinygrad_private.replace_heuristic(heuristic.optimized)


def _choose_compiler() -> None:
    """Set CC to a clang that tinygrad's CPU device can use: the machine's, or else that of the `ziglang` wheel."""
    compiler = os.environ.get("CC", "")
    if "clang" in compiler or "zig" in compiler or (not compiler and shutil.which("clang")):
        return
    zig = importlib.util.find_spec("ziglang")
    if zig is not None and zig.origin is not None:
        os.environ["CC"] = str(_launcher(Path(zig.origin).parent / "zig"))
    elif shutil.which("clang"):
        os.environ["CC"] = "clang"


def _launcher(zig: Path) -> Path:
    """A script in the cache folder that runs zig as clang; its name holds the hash of its text."""
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
