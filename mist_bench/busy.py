"""Whether others work on this machine: time of its cores that neither this process nor what it started has used.

A load average would not tell: it counts our own threads, and what ended minutes ago. Only Linux says what is needed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

TOO_MUCH = 0.1
"""A share of the cores above which times are no measure; a quiet system takes one or two percent."""
SHORTEST = 1.0
"""Seconds between two looks: cores are counted by ticks, of ten milliseconds."""
_STAT = Path("/proc/stat")


class Others:
    """What others take, looked at now and then; the worst counts."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._last = time.monotonic(), used(), _own()

    def look(self) -> str:
        """Asks about the time since the last look; what there is to say about the worst so far, if anything."""
        now = time.monotonic(), used(), _own()
        seconds, anybody, own = (new - old for new, old in zip(now, self._last, strict=True))
        if seconds >= SHORTEST:
            self._last = now
            self.worst = max(self.worst, (anybody - own) / (seconds * len(cores())))
        if self.worst < TOO_MUCH:
            return ""
        told = f", OMP_WAIT_POLICY={policy}" if (policy := os.environ.get("OMP_WAIT_POLICY")) else ""
        return (
            f"this machine is busy (others took {self.worst:.0%} of its {len(cores())} cores at worst{told}): "
            "these times are no measure"
        )


def cores() -> set[int]:
    """Those that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def used() -> float:
    """Seconds that these cores have worked for anybody, or were given to another virtual machine; 0 if nobody says."""
    if not _STAT.is_file():
        return 0.0
    wanted, ticks = {f"cpu{core}" for core in cores()}, 0
    for line in _STAT.read_text(encoding="ascii").splitlines():
        name, *fields = line.split()
        if name in wanted:
            user, nice, system, _idle, _waiting, interrupts, soft, stolen = map(int, fields[:8])
            ticks += user + nice + system + interrupts + soft + stolen
    return ticks / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    """Seconds of this process and of all that it has started: threads, children that have ended, those that live."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system + _living(os.getpid())


def _living(ancestor: int) -> float:
    """Seconds of the living processes that this one has started, and those have, with what has ended of them."""
    children: dict[int, list[tuple[int, int]]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text(errors="replace").rpartition(")")[2].split()  # a name may hold spaces and brackets
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append((int(file.parent.name), sum(map(int, fields[11:15]))))
    ticks, below = 0, list(children.get(ancestor, ()))
    while below:
        process, its = below.pop()
        ticks += its
        below += children.get(process, ())
    return ticks / os.sysconf("SC_CLK_TCK")
