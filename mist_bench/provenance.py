"""Where a number comes from: versions, commit, machine, settings. No host, no user, no path of the user's machine."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from . import beam

_LIBRARIES = ("tinygrad", "numpy", "pluggy", "pandas", "datasets", "tiktoken", "tokenizers", "safetensors", "seaborn",
              "matplotlib", "ziglang", "torch", "transformers", "scikit-learn")  # fmt: skip
# what changes the numbers or their speed; any other variable is nobody's business
_VARIABLES = ("DEV", "CC", "JIT", "BEAM", "JITBEAM", "TRAINING", "DEBUG", "NOOPT", "FUSE_OPTIM", "DEFAULT_FLOAT",
              "THREADS", "NUM_CPU_THREADS", "CPU_LLVM", "CPU_COUNT", "PARALLEL", "OMP_NUM_THREADS",
              "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "HF_HUB_OFFLINE")  # fmt: skip
_PACKAGE = Path(__file__).parent


def collect(registry_plugins: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """What `run.json` says of a run's origin. Nothing here fails: what cannot be found out is None or left out."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "mist_bench": _version("mist-bench"),
        "git": git_state(_PACKAGE),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": _usable_cores(),
        "memory_bytes": _memory(),
        "device": device(),
        "gpus": gpus(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "environment": {name: _without_folders(os.environ[name]) for name in _VARIABLES if name in os.environ},
        "plugins": [_without_paths(plugin) for plugin in registry_plugins or ()],
    }


@cache
def stamp() -> dict[str, Any]:
    """What a measured speed belongs to, kept with it: a store may serve several commits and machines."""
    git = git_state(_PACKAGE) or {}
    commit = f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else None
    names = sorted({gpu["name"] for gpu in gpus()}) if device() != "CPU" else []
    return {
        "version": _version("mist-bench"), "commit": commit, "cpu": cpu_model(), "cores": _usable_cores(),
        "device": ", ".join(names) or device(), "tinygrad": _version("tinygrad"), "beam": beam.width(),
    }  # fmt: skip


def differences(stamp: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """In what a stamp differs from another, in words; empty: in nothing."""
    if stamp is None:
        return "an unknown commit and machine"
    return ", ".join(f"{name} {stamp.get(name)}" for name in now if stamp.get(name) != now[name])


def one_line(provenance: Mapping[str, Any]) -> str:
    """The head of a published table: version, commit, date, machine."""
    git = provenance.get("git") or {}
    commit = f"commit {git['commit'][:12]}{' with changes' if git.get('dirty') else ''}" if git else "no commit known"
    gpu = ", ".join(dict.fromkeys(gpu["name"] for gpu in provenance.get("gpus") or ()))
    memory = provenance.get("memory_bytes")
    machine = [
        f"device {provenance['device']}" if provenance.get("device") else "",
        gpu,
        str(provenance.get("cpu") or "unknown CPU"),
        f"{provenance.get('cores')} cores",
        f"{memory / 2**30:.0f} GiB" if memory else "",
    ]
    libraries = provenance.get("libraries") or {}
    tinygrad = f"tinygrad {libraries['tinygrad']}" if "tinygrad" in libraries else ""
    version = f"mist-bench {provenance.get('mist_bench') or 'unknown'} ({commit})"
    return " · ".join(part for part in (version, str(provenance.get("date", "")), *machine, tinygrad) if part)


def git_state(folder: Path) -> dict[str, Any] | None:
    """`commit` and whether the package's own files differ from it (`dirty`); None if they are in no repository.

    A package installed below somebody else's repository is not tracked by it, and gets None as well.
    """
    if _run(["git", "ls-files", "--error-unmatch", "__init__.py"], folder) is None:
        return None
    commit = _run(["git", "rev-parse", "HEAD"], folder)
    changes = _run(["git", "status", "--porcelain", "--", ".", ":(top)plugins", ":(top)pyproject.toml"], folder)
    return {"commit": commit, "dirty": changes != ""} if commit else None


def device() -> str | None:
    """tinygrad's device, if tinygrad is already imported: asking must not cost its start."""
    if "tinygrad" not in sys.modules:
        return None
    with contextlib.suppress(Exception):  # it raises many kinds where no device is usable
        return str(sys.modules["tinygrad"].Device.DEFAULT)
    return None


def gpus() -> list[dict[str, str]]:
    """Name, driver and memory of each NVIDIA GPU, by `nvidia-smi`; empty without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    lines = (_run(query, _PACKAGE) or "").splitlines()
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    return [dict(zip(("name", "driver", "memory"), row, strict=True)) for row in cells if len(row) == 3]


def cpu_model() -> str | None:
    """The processor's name as it calls itself."""
    with contextlib.suppress(OSError):
        if found := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return found[1].strip()
    if sys.platform == "darwin":
        return _run(["sysctl", "-n", "machdep.cpu.brand_string"], _PACKAGE)
    return platform.processor() or platform.machine() or None


def _usable_cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):  # a container or a batch system may give fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _memory() -> int | None:
    with contextlib.suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


def _run(command: Sequence[str], folder: Path) -> str | None:
    """What the command prints, or None if it is not there, fails, or takes ten seconds."""
    # inside a git hook these variables name another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else None
    return None


def _without_folders(value: str) -> str:
    return re.sub(r"[^\s=:,;\"']*[/\\]+(?=[^\s])", "", value)


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    if isinstance(value, Path):
        return value.name
    is_path = isinstance(value, str) and re.match(r"^(~|/|\.\.?/|[A-Za-z]:[\\/])", value)
    return re.split(r"[/\\]", value.rstrip("/\\"))[-1] if is_path else value
