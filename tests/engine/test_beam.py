"""`--beam`: kernels are searched only on request, stored apart from unsearched ones, and read from a file."""

import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from tinygrad import Device, Tensor
from tinygrad.helpers import BEAM, Context

from harness.experiments import cells
from mist_bench import cli
from mist_bench.cli import run as command_run
from mist_bench.engine import beam, device, tinygrad_private
from mist_bench.engine.graph import Graph
from mist_bench.engine.kernel_cache import Kernels

A, B = (np.random.default_rng(i).standard_normal((8, 8)).astype(np.float32) for i in range(2))


@pytest.fixture
def searching(monkeypatch, tmp_path):
    """`--beam`, over three candidates, with kernels and files in folders of this test."""
    from tinygrad import codegen
    from tinygrad.codegen.opt import Opt, OptOps, search
    from tinygrad.engine import realize

    monkeypatch.setenv("JITBEAM", "0")
    monkeypatch.setenv("BEAM", "0")
    monkeypatch.setattr(search, "actions", [Opt(OptOps.UPCAST, 0, 4), Opt(OptOps.UPCAST, 1, 2), Opt(OptOps.UNROLL, 0, 4)])
    monkeypatch.setattr(search, "beam_search", search.beam_search)
    monkeypatch.setattr(beam, "FOLDER", tmp_path)
    monkeypatch.setattr(beam, "results", {})
    beam.counts.clear()

    def use(width):
        for module in (codegen, realize):  # as a new process finds them
            monkeypatch.setattr(module, "to_program_cache", Kernels(tmp_path / "kernels", {}))
        beam.shipped.cache_clear()
        beam.use(width)
        if width:
            tinygrad_private.replace_beam_search(beam.read_or_search)
        return product

    x, y = Tensor(A).realize(), Tensor(B).realize()

    def product():
        graph = Graph("product", lambda x, y: (x @ y).contiguous().realize())
        with Context(PARALLEL=0, CACHELEVEL=0):
            for _ in range(3):
                np.testing.assert_allclose(graph(x, y).numpy(), A @ B, rtol=1e-4, atol=1e-5)
        [program] = [call.src[0] for call in graph._jit.captured.linear.src]
        return [opt.op.name for opt in program.src[0].arg.applied_opts]

    yield use
    monkeypatch.undo()
    beam.use(0)
    for name in ("JITBEAM", "BEAM"):
        os.environ.pop(name)


def test_a_search_is_made_once_and_kept_apart(searching, tmp_path):
    plain = searching(0)()
    assert not beam.counts and not beam.width()
    before = set((tmp_path / "kernels").iterdir())
    searched = searching(1)()
    assert beam.counts == {"searched": 1} and set(searched) <= {"UPCAST", "UNROLL"} and searched
    after = set((tmp_path / "kernels").iterdir())
    assert before < after
    assert searching(1)() == searched and beam.counts == {"searched": 1}  # kept
    assert set((tmp_path / "kernels").iterdir()) == after
    assert searching(0)() == plain and beam.counts == {"searched": 1}  # nothing is taken without the option
    searching(2)()
    assert beam.counts == {"searched": 2}  # another width is another search


def target():
    found = Device[Device.DEFAULT].renderer.target
    return found.device, found.arch


def shipped(cuts=None, **other):
    """Write the file that `benchmarks.beam` would write for this process, with changes."""
    path = beam.path_of(*target())
    beam.write(path, *target(), beam.results if cuts is None else cuts)
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))
    return path


def renewed(tmp_path):
    for file in (tmp_path / "kernels").iterdir():
        file.unlink()
    beam.counts.clear()


def test_a_file_spares_the_search(searching, tmp_path):
    searched = searching(2)()
    shipped()
    renewed(tmp_path)
    assert searching(1)() == searched and beam.counts == {"shipped": 1}
    renewed(tmp_path)
    searching(0)()
    assert not beam.counts  # not without the option
    for other in ({"tinygrad": "0.0.1"}, {"arch": "sm_1"}, {"beam": 1}):
        renewed(tmp_path)
        shipped(**other)
        searching(2)()
        assert beam.counts == {"searched": 1}
    renewed(tmp_path)
    shipped({key: [["UPCAST", 0, 3]] for key in beam.results})  # does not divide 8
    searching(1)()
    assert beam.counts == {"searched": 1}


GOOD = "a" * 64
BAD = [
    "", "[]", "{}", "[" * 100_000, b"\xff\xfe", '{"kernels": 1}', {"kernels": []}, {"beam": "4"}, {"beam": True},
    {"kernels": {"a": []}}, {"kernels": {GOOD: [["UPCAST", 0]]}}, {"kernels": {GOOD: [["__class__", 0, 4]]}},
    {"kernels": {GOOD: [["UPCAST", 0, 1 << 40]]}}, {"kernels": {GOOD: [["UPCAST", 0, True]]}},
    {"kernels": {GOOD: [["UPCAST", 99999, 2]]}}, {"kernels": {GOOD: [[["UPCAST"], 0, 2]]}},
    {"kernels": {GOOD: [["TC", 0, [1, "2"]]]}}, {"kernels": {GOOD: [["UPCAST", 0, 2]] * 33}}, " " * ((1 << 23) + 1),
]  # fmt: skip


@pytest.mark.parametrize("content", BAD, ids=range(len(BAD)))
def test_a_broken_or_hostile_file_is_named_in_one_line_and_not_used(content, searching, capsys):
    if isinstance(content, dict):
        shipped({GOOD: [["UPCAST", 0, 4], ["TC", 0, [-1, 2, 1]], ["NOLOCALS", None, None]]}, **content)
    else:
        beam.path_of(*target()).write_bytes(content if isinstance(content, bytes) else content.encode())
    beam.shipped.cache_clear()
    assert beam.shipped(*target(), 0) == {}
    assert beam.shipped(*target(), 0) == {}
    said = capsys.readouterr().err
    assert said.startswith(f"mist-bench: warning: {beam.path_of(*target()).name} is not used: ") and said.count("\n") == 1


def test_the_good_file_of_these_is_used(searching):
    cuts = {GOOD: [["UPCAST", 0, 4], ["TC", 0, [-1, 2, 1]], ["NOLOCALS", None, None]]}
    shipped(cuts)
    beam.shipped.cache_clear()
    assert beam.shipped(*target(), 0) == cuts


def test_an_upcast_that_would_be_a_book_of_code_is_not_applied(searching, monkeypatch):
    searching(1)()
    shipped({key: [["UPCAST", 0, 0], ["UPCAST", 0, 0]] for key in beam.results})
    monkeypatch.setattr(beam, "MOST_UPCAST", 32)
    beam.counts.clear()
    renewed(beam.FOLDER)
    searching(1)()
    assert beam.counts == {"searched": 1}


def test_the_option_changes_no_configuration(searching, monkeypatch, capsys, tmp_path):
    seen = []
    monkeypatch.setattr(command_run, "run", lambda config, registry, **more: seen.append((config, beam.width())) or 0)
    for more in ([], ["--beam", "3"], ["--beam", "0"]):
        assert cli.main(["run", "--preset", "quick", *more]) == 0
    configs, widths = zip(*seen, strict=True)
    assert widths == (0, 3, 0) and configs[0] == configs[1] == configs[2] and BEAM.value == 0
    assert capsys.readouterr().err == ""
    for wrong in ("17", "-1", "two"):
        assert cli.main(["run", "--beam", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_environment_is_respected(searching, monkeypatch):
    monkeypatch.delenv("JITBEAM")
    from tinygrad import helpers

    helpers.getenv.cache_clear()
    monkeypatch.setattr(BEAM, "value", 2)
    beam.use(None)
    assert beam.width() == 2 and device.name()


def test_a_run_says_what_was_searched(searching):
    searching(1)()
    assert beam.said() == "beam 1: 1 kernels searched, 0 taken from the package's file"


def test_the_command_writes_a_file_that_spares_the_search(searching, monkeypatch, tmp_path, capsys):
    """Made on this device, for the package: the only work asked for is one product."""
    from benchmarks import beam as command
    from benchmarks import ours

    product = searching(1)
    made = tmp_path / "made.json"
    monkeypatch.setenv("CCACHE", "1")
    monkeypatch.setattr(ours, "likelihood", lambda size, family: SimpleNamespace(run=product))
    monkeypatch.setattr("sys.argv", ["beam", "--size", "tiny", "--beam", "2", "--only", "likelihood", "--out",
                                     str(made)])  # fmt: skip
    command.main()
    said = capsys.readouterr().out
    assert "likelihood: beam 2: 1 kernels searched" in said and f"mist_bench/engine/searched/{beam.path_of(*target()).name}" in said
    made.rename(beam.path_of(*target()))
    renewed(tmp_path)
    searching(2)()
    assert beam.counts == {"shipped": 1}


def test_speeds_of_another_width_are_others(tmp_path):
    """What is timed belongs to the width; networks, their likelihoods and texts do not."""
    from mist_bench.host.presets import load_preset

    def hashes(width: int) -> dict[str, set[str]]:
        beam.use(width)
        found = cells(load_preset("smoke"))
        beam.use(0)
        return {kind: {cell.hash for cell in found if cell.kind == kind} for kind in ("training", "likelihood", "generation", "speed")}

    without, narrow, wide = hashes(0), hashes(1), hashes(4)
    for kind in ("training", "likelihood", "generation"):
        assert without[kind] == narrow[kind] == wide[kind]
    assert not (without["speed"] & narrow["speed"] | narrow["speed"] & wide["speed"])
