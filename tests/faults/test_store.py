"""Damaged stores: what is not as it was written is set aside, named, and made again; nothing of it is read."""

import json
import random
import shutil

import numpy as np
import pytest

from harness.commands import in_process, run_command
from mist_bench.report import files
from mist_bench.run.store import Store

GIVEN = ("--family", "oracle", "--schedule", "linear", "--sampler", "random", "--steps", "2")
QUICK = ("generation.judge=none", "generation.oracle_samples=32", "likelihood.sequences=16")
TRAINED = ("--family", "mdlm", "--schedule", "linear", "--sampler", "random", "--steps", "2")
SHORT = ("training.train_steps=2", "training.validate_every=2", "likelihood.sequences=16", "generation.judge=none",
         "likelihood.weighted_draws=0", "likelihood.chain_rule_sequences=0")  # fmt: skip


def measured(out):
    """The numbers of a run but for those of the clock."""
    rows = [row for name in ("likelihood", "generation") for row in files.read_csv(out / f"{name}.csv")]
    timed = ("seconds", "tokens_per", "speed")
    return [{k: v for k, v in row.items() if not any(part in k for part in timed)} for row in rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run without a network: its store, and its files."""
    folder = tmp_path_factory.mktemp("finished")
    assert in_process(*run_command(folder / "store", folder / "out", *GIVEN, settings=QUICK)) == 0
    return folder / "store", folder / "out"


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One digit or letter changed."""
    places = [i for i, byte in enumerate(data) if chr(byte).isalnum()]
    place = rng.choice(places)
    other = data[place] + 1 if chr(data[place]) not in "9zZ" else data[place] - 1
    return data[:place] + bytes([other]) + data[place + 1 :]


def test_no_flipped_letter_is_ever_read(finished, tmp_path):
    store, rng = Store(tmp_path), random.Random(0)
    whole = {path.stem: path.read_bytes() for path in (finished[0] / "cells").glob("*.json")}
    told = {name: Store(finished[0]).read(name) for name in whole}
    for _ in range(300):
        name = rng.choice(sorted(whole))
        path = store.cell_path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(flipped(whole[name], rng))
        assert store.read(name) in (None, told[name])
        assert store.status(name) != "failed"


def nested(path):
    path.write_text('{"a":' * 100_000)


def folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def link_to_itself(path):
    path.unlink()
    path.symlink_to(path.name)


def empty_record(path):
    path.write_text(json.dumps({"hash": path.stem, "status": "done", "record": {}}))


@pytest.mark.parametrize("damage", [nested, folder_in_its_place, link_to_itself, empty_record, lambda p: p.write_bytes(b"\xff\xfe")],
                         ids=["nested", "folder", "link", "empty record", "no text"])  # fmt: skip
def test_damaged_cells_are_named_set_aside_and_made_again(finished, tmp_path, capsys, damage):
    shutil.copytree(finished[0], tmp_path / "store")
    broken = sorted((tmp_path / "store" / "cells").glob("*.json"))[1::2]
    for path in broken:
        damage(path)
    assert in_process(*run_command(tmp_path / "store", tmp_path / "out", *GIVEN, settings=QUICK)) == 0
    said = capsys.readouterr().err
    assert "set aside as *.damaged, and made again" in said and any(path.name in said for path in broken) and "Traceback" not in said
    assert measured(tmp_path / "out") == measured(finished[1])
    assert in_process(*run_command(tmp_path / "store", tmp_path / "out", *GIVEN, settings=QUICK)) == 0
    assert "damaged" not in capsys.readouterr().err, "no dead end"


@pytest.mark.slow
def test_checkpoints_that_are_gone_or_damaged_are_trained_again_by_what_is_advised(tmp_path, capsys):
    store, out = tmp_path / "store", tmp_path / "out"
    words = run_command(store, out, *TRAINED, settings=SHORT)
    assert in_process(*words) == 0
    (checkpoint,) = (store / "checkpoints").glob("*.safetensors")
    before, whole, (values, _) = measured(out), checkpoint.read_bytes(), Store(store).load_checkpoint(checkpoint.stem)

    def trained_again() -> bool:
        found, _ = Store(store).load_checkpoint(checkpoint.stem)
        return all((found[name] == value).all() for name, value in values.items())

    sample = ["sample", *words[1:5], *TRAINED[:4], "--steps", "2", *(w for s in SHORT for w in ("--set", s))]
    checkpoint.unlink()
    capsys.readouterr()
    assert in_process(*sample) == 2
    advised = capsys.readouterr().err.split("train it: mist-bench ")[1].split()
    assert in_process(*advised, "--out", str(out), "--sampler", "random", "--steps", "2") == 0
    assert trained_again(), "the same network"
    for seed, damage in enumerate((b"", whole[:-9], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]), 1):
        checkpoint.write_bytes(damage)
        shutil.rmtree(out)
        assert in_process(*words, "--seed", str(seed)) == 0, "a cell that is made needs it"
        assert "Traceback" not in capsys.readouterr().err and trained_again()
        checkpoint.write_bytes(damage)
        assert in_process(*sample) == 2
        capsys.readouterr()
        assert in_process(*words) == 0 and trained_again()
    assert in_process(*sample) == 0 and measured(out) == before


def test_what_killed_processes_left_is_swept(finished, tmp_path):
    import psutil

    from mist_bench.engine.machine import temporary_name

    shutil.copytree(finished[0], tmp_path / "store")
    cells = tmp_path / "store" / "cells"
    mine = temporary_name(cells / "a.json")
    number = str(psutil.Process().pid)
    dead = mine.with_name(mine.name.replace(f"-{number}-", "-999999999-"))
    elsewhere = dead.with_name(dead.name.replace(dead.name.split(".")[3][:8], "00000000"))
    for path in (mine, dead, elsewhere):
        path.write_bytes(b"half of it")
    assert in_process(*run_command(tmp_path / "store", tmp_path / "out", *GIVEN, settings=QUICK)) == 0
    assert (mine.exists(), dead.exists(), elsewhere.exists()) == (True, False, True)


def test_what_cannot_be_read_just_now_is_left_alone(finished, tmp_path, monkeypatch):
    """Too many open files, a network file system that is away: the cell is sound, and is not set aside."""
    import errno
    from pathlib import Path

    shutil.copytree(finished[0], tmp_path / "store")
    store = Store(tmp_path / "store")
    names = sorted(path.stem for path in (tmp_path / "store" / "cells").glob("*.json"))

    def busy(self):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", busy)
        with pytest.raises(OSError, match="Too many open files"):
            store.read(names[0])
    assert not store.set_aside and store.read(names[0]) is not None


def test_arrays_survive(tmp_path):
    store = Store(tmp_path)
    store.checkpoint_path("0" * 16).mkdir(parents=True)
    assert store.load_checkpoint("0" * 16) is None and store.set_aside
    store.save_checkpoint("0" * 16, {"w": np.ones(3)}, {})
    assert store.intact("0" * 16)


def test_one_sequence_has_no_error_and_the_report_survives(tmp_path, capsys):
    """The target for an error that cannot be had."""
    words = run_command(tmp_path / "store", tmp_path / "out", *GIVEN, "--target-se", "0.05",
                        settings=[*QUICK[:2], "likelihood.sequences=1"])  # fmt: skip
    for _ in range(2):
        assert in_process(*words) == 0
        assert "Traceback" not in capsys.readouterr().err
    rows = [row for row in files.read_csv(tmp_path / "out" / "likelihood.csv") if row["estimator"] == "exact-k"]
    assert rows and all(row["nats_per_token_se"] is None for row in rows)
