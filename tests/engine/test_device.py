"""The device: a compiler where there is no clang, and what depends on the device."""

import contextlib
import importlib.util
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from mist_bench import UserError
from mist_bench.engine import compiler, device, machine, surroundings, tinygrad_private

needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A machine with no clang and no CC; the user's cache is the test's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    return tmp_path / "cache" / "mist-bench"


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_cache_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert machine.cache_folder() == tmp_path / "mist-bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert machine.cache_folder() == tmp_path / "home" / ".cache" / "mist-bench"


@pytest.mark.parametrize("given", ["clang", "/opt/bin/clang-19", "/somewhere/zig-cc-1234"])
def test_a_compiler_that_works_is_left_alone(bare, monkeypatch, given):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setenv("CC", given)
    compiler.prepare()
    assert os.environ["CC"] == given and not bare.exists()


def test_a_clang_on_the_path_is_left_alone(bare, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "clang" else None)
    compiler.prepare()
    assert "CC" not in os.environ and not bare.exists()


@needs_zig
@pytest.mark.parametrize("given", [None, "gcc"])
def test_without_clang_the_wheel_stands_for_it(bare, monkeypatch, given):
    """gcc has no bare target, so that a CC of the user's for other work does not help."""
    if given:
        monkeypatch.setenv("CC", given)
    compiler.prepare()
    launcher = Path(os.environ["CC"])
    assert launcher.parent == bare and os.access(launcher, os.X_OK)
    arguments = ["-c", "-x", "c", "-O2", "-fPIC", "-ffreestanding", "-nostdlib", "--target=x86_64-none-unknown-elf"]
    made = subprocess.run([launcher, *arguments, "-", "-o", "-"], input=b"int two(int x) { return x + x; }",
                          capture_output=True)  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(b"\x7fELF")


def test_the_launcher_passes_each_argument_on_as_it_is(bare, tmp_path):
    zig = program(tmp_path / "with space" / "zig", '#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\n')
    given = ["-c", "two words", "--target=arm64-none-unknown-elf", "-DX='$HOME'", "", "*"]
    said = subprocess.run([compiler._launcher(str(zig), "clang"), *given], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"<{a}>" for a in ["clang", *given]]


def test_the_launcher_is_kept_and_mended(bare, tmp_path):
    zig = program(tmp_path / "zig", "#!/bin/sh\n")
    launcher = compiler._launcher(str(zig), "clang")
    text, made = launcher.read_text(), launcher.stat().st_ino
    assert compiler._launcher(str(zig), "clang") == launcher and launcher.stat().st_ino == made, "not written again"
    launcher.write_text("half of it")
    assert compiler._launcher(str(zig), "clang").read_text() == text and os.access(launcher, os.X_OK)
    assert compiler._launcher("other/zig", "clang") != launcher
    assert list(bare.glob("tmp*")) == []


def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        compiler._launcher("zig", "clang")


class Devices:
    """Stands for tinygrad's devices."""

    _devices = ("CPU", "CUDA", "CL", "DISK")

    def __init__(self, found):
        self.found = found

    @property
    def DEFAULT(self):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def __getitem__(self, name):
        raise FileNotFoundError("no clang")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (RuntimeError("no usable devices"), r"no device \(CPU: FileNotFoundError: no clang\).*pip install 'mist-bench\[cpu\]'"),
        (AssertionError("CPU=1 is deprecated, use DEV=CPU instead"), "tinygrad: CPU=1 is deprecated, use DEV=CPU instead"),
        ("QUANTUM", "DEV=QUANTUM names no device of tinygrad's; known: CL, CPU, CUDA"),
    ],
)
def test_no_device_says_why_and_what_to_do(monkeypatch, found, said):
    monkeypatch.setenv("DEV", "QUANTUM")
    monkeypatch.setattr(tinygrad_private, "Device", Devices(found))
    with pytest.raises(UserError, match=said):
        device.name()


@pytest.mark.parametrize(
    ("asked", "found", "processor", "name", "reason"),
    [
        ("", "CL", "pthread-EPYC", "CPU", "OpenCL offers no GPU, only pthread-EPYC; DEV=CL takes it"),
        ("", "CL", "", "CL", "the first that works; DEV=NAME takes another"),
        ("CL", "CL", "pthread-EPYC", "CL", "DEV says so"),
        ("", "CPU", "", "CPU", "no GPU was found; DEV=NAME takes another"),
    ],
)
def test_a_cpu_behind_opencl_is_a_cpu(monkeypatch, asked, found, processor, name, reason):
    taken = []
    monkeypatch.setenv("DEV", asked)
    monkeypatch.setattr(device, "_chosen", {})
    monkeypatch.setattr(tinygrad_private, "Device", Devices(found))
    monkeypatch.setattr(tinygrad_private, "opencl_processor", lambda: processor)
    monkeypatch.setattr(tinygrad_private, "use_device", taken.append)
    choice = device.choice()
    assert choice.name == name and choice.reason.startswith(reason) and taken == (["CPU"] if name != found else [])
    assert device.choice() == choice


def test_every_command_that_computes_chooses_so(monkeypatch):
    """`check` asks for no device by its name: on a machine with OpenCL it took ten times as long."""
    chosen = []
    monkeypatch.setattr(device, "choice", lambda: chosen.append(True))
    monkeypatch.setenv("DEV", "CPU")
    compiler.prepare()
    assert not chosen
    monkeypatch.setenv("DEV", "")
    compiler.prepare()
    assert chosen


def test_what_would_change_numbers_is_refused(monkeypatch):
    monkeypatch.setenv("DEFAULT_FLOAT", "float32")
    surroundings.refuse_what_changes_numbers()
    monkeypatch.setenv("DEFAULT_FLOAT", "HALF")
    with pytest.raises(UserError, match=r"DEFAULT_FLOAT=HALF in the environment would change all numbers.*unset DEFAULT_FLOAT"):
        compiler.prepare()


def test_a_damaged_cache_of_kernels_is_set_aside(tmp_path, capsys):
    file = tmp_path / "cache.db"
    surroundings.set_damaged_cache_aside(file)
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE kernels (val blob)")
        database.commit()
    surroundings.set_damaged_cache_aside(file)
    assert file.exists() and capsys.readouterr().err == ""
    file.write_bytes(b"not a database, but long enough to be one" * 200)
    surroundings.set_damaged_cache_aside(file)
    assert not file.exists() and (tmp_path / "cache.db.damaged").exists()
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cache_that_is_damaged_further_inside_costs_its_kernels_alone(tmp_path, capsys, monkeypatch):
    from tinygrad.helpers import CACHELEVEL

    monkeypatch.setattr(CACHELEVEL, "value", 1)
    (tmp_path / "cache.db").write_bytes(b"")

    def get(*_):
        raise sqlite3.DatabaseError("database disk image is malformed")

    assert surroundings.tolerant(get, tmp_path / "cache.db", lambda *_: "anew")("table", "key") == "anew"
    assert CACHELEVEL.value == 0 and "was damaged and is set aside" in capsys.readouterr().err


def test_a_compiler_of_several_words_gets_a_script(bare, monkeypatch, tmp_path):
    echo = program(tmp_path / "echo", '#!/bin/sh\nfor a in "$@"; do echo "<$a>"; done\n')
    monkeypatch.setattr(shutil, "which", lambda name: None if " " in name else str(echo))
    monkeypatch.setenv("CC", f"{echo} clang")
    compiler.prepare()
    said = subprocess.run([os.environ["CC"], "-c", "two words"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["<clang>", "<-c>", "<two words>"]


def test_a_compiler_that_is_not_there_is_named(bare, monkeypatch):
    monkeypatch.setenv("CC", "/opt/none/clang")
    with pytest.raises(UserError, match="CC=/opt/none/clang in the environment names no program; type: unset CC"):
        compiler.prepare()


@pytest.mark.parametrize(
    ("at_hand", "asked", "precision"),
    [("CPU", "auto", "float32"), ("CUDA", "auto", "bfloat16"), ("METAL", "auto", "bfloat16"),
     ("CUDA", "float32", "float32"), ("CPU", "bfloat16", "bfloat16")],
)  # fmt: skip
def test_the_precision_of_a_device(monkeypatch, at_hand, asked, precision):
    from tinygrad import dtypes

    monkeypatch.setattr(device, "name", lambda: at_hand)
    assert device.precision_name(asked) == precision
    assert device.compute_type(asked) == {"float32": dtypes.float32, "bfloat16": dtypes.bfloat16}[precision]


@pytest.mark.parametrize(
    ("at_hand", "card", "peak"),
    [("CUDA", "NVIDIA H200", 989e12), ("NV", "NVIDIA A100-SXM4-80GB", 312e12), ("CUDA", "NVIDIA Unheard-of", None),
     ("CPU", "NVIDIA H200", None)],
)  # fmt: skip
def test_only_a_published_peak_counts(monkeypatch, at_hand, card, peak):
    monkeypatch.setattr(device, "name", lambda: at_hand)
    monkeypatch.setattr(machine, "gpus", lambda: [{"name": card}])
    assert device.published_peak() == peak


def test_memory_used_counts_what_is_held():
    import numpy as np
    from tinygrad import Tensor

    before = device.memory_used()
    held = Tensor(np.zeros(100_000, dtype=np.float32)).contiguous().realize()
    device.synchronize()
    assert device.memory_used() - before >= 400_000
    del held
