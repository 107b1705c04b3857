"""`--beam N`: a beam search of width N for the optimizations of each captured kernel, in place of a heuristic.

The search is tinygrad's own and compiles and times candidates, once for each kernel. Its result is cached like every
finished kernel (`kernel_cache`), under a key that includes N: a second run neither searches nor compiles, and a run
without `--beam` uses none of it. Searching a whole training step takes over ten minutes on two cores.

The package can ship the results of a search as a file for each kind of device (`python -m benchmarks.beam` writes one);
kernels in it are not searched. It is plain data: names of tinygrad's optimizations and numbers, which tinygrad checks
as it applies them, and which change the speed of a kernel but not its result.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

MOST = 16
"""Largest width."""
FOLDER = Path(__file__).parent / "searched"
"""Of the package's files, each for a kind of device."""
MOST_BYTES, MOST_OPTIMIZATIONS, MOST_UPCAST = 1 << 23, 32, 1 << 12
"""Limits of a file, of a kernel's optimizations, and of the copies of its inner code that these may make."""
Searched = dict[str, list[list[Any]]]
"""Optimizations (name, axis, argument) by a kernel's key."""

results: Searched = {}
"""Of the searches in this process, and of what it read from the package's file."""
counts: Counter[str] = Counter()
"""Kernels that were `searched` here, and kernels whose optimizations were `shipped`."""


def use(width: int | None) -> None:
    """Set the width for this process and those that it starts; None leaves it to the environment (`BEAM`)."""
    if width is None:
        return
    os.environ.update(JITBEAM=str(width), BEAM="0")
    if "tinygrad.helpers" in sys.modules:
        from tinygrad import helpers
        from tinygrad.helpers import BEAM

        cached: Any = helpers.getenv
        cached.cache_clear()
        BEAM.value = 0


def width() -> int:
    """Width of the search over captured graphs; 0: no search."""
    from tinygrad.helpers import BEAM, getenv

    return int(getenv("JITBEAM", BEAM.value))


def said() -> str:
    """A line about the searches of this process."""
    return f"beam {width()}: {counts['searched']} kernels searched, {counts['shipped']} taken from the package's file"


def read_or_search(own: Callable[..., Any]) -> Callable[..., Any]:
    """tinygrad's search `own`, skipped for kernels in the package's file; every result is counted and recorded."""

    def search(s: Any, rawbufs: Any, var_vals: Any, amt: int, *more: Any, **options: Any) -> Any:
        key, target = kernel_key(s.ast), s.ren.target
        kernel = applied(s, shipped(target.device, target.arch, amt).get(key))
        counts["searched" if kernel is None else "shipped"] += 1
        kernel = own(s, rawbufs, var_vals, amt, *more, **options) if kernel is None else kernel
        results[key] = [[o.op.name, o.axis, list(o.arg) if isinstance(o.arg, tuple) else o.arg]
                        for o in kernel.applied_opts[len(s.applied_opts) :]]  # fmt: skip
        return kernel

    return search


def kernel_key(ast: Any) -> str:
    """Hash of what a kernel computes, the same for every width."""
    key: bytes = ast.replace(arg=dataclasses.replace(ast.arg, beam=0)).key
    return key.hex()


def applied(s: Any, opts: list[list[Any]] | None) -> Any | None:
    """The kernel with these optimizations; None if there are none or one does not fit. `s`: a `Scheduler`."""
    if opts is None:
        return None
    from .tinygrad_private import AxisType, Opt, OptOps

    kernel = s.copy()
    try:
        for op, axis, arg in opts:
            kernel.apply_opt(Opt(OptOps[op], axis, tuple(arg) if isinstance(arg, list) else arg))
        axes = zip(kernel.full_shape, kernel.axis_types, strict=True)
        upcast = math.prod(int(n) for n, kind in axes if kind in (AxisType.UPCAST, AxisType.UNROLL))
    except Exception:  # optimizations of another kernel may raise anything; this kernel is searched
        return None
    return kernel if upcast <= MOST_UPCAST else None


def path_of(device: str, arch: str) -> Path:
    """The package's file for a device."""
    return FOLDER / f"{re.sub('[^a-z0-9]+', '_', f'{device}-{arch}'.lower())}.json"


@cache
def shipped(device: str, arch: str, width: int) -> Searched:
    """The package's file for this device, if it is of this release of tinygrad and at least of this width."""
    path = path_of(device, arch)
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        content = json.loads(path.read_text())
        origin, searched = [content[name] for name in ("tinygrad", "device", "arch")], content["beam"]
        kernels = content["kernels"]
        if not (type(searched) is int and all(_valid(key, opts) for key, opts in kernels.items())):
            raise ValueError("not a list of optimizations")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        print(f"mist-bench: warning: {path.name} is not used: {type(error).__name__}: {error}", file=sys.stderr)
        return {}
    checked: Searched = kernels
    return checked if origin == [version("tinygrad"), device, arch] and searched >= width else {}


def _valid(key: Any, opts: Any) -> bool:
    """Whether an entry of a file is a kernel's key and a list of optimizations."""
    from .tinygrad_private import OptOps

    def number(x: Any) -> bool:
        return type(x) is int and -1 <= x <= 1024

    def argument(x: Any) -> bool:
        return x is None or number(x) or (type(x) is list and len(x) <= 3 and all(number(y) for y in x))

    return (
        re.fullmatch("[0-9a-f]{64}", key) is not None and type(opts) is list and len(opts) <= MOST_OPTIMIZATIONS
        and all(type(opt) is list and len(opt) == 3 and opt[0] in OptOps.__members__
                and (opt[1] is None or number(opt[1])) and argument(opt[2]) for opt in opts)
    )  # fmt: skip


def write(path: Path, device: str, arch: str, kernels: Searched) -> None:
    """Write a file for the package."""
    origin = {"tinygrad": version("tinygrad"), "device": device, "arch": arch, "beam": width()}
    path.write_text(json.dumps(origin | {"kernels": dict(sorted(kernels.items()))}, indent=0) + "\n")
