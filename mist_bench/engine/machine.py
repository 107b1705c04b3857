"""The machine: its cores, GPUs and memory, the load of other processes, the cache folder, atomic writes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TOO_MUCH = 0.1
"""Share of the cores that other processes may use before times are unreliable; an idle system uses 1 or 2 %."""
SHORTEST = 1.0
"""Seconds between two measurements of the load: the system counts core time in ticks of 10 ms."""


class Others:
    """Watches how much core time other processes use: `look` measures it, `worst` is the largest share so far.

    A load average does not serve: it includes our own threads, and processes that ended minutes ago.
    """

    def __init__(self) -> None:
        self.worst = 0.0
        self._last = time.monotonic(), used(), _own()

    def look(self) -> str:
        """Measure since the last call; returns a warning about the worst share so far, empty if that is small."""
        now = time.monotonic(), used(), _own()
        seconds, total, own = (new - old for new, old in zip(now, self._last, strict=True))
        if seconds >= SHORTEST:
            self._last = now
            self.worst = max(self.worst, (total - own) / (seconds * len(cores())))
        if self.worst < TOO_MUCH:
            return ""
        waiting = f", OMP_WAIT_POLICY={policy}" if (policy := os.environ.get("OMP_WAIT_POLICY")) else ""
        return (
            f"this machine is busy (other processes used {self.worst:.0%} of its {len(cores())} cores at worst"
            f"{waiting}): these times are not reliable"
        )


def way_out(error: OSError) -> str:
    """What to do about an error of a folder that is written to."""
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
        return "remove what is there"
    return "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"


def cores() -> set[int]:
    """The cores that this process may use; a container or a batch system may allow fewer than there are."""
    import psutil

    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # macOS has none
    return set(affinity()) if affinity else set(range(psutil.cpu_count() or 1))


def used() -> float:
    """Core seconds that all processes together, and other virtual machines, have used of our `cores`."""
    import psutil

    allowed, seconds = cores(), 0.0
    for core, times in enumerate(psutil.cpu_times(percpu=True)):
        if core in allowed:
            fields = ("user", "nice", "system", "irq", "softirq", "steal")
            seconds += sum(getattr(times, field, 0.0) for field in fields)
    return seconds


def _own() -> float:
    """Core seconds of this process, its threads, and its children, including those that have ended."""
    import psutil

    this, seconds = psutil.Process(), 0.0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # the process has ended meanwhile
            seconds += sum(process.cpu_times()[:4])  # user, system, and both of the children that have ended
    return seconds


def memory_bytes() -> int:
    """Memory of the machine in bytes."""
    import psutil

    return int(psutil.virtual_memory().total)


def cpu_model() -> str | None:
    """Name of the processor; None if the system does not report it."""
    with contextlib.suppress(OSError):
        if line := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return line[1].strip()
    if sys.platform == "darwin":
        return output_of(["sysctl", "-n", "machdep.cpu.brand_string"])
    return platform.processor() or platform.machine() or None


def gpus() -> list[dict[str, str]]:
    """Name, driver and memory of each NVIDIA GPU, by `nvidia-smi`; empty without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    lines = (output_of(query) or "").splitlines()
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    return [dict(zip(("name", "driver", "memory"), row, strict=True)) for row in cells if len(row) == 3]


def output_of(command: Sequence[str], folder: Path | None = None) -> str | None:
    """Output of a command run in `folder`; None if it is missing, fails, or takes more than ten seconds."""
    # inside a git hook these variables name another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


def cache_folder() -> Path:
    """Folder of this user's downloads and tokenized corpora: `$XDG_CACHE_HOME/mist-bench` or `~/.cache/mist-bench`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mist-bench"


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a disk, or the user's share of it, is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _owner() -> str:
    """A short name of this machine, which may share its files with others."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def temporary_name(path: Path) -> Path:
    """A name beside a file or a folder for what will become it; it says which process is writing."""
    return path.with_name(f".{path.name}.{_owner()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")


def sweep(folder: Path) -> None:
    """Remove what processes of this machine left in a folder when they were killed while they wrote."""
    for path in folder.glob(".*.tmp"):
        if _orphaned(path):
            with contextlib.suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _orphaned(path: Path) -> bool:
    """Whether a temporary file belongs to a process of this machine that has ended."""
    import psutil

    found = re.search(r"\.([0-9a-f]{8})-(\d+)-[0-9a-f]{8}\.tmp$", path.name)
    return found is not None and found[1] == _owner() and not psutil.pid_exists(int(found[2]))


def write_atomically(path: Path, data: bytes | str, *, executable: bool = False) -> Path:
    """Write a file whole or not at all, and create its folder; text is written as UTF-8."""
    write_together({path: data}, executable=executable)
    return path


def write_together(files: Mapping[Path, bytes | str], *, executable: bool = False) -> None:
    """Write several files, each whole, and none of them if one cannot be written."""
    temporary: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path] = temporary_name(path)
            with temporary[path].open("xb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            if executable:
                temporary[path].chmod(0o700)
        for path, written in temporary.items():
            os.replace(written, path)
    finally:  # Ctrl-C too: a checkpoint's temporary file is large
        for written in temporary.values():
            written.unlink(missing_ok=True)
