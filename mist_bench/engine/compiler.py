"""The C compiler of tinygrad's CPU device, and `prepare`, the call with which a process begins to compute."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shlex
import shutil
from pathlib import Path

from ..api.component import UserError
from . import beam, device, kernel_cache, schedule_cache, surroundings
from .machine import cache_folder, write_atomically

LAUNCHER = """#!/bin/sh
exec WORDS "$@"
"""


def prepare() -> None:
    """Prepare this process to compute: choose a C compiler, and replace the functions of tinygrad that are too slow.

    Call it before anything of tinygrad computes; a second call changes nothing. It opens a device only where `DEV`
    names none: tinygrad would take a CPU behind OpenCL for a GPU.
    """
    surroundings.refuse_what_changes_numbers()
    _choose_compiler()
    from . import replay, tinygrad_private

    tinygrad_private.replace_compile_cache()
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
    if not os.environ.get("DEV"):
        device.choice()


def start_compile_worker() -> None:
    """Start a process that compiles kernels for this one; it finds this function by its name."""
    from . import tinygrad_private

    tinygrad_private.start_worker()
    _replace_heuristic()


def _replace_heuristic() -> None:
    from . import heuristic, tinygrad_private

    tinygrad_private.replace_heuristic(heuristic.optimized)


def _choose_compiler() -> None:
    """Set CC to a clang that tinygrad's CPU device can use: the machine's, or else that of the `ziglang` wheel.

    Raises `UserError` for a CC that names no program.
    """
    given = os.environ.get("CC", "")
    if "clang" in given or "zig" in given:
        words = [given] if shutil.which(given) else shlex.split(given)
        if not shutil.which(words[0]):
            raise UserError(f"CC={given} in the environment names no program; type: unset CC, or name another clang")
        if len(words) > 1:  # `ccache clang`: tinygrad takes CC for one program
            os.environ["CC"] = str(_launcher(*words))
        return
    if not given and shutil.which("clang"):
        return
    zig = importlib.util.find_spec("ziglang")
    if zig is not None and zig.origin is not None:
        # zig holds a whole clang; `zig cc` would start two more processes for each kernel and leave files behind
        os.environ["CC"] = str(_launcher(str(Path(zig.origin).parent / "zig"), "clang"))
    elif shutil.which("clang"):
        os.environ["CC"] = "clang"


def _launcher(*words: str) -> Path:
    """A script in the cache folder that begins with these words; its name holds the hash of its text."""
    text = LAUNCHER.replace("WORDS", shlex.join(words))
    path = cache_folder() / f"clang-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if path.exists() and path.read_text() == text:
        return path
    try:
        write_atomically(path, text, executable=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write the compiler's launcher to {path.parent}: {reason}; "
            "set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return path
