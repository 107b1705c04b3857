"""The command line. Everything but typer is imported when it is needed, so that `--help` answers at once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from . import commands, plugin_commands  # noqa: F401 - they add their commands to the application, in this order
from .app import app
from .interrupts import never_lost


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: done; 1: failed; 2: a wrong call; 130: interrupted. One line for each of the last three."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with never_lost():
            work = app(args=given, prog_name="mist-bench", standalone_mode=False)
            status = work() if callable(work) else int(work or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        kept = "; finished cells are kept, and the same command goes on from there" if given[:1] == ["run"] else ""
        return _say(f"interrupted{kept}", 130)
    except BrokenPipeError:  # `mist-bench ls samplers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from ..api.component import UserError

        if "--debug" in given:
            traceback.print_exc()
        if isinstance(error, UserError):
            return _say(f"error: {error}", 2)
        if hasattr(error, "format_message"):  # typer's usage errors, whose class is not public
            return _say(f"error: {error.format_message()}", 2)
        hides = given[0] in ("run", "cell", "sample", "bench") and "--debug" not in given
        hint = " (--debug shows the traceback)" if hides else ""
        return _say(f"error: {type(error).__name__}: {error}{hint}", 1)


def _say(message: str, status: int) -> int:
    print(f"mist-bench: {' '.join(message.split())}", file=sys.stderr)
    return status
