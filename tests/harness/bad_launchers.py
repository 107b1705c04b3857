"""Launchers: two are right, each of the rest breaks one promise."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

from mist_bench import Launcher

KIND = "launcher"


def status_of(command):
    return subprocess.run(command).returncode


class OneByOne(Launcher):
    name = "bad"

    def launch(self, commands):
        return [status_of(command) for command in commands]


class SideBySide(OneByOne):
    def launch(self, commands):
        with ThreadPoolExecutor(max_workers=max(1, len(commands))) as pool:
            return list(pool.map(status_of, commands))


class StopsAtTheFirstFailure(OneByOne):
    def launch(self, commands):
        found = []
        for command in commands:
            found.append(status_of(command))
            if found[-1]:
                break
        return found


class RetriesWhatFailed(OneByOne):
    def launch(self, commands):
        first = super().launch(commands)
        return [status and status_of(command) for command, status in zip(commands, first, strict=True)]


class DoesNotWait(OneByOne):
    """Returns before its processes have ended."""

    def launch(self, commands):
        return [0, *super().launch(commands[1:])]


class GivesProcesses(OneByOne):
    def launch(self, commands):
        return [subprocess.run(command) for command in commands]


class GivesATuple(OneByOne):
    def launch(self, commands):
        return tuple(super().launch(commands))


class GivesNothing(OneByOne):
    def launch(self, commands):
        super().launch(commands)


class SaysWhetherItFailed(OneByOne):
    def launch(self, commands):
        return [status != 0 for status in super().launch(commands)]


class SaysAllIsWell(OneByOne):
    def launch(self, commands):
        return [0 for _ in super().launch(commands)]


class SaysOneForAnyFailure(OneByOne):
    def launch(self, commands):
        return [min(status, 1) for status in super().launch(commands)]


class InTheOrderOfTheirEnds(OneByOne):
    def launch(self, commands):
        found = super().launch(commands)
        return found[1:] + found[:1]


class Joins(OneByOne):
    def launch(self, commands):
        return [subprocess.run(" ".join(command), shell=True).returncode for command in commands]


class Splits(OneByOne):
    def launch(self, commands):
        return [status_of(" ".join(command).split()) for command in commands]


class OneWorkerEach(OneByOne):
    def launch(self, commands):
        with ThreadPoolExecutor(max_workers=len(commands)) as pool:
            return list(pool.map(status_of, commands))


class NoneForNone(OneByOne):
    def launch(self, commands):
        return super().launch(commands) or None


class IsExclusiveSometimes(OneByOne):
    exclusive = "at night"


class RunsNoneAtOnce(OneByOne):
    def at_once(self):
        return 0


class StopsNothingBadly(OneByOne):
    def stop(self):
        self.processes.pop().kill()


BAD = [
    (IsExclusiveSometimes, "stops", "exclusive is 'at night'; it is True if each command has a machine to itself"),
    (RunsNoneAtOnce, "stops", r"at_once\(\) gives 0; give how many commands run at once"),
    (StopsNothingBadly, "stops", "raised AttributeError at bad_launchers.py:"),
    (StopsAtTheFirstFailure, "runs-each-once", "command 3 of 4 was run 0 times when launch returned; wait for all, and go on"),
    (RetriesWhatFailed, "runs-each-once", "command 2 of 4 was run 2 times .*a failed command is not tried again"),
    (DoesNotWait, "runs-each-once", "command 1 of 4 was run 0 times when launch returned; wait for all"),
    (StopsAtTheFirstFailure, "gives-statuses", r"launch gives \[0, 3\] for 4 commands; give a list with one status for each"),
    (GivesATuple, "gives-statuses", r"launch gives \(0, 3, 0, 7\) for 4 commands; give a list"),
    (GivesNothing, "gives-statuses", "launch gives None for 4 commands"),
    (GivesProcesses, "gives-statuses", r"a status is CompletedProcess\(.*; give the exit status, an int"),
    (SaysWhetherItFailed, "gives-statuses", "a status is False; give the exit status, an int"),
    (SaysAllIsWell, "reports-failures", r"exit status 3 is not among \[0, 0, 0, 0\]; .* 0 only where it succeeds"),
    (SaysOneForAnyFailure, "reports-failures", r"exit status 3 is not among \[0, 1, 0, 1\]; give each command's own"),
    (InTheOrderOfTheirEnds, "keeps-order", r"give \[3, 0, 7, 0\]; keep the order of the commands, whichever ends first"),
    (Splits, "keeps-arguments", "argument 'two words' arrives as 'two'; pass the list on as it is, or join with shlex.join"),
    (Joins, "keeps-arguments", "argument 'two words' arrives as "),
    (OneWorkerEach, "takes-none", "raised ValueError at bad_launchers.py:"),
    (NoneForNone, "takes-none", r"no commands give None; give \[\]"),
]
FINE = [
    (kind, name, "ok", "")
    for kind in (OneByOne, SideBySide)
    for name in ("runs-each-once", "gives-statuses", "reports-failures", "keeps-order", "keeps-arguments", "takes-none", "stops")
]
