"""The command line. Everything but typer is imported when it is needed, so that `--help` answers at once."""

from __future__ import annotations

import io
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path

from . import commands, plugin_commands  # noqa: F401 - they add their commands to the application, in this order
from .app import app
from .interrupts import Terminated, never_lost
from .streams import unfailing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: done; 1: failed; 2: a wrong call; 130: interrupted; 143: told to end. One line for each but the
    first."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _never_fail_at_a_letter()
    with unfailing() as screen:
        status = _status(given)
        screen.flush()
        if screen.problem is not None and not isinstance(screen.problem, BrokenPipeError):
            return _say(f"error: standard output cannot be written: {screen.problem.strerror}", 1)
    # `mist-bench ls samplers | head`: what was not shown was not asked for, but a script should know
    return status if screen.problem is None else 1


def _status(given: Sequence[str]) -> int:
    """Run the command, and say what ended it."""
    # for the processes that a command starts: a file of the current folder that is named like a module is not one
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        with never_lost():
            work = app(args=given, prog_name="mist-bench", standalone_mode=False)
            return work() if callable(work) else int(work or 0)
    except KeyboardInterrupt as error:
        kept = "; finished cells are kept, and the same command goes on from there" if given[:1] == ["run"] else ""
        if isinstance(error, Terminated):
            return _say(f"told to end{kept}", 128 + error.number)
        return _say(f"interrupted{kept}", 128 + signal.SIGINT)
    except (Exception, SystemExit) as error:  # a plugin may leave by sys.exit
        from ..api.component import UserError
        from ..host.discovery import error_text

        if "--debug" in given:
            traceback.print_exc()
        if isinstance(error, UserError):
            return _say(f"error: {error}", 2)
        if hasattr(error, "format_message"):  # typer's usage errors, whose class is not public
            return _say(f"error: {error.format_message()}", 2)
        hides = given[0] in ("run", "cell", "sample", "bench") and "--debug" not in given
        hint = " (--debug shows the traceback)" if hides else ""
        return _say(f"error: {type(error).__name__}{_place(error)}: {error_text(error)}{hint}", 1)


def _never_fail_at_a_letter() -> None:
    """Write `?` for a letter that the terminal or the file cannot hold (LANG=C, a code page of Windows), where Python
    would end the command; names of files that are no text keep their bytes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape" if stream.encoding.lower() == "utf-8" else "replace")


def _place(error: BaseException) -> str:
    """Where a plugin raised an error, or passed it on: the last line that is not ours nor in an installed library."""
    ours = (str(Path(__file__).parents[1]), *sysconfig.get_paths().values())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    outside = [frame for frame in frames if Path(frame.filename).is_file()]
    return f" at {Path(outside[-1].filename).name}:{outside[-1].lineno}" if outside else ""


def _say(message: str, status: int) -> int:
    print(f"mist-bench: {' '.join(message.split())}", file=sys.stderr)
    return status
