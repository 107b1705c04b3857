"""How many sequences to evaluate at once: the search over speeds and memory, and its stored result."""

import gc
import json

import numpy as np
import pytest
from mist_bench_plugins.family_oracle import OracleModel
from tinygrad import Device

from harness import GRID
from harness.brute_force import WORLD
from mist_bench import UserError, cli
from mist_bench.engine import device
from mist_bench.inference import batch_size
from mist_bench.inference.batch_size import remember, remembered, search
from mist_bench.inference.masked import MaskedEvaluator
from mist_bench.report import files
from mist_bench.run import workbench


def speeds(table, room=10**9):
    """The speed of a device that holds `room` sequences; sizes missing in the table are as fast as the one before."""
    asked = []

    def speed(batch):
        asked.append(batch)
        if batch > room:
            raise MemoryError("no room")
        return max(value for size, value in table.items() if size <= batch)

    return speed, asked


@pytest.mark.parametrize(
    ("table", "room", "size", "asked"),
    [
        ({1: 100}, 10**9, 8, [8, 16]),
        ({1: 1, 8: 100, 16: 111, 32: 121}, 10**9, 16, [8, 16, 32]),
        ({1: 1, 8: 100, 16: 109, 32: 999}, 10**9, 8, [8, 16]),
        ({1 << n: 2**n for n in range(20)}, 10**9, batch_size.LARGEST, [8 << n for n in range(10)]),
        ({1 << n: 2**n for n in range(20)}, 100, 32, [8, 16, 32, 64, 128]),
        ({1 << n: 2**n for n in range(20)}, 8, 4, [8, 16]),
        ({1: 1}, 5, 2, [8, 4]),
        ({1: 1}, 1, 1, [8, 4, 2, 1]),
    ],
    ids=["no gain", "small gain", "too small a gain", "endless gain", "memory ends", "at once", "first is too large", "one"],
)
def test_the_size_is_doubled_while_it_fits_and_pays(table, room, size, asked):
    speed, seen = speeds(table, room)
    assert search(speed) == size and seen == asked


def test_no_room_for_one_sequence_is_one_line():
    with pytest.raises(UserError, match="not enough memory to evaluate one sequence") as caught:
        search(speeds({1: 1}, 0)[0])
    assert "\n" not in str(caught.value)


def test_another_error_is_not_taken_for_a_lack_of_memory():
    def speed(batch):
        raise RuntimeError("a kernel is wrong")

    with pytest.raises(RuntimeError, match="a kernel is wrong"):
        search(speed)


def test_memory_ends_a_search_on_a_real_device_and_leaves_nothing_behind(monkeypatch):
    made = []

    def speed(batch):
        made.append(batch)
        return batch_size.speed(MaskedEvaluator("oracle", OracleModel(WORLD), batch)) * 0 + 2.0**batch

    monkeypatch.setattr(batch_size, "SECONDS", 0.0)
    monkeypatch.setattr(batch_size, "LARGEST", 64)
    before = held()
    assert search(speed) == 64 and held() < before + 10_000
    needed = memory_of(32)
    allocator = Device[Device.DEFAULT].allocator
    most, real = held() + needed - 100, allocator._alloc

    def alloc(size, options):
        if device.memory_used() + size > most:
            raise MemoryError("no room")
        return real(size, options)

    monkeypatch.setattr(allocator, "_alloc", alloc)
    del made[:]
    assert search(speed) == 8 and made == [8, 16, 32]


def held() -> int:
    """Bytes in use, without those that the allocator caches."""
    gc.unfreeze()
    gc.collect()
    Device[Device.DEFAULT].allocator.free_cache()
    return device.memory_used()


def memory_of(batch: int) -> int:
    before = held()
    evaluator = MaskedEvaluator("oracle", OracleModel(WORLD), batch)
    evaluator.target_log_probability(np.zeros((batch, 4), np.int32), np.ones((batch, 4), bool), np.ones(batch))
    needed = held() - before
    evaluator.drop()
    return needed


# ---- what is kept


def test_what_was_found_is_kept_for_each_key(tmp_path):
    path = tmp_path / "cache" / "sizes.json"
    assert remembered(path, "a") is None
    remember(path, "a", 32)
    remember(path, "b", 64)
    remember(path, "a", 16)
    assert (remembered(path, "a"), remembered(path, "b"), remembered(path, "c")) == (16, 64, None)
    assert [file.name for file in path.parent.iterdir()] == ["sizes.json"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '{"a": 0}', '{"a": -8}', '{"a": "8"}', '{"a": true}', '{"a": 1e9}', '{"a": 8.0}', "\xff", "[" * 10**5],
)  # fmt: skip
def test_a_broken_file_is_made_anew(tmp_path, text):
    path = tmp_path / "sizes.json"
    path.write_bytes(text.encode("latin-1"))
    assert remembered(path, "a") is None
    remember(path, "a", 8)
    assert json.loads(path.read_text()) == {"a": 8}


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "file").write_text("")
    remember(tmp_path / "file" / "sizes.json", "a", 8)
    assert remembered(tmp_path / "file" / "sizes.json", "a") is None


def test_the_key_says_machine_network_and_release(monkeypatch):
    def key(**other):
        given = {"shape": "mdlm", "vocab_size": 11, "length": 8, "precision": "float32", "nucleus": 1.0}
        return batch_size.key(**{**given, **other})

    keys = {key(), key(shape="mdlm[x=1]"), key(vocab_size=12), key(length=9), key(precision="bfloat16"), key(nucleus=0.9)}
    monkeypatch.setattr(batch_size, "version", lambda name: "9.9")
    keys.add(key())
    monkeypatch.setattr(batch_size.machine, "cpu_model", lambda: "another")
    keys.add(key())
    monkeypatch.setattr(batch_size.cpu_team, "cores", lambda: 64)
    keys.add(key())
    monkeypatch.setattr(batch_size.beam, "width", lambda: 3)
    keys.add(key())
    monkeypatch.setattr(batch_size.device, "name", lambda: "CUDA")
    monkeypatch.setattr(batch_size.machine, "gpus", lambda: [{"name": "H100"}] * 2)
    keys.add(key())
    assert len(keys) == 11 and "CUDA, H100, beam 3, mdlm" in key()


# ---- in a run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of the oracle that searches its batch size, with a cache folder of its own; returns its generations."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(batch_size, "LARGEST", 16)
    monkeypatch.setattr(batch_size, "SECONDS", 0.0)
    words = ["run", "--preset", GRID, "--family", "oracle", "--sampler", "random", "--steps", "2", "--schedule", "linear",
             "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]  # fmt: skip
    for setting in ("generation.batch_size=0", "likelihood.batch_size=0", "generation.judge=none", "generation.rounds=1",
                    "generation.oracle_samples=24"):  # fmt: skip
        words += ["--set", setting]

    def start(*more):
        status = cli.main([*words, *more])
        rows = files.read_csv(tmp_path / "out" / "generation.csv")
        return status, [row for row in rows if row["sampler"]]

    return start


def test_a_run_finds_its_size_once_and_says_which(run, tmp_path, monkeypatch, capsys):
    status, [row] = run()
    assert status == 0 and row["batch"] in (8, 16)
    assert f"{row['batch']:.0f} sequences are evaluated at once" in capsys.readouterr().err
    sizes = json.loads((tmp_path / "cache" / "mist-bench" / "batch-sizes.json").read_text())
    assert list(sizes.values()) == [row["batch"]] and "oracle" in next(iter(sizes))
    for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines():
        sample = json.loads(line)
        assert sample["batch"] == (row["batch"] if sample.get("sampler") else None)

    def again(speed):
        raise AssertionError("it was measured a second time")

    monkeypatch.setattr(batch_size, "search", again)
    status, [same] = run("--rerun", "all")
    assert status == 0 and same["batch"] == row["batch"]
    assert {k: v for k, v in same.items() if k.startswith("oracle")} == {k: v for k, v in row.items() if k.startswith("oracle")}


def test_what_does_not_fit_after_all_says_what_to_type(run, monkeypatch, capsys):
    def full(*inputs, **more):
        raise MemoryError("Allocation of 4 GB failed")

    monkeypatch.setattr(workbench, "generate", full)
    status, rows = run("--set", "generation.batch_size=16")
    assert status == 1 and rows == []
    assert "not enough memory to evaluate 16 sequences at once; give a smaller generation.batch_size" in capsys.readouterr().err
