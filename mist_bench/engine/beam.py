"""`--beam N`: how the kernels of captured graphs are cut is searched for, the N best at a time, instead of by a rule.

The search is tinygrad's own, once for each kernel: candidates are compiled and timed. What it ends with is kept like
every finished kernel (`kernel_cache`), under a key that holds N: a second run neither searches nor compiles, and one
without `--beam` takes nothing of it. A search over a whole training step takes over ten minutes on two cores.

A search may be spared by a file of the package, one for each kind of device, of what one found there before
(`python -m benchmarks.beam`). It is plain data: names of tinygrad's optimisations and numbers, which tinygrad checks as
it applies them, and which change a kernel's speed and not what it computes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import sys
from collections import Counter
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

MOST = 16
FOLDER = Path(__file__).parent / "searched"
MOST_BYTES, MOST_OPTIMISATIONS, MOST_UPCAST = 1 << 23, 32, 1 << 12
Cuts = dict[str, list[list[Any]]]
"""Optimisations (name, axis, argument) by a kernel's key."""

found: Cuts = {}
"""Of this process."""
counts: Counter[str] = Counter()


def use(width: int | None) -> None:
    """From here on, and in the processes that this one starts; None leaves what the environment says (`BEAM`)."""
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
    """Of the search over captured graphs; 0: there is none."""
    from tinygrad.helpers import BEAM, getenv

    return int(getenv("JITBEAM", BEAM.value))


def said() -> str:
    """What this process did, for a line of output."""
    return f"beam {width()}: {counts['searched']} kernels searched, {counts['shipped']} taken from the package's file"


def install() -> None:
    """Puts the package's file before tinygrad's search; a second call does nothing."""
    if not width():
        return
    from tinygrad.codegen.opt import search

    own = search.beam_search
    if getattr(own, "of_files", False):
        return

    def search_or_read(s: Any, rawbufs: Any, var_vals: Any, amt: int, *more: Any, **options: Any) -> Any:
        key, target = kernel_key(s.ast), s.ren.target
        made = applied(s, known(target.device, target.arch, amt).get(key))
        counts["searched" if made is None else "shipped"] += 1
        made = own(s, rawbufs, var_vals, amt, *more, **options) if made is None else made
        found[key] = [[o.op.name, o.axis, list(o.arg) if isinstance(o.arg, tuple) else o.arg]
                      for o in made.applied_opts[len(s.applied_opts) :]]  # fmt: skip
        return made

    search_or_read.of_files = True  # type: ignore[attr-defined]
    search.beam_search = search_or_read


def kernel_key(ast: Any) -> str:
    """Of what a kernel computes, whatever the width of the search."""
    key: bytes = ast.replace(arg=dataclasses.replace(ast.arg, beam=0)).key
    return key.hex()


def applied(s: Any, cut: list[list[Any]] | None) -> Any | None:
    """The kernel, cut so; None if there is nothing to apply or it does not fit. `s`: tinygrad's Scheduler."""
    from tinygrad.codegen.opt import Opt, OptOps
    from tinygrad.uop.ops import AxisType

    if cut is None:
        return None
    made = s.copy()
    try:
        for op, axis, arg in cut:
            made.apply_opt(Opt(OptOps[op], axis, tuple(arg) if isinstance(arg, list) else arg))
        inside = zip(made.full_shape, made.axis_types, strict=True)
        large = math.prod(int(n) for n, kind in inside if kind in (AxisType.UPCAST, AxisType.UNROLL))
    except Exception:  # whatever a file that was made for another kernel may cause: it is searched for
        return None
    return made if large <= MOST_UPCAST else None


def path_of(device: str, arch: str) -> Path:
    return FOLDER / f"{re.sub('[^a-z0-9]+', '_', f'{device}-{arch}'.lower())}.json"


@cache
def known(device: str, arch: str, width: int) -> Cuts:
    """What the package's file says for this device and release of tinygrad, if it was searched at least as widely."""
    path = path_of(device, arch)
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        told = json.loads(path.read_text())
        made_for, searched = [told[name] for name in ("tinygrad", "device", "arch")], told["beam"]
        kernels = told["kernels"]
        if not (type(searched) is int and all(_valid(key, cut) for key, cut in kernels.items())):
            raise ValueError("no list of optimisations")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        print(f"mist-bench: warning: {path.name} is not used: {type(error).__name__}: {error}", file=sys.stderr)
        return {}
    cuts: Cuts = kernels
    return cuts if made_for == [version("tinygrad"), device, arch] and searched >= width else {}


def _valid(key: Any, cut: Any) -> bool:
    from tinygrad.codegen.opt import OptOps

    def number(x: Any) -> bool:
        return type(x) is int and -1 <= x <= 1024

    def argument(x: Any) -> bool:
        return x is None or number(x) or (type(x) is list and len(x) <= 3 and all(number(y) for y in x))

    return (
        re.fullmatch("[0-9a-f]{64}", key) is not None and type(cut) is list and len(cut) <= MOST_OPTIMISATIONS
        and all(type(opt) is list and len(opt) == 3 and opt[0] in OptOps.__members__
                and (opt[1] is None or number(opt[1])) and argument(opt[2]) for opt in cut)
    )  # fmt: skip


def write(path: Path, device: str, arch: str, cuts: Cuts) -> None:
    """A file for the package."""
    told = {"tinygrad": version("tinygrad"), "device": device, "arch": arch, "beam": width()}
    path.write_text(json.dumps(told | {"kernels": dict(sorted(cuts.items()))}, indent=0) + "\n")
