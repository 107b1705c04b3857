"""Where a number comes from: enough to repeat it, and nothing about who and where the user is."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mist_bench.engine import machine
from mist_bench.run import provenance
from mist_bench.run.store import plain

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_what_is_collected():
    found = provenance.collect([{"name": "x", "version": "1"}])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found["date"])
    assert found["libraries"]["tinygrad"] and found["libraries"]["numpy"] and found["mist_bench"]
    assert found["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert found["cores"] >= 1 and found["memory_bytes"] > 2**20 and found["plugins"] == [{"name": "x", "version": "1"}]
    assert plain(found) == json.loads(json.dumps(found)), "it must go into run.json as it is"


def test_no_host_no_user_no_path(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "/home/secret/bin/cc.sh -I/home/secret/include --sysroot=/home/secret/root -O2")
    monkeypatch.setenv("DEV", "CPU")
    monkeypatch.setenv("MY_TOKEN", "hunter2")
    monkeypatch.setattr(socket, "gethostname", lambda: "secret-host")
    plugins = [{"name": "mine", "file": "/home/secret/mine.py"}, {"file": "~/secret/a.py", "all": ["../secret/b.py"]},
               {"file": Path("/home/secret/c.py"), "spec": "hf:owner/name", "windows": "C:\\secret\\d.py"}]  # fmt: skip
    found = provenance.collect(plugins)
    text = json.dumps(found)
    assert "secret" not in text and "hunter2" not in text and os.getcwd() not in text and str(tmp_path) not in text
    assert found["environment"]["CC"] == "cc.sh include --sysroot=root -O2" and found["environment"]["DEV"] == "CPU"
    assert found["plugins"][0]["file"] == "mine.py" and found["plugins"][1] == {"file": "a.py", "all": ["b.py"]}
    assert found["plugins"][2] == {"file": "c.py", "spec": "hf:owner/name", "windows": "d.py"}
    host, user = os.uname().nodename, getpass.getuser()
    assert (len(host) < 5 or host not in text) and (len(user) < 5 or user not in text)


@needs_git
def test_commit_and_dirty_flag(repository):
    package = repository / "package"
    clean = provenance.git_state(package)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True).stdout.strip()
    assert clean == {"commit": head, "dirty": False}
    (repository / "notes.txt").write_text("not the package's")
    assert provenance.git_state(package)["dirty"] is False
    (package / "new.py").write_text("x = 1")
    assert provenance.git_state(package)["dirty"] is True
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("x = 1")
    assert provenance.git_state(package) == {"commit": head, "dirty": True}


@needs_git
def test_a_hook_of_another_repository_does_not_mislead(repository, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    before = provenance.git_state(repository / "package")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert provenance.git_state(repository / "package") == before


@needs_git
def test_a_package_installed_below_another_repository_has_no_commit(repository):
    site = repository / ".venv" / "site-packages" / "mist_bench"
    site.mkdir(parents=True)
    (site / "__init__.py").write_text("")
    assert provenance.git_state(site) is None


def test_no_git_is_no_failure(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = provenance.collect(None)
    assert found["git"] is None and found["gpus"] == [] and "no commit known" in provenance.one_line(found)


def test_gpus_are_asked_of_nvidia_smi(monkeypatch, tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.1, 143771 MiB'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.gpus() == [{"name": "NVIDIA H200", "driver": "570.1", "memory": "143771 MiB"}]
    assert "NVIDIA H200" in provenance.one_line(provenance.collect(None))
    fake.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpus() == []


def test_tinygrad_is_not_imported_for_it():
    code = "import sys; from mist_bench.run.provenance import collect"
    code += "; print(collect(None)['device'], 'tinygrad' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "None False"


def test_the_device_is_named_once_tinygrad_is_there(monkeypatch):
    class Tinygrad:
        class Device:
            DEFAULT = "CUDA"

    monkeypatch.setitem(sys.modules, "tinygrad", Tinygrad)
    assert provenance.collect(None)["device"] == "CUDA"

    class Broken:
        class Device:
            def __getattr__(self, name):
                raise RuntimeError("no usable devices")

    Broken.Device = Broken.Device()
    monkeypatch.setitem(sys.modules, "tinygrad", Broken)
    assert provenance.collect(None)["device"] is None


def test_one_line_is_one_line():
    line = provenance.one_line(provenance.collect(None))
    assert (
        "\n" not in line and line.startswith("mist-bench ") and provenance.one_line({}).startswith("mist-bench unknown")
    )


def test_a_stamp_says_what_a_speed_belongs_to(monkeypatch):
    now = provenance.stamp()
    assert now == provenance.stamp() and now["cores"] >= 1 and now["beam"] == 0 and not provenance.differences(now, now)
    assert provenance.differences(None, now) == "an unknown commit and machine"
    assert provenance.differences({**now, "commit": "abc", "cores": 64}, now) == "commit abc, cores 64"
    older = {name: value for name, value in now.items() if name != "beam"}
    assert provenance.differences(older, now) == "beam None"
