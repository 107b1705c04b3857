"""Cells in other processes: descriptions in the store, launchers that make them, and what a launcher leaves undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mist_bench_plugins.launcher_local import LocalLauncher

from harness import GRID
from harness.experiments import REGISTRY, cells
from mist_bench import Launcher, UserError, cli
from mist_bench.host.registry import Registry
from mist_bench.run import jobs, launch
from mist_bench.run.jobs import read_job, write_job
from mist_bench.run.make import Outcome
from mist_bench.run.store import Store

SMALL = ["--family", "mdlm", "--schedule", "linear", "--sampler", "random", "--steps", "2",
         "--set", "generation.judge=none", "--set", "likelihood.weighted_draws=0"]  # fmt: skip

ONE_BY_ONE = """
import subprocess
from pathlib import Path
from mist_bench import Launcher, hookimpl

class OneByOne(Launcher):
    '''Each command after the other; notes what it was given.'''
    name = "one-by-one"

    def launch(self, commands):
        Path({note!r}).write_text(repr([list(command) for command in commands]))
        return [subprocess.run(command).returncode for command in commands]

class Exclusive(OneByOne):
    '''Each command has a machine to itself.'''
    name = "exclusive"
    exclusive = True

class Idle(OneByOne):
    '''Runs nothing.'''
    name = "idle"

    def launch(self, commands):
        return [9 for _ in commands]

class Broken(OneByOne):
    '''Raises.'''
    name = "broken"

    def launch(self, commands):
        raise OSError("queue unreachable")

class Leaving(OneByOne):
    '''Would end the program.'''
    name = "leaving"

    def launch(self, commands):
        raise SystemExit(0)

class Silent(OneByOne):
    '''Gives no statuses.'''
    name = "silent"

    def launch(self, commands):
        return None

@hookimpl
def mist_bench_launchers():
    yield from (OneByOne, Exclusive, Idle, Broken, Leaving, Silent)
"""


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "launchers.py"
    file.write_text(ONE_BY_ONE.format(note=str(tmp_path / "note")))
    return file


def run(folder: Path, plugin: Path, launcher: str) -> int:
    return cli.main(["run", "--preset", GRID, *SMALL, "--store", str(folder / "store"), "--out", str(folder / "out"),
                     "--plugin", str(plugin), "--launcher", launcher])  # fmt: skip


def kinds_of(note: Path) -> dict[str, list[str]]:
    """The kinds of the cells of each command."""
    known = {cell.hash: cell.kind for cell in cells(settings=["generation.judge=none", "likelihood.weighted_draws=0"],
             families="mdlm", schedules="linear", samplers="random", steps="2")}  # fmt: skip
    commands = eval(note.read_text())
    return {command[4]: [known[hash] for hash in command[5 : command.index("--store")]] for command in commands}


@pytest.mark.slow
def test_a_launcher_of_anybody_makes_the_trainings_and_their_likelihoods(plugin, tmp_path, capsys):
    assert run(tmp_path, plugin, "one-by-one") == 0
    said = capsys.readouterr().err
    assert "training mdlm linear" in said and "left" not in said
    assert kinds_of(tmp_path / "note") == {"cell": ["training", "likelihood", "likelihood", "sampler-likelihood"]}
    assert not list((tmp_path / "store" / "jobs").iterdir()), "nothing is left of what passed between processes"
    assert run(tmp_path, plugin, "exclusive") == 0, "nothing is left to launch"
    (tmp_path / "note").unlink()
    for path in (tmp_path / "store" / "cells").iterdir():
        path.unlink()
    assert run(tmp_path, plugin, "exclusive") == 0
    assert "generation" in kinds_of(tmp_path / "note")["cell"], "with a machine to itself, speeds too"


@pytest.mark.parametrize(
    ("launcher", "ending"),
    [("idle", "exit statuses 9"), ("broken", "it raised OSError: queue unreachable"), ("leaving", "it raised SystemExit: 0"),
     ("silent", "it raised TypeError: 'NoneType' object is not iterable")],
)  # fmt: skip
def test_what_a_launcher_leaves_is_made_here_and_said(launcher, ending, plugin, tmp_path, capsys, monkeypatch):
    if launcher != "idle":  # one whole run is enough
        monkeypatch.setattr("mist_bench.run.execute.make", lambda *given, **more: Outcome(failure="no time"))
    assert run(tmp_path, plugin, launcher) == (0 if launcher == "idle" else 1)
    said = " ".join(capsys.readouterr().err.split())
    assert f"launcher '{launcher}' left 4 of 4 cells ({ending}); they are made here" in said
    assert "training mdlm linear" in said
    assert not list((tmp_path / "store" / "jobs").iterdir()), "a description that stays may be of older code tomorrow"


def test_an_unknown_launcher_is_one_line_before_anything_is_made(plugin, tmp_path, capsys):
    assert run(tmp_path, plugin, "locl") == 2
    assert "unknown launcher 'locl'; did you mean 'local'?" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


# ---- descriptions in the store


def test_a_cell_is_described_whole(tmp_path):
    store = Store(tmp_path)
    for cell in cells(families="mdlm,autoregressive,oracle"):
        write_job(cell, store)
        read = read_job(cell.hash, store)
        assert read.hash == cell.hash and read.content == cell.content and read.entry == cell.entry


def test_what_is_not_described_is_one_line(tmp_path, capsys):
    assert cli.main(["cell", "0123456789abcdef", "--store", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no cell '0123456789abcdef' is planned" in said and "--launcher NAME" in said


def test_a_description_of_another_version_is_refused(tmp_path):
    store, cell = Store(tmp_path), cells()[0]
    write_job(cell, store)
    job = json.loads(store.job_path(cell.hash).read_text())
    store.job_path("0123456789abcdef").write_text(json.dumps(job))
    with pytest.raises(UserError, match="planned by another version or plugin"):
        read_job("0123456789abcdef", store)


FOREIGN = """
from mist_bench import hookimpl
from mist_bench_plugins.schedule_linear import LinearSchedule

class Mine(LinearSchedule):
    name = "mine"

@hookimpl
def mist_bench_schedules():
    yield Mine
"""


def test_a_plugin_that_was_edited_since_makes_nothing_under_the_old_name(tmp_path):
    store, file = Store(tmp_path / "store"), tmp_path / "mine.py"
    file.write_text(FOREIGN)
    found = cells(registry=Registry.discover([file]), families="mdlm", schedules="mine")
    training = next(cell for cell in found if cell.kind == "training")
    write_job(training, store)
    assert read_job(training.hash, store).hash == training.hash
    file.write_text(FOREIGN + "# edited\n")
    with pytest.raises(UserError, match="planned by another version or plugin"):
        read_job(training.hash, store)


def test_a_description_is_data_alone(tmp_path):
    """What is in a store is never executed."""
    store, cell = Store(tmp_path), cells()[1]
    write_job(cell, store)
    job = json.loads(store.job_path(cell.hash).read_text())
    assert set(job) == {"plugins", "device", "precision", "beam", "configuration"}
    assert "pickle" not in Path(jobs.__file__).read_text()


def test_a_cell_of_another_format_is_not_made_under_the_old_name(tmp_path, monkeypatch):
    store, training = Store(tmp_path), cells()[1]
    write_job(training, store)
    monkeypatch.setattr("mist_bench.run.cells.FORMAT", 99)
    with pytest.raises(UserError, match="planned by another version or plugin"):
        read_job(training.hash, store)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"plugins": [], "beam": 0, "configuration": {"steps": "x"}}'])
def test_a_damaged_description_is_one_line(damage, tmp_path):
    store = Store(tmp_path)
    store.job_path("0123456789abcdef").parent.mkdir()
    store.job_path("0123456789abcdef").write_text(damage)
    with pytest.raises(UserError, match="planned by another version or plugin"):
        read_job("0123456789abcdef", store)
    for name in ("../cells/0123456789abcdef", "0123", ""):
        with pytest.raises(UserError, match="is planned in the store"):
            read_job(name, store)


LOCAL_CLASS = """
from mist_bench import hookimpl
from mist_bench_plugins.schedule_linear import LinearSchedule

def made():
    class Hidden(LinearSchedule):
        name = "hidden"
    return Hidden

@hookimpl
def mist_bench_schedules():
    yield made()
"""


def test_a_class_that_is_made_within_a_function_is_launched_too(plugin, tmp_path, capsys):
    file = tmp_path / "hidden.py"
    file.write_text(LOCAL_CLASS)
    given = [*SMALL, "--schedule", "hidden", "--plugin", str(file), "--plugin", str(plugin), "--launcher", "one-by-one"]
    folders = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    assert cli.main(["run", "--preset", GRID, *given, *folders]) == 0
    assert "they are made here" not in " ".join(capsys.readouterr().err.split())


def test_a_failed_cell_ends_neither_the_command_nor_what_needs_it(tmp_path, capsys):
    store = Store(tmp_path)
    found = cells(families="mdlm", schedules="linear,cosine")
    first, *_ = (cell for cell in found if cell.kind == "training")
    needing = next(cell for cell in found if first.hash in cell.needs)
    control = next(cell for cell in found if cell.kind == "control-likelihood")
    store.write_failure(first.hash, "it broke")
    for cell in (needing, control):
        write_job(cell, store)
    assert cli.main(["cell", needing.hash, control.hash, "--store", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"{needing.hash}  left out" in said and store.status(control.hash) == "done"


def test_a_cell_whose_needs_are_missing_says_which(tmp_path, capsys):
    store = Store(tmp_path)
    likelihood = next(cell for cell in cells() if cell.kind == "likelihood" and cell.needs)
    write_job(likelihood, store)
    assert cli.main(["cell", likelihood.hash, "--store", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"needs cell {likelihood.needs[0]}, which is not finished" in said


def test_cells_are_made_by_hand(tmp_path, capsys):
    store, control = Store(tmp_path), next(cell for cell in cells() if cell.kind == "control-likelihood")
    write_job(control, store)
    assert cli.main(["cell", control.hash, "--store", str(tmp_path)]) == 0
    assert f"{control.hash}  likelihood of unigram" in capsys.readouterr().out
    store.job_path(control.hash).unlink()
    assert cli.main(["cell", control.hash, "--store", str(tmp_path)]) == 2
    assert f"cell {control.hash} is finished already" in capsys.readouterr().err
    assert store.status(control.hash) == "done" and not list(store.path.glob("jobs/*-progress*"))


# ---- groups and progress


def test_what_may_be_launched():
    todo = cells(families="mdlm,autoregressive,oracle")
    chosen = launch.launchable(todo, exclusive=False)
    assert {cell.kind for cell in chosen} == {"training", "likelihood", "sampler-likelihood"}
    assert {cell.group for cell in chosen} == {"mdlm", "autoregressive"}, "an untrained family trains nothing"
    everything = launch.launchable(todo, exclusive=True)
    assert {cell.kind for cell in everything} == {"training", "likelihood", "sampler-likelihood", "generation"}
    made = {cell.hash for cell in chosen}
    assert all(set(cell.needs) <= made for cell in chosen)
    groups = launch.commands(chosen, Store("store"))
    assert len(groups) == 2 and all(command[1:5] == ["-P", "-m", "mist_bench", "cell"] for command in groups)


class Recorder(Launcher):
    """Writes a cell's progress and its end, as a process would."""

    name = "recorder"

    def __init__(self, store: Store) -> None:
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "stopped", threading.Event())

    def launch(self, commands):
        first, second, *_ = commands[0][5:-2]
        self.store.progress_path(first).write_text('{"done": 3, "total": 9, "note": "loss 1"}')
        time.sleep(3 * launch.POLL_SECONDS)
        self.store.write(first, {"final_loss": 1.0})
        self.store.write_failure(second, "it broke")
        return [0]

    def stop(self):
        self.stopped.set()


def test_progress_and_ends_come_through_the_store(tmp_path):
    store, events = Store(tmp_path), []
    found = [cell for cell in launch.launchable(cells(), exclusive=False) if cell.group == "mdlm"]
    launch.run(Recorder(store), found, store, lambda event, cell: events.append((cell.hash, event)))
    first = [event for hash, event in events if hash == found[0].hash]
    assert (first[0].done, first[0].total, first[0].note) == (3, 9, "loss 1") and first[-1].status == "done"
    assert [(event.status, event.note) for hash, event in events if hash == found[1].hash] == [("failed", "it broke")]


def test_an_interrupt_stops_the_launcher(tmp_path):
    store = Store(tmp_path)
    recorder = Recorder(store)
    found = [cell for cell in launch.launchable(cells(), exclusive=False) if cell.group == "mdlm"]

    def interrupted(event, cell):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.run(recorder, found, store, interrupted)
    assert recorder.stopped.is_set()


# ---- the launcher of one machine


@dataclass
class Commands:
    """Commands that note when they ran and how many ran beside them."""

    folder: Path

    def __call__(self, number: int, seconds: float) -> list[str]:
        program = (
            "import os, sys, time; time.sleep(float(sys.argv[2]))\n"
            "open(sys.argv[1], 'w').write(open(os.environ['MIST_BENCH_BESIDE']).read() + ' ' + os.environ['MIST_BENCH_PARENT'])"
        )
        return [sys.executable, "-c", program, str(self.folder / str(number)), str(seconds)]


def test_local_runs_as_many_as_it_is_told_and_says_how_many_there_are(tmp_path):
    command = Commands(tmp_path)
    assert LocalLauncher(processes=2).launch([command(0, 0.4), command(1, 0.8), command(2, 0.8)]) == [0, 0, 0]
    assert [(tmp_path / str(i)).read_text().split() for i in range(3)] == [
        ["2", str(os.getpid())], ["2", str(os.getpid())], ["1", str(os.getpid())]]  # fmt: skip


def test_local_is_stopped(tmp_path):
    launcher, command = LocalLauncher(processes=1), Commands(tmp_path)
    threading.Timer(0.5, launcher.stop).start()
    start = time.monotonic()
    statuses = launcher.launch([command(0, 60.0), command(1, 60.0)])
    assert all(statuses) and time.monotonic() - start < 30 and not list(tmp_path.iterdir())


def test_local_takes_the_number_of_processes_from_its_parameter_or_the_environment(monkeypatch):
    monkeypatch.setenv("MIST_BENCH_JOBS", "3")
    assert LocalLauncher().at_once() == 3 and LocalLauncher(processes=5).at_once() == 5
    monkeypatch.delenv("MIST_BENCH_JOBS")
    assert LocalLauncher().at_once() >= 1
    with pytest.raises(UserError, match="processes must be at least 0"):
        REGISTRY.make("launcher", "local[processes=-1]")
    for wrong in ("abc", "-1", "1.5"):
        monkeypatch.setenv("MIST_BENCH_JOBS", wrong)
        with pytest.raises(UserError, match=f"MIST_BENCH_JOBS is the number of processes at once, at least 1; given '{wrong}'"):
            LocalLauncher().at_once()


def test_a_process_ends_with_the_one_that_waits_for_it():
    """At once, whatever it is doing: one that compiles for a minute reports nothing."""
    program = "import sys, time; from mist_bench.run.jobs import end_with_parent\nend_with_parent(); time.sleep(float(sys.argv[1]))"
    for parent, seconds, status in (("1", "60", 1), (str(os.getpid()), "1", 0)):
        start = time.monotonic()
        done = subprocess.run([sys.executable, "-c", program, seconds], env={**os.environ, "MIST_BENCH_PARENT": parent})
        assert done.returncode == status and time.monotonic() - start < 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_told_to_end_takes_its_processes_along(number, tmp_path):
    """One line and a status for SIGTERM as for Ctrl-C; no process stays, also where nothing can be said."""
    environment = {**os.environ, "MIST_BENCH_JOBS": "2"}
    given = ["--preset", GRID, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out"),
             "--set", "training.train_steps=100000", "--set", "training.checkpoint_every=20"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "mist_bench", "run", *given], env=environment, text=True,
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)  # fmt: skip
    deadline, children = time.monotonic() + 240, []
    while not list((tmp_path / "store").glob("checkpoints/*-partial.safetensors")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(number)
    said = process.communicate()[1]
    assert "Traceback" not in said
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        word = "told to end" if number == signal.SIGTERM else "interrupted"
        assert process.returncode == 128 + number
        assert f"mist-bench: {word}; finished cells are kept, and the same command goes on from there" in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
