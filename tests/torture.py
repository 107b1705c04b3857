"""Faults by the thousand: random kills, damaged files, command lines, plugins and names, by a seed.

    .venv/bin/python -m tests.torture --minutes 60 --seed 1

Each trial belongs to a class and survives if the command ends by itself with one of its own statuses and no traceback, and if what
it shows are the numbers of the undisturbed run. Prints the trials of each class (of `damage`, the files), and what did not
survive with all that is needed to try it again. Status 1 if anything did not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
os.environ.setdefault("DEV", "CPU")

from harness import GRID  # noqa: E402
from mist_bench import cli  # noqa: E402
from mist_bench.report import files  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUSES = (0, 1, 2, 130, 143)
SETTINGS = ("generation.judge=none", "generation.oracle_samples=32", "likelihood.sequences=16", "training.train_steps=12",
            "training.validate_every=4", "training.checkpoint_every=4", "generation.samples=32",
            "likelihood.weighted_draws=0", "likelihood.chain_rule_sequences=0")  # fmt: skip
WORDS = ["run", "--preset", GRID, "--family", "autoregressive,oracle", "--schedule", "linear", "--sampler", "random,confidence",
         "--steps", "2", *(word for setting in SETTINGS for word in ("--set", setting))]  # fmt: skip
TIMED = ("seconds", "tokens_per", "speed", "timed_rounds")
PATIENCE = 300.0
KILLED_IN_A_WRITE = """
import os, signal, sys
left = int(sys.argv.pop(1))
def counted(own, before):
    def call(*given, **more):
        global left
        left -= 1
        if left == 0 and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = own(*given, **more)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call
for name in ("fsync", "replace", "rename"):
    setattr(os, name, counted(getattr(os, name), left % 2))
from mist_bench.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
"""A run that kills itself at a write to the disk or a renaming, before it or after it."""


class Failed(AssertionError):
    """A trial that did not survive."""


def need(holds: Any, what: str) -> None:
    if not holds:
        raise Failed(what)


def numbers(out: Path) -> list[Any]:
    """The rows of a run but for the clock's."""
    rows = [row for name in ("training", "likelihood", "generation") for row in files.read_csv(out / f"{name}.csv")]
    return [{key: value for key, value in row.items() if not any(part in key for part in TIMED)} for row in rows]


def here(*words: str) -> tuple[int, str]:
    """Status and output of a command in this process."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = cli.main(list(words))
    return status, said.getvalue()


def whole(words: list[str]) -> tuple[int, str]:
    status, said = here(*words)
    need(status in STATUSES, f"status {status}")
    need("Traceback" not in said, f"a traceback: {said[-2000:]}")
    return status, said


class Trials:
    """The classes of trials, with a finished run to compare with."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng, self.folder, self.number = rng, folder, 0
        self.store, self.out = folder / "store", folder / "out"
        status, said = here(*self.run_in(self.store, self.out))
        need(status == 0, said)
        self.truth = numbers(self.out)
        self.killed = self.fresh()

    def run_in(self, store: Path, out: Path, *more: str) -> list[str]:
        return [*WORDS, "--store", str(store), "--out", str(out), *more]

    def fresh(self) -> Path:
        self.number += 1
        return self.folder / f"trial-{self.number}"

    def kills(self) -> None:
        """One store through one kill after another, at a random moment, until a run ends by itself."""
        store, out = self.killed / "store", self.killed / "out"
        wait, number = self.rng.uniform(0.2, self.rng.choice([2, 4, 8])), self.rng.choice(SIGNALS)
        jobs, start = str(self.rng.choice([1, 2])), [sys.executable, "-m", "mist_bench"]
        if self.rng.random() < 0.3:
            wait, number, jobs = PATIENCE, signal.SIGKILL, "1"
            start = [sys.executable, "-c", KILLED_IN_A_WRITE, str(self.rng.randint(1, 40))]
        process = subprocess.Popen([*start, *self.run_in(store, out)], env={**os.environ, "MIST_BENCH_JOBS": jobs},
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
        try:
            said, _ = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            try:
                said, _ = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise Failed(f"{number!r} after {wait:.2f} s did not end it") from None
        need("Traceback" not in said, f"{number!r} after {wait:.2f} s: {said[-2000:]}")
        if process.returncode == 0:
            need(numbers(out) == self.truth, "other numbers after kills")
            need(not list(store.rglob(".*.tmp")), "files of killed processes are left")
            self.killed = self.fresh()
        else:
            need(process.returncode in (-number, 130, 143), f"status {process.returncode} after {wait:.2f} s: {said[-2000:]}")

    def damage(self) -> int:
        """Some files of a finished store are damaged; a plain run gives the undisturbed numbers again."""
        trial = self.fresh()
        shutil.copytree(self.store, trial / "store")
        paths = sorted(path for path in (trial / "store").rglob("*.*") if path.is_file())
        damaged = self.rng.sample(paths, self.rng.randint(1, 5))
        for path in damaged:
            self.rng.choice([flip, cut, garbage, empty, gone, nested, as_folder, as_loop, as_other])(path, self.rng, paths)
        status, said = whole(self.run_in(trial / "store", trial / "out"))
        need(status == 0, said[-2000:])
        need(numbers(trial / "out") == self.truth, "other numbers")
        shutil.rmtree(trial)
        return len(damaged)

    def words(self) -> None:
        """A command line of random words ends in one line, or does nothing wrong."""
        given = self.run_in(self.store, self.fresh(), "--dry-run")
        for _ in range(self.rng.randint(1, 4)):
            place = self.rng.randrange(1, len(given))
            change = self.rng.choice(["drop", "replace", "insert", "double"])
            word = self.rng.choice(ODD_WORDS)
            given[place : place + (change != "insert")] = {"drop": [], "double": [given[place]] * 2}.get(change, [word])
        status, said = whole(given)
        if status == 2:
            need(said.count("\n") <= 3 and "error: " in said, f"{given}: {said}")

    def plugins(self) -> None:
        """A plugin that misbehaves costs its own rows; the others are those of the undisturbed run."""
        kind, fault = self.rng.choice(sorted(PLUGINS)), self.rng.choice(FAULTS)
        trial = self.fresh()
        shutil.copytree(self.store, trial / "store")
        file = trial / "odd.py"
        file.write_text(PLUGINS[kind].replace("FAULT", fault))
        more = {"sampler": ["--sampler", "random,confidence,odd"], "schedule": ["--schedule", "linear,odd"],
                "metric": ["--set", "generation.metrics=odd"]}[kind]  # fmt: skip
        status, said = whole(self.run_in(trial / "store", trial / "out", "--plugin", str(file), *more))
        need(status in (0, 1) or said.count("\n") <= 2, said[-2000:])
        if (trial / "out" / "generation.csv").exists():
            kept = [row for row in numbers(trial / "out") if "odd" not in json.dumps(row)]
            bare = [{k: v for k, v in row.items() if v is not None} for row in kept]
            need(all({k: v for k, v in row.items() if v is not None} in bare for row in self.truth), "rows of others changed")
        shutil.rmtree(trial)

    def names(self) -> None:
        """Texts and names of files as nobody would choose them."""
        trial = self.fresh()
        trial.mkdir()
        name = "".join(self.rng.choices("ab$^{}[],=:%\\ \u202e\u65e5\u0301'\"&<>#~", k=self.rng.randint(1, 12))).strip(" .") or "a"
        file = trial / (name.replace("/", "") + ".txt")
        letters = "ab \n\t\u65e5\u202e\U0001f469\u0301<$"
        file.write_text("".join(self.rng.choices(letters, k=self.rng.randint(0, 4000))) * self.rng.choice([1, 1, 10]))
        whole(["run", "--preset", GRID, "--corpus", f"file:{file}", "--tokenizer", "byte", "--family", "mdlm", "--dry-run",
               "--store", str(trial / "store"), "--out", str(trial / "out"), "--set", "length=16"])  # fmt: skip
        shutil.rmtree(trial)

    def together(self) -> None:
        """Two runs at once on one store agree with one alone."""
        trial = self.fresh()
        commands = [[sys.executable, "-m", "mist_bench", *self.run_in(trial / "store", trial / f"out-{i}")] for i in (1, 2)]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands]
        for i, process in enumerate(runs, 1):
            said, _ = process.communicate(timeout=PATIENCE)
            need(process.returncode == 0, said[-2000:])
            need(numbers(trial / f"out-{i}") == self.truth, "other numbers")
        shutil.rmtree(trial)


def flip(path: Path, rng: random.Random, paths: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random, paths: list[Path]) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def garbage(path: Path, rng: random.Random, paths: list[Path]) -> None:
    path.write_bytes(rng.randbytes(rng.randint(1, 5000)))


def empty(path: Path, rng: random.Random, paths: list[Path]) -> None:
    path.write_bytes(b"")


def gone(path: Path, rng: random.Random, paths: list[Path]) -> None:
    path.unlink()


def nested(path: Path, rng: random.Random, paths: list[Path]) -> None:
    path.write_text('{"a":' * 100_000)


def as_folder(path: Path, rng: random.Random, paths: list[Path]) -> None:
    path.unlink()
    path.mkdir()


def as_loop(path: Path, rng: random.Random, paths: list[Path]) -> None:
    path.unlink()
    path.symlink_to(path.name)


def as_other(path: Path, rng: random.Random, paths: list[Path]) -> None:
    other = rng.choice([each for each in paths if each.is_file()] or [path])
    path.write_bytes(other.read_bytes())


ODD_WORDS = ["", " ", "--", "-x", "--steps", "--set", "0", "-1", "1e30", "nan", "inf", "a,b", ",,", "random", "odd[", "odd]", "x=y",
             "random[a=1]", "file:", "file:/none", "--store", "--out", "--corpus", "\u65e5", "~nobody/x", "training.x=1",
             "length=1", "/dev/null", "/proc/x", "--plugin", "--preset", "tales", "--family", "mdlm", "--json", "x" * 300,
             "--beam", "--launcher", "local[processes=-1]", "--rerun", "all", "'", "$HOME", "%s", "[", "{}"]  # fmt: skip
FAULTS = ["raise ValueError('x')", "raise KeyError", "import sys; sys.exit(7)", "raise StopIteration", "raise OSError(28, 'full')",
          "raise RecursionError", "raise type('Odd', (Exception,), {})('y')", "raise MemoryError", "return None", "return 'text'",
          "return float('nan')", "return [1, 2]", "return {}", "return {1: 2}", "return object()", "1 / 0", "assert False",
          "return (yield)", "raise UnicodeDecodeError('a', b'b', 0, 1, 'c')", "while False: pass"]  # fmt: skip
HEAD = "from mist_bench import Metric, Schedule, ScoreSampler, hookimpl\n\n"
PLUGINS = {
    "sampler": HEAD + "class Odd(ScoreSampler):\n    name = 'odd'\n    def scores(self, view):\n        FAULT\n\n"
    "@hookimpl\ndef mist_bench_samplers():\n    yield Odd\n",
    "schedule": HEAD + "class Odd(Schedule):\n    name = 'odd'\n    def alpha(self, t):\n        FAULT\n    def dalpha(self, t):\n"
    "        return t * 0 - 1\n\n@hookimpl\ndef mist_bench_schedules():\n    yield Odd\n",
    "metric": HEAD + "class Odd(Metric):\n    name = 'odd'\n    def measure(self, texts, references):\n        FAULT\n\n"
    "@hookimpl\ndef mist_bench_metrics():\n    yield Odd\n",
}  # fmt: skip
SHARES = {"kills": 0.35, "damage": 0.2, "words": 0.15, "plugins": 0.15, "names": 0.1, "together": 0.05}
"""Of the time, for each class."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*SHARES], action="append")
    given = parser.parse_args()
    tried, lost = dict.fromkeys(SHARES, 0), dict[str, list[str]]()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        os.chdir(name)  # a random word may name a folder
        trials = Trials(random.Random(given.seed), Path(name))
        for kind in given.only or SHARES:
            share = 1 / len(given.only) if given.only else SHARES[kind]
            end, trial = time.monotonic() + share * 60 * given.minutes, getattr(trials, kind)
            while time.monotonic() < end:
                count, problem = _survived(trial)
                tried[kind] += count
                if problem:
                    lost.setdefault(kind, []).append(problem)
                    print(f"{kind} {tried[kind]} (seed {given.seed}): {problem}", flush=True)
            print(f"{kind}: {tried[kind]} tried, {len(lost.get(kind, ()))} did not survive", flush=True)
    return 1 if lost else 0


def _survived(trial: Callable[[], int | None]) -> tuple[int, str]:
    """How many were tried, and what went wrong; empty if nothing did."""
    try:
        return trial() or 1, ""
    except Failed as error:
        return 1, str(error)
    except Exception:
        return 1, traceback.format_exc()


if __name__ == "__main__":
    sys.exit(main())
