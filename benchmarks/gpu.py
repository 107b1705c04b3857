"""Measurements that need a GPU, as separate steps, without a network and without an installation.

    python benchmarks/gpu.py --out DIR --wheels WHEELS                         nine minutes, the most important first
    python benchmarks/gpu.py --out DIR --wheels WHEELS --steps memory,kernels  these steps, in this script's order

It needs Python 3.11 or newer with torch and numpy. WHEELS is a folder with the other packages, downloaded on a machine
with a network, for the Python of the GPU's machine (`gpu.json` names wheels that do not fit, which are left out):

    pip download --python-version 3.12 --only-binary=:all: -d WHEELS tinygrad==0.14.0 pluggy typer rich
    pip download --python-version 3.12 --only-binary=:all: -d WHEELS --no-deps \\
        "nvidia-cuda-nvrtc-cu12==12.2.*" "nvidia-cuda-runtime-cu12==12.2.*"

The second command gets a compiler that is used before torch's, whose output an older driver refuses (error 222).
`CUDA:PTX` needs no compiler, but there tinygrad 0.14 multiplies bfloat16 without tensor cores: its times show only
whether it works.

Wheels are unpacked below `--site`, together with the entry points of this checkout, and compiled kernels are stored
there: a step that ran out of time continues from them in the next call. Where a call may take ten minutes, use three
calls, with the same site (git ignores `build/`) and a separate DIR:

    python benchmarks/gpu.py --wheels WHEELS --site build/site --out DIR1 --steps small,tinystories
    python benchmarks/gpu.py --wheels WHEELS --site build/site --out DIR2 --steps memory,gpt2
    python benchmarks/gpu.py --wheels WHEELS --site build/site --out DIR3 --steps kernels,likelihood,nv,quick,beam

`gpt2` stands for all steps whose names begin with it, `gpt2-training` and `gpt2-generation`, which can also be named
separately. After each step DIR contains `gpu.json` (the steps, their times and exit statuses, or why nothing could run)
and an archive of all results. A step that fails or runs out of time does not stop the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PEERS = ("mist-bench", "torch eager", "torch compiled")
COMPILERS = "compilers"
"""Folder for NVIDIA's wheels: next to the other packages, their `nvidia` would hide torch's."""
PROBE_SECONDS = 120
PROBE = """
import faulthandler
faulthandler.dump_traceback_later(100)  # shows where it hangs
import numpy as np
from mist_bench.engine import compiler
compiler.prepare()
from tinygrad import Device, Tensor, dtypes
a = Tensor.randn(512, 512).cast(dtypes.bfloat16).contiguous()
b = Tensor.randn(512, 512).cast(dtypes.bfloat16).contiguous()
expected = a.float().numpy() @ b.float().numpy()
assert np.abs(a.matmul(b, dtype=dtypes.float).numpy() - expected).max() < 1.0  # of sums with a standard deviation of 23
from mist_bench.engine.graph import Graph, Inbox, fetch, overwrite
weight, inbox = Tensor.zeros(1000).contiguous().realize(), Inbox(1000)
overwrite(weight, np.arange(1000, dtype=np.float32))
assert (weight.numpy() == np.arange(1000)).all(), "overwrite"
graph = Graph("probe", lambda inputs: ((inputs + 1).contiguous() * weight).sum(keepdim=True).realize())
for i in range(4):  # captured by Graph, then by tinygrad, then replayed
    value = fetch(graph(inbox(np.full(1000, i, dtype=np.int32)))).item()
    assert value == (i + 1) * 499500, f"call {i} of a captured graph: {value}"
assert graph.kernels >= 2, "tinygrad makes no graph of a single kernel"
import mist_bench.cli
arch = getattr(Device[Device.DEFAULT], "arch", "")
print(Device.DEFAULT, type(Device[Device.DEFAULT].renderer).__name__, arch)
"""
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from mist_bench.cli import main; sys.exit(main())"
"""`mist-bench` as if torch were not installed."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A measurement: its commands (arguments of Python) and the time limit of each in seconds."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    seconds: int
    environment: dict[str, str] = field(default_factory=dict)


def bench(name: str, size: str, only: str, seconds: int, *more: str) -> Step:
    """A step that runs `mist-bench bench`."""
    how = ("-m", "mist_bench", "bench", "--size", size, "--only", only, "--out", f"{{out}}/{name}", *more)
    return Step(name=name, commands=(how,), seconds=seconds)


def alone(step: Step, device: str) -> Step:
    """The step on another device of tinygrad, without torch: their drivers cannot share a process."""
    commands = tuple(("-c", WITHOUT_TORCH, *command[2:]) for command in step.commands)
    return replace(step, commands=commands, environment={"DEV": device})


def steps() -> list[Step]:
    """All steps, the most important first. Most of their time is compilation; `bench` writes after each group."""
    memory = [("-m", "benchmarks.memory", "--size", "tinystories", "--who", who) for who in PEERS]
    kernels = [("-m", "benchmarks.kernels", "--size", size, "--out", f"{{out}}/kernels-{size}.md")
               for size in ("tinystories", "gpt2")]  # fmt: skip
    tasks, quickly = ("training", "generation"), ("--budget", "10")
    return [
        *(bench(f"small-{task}", "small", task, 240, *quickly) for task in tasks),
        *(bench(f"tinystories-{task}", "tinystories", task, 300, *quickly) for task in tasks),
        Step(name="memory", commands=tuple(memory), seconds=150),
        *(bench(f"gpt2-{task}", "gpt2", task, 360, "--rounds", "5", *quickly) for task in tasks),
        Step(name="kernels", commands=tuple(kernels), seconds=150),
        bench("likelihood", "tinystories,gpt2", "likelihood", 240, *quickly),
        alone(bench("nv", "small", "training", 120, *quickly), "NV"),
        bench("quick", "quick", ",".join(tasks), 240, *quickly),
        Step(name="beam", commands=(("-m", "benchmarks.beam", "--size", "tinystories", "--out", "{out}/beam.json"),),
             seconds=540),
    ]  # fmt: skip


def chosen(words: Sequence[str]) -> tuple[list[Step], list[str]]:
    """The steps whose names are or begin with these words, in their own order, and the words that match none."""

    def means(word: str, step: Step) -> bool:
        return step.name == word or step.name.startswith(f"{word}-")

    matching = [step for step in steps() if any(means(word, step) for word in words)]
    return matching, [word for word in words if not any(means(word, step) for step in matching)]


def fits(wheel: str) -> bool:
    """Whether this Python can import a wheel, by the tag in its name; the version of the C library is not checked."""
    parts = wheel.removesuffix(".whl").split("-")[-3:]
    if len(parts) < 3:
        return False
    pythons, abis, platforms = (part.split(".") for part in parts)
    own, older = f"cp3{sys.version_info.minor}", {f"cp3{n}" for n in range(2, sys.version_info.minor + 1)}
    here = any(
        name == "any" or (name.startswith(("linux_", "manylinux")) and name.endswith(f"_{platform.machine()}"))
        for name in platforms
    )
    pure, stable = "none" in abis and "py3" in pythons, "abi3" in abis and not older.isdisjoint(pythons)
    return here and (pure or stable or (own in pythons and not {own, "none"}.isdisjoint(abis)))


def install(wheels: Path | None, site: Path) -> tuple[Path, list[str]]:
    """A folder with the unpacked wheels and this checkout's entry points, created once for each set of wheels and path
    of the checkout; and the names of wheels that do not fit this Python."""
    given = sorted(wheels.glob("*.whl")) if wheels is not None else []
    used, left_out = [file for file in given if fits(file.name)], [file.name for file in given if not fits(file.name)]
    definition = (ROOT / "pyproject.toml").read_text()
    key = "\n".join([str(ROOT), definition, *(file.name for file in used)])
    folder = site.resolve() / f"packages-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if folder.exists():
        return folder, left_out
    site.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=site))
    try:
        for file in used:
            with zipfile.ZipFile(file) as archive:
                archive.extractall(unfinished / COMPILERS if file.name.startswith("nvidia_") else unfinished)
        _describe(tomllib.loads(definition)["project"], unfinished)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder, left_out


def _describe(project: dict[str, Any], folder: Path) -> None:
    """Write what an installation of this checkout would: its name, version and entry points, and the plugin package."""
    info = folder / f"mist_bench-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mist-bench\nVersion: {project['version']}\n")
    entries = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["mist_bench"].items())
    (info / "entry_points.txt").write_text(f"[mist_bench]\n{entries}")
    (folder / "mist_bench_plugins").symlink_to(ROOT / "plugins")


def surroundings(packages: Path, site: Path) -> dict[str, str]:
    """The environment variables of this checkout: its packages, CUDA's compiler, and caches in `site`.

    Each compiler has its own cache, since tinygrad's keys do not contain the compiler.
    """
    path = os.pathsep.join([str(ROOT), str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    libraries, cache, kernels = compilers(packages), site.resolve() / "cache", "kernels"
    if compiler := os.environ.get("NVRTC_PATH", libraries.get("NVRTC_PATH")):
        kernels += "-" + hashlib.sha256(Path(compiler).read_bytes()).hexdigest()[:12]
    caches = {"XDG_CACHE_HOME": str(cache / kernels), "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch")}
    return {**caches, **os.environ, **libraries, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "140"}


def compilers(packages: Path) -> dict[str, str]:
    """Environment variables with the paths of CUDA's compiler: from WHEELS, else from torch, else from the system."""
    found: dict[str, str] = {}
    roots = [packages / COMPILERS, *(Path(p) for p in sys.path if p.endswith("-packages")), Path("/usr/local/cuda")]
    for variable, name in (("NVRTC_PATH", "libnvrtc.so*"), ("NVJITLINK_PATH", "libnvJitLink.so*")):
        files = [file for root in roots for below in ("nvidia", "lib64") for file in sorted((root / below).rglob(name))
                 if "builtins" not in file.name and "alt" not in file.name]  # fmt: skip
        if files and variable not in os.environ:
            found[variable] = str(files[0])
    for root in roots:
        for header in (root / "nvidia").rglob("cuda_fp16.h"):
            found.setdefault("CUDA_PATH", str(header.parent.parent))
    return found


def run(arguments: Sequence[str], environment: dict[str, str], seconds: float, output: IO[str]) -> int | None:
    """Run Python with these arguments: its exit status, or None if it was stopped after `seconds`. Its worker processes
    are stopped too, so that they do not slow down the next step."""
    process = subprocess.Popen(
        [PYTHON, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def working_device(
    wanted: str, environment: dict[str, str], work: Path, deadline: float
) -> tuple[str, dict[str, str], list[str]]:
    """The first device that computes correctly (empty if none does), its environment, and the output of each probe.

    Each device is tried again without compile workers, since tinygrad waits forever for a worker that has died.
    """
    outputs = []
    for name in wanted.split(","):
        for more in ({}, {"PARALLEL": "0"}):
            here = {**environment, "DEV": name, **more}
            what = " ".join([name, *(f"{key}={value}" for key, value in more.items())])
            seconds = max(1.0, min(PROBE_SECONDS, deadline - time.monotonic()))
            with (work / f"probe {what}.log").open("w+") as log:
                status = run(["-c", PROBE], here, seconds, log)
                log.seek(0)
                output = log.read().strip()[-2000:]
            outputs.append(f"{what}: {'' if status is not None else f'no answer in {seconds:.0f} s; '}{output}")
            if status == 0:
                return name, here, outputs
    return "", environment, outputs


def do(step: Step, work: Path, environment: dict[str, str], deadline: float) -> dict[str, Any]:
    """Run the commands of a step, with their output in a log file; its entry of `gpu.json`."""
    start, ends = time.monotonic(), []
    with (work / f"{step.name}.log").open("w") as log:
        for command in step.commands:
            room = min(step.seconds, deadline - time.monotonic())
            if room < 20:
                ends.append("no time left")
                continue
            arguments = [part.replace("{out}", str(work)) for part in command]
            status = run(arguments, {**environment, **step.environment}, room, log)
            ends.append(f"stopped after {room:.0f} s" if status is None else str(status))
    return {"step": step.name, "ends": ends, "seconds": round(time.monotonic() - start, 1)}


def pack(work: Path, out: Path, done: dict[str, Any]) -> None:
    """Write all results so far as `gpu.json` and an archive."""
    (out / "gpu.json").write_text(json.dumps(done, indent=1) + "\n")
    with tarfile.open(out / "gpu.tar.gz.part", "w:gz") as archive:
        archive.add(work, arcname="gpu")
    os.replace(out / "gpu.tar.gz.part", out / "gpu.tar.gz")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--wheels", type=Path, help="folder of wheels: tinygrad and other packages that are missing")
    parser.add_argument("--site", type=Path, help="folder for unpacked wheels and compiled kernels")
    parser.add_argument("--steps", default=",".join(step.name for step in steps()), help="names, separated by commas")
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit of all steps together")
    parser.add_argument("--devices", default="CUDA,CUDA:PTX,NV", help="devices to try; the first that works is used")
    given = parser.parse_args()
    wanted, unknown = chosen(given.steps.split(","))
    if unknown:
        known = ", ".join(step.name for step in steps())
        print(f"unknown step {', '.join(map(repr, unknown))}; known: {known}", file=sys.stderr)
        return 2
    deadline = time.monotonic() + 60 * given.minutes - 10
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops the step that is running, too
    given.out.mkdir(parents=True, exist_ok=True)
    site = given.site or Path(tempfile.gettempdir()) / "mist-bench-site"
    work = Path(tempfile.mkdtemp(prefix="mist-bench-gpu-"))
    done: dict[str, Any] = {"python": sys.version, "device": "", "probes": [], "steps": []}
    try:
        packages, done["wheels_left_out"] = install(given.wheels, site)
        environment = surroundings(packages, site)
        done["compilers"] = {name: environment.get(name) for name in ("NVRTC_PATH", "NVJITLINK_PATH", "CUDA_PATH")}
        done["device"], environment, done["probes"] = working_device(given.devices, environment, work, deadline)
    except Exception as error:  # recorded, since the output of this call may be all that reaches the user
        done["failed"] = f"{type(error).__name__}: {error}"
    pack(work, given.out, done)
    print("\n".join([*done["probes"], done.get("failed", "")]).strip(), flush=True)
    if not done["device"]:
        return 1
    for step in wanted:
        ended = do(step, work, environment, deadline)
        done["steps"].append(ended)
        print(json.dumps(ended), flush=True)
        pack(work, given.out, done)
    return 0


if __name__ == "__main__":
    sys.exit(main())
