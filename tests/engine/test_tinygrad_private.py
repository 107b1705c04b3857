"""One file uses what tinygrad does not document; nothing is replaced before `prepare`, and nothing twice."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mist_bench
from mist_bench.engine import tinygrad_private
from mist_bench.engine.graph import Graph

ROOT = Path(mist_bench.__file__).parent
DOCUMENTED = re.compile(r"tinygrad(\.(helpers|dtype|nn)(\..*)?)?$")


def tinygrad_modules(path: Path) -> set[str]:
    """The modules of tinygrad that a file imports, also within functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.split(".")[0] == "tinygrad"}


def test_one_file_imports_what_tinygrad_does_not_document():
    files = [path for path in ROOT.rglob("*.py") if path != ROOT / "engine" / "tinygrad_private.py"]
    wrong = {str(path.relative_to(ROOT)): sorted(extra) for path in files
             if (extra := {name for name in tinygrad_modules(path) if not DOCUMENTED.match(name)})}  # fmt: skip
    assert not wrong


def test_a_name_is_replaced_once_and_again_after_it_was_restored(monkeypatch):
    monkeypatch.setattr(tinygrad_private, "patches", [])
    owner = SimpleNamespace(__name__="owner", work=lambda: 1)
    before = owner.work

    def wrap(own):
        return lambda: own() + 1

    for _ in range(3):
        tinygrad_private.patch(owner, "work", wrap, "one more")
    assert owner.work() == 2
    [done] = tinygrad_private.patches
    assert (done.place, done.original, done.reason) == ("owner.work", before, "one more")
    assert tinygrad_private.original("owner.work") is before
    owner.work = before
    tinygrad_private.patch(owner, "work", wrap, "one more")
    assert owner.work() == 2


def python(code: str) -> str:
    environment = {**os.environ, "DEV": "CPU"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout


def test_a_second_prepare_changes_nothing():
    out = python(
        "from mist_bench.engine import compiler, tinygrad_private\n"
        "compiler.prepare(); before = list(tinygrad_private.patches); compiler.prepare()\n"
        "print(tinygrad_private.patches == before, len({done.place for done in before}) == len(before) > 5)"
    )
    assert out == "True True\n"


def test_nothing_is_replaced_by_an_import_or_by_asking_for_the_device():
    out = python(
        "from mist_bench.engine import beam, compiler, cpu_team, device, graph, heuristic, kernel_cache, tinygrad_private\n"
        "device.name(); device.on_cpu(); device.precision_name('auto')\n"
        "print(len(tinygrad_private.patches)); compiler.prepare(); print(len(tinygrad_private.patches) > 5)\n"
        "from tinygrad import Device; print(sorted(Device._opened_devices))"
    )
    assert out.split("\n") == ["0", "True", "[]", ""]


def test_a_device_that_was_opened_before_is_prepared_too():
    out = python(
        "from tinygrad import Device; Device['CPU']\n"
        "from mist_bench.engine import compiler, replay; compiler.prepare()\n"
        "print(Device['CPU'].graph is replay.CpuGraph)"
    )
    assert out == "True\n"


def test_a_graph_asks_for_prepare(monkeypatch):
    monkeypatch.setattr(tinygrad_private, "patches", [])
    with pytest.raises(RuntimeError, match=r"compiler\.prepare\(\)"):
        Graph("early", lambda x: x)
