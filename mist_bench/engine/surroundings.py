"""What tinygrad takes from its surroundings: variables that would change numbers, and a cache that may be damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..api.component import UserError

CHANGES_NUMBERS = {
    "DEFAULT_FLOAT": ("FLOAT32", "FLOAT"), "DEFAULT_INT": ("INT32", "INT"), "SUM_DTYPE": ("FLOAT32", "FLOAT"),
    "TRANSCENDENTAL": ("1",), "ALLOW_TF32": ("0",), "EMULATED_DTYPES": (), "FLOAT16": ("0",), "IMAGE": ("0",),
}  # fmt: skip
"""Variables under which the same cell would hold other numbers, and their values that change nothing."""


def refuse_what_changes_numbers() -> None:
    """Raise `UserError` if the environment asks tinygrad for another arithmetic."""
    for name, harmless in CHANGES_NUMBERS.items():
        value = os.environ.get(name, "")
        if value and value.upper() not in harmless:
            raise UserError(
                f"{name}={value} in the environment would change all numbers under the same names; type: unset {name} "
                "(the precision of a run is --set training.precision=…)"
            )


def set_damaged_cache_aside(file: Path) -> None:
    """Rename tinygrad's database of compiled kernels if it cannot be read, so that it is made anew."""
    if not file.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:  # busy, or not to be opened: tinygrad says so where it matters
        return
    except sqlite3.DatabaseError:
        _set_aside(file)


def tolerant(own: Callable[..., Any], file: Path, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """A function that uses the database, which goes on without it if it turns out to be damaged further inside."""

    def use(*arguments: Any, **named: Any) -> Any:
        try:
            return own(*arguments, **named)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            _set_aside(file)
            from tinygrad.helpers import CACHELEVEL

            CACHELEVEL.value = 0
            return otherwise(*arguments, **named)

    return use


def _set_aside(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.replace(file.with_name(file.name + ".damaged"))
        for rest in ("-wal", "-shm"):
            file.with_name(file.name + rest).unlink(missing_ok=True)
        said = f"mist-bench: tinygrad's cache {file} was damaged and is set aside as {file.name}.damaged"
        print(said, file=sys.stderr)
