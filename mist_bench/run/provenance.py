"""Where a number comes from: versions, commit, machine, settings. No host, no user, no path of the user's machine."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..engine import beam
from ..engine.machine import cores, cpu_model, gpus, memory_bytes, output_of

_LIBRARIES = ("tinygrad", "numpy", "pluggy", "pandas", "datasets", "tiktoken", "tokenizers", "safetensors", "seaborn",
              "matplotlib", "ziglang", "torch", "transformers", "scikit-learn")  # fmt: skip
# variables that change the numbers or their speed; others may be private
_VARIABLES = ("DEV", "CC", "JIT", "BEAM", "JITBEAM", "TRAINING", "DEBUG", "NOOPT", "FUSE_OPTIM", "DEFAULT_FLOAT",
              "THREADS", "NUM_CPU_THREADS", "CPU_LLVM", "CPU_COUNT", "PARALLEL", "OMP_NUM_THREADS",
              "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "HF_HUB_OFFLINE")  # fmt: skip
_PACKAGE = Path(__file__).parents[1]


def collect(registry_plugins: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The origin of a run, for `run.json`. It never raises: what cannot be determined is None or missing."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "mist_bench": _version("mist-bench"),
        "git": git_state(_PACKAGE),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": len(cores()),
        "memory_bytes": memory_bytes(),
        "device": device(),
        "gpus": gpus(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "environment": {name: _without_folders(os.environ[name]) for name in _VARIABLES if name in os.environ},
        "plugins": [_without_paths(plugin) for plugin in registry_plugins or ()],
    }


@cache
def stamp() -> dict[str, Any]:
    """Commit, machine and settings of a measured speed, stored with it: a store may serve several machines."""
    git = git_state(_PACKAGE) or {}
    commit = f"{git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else None
    names = sorted({gpu["name"] for gpu in gpus()}) if device() != "CPU" else []
    return {
        "version": _version("mist-bench"), "commit": commit, "cpu": cpu_model(), "cores": len(cores()),
        "device": ", ".join(names) or device(), "tinygrad": _version("tinygrad"), "beam": beam.width(),
    }  # fmt: skip


def differences(stamp: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """The differences between two stamps in words, empty if there are none."""
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
    if output_of(["git", "ls-files", "--error-unmatch", "__init__.py"], folder) is None:
        return None
    commit = output_of(["git", "rev-parse", "HEAD"], folder)
    changes = output_of(["git", "status", "--porcelain", "--", ".", ":(top)plugins", ":(top)pyproject.toml"], folder)
    return {"commit": commit, "dirty": changes != ""} if commit else None


def device() -> str | None:
    """tinygrad's device, if tinygrad is already imported: asking must not cost its start."""
    if "tinygrad" not in sys.modules:
        return None
    with contextlib.suppress(Exception):  # it raises many kinds where no device is usable
        return str(sys.modules["tinygrad"].Device.DEFAULT)
    return None


def _version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
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
