"""The contest without clocks: made-up entries, their ratios and intervals, the report, baselines, and the command."""

import importlib.util
import itertools
import json
import subprocess
import sys
from math import comb
from pathlib import Path

import numpy as np
import pytest

from harness import ROOT
from mist_bench import UserError, cli
from mist_bench.bench import baseline, command, contest, report
from mist_bench.bench.contest import OURS, Entry, Offer, Timing, race, speed_ratio
from mist_bench.engine import device, machine, replay
from mist_bench.measure.statistics import median_interval


def timing(who, *seconds, tokens=10, group="work", memory=None, flops=0.0):
    offer = Offer(task="training", group=group, who=who, make=lambda: Entry(run=lambda: None))
    entry = Entry(run=lambda: None, tokens=tokens, flops=flops, nfe=3)
    return Timing(offer=offer, entry=entry, first_call_seconds=1.0, seconds=seconds, memory=memory)


@pytest.mark.parametrize("n", range(2, 6))
def test_few_values_have_no_interval(n):
    assert 2 / 2**n > 0.05  # the median lies beyond all of them as often as that
    assert median_interval(list(range(n))) is None


@pytest.mark.parametrize("n", range(6, 30))
def test_the_interval_holds_the_median_as_often_as_it_says(n):
    low, high = median_interval(list(range(n, 0, -1)))
    below = int(low) - 1  # how many values lie below the interval
    assert high == n + 1 - low
    assert 2 * sum(comb(n, k) for k in range(below + 1)) / 2**n <= 0.05
    # one rank narrower would miss too often
    assert 2 * sum(comb(n, k) for k in range(below + 2)) / 2**n > 0.05


def test_a_ratio_is_taken_within_a_round():
    """A round that is slow for all leaves the ratio as it is; a round that only one entry has is not compared."""
    ours, other = timing(OURS, 1.0, 10.0, 3.0), timing("other", 2.0, 20.0, 6.0, 99.0)
    assert speed_ratio(ours, other) == (2.0, 2.0, 2.0, 3)


def test_a_ratio_is_of_tokens_not_of_rounds():
    ours, other = timing(OURS, 1.0, 1.0, tokens=100), timing("other", 1.0, 1.0, tokens=10)
    assert speed_ratio(ours, other)[0] == 10.0


def offers(calls, *whos, group="work", **makes):
    def maker(who):
        return makes.get(who.replace(" ", "_"), lambda: Entry(run=lambda: calls.append(who), tokens=1))

    return [Offer(task="training", group=group, who=who, make=maker(who)) for who in whos]


def test_contestants_take_turns():
    calls = []
    timings = race(offers(calls, OURS, "other"), 4, 1e9, lambda line: None, [])
    assert calls[-8:] == [OURS, "other"] * 4
    assert [len(t.seconds) for t in timings] == [4, 4]
    assert calls[:-8] == [OURS] * 3 + ["other"] * 3  # the first call, then two more before the clock starts


def test_who_has_spent_its_time_sits_out(monkeypatch):
    clock = itertools.count(step=5.0)
    monkeypatch.setattr(contest.time, "perf_counter", lambda: next(clock))
    timings = race(offers([], OURS), 9, 12.0, lambda line: None, [])
    assert len(timings[0].seconds) == 3


def test_who_fails_is_left_out():
    def fail():
        raise RuntimeError("no\ncompiler")

    left_out = []
    timings = race(offers([], OURS, "other", other=fail), 3, 1.0, lambda line: None, left_out)
    assert [t.offer.who for t in timings] == [OURS]
    assert left_out == ["work, other (RuntimeError: no compiler)"]
    assert race([Offer(task="training", group="work", who=OURS, make=fail)], 3, 1.0, lambda line: None, left_out) == []
    assert left_out[1:] == [f"work, {OURS} (RuntimeError: no compiler)"]


def test_a_group_gives_its_memory_back_and_holds_as_much_wherever_it_comes():
    """The objects of a capture are frozen for Python's collector; the buffers of a finished group go all the same."""
    found = command.benchmark_module("offers").generation(command.chosen_sizes(["tiny"])[0])
    first, second = (next(o for o in found if o.ours and name in o.group) for name in ("random", "with a cache"))
    options = command.BenchOptions(sizes=("tiny",), rounds=3)

    def held(*offers):
        groups = command._timed_groups(offers, options, lambda line: None, [])
        return [(group[0].memory, device.memory_used()) for group in groups]

    [(_, before)] = held(first)  # what tinygrad makes once, of a few bytes, is there from here on
    forth, back = held(first, second), held(second, first)
    assert [after for _, after in forth + back] == [before] * 4
    assert [memory for memory, _ in forth] == [memory for memory, _ in reversed(back)]
    assert all(memory > 0 for memory, _ in forth)


@pytest.mark.skipif(device.name() != "CPU", reason="the cores of a CPU are meant")
def test_the_peak_is_of_all_cores(monkeypatch):
    """Outside of a graph the parts of a kernel run one after another, and a single kernel makes no graph."""
    peak, walked, walk = command.benchmark_module("peak"), [], replay.CpuGraph.__call__

    def counted(self, *inputs, **more):
        walked.append(len(self.steps))
        return walk(self, *inputs, **more)

    monkeypatch.setattr(replay.CpuGraph, "__call__", counted)
    monkeypatch.setattr(peak, "sides", lambda: (64,))
    before = device.memory_used()
    assert peak.peaks(torch=False)["tinygrad"] > 0
    assert set(walked) == {2} and len(walked) > peak.REPEATS
    assert device.memory_used() <= before + 64  # tinygrad's own seeds, once


MACHINE = {"device": "CPU", "precision": "float32", "torch": "2.9", "torch_threads": 2, "key": "this machine"}
ORIGIN = {"date": "2026-01-02", "git": {"commit": "abcdef0123456789", "dirty": False}, "mist_bench": "1", "cpu": "a chip"}


def made(*groups):
    notes = {"busy": "", "left_out": ["x (no x here)"], "command": "mist-bench bench --size tiny", "unfinished": ""}
    return report.document(groups, {"tinygrad": 50.0, "torch": 200.0}, [], ORIGIN, MACHINE) | notes


def test_the_report_says_what_was_measured(tmp_path):
    ours = timing(OURS, 1.0, 2.0, 4.0, flops=100.0, memory=3 * 2**20)
    document = made([ours, timing("other", 0.5, 1.0, 2.0)], [timing(OURS, 0.1, 0.1, tokens=0, group="start")])
    report.write(tmp_path, document)
    text, stored = (tmp_path / "bench.md").read_text(), json.loads((tmp_path / "bench.json").read_text())
    assert stored == document
    first, second, _ = stored["rows"]
    assert (first["rate"], first["flops_per_second"], first["share_of_peak"]) == (5.0, 50.0, 0.25)
    assert second["ours_over_this"] == {"median": 0.5, "low": 0.5, "high": 0.5, "rounds": 3} and "ours_over_this" not in first
    assert first["seconds"] == [1.0, 2.0, 4.0] and second["share_of_peak"] is None
    assert "| mist-bench | 5 (" in text and "0.5 [0.5,0.5] of 3 |" in text and "25.0%" in text and "3 MiB" in text
    for said in ("commit abcdef012345", "2026-01-02", "a chip", "PyTorch 2.9", "`mist-bench bench --size tiny`", "torch's"):
        assert said in text
    assert "Left out: x (no x here)." in text
    start = text.split("## start")[1]
    assert "100" in start and "tokens/s" not in start and "NFE" in start


def test_the_report_claims_95_percent_of_six_rounds_and_no_fewer():
    slow = [2.0, 4.0, 3.0, 2.0, 2.0, 2.0]
    group = [timing(OURS, *[1.0] * 6), timing("five", *slow[:5]), timing("six", *slow)]
    text = report.markdown(made(group))
    five, six = (line for line in text.splitlines() if line.startswith(("| five", "| six")))
    assert "2 [2,4] of 5 |" in five and "2 [2,4] |" in six
    assert "ours ÷ this [low,high]" in text and "CI" not in text
    assert "[ ] of N: the range of N rounds, fewer than the 6 that such an interval needs." in text


def test_a_baseline_fails_what_is_clearly_slower(tmp_path):
    path = tmp_path / "new" / "baseline.json"
    baseline.save(path, made([timing(OURS, *[1.0, 1.1, 0.9] * 2), timing("other", *[1.0] * 6)]))
    before = baseline.rows_of(path, "this machine")
    assert list(before) == ["work"]  # what others do is not ours to keep

    def slower(*seconds, group="work"):
        return baseline.slower(before, made([timing(OURS, *seconds, group=group)]), 1.5)

    assert slower(*[1.4] * 6) == ([], [])  # within the factor
    assert slower(*[2.0] * 5, 1.0) == ([], [])  # its interval reaches the old one
    assert slower(*[2.0] * 5, 1.9) == (["slower: work: 2.00 times as long as the baseline (allowed: 1.5)"], [])
    assert slower(*[9.0] * 6, group="new") == ([], [])


def test_a_baseline_says_of_few_rounds_that_it_cannot_tell(tmp_path):
    few, many = made([timing(OURS, *[9.0] * 5)]), made([timing(OURS, *[1.0] * 6)])
    said = "perhaps slower: work: 9.00 times as long as the baseline (allowed: 1.5), but with fewer than 6 rounds, then or now"
    baseline.save(tmp_path / "many.json", many)
    assert baseline.slower(baseline.rows_of(tmp_path / "many.json", "this machine"), few, 1.5) == ([], [said])
    baseline.save(tmp_path / "few.json", made([timing(OURS, *[1.0] * 5)]))
    slow = made([timing(OURS, *[9.0] * 6)])
    assert baseline.slower(baseline.rows_of(tmp_path / "few.json", "this machine"), slow, 1.5) == ([], [said])


def test_a_baseline_is_of_one_machine(tmp_path):
    path = tmp_path / "baseline.json"
    baseline.save(path, made([timing(OURS, 1.0)]))
    other = made([timing(OURS, 2.0)]) | {"machine": MACHINE | {"key": "another"}}
    with pytest.raises(UserError, match="no baseline of this machine .another., only of this machine"):
        baseline.rows_of(path, "another")
    baseline.save(path, other)
    assert baseline.rows_of(path, "another")["work"]["rate"] == 5.0
    assert baseline.rows_of(path, "this machine")["work"]["rate"] == 10.0
    path.write_text("[")
    with pytest.raises(UserError, match="is not a baseline"):
        baseline.rows_of(path, "another")
    with pytest.raises(UserError, match="--save-baseline writes one"):
        baseline.rows_of(tmp_path / "none.json", "another")


def test_an_interrupt_leaves_what_was_there(tmp_path, monkeypatch):
    """Each file is the old one or the new one, whole; a baseline also holds the speeds of other machines."""
    old, new = made([timing(OURS, 1.0)]), made([timing(OURS, 2.0)])

    def both(document):
        report.write(tmp_path, document)
        baseline.save(tmp_path / "baseline.json", document)

    def contents():
        return {path.name: path.read_text() for path in tmp_path.iterdir()}

    both(old)
    before = contents()

    def interrupt(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(machine.os, "fsync", interrupt)
        for write in (report.write, lambda _, document: baseline.save(tmp_path / "baseline.json", document)):
            with pytest.raises(KeyboardInterrupt):
                write(tmp_path, new)
    assert contents() == before
    both(new)
    assert set(contents()) == {"bench.json", "bench.md", "baseline.json"} and contents() != before


def test_the_command_from_end_to_end(tmp_path, monkeypatch, capsys):
    """With made-up entries: files, baseline, and the exit status when an entry became slower."""
    seconds = {"now": 1.0}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # a busy machine would set it for all tests after this one
    monkeypatch.setattr(command, "SHORTEST", 0.0)
    monkeypatch.setattr(command, "_timed_groups", lambda found, options, say, left_out: [[timing(OURS, *[seconds["now"]] * 6)]])
    monkeypatch.setattr(command.benchmark_module("peak"), "peaks", lambda torch: {"tinygrad": 1e9})
    monkeypatch.setattr(command.benchmark_module("offers"), "offers", lambda task, sizes: [timing(OURS, 1.0).offer])
    words = ["bench", "--size", "tiny", "--only", "training"]
    assert cli.main([*words, "--save-baseline"]) == 0
    assert {p.name for p in (tmp_path / "results" / "bench-cpu").iterdir()} == {"bench.json", "bench.md"}
    kept = str(tmp_path / "results" / "bench-baseline.json")
    assert cli.main([*words, "--out", "here", "--baseline", kept]) == 0
    seconds["now"] = 3.0
    assert cli.main([*words, "--out", "here", "--baseline", kept]) == 1
    assert cli.main([*words, "--out", "here", "--baseline", kept, "--factor", "4"]) == 0
    monkeypatch.setattr(command, "_timed_groups", lambda found, options, say, left_out: left_out.append("ours (no memory)") or [])
    assert cli.main([*words, "--out", "failed"]) == 1
    assert "Left out: ours (no memory)." in (tmp_path / "failed" / "bench.md").read_text()
    capsys.readouterr()


class Clock:
    """A clock that a test sets, with the processes that used the cores."""

    def __init__(self, monkeypatch):
        self.now = self.used = self.own = 0.0
        monkeypatch.setattr(machine.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(machine, "cores", lambda: {0, 1})
        monkeypatch.setattr(machine, "used", lambda: self.used)
        monkeypatch.setattr(machine, "_own", lambda: self.own)

    def pass_by(self, seconds, own, others):
        self.now, self.own, self.used = self.now + seconds, self.own + own, self.used + own + others


def test_who_is_busy_with_the_benchmark_is_not_busy(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    clock = Clock(monkeypatch)
    others = machine.Others()
    clock.pass_by(10.0, own=20.0, others=0.1)
    assert others.look() == ""
    clock.pass_by(10.0, own=10.0, others=5.0)
    said = "this machine is busy (other processes used 25% of its 2 cores at worst): these times are not reliable"
    assert others.look() == said
    clock.pass_by(10.0, own=20.0, others=0.0)
    assert others.look() == said  # what was measured meanwhile stays in the tables
    clock.pass_by(0.1, own=0.0, others=0.2)  # a few ticks are no measure
    assert others.look() == said


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="only Linux says who has used the cores")
def test_what_a_benchmark_starts_is_its_own():
    """Also a child of a child process, while both live."""
    spin = "import sys, time; print(flush=True)\nwhile time.process_time() < 0.3: pass\nprint(flush=True); sys.stdin.read()"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", start], **pipes) as child:
        child.stdout.readline()
        own, used = machine._own(), machine.used()
        child.stdout.readline()
        assert machine._own() - own > 0.1 and machine.used() - used > 0.1
        child.stdin.close()
    assert machine._own() - own > 0.1  # and when they have ended


def test_a_machine_that_gets_busy_during_a_run_is_flagged(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    clock, said = Clock(monkeypatch), []
    monkeypatch.setattr(command, "SHORTEST", 0.0)

    def groups(found, options, say, left_out):
        for others in (0.0, 60.0, 0.0):
            clock.pass_by(60.0, own=60.0, others=others)
            yield [timing(OURS, *[1.0] * 6, group=f"after {clock.now}")]

    monkeypatch.setattr(command, "_timed_groups", groups)
    documents = list(command.measured(command.BenchOptions(sizes=(), only=("startup",)), [], said.append))
    flagged = [document["busy"] for document in documents]
    assert flagged[0] == "" and len(set(flagged[1:])) == 1 and len(documents) == 4
    assert [bool(document["unfinished"]) for document in documents] == [True, True, True, False]
    assert "other processes used 50% of its 2 cores at worst, OMP_WAIT_POLICY=passive" in flagged[1]
    assert said.count(flagged[1]) == 1
    assert flagged[1][1:] in report.markdown(documents[-1])


def test_what_ends_early_has_its_finished_groups(tmp_path, monkeypatch, capsys):
    """A run of an hour may be killed; its files say that they are incomplete."""

    def groups(found, options, say, left_out):
        yield [timing(OURS, *[1.0] * 6, group="first")]
        yield [timing(OURS, *[1.0] * 6, group="second")]
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(command, "SHORTEST", 0.0)
    monkeypatch.setattr(command, "_timed_groups", groups)
    with pytest.raises(KeyboardInterrupt):
        command.bench(command.BenchOptions(sizes=("tiny",), only=("startup",), out=tmp_path))
    text, stored = (tmp_path / "bench.md").read_text(), json.loads((tmp_path / "bench.json").read_text())
    assert [row["group"] for row in stored["rows"]] == ["first", "second"]
    assert "## first" in text and "## second" in text and "\nUnfinished: 2 of 3 groups.\n" in text
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "huge"], "unknown size 'huge'; known: tiny, quick, small, tinystories, gpt2"),
        (["--only", "cooking"], "unknown task 'cooking'; known: training, generation, likelihood, startup"),
        (["--size", "tiny", "--rounds", "5", "--save-baseline"], "a baseline needs at least 6 rounds, given 5; type --rounds 6"),
        (["--size", "tiny", "--baseline", "none.json"], "no baseline none.json; --save-baseline writes one"),
    ],
)
def test_wrong_calls(arguments, said, capsys):
    assert cli.main(["bench", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_without_a_checkout_one_line_says_so(tmp_path):
    """An installed wheel has no benchmarks folder beside the package."""
    (tmp_path / "mist_bench").symlink_to(Path(command.__file__).parents[1])
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import mist_bench.bench.command as b; from pathlib import Path; "
        "b.__file__ = sys.path[0] + '/mist_bench/bench/command.py'; from mist_bench.cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), "bench", "--size", "tiny"], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("mist-bench: error: mist-bench bench runs in a checkout of the repository")


def test_every_size_names_what_it_is():
    for name, size in command.benchmark_module("sizes").sizes().items():
        assert size.name == name and size.what
        assert size.tokens(3).shape == (3, size.length) and size.tokens(3).max() < size.vocab_size
        assert size.training().checkpoint_every == size.train_steps <= 20  # so that one report ends a round


def test_what_a_gpu_would_be_given_is_bound_by_the_slower_of_two_peaks():
    rendered = command.benchmark_module("rendered")
    product = rendered.Rendered(name="r_1", matrix=True, launches=2, operations=989e9, bytes=3.35e6)
    copy = rendered.Rendered(name="E_1", matrix=False, launches=1, operations=0.0, bytes=3.35e9)
    np.testing.assert_allclose([product.at_best, copy.at_best], [1e-3, 1e-3])
    shown = rendered.table([product, copy], 2 * 10**9, 64)
    assert "3 launches of 2 kernels; 0.989 TFLOP, 100.0% of them" in shown and "no faster than 2 ms" in shown
    assert "| r_1 | 2 | yes | 989 | 3.35 | 1 |" in shown and "| E_1 | 1 |  | 0 | 3350 | 1 |" in shown


@pytest.mark.skipif(importlib.util.find_spec("nvidia") is None, reason="needs CUDA's compiler (no GPU)")
@pytest.mark.parametrize(("work", "family"), [("training", "mdlm"), ("generation", "mdlm")])
def test_kernels_are_rendered_for_a_gpu_that_is_not_there(work, family, tmp_path):
    out = tmp_path / "kernels.md"
    words = ["-m", "benchmarks.rendered", "--size", "tiny", "--work", work, "--family", family, "--out", str(out)]
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)
    assert "in kernels that use tensor cores" in out.read_text() and "| yes |" in out.read_text()


def test_kernels_are_read_from_what_tinygrad_prints():
    kernels = command.benchmark_module("kernels")
    lines = [
        "*** CUDA       1 r_2_3                    arg  3 mem   0.00 GB tm     10.00us/     0.01ms (    100 GFLOPS    3|9      GB/s)",
        "\x1b[35m*** CUDA       2\x1b[0m \x1b[31mr_2_3\x1b[0m          arg  3 mem   0.00 GB tm \x1b[33m    30.00ms\x1b[0m/    30.01ms (\x1b[32m    200 TFLOPS\x1b[0m    3|9      GB/s)",
        "JIT GRAPHing batch with 3 kernels",
    ]
    [(name, kernel)] = kernels.parsed(lines).items()
    assert (name, kernel.count) == ("r_2_3", 2)
    np.testing.assert_allclose([kernel.seconds, kernel.operations], [0.03001, 1e6 + 6e12])
    assert "| r_2_3 | 2 | 30.01 | 100.0% | 1.999e+05 | yes |" in kernels.table({"r_2_3": kernel}, {"r_2_3"})
