"""Checks of a launcher: every command runs once, unchanged, and its exit status is returned at its place.

The commands are small: each writes its arguments into a file of its own. A launcher that runs them elsewhere must see
the folder for temporary files, as it must see a run's store.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..api.launchers import Launcher
from ..host.registry import Registry
from .core import Failed, Study, check

CELL = """\
import json, sys, time
note, seconds, status, *arguments = sys.argv[1:]
time.sleep(float(seconds))
with open(note, "a", encoding="ascii") as file:
    file.write(json.dumps(arguments) + "\\n")
sys.exit(int(status))
"""
STATUSES = (0, 3, 0, 7)
"""A failure in the middle, and one at the end."""
SLOW = 0.3
"""Seconds that the first takes: with launchers that run commands in parallel it ends last."""
HARD = (
    "two words", "", "it's", 'say "no"', "$HOME `id` *", "a;b|c&d", "line\nline", "back\\slash", "é 日本", "--x=[y z]",
)  # fmt: skip
"""Arguments that a shell would split, drop, expand or execute; harmless if it does."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of `launch`, and for each command the arguments of each time it ran."""

    statuses: Any
    notes: list[list[list[str]]]


class LauncherStudy(Study):
    """A launcher, and the outcome of some commands."""

    component: Launcher

    def launch(self, statuses: Sequence[int], arguments: Sequence[str] = (), *, slow: float = 0.0) -> Outcome:
        """Launch one command for each status, of which the first takes `slow` seconds."""
        with tempfile.TemporaryDirectory(prefix="mist-bench-") as folder:
            cell = Path(folder) / "cell.py"
            cell.write_text(CELL, encoding="ascii")
            notes = [Path(folder) / f"note-{i}" for i in range(len(statuses))]
            commands = [
                [sys.executable, str(cell), str(note), str(0.0 if i else slow), str(status), *arguments]
                for i, (note, status) in enumerate(zip(notes, statuses, strict=True))
            ]
            given = self.component.launch(commands)
            lines = [note.read_text("ascii").splitlines() if note.exists() else [] for note in notes]
        return Outcome(statuses=given, notes=[[json.loads(line) for line in own] for own in lines])

    def mixed(self) -> Outcome:
        """The outcome of commands of which some fail."""
        return self.once("mixed", lambda: self.launch(STATUSES, slow=SLOW))


def study(component: Launcher, registry: Registry) -> LauncherStudy:
    return LauncherStudy(component, registry)


@check("launcher")
def runs_each_once(its: LauncherStudy) -> None:
    """When launch returns every command has run once, also those after a failure."""
    for i, own in enumerate(its.mixed().notes):
        if len(own) != 1:
            what = "a failed command is not tried again" if len(own) > 1 else "wait for all, and go on after a failure"
            raise Failed(f"command {i + 1} of {len(STATUSES)} was run {len(own)} times when launch returned; {what}")


@check("launcher")
def gives_statuses(its: LauncherStudy) -> None:
    """It returns a list of exit statuses, an int for each command."""
    found = its.mixed().statuses
    if not isinstance(found, list) or len(found) != len(STATUSES):
        raise Failed(f"launch gives {found!r:.80} for {len(STATUSES)} commands; give a list with one status for each")
    wrong = [status for status in found if isinstance(status, bool) or not isinstance(status, int)]
    if wrong:
        raise Failed(f"a status is {wrong[0]!r:.80}; give the exit status, an int (returncode), once it is known")


@check("launcher")
def reports_failures(its: LauncherStudy) -> None:
    """A failing command's own status is reported, and 0 for one that succeeds."""
    found = its.mixed().statuses
    missing = [status for status in sorted(STATUSES) if status not in found]
    if missing:
        raise Failed(
            f"exit status {missing[0]} is not among {found}; give each command's own status, 0 only where it succeeds"
        )


@check("launcher")
def keeps_order(its: LauncherStudy) -> None:
    """Statuses are in the order of the commands, not of their ends."""
    found = its.mixed().statuses
    if list(found) != list(STATUSES):
        raise Failed(
            f"commands that end with {list(STATUSES)} give {found}; keep the order of the commands, whichever ends "
            "first"
        )


@check("launcher")
def keeps_arguments(its: LauncherStudy) -> None:
    """Arguments reach the command unchanged, with spaces, quotes, lines and characters special to a shell."""
    [own] = its.launch([0], HARD).notes
    found = own[0] if own else []
    for i, argument in enumerate(HARD):
        if found[i : i + 1] != [argument]:
            arrived = repr(found[i]) if i < len(found) else "nothing"
            raise Failed(
                f"argument {argument!r} arrives as {arrived}; pass the list on as it is, or join with shlex.join"
            )


@check("launcher")
def takes_none(its: LauncherStudy) -> None:
    """Without commands it returns an empty list."""
    found = its.component.launch([])
    if found != []:
        raise Failed(f"no commands give {found!r:.80}; give []")


@check("launcher")
def stops(its: LauncherStudy) -> None:
    """It declares how it runs commands, and stop does no harm when nothing runs."""
    many = its.component.at_once()
    if isinstance(many, bool) or not isinstance(many, int) or many < 1:
        raise Failed(f"at_once() gives {many!r}; give how many commands run at once, an int of at least 1")
    if not isinstance(its.component.exclusive, bool):
        raise Failed(f"exclusive is {its.component.exclusive!r}; it is True if each command has a machine to itself")
    its.mixed()
    for _ in range(2):  # an interrupt may come twice
        its.component.stop()
