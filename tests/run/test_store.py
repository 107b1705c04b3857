"""The store: content names the cell, floats keep every bit, and what is not whole is not there."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mist_bench import UserError
from mist_bench.run.store import Store, content_hash, plain

HASH = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_content_hash_is_sha256_of_canonical_json():
    # pinned by hand: sha256 of {"a":[1,0.1,null],"b":{"c":true}}
    content = {"b": {"c": True}, "a": (1, 0.1, None)}
    import hashlib

    expected = hashlib.sha256(b'{"a":[1,0.1,null],"b":{"c":true}}').hexdigest()[:16]
    assert content_hash(content) == expected


def test_content_hash_ignores_order_and_container_but_no_value():
    base = {"x": 1, "y": {"p": 0.5, "q": [1, 2]}}
    same = {"y": {"q": (np.int64(1), 2), "p": np.float64(0.5)}, "x": 1}
    assert content_hash(base) == content_hash(same)
    others = [{"x": 1.0, "y": base["y"]}, {"x": True, "y": base["y"]}, {"x": "1", "y": base["y"]}]
    others += [{"x": 1, "y": {"p": math.nextafter(0.5, 1), "q": [1, 2]}}, {"x": 1, "y": {"p": 0.5, "q": [2, 1]}}]
    assert len({content_hash(c) for c in [base, *others]}) == 1 + len(others)


@pytest.mark.parametrize("bad", [{"x": math.nan}, {"x": [math.inf]}, {"x": np.float32("nan")}])
def test_content_hash_refuses_nan(bad):
    with pytest.raises(ValueError, match="cannot be part"):
        content_hash(bad)


@pytest.mark.parametrize("bad", [{"x": object()}, {1: "x"}, {"x": Path("a")}, {"x": {1, 2}}])
def test_plain_refuses_what_json_cannot_say(bad):
    with pytest.raises(TypeError):
        plain(bad)


def test_record_round_trips_every_bit_and_nan_is_empty(store):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 2**60 + 1, float(np.float32(0.1))]
    store.write(HASH, {"values": values, "nan": math.nan, "inf": -math.inf, "zero": 0, "text": "≤ “mist”"})
    back = store.read(HASH)
    assert [repr(v) for v in back["values"]] == [repr(v) for v in values]
    assert back["nan"] is None and back["inf"] is None and back["zero"] == 0 and back["text"] == "≤ “mist”"
    assert store.status(HASH) == "done"


def test_missing_failed_done(store):
    assert store.status(HASH) == "missing" and store.read(HASH) is None and store.failure(HASH) is None
    store.write_failure(HASH, "out of memory")
    assert store.status(HASH) == "failed" and store.read(HASH) is None and store.failure(HASH) == "out of memory"
    store.write(HASH, {"loss": 1.5})
    assert store.status(HASH) == "done" and store.failure(HASH) is None
    store.write_failure(HASH, "a later run was killed")
    assert store.read(HASH) == {"loss": 1.5}


def test_content_must_match_the_name(store):
    content = {"kind": "training", "steps": 3}
    with pytest.raises(ValueError, match="hashes to"):
        store.write(HASH, {"content": content})
    name = content_hash(content)
    store.write(name, {"content": content, "loss": 2.0})
    assert store.read(name)["loss"] == 2.0
    path = store.cell_path(name)
    path.write_text(path.read_text().replace('"steps": 3', '"steps": 4'))
    assert store.read(name) is None


def test_every_truncation_of_a_cell_counts_as_absent(store):
    store.write(HASH, {"loss": 1.25, "name": "é"})
    path = store.cell_path(HASH)
    whole = path.read_bytes()
    for cut in range(len(whole) - 1):  # without its last newline it is still whole
        path.write_bytes(whole[:cut])
        assert store.status(HASH) == "missing", cut
        assert not path.exists() and path.with_name(path.name + ".damaged").exists()
    path.write_bytes(whole)
    assert store.read(HASH) == {"loss": 1.25, "name": "é"}


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"hash": "ffff", "status": "done", "record": {}}',
                                  f'{{"hash": "{HASH}", "status": "done", "record": {{"x": NaN}}}}',
                                  f'{{"hash": "{HASH}", "status": "almost", "record": {{}}}}'])  # fmt: skip
def test_a_file_that_does_not_belong_counts_as_absent(store, text):
    store.cell_path(HASH).parent.mkdir(parents=True)
    store.cell_path(HASH).write_text(text)
    assert store.status(HASH) == "missing"


KILLED = """
import os, signal, sys
import numpy as np
from mist_bench.run.store import Store
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store = Store(sys.argv[1])
if sys.argv[2] == "cell":
    store.write("0123456789abcdef", {"loss": 2.0})
else:
    store.save_checkpoint("0123456789abcdef", {"w": np.ones(3)}, {"step": 2})
"""


@pytest.mark.parametrize("kind", ["cell", "checkpoint"])
@pytest.mark.parametrize("earlier", [False, True])
def test_killed_between_temporary_file_and_rename(store, kind, earlier):
    if earlier:
        store.write(HASH, {"loss": 1.0})
        store.save_checkpoint(HASH, {"w": np.zeros(3)}, {"step": 1})
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.path), kind], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert len(list(store.path.rglob(".*.tmp"))) == 1, "the child must have died after writing the temporary file"
    if earlier:
        assert store.read(HASH) == {"loss": 1.0} and store.load_checkpoint(HASH)[1] == {"step": 1}
    else:
        assert store.status(HASH) == "missing" and store.load_checkpoint(HASH) is None
    store.write(HASH, {"loss": 3.0})
    assert store.read(HASH) == {"loss": 3.0}


def test_an_exception_while_writing_leaves_no_temporary_file(store, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        store.write(HASH, {})
    assert [p for p in store.path.rglob("*") if p.is_file()] == []


def test_checkpoint_round_trips_bit_for_bit(store):
    rng = np.random.default_rng(0)
    tensors = {
        "transposed": rng.normal(size=(3, 4)).astype(np.float32).T,
        "strided": np.arange(20)[::3],
        "scalar": np.float64(1 / 3) * np.ones(()),
        "empty": np.zeros((0, 2), np.int32),
        "half": rng.normal(size=5).astype(np.float16),
    }
    store.save_checkpoint(HASH, tensors, {"step": 7, "lr": 0.1, "nan": math.nan, "shape": (1, 2)})
    back, metadata = store.load_checkpoint(HASH)
    assert metadata == {"step": 7, "lr": 0.1, "nan": None, "shape": [1, 2]}
    assert set(back) == set(tensors)
    for name, array in tensors.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes()


def test_a_damaged_checkpoint_counts_as_absent(store):
    store.save_checkpoint(HASH, {"w": np.arange(50, dtype=np.float32)}, {"step": 1})
    path = store.checkpoint_path(HASH)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-9] ^= 1  # safetensors alone would not notice one bit of the data
    for damaged in [b"", whole[:4], whole[: len(whole) // 2], whole[:-1], bytes(flipped), whole + b"x"]:
        path.write_bytes(damaged)
        assert store.load_checkpoint(HASH) is None
        assert not path.exists() and path.with_name(path.name + ".damaged").exists()
    path.with_name("ffffffffffffffff.safetensors").write_bytes(whole)
    assert store.load_checkpoint("ffffffffffffffff") is None, "a checkpoint under another cell's name"


def test_ensure_writable(store, tmp_path):
    store.ensure_writable()
    assert sorted(p.name for p in store.path.iterdir()) == ["cells", "checkpoints"]
    assert not [p for p in store.path.rglob("*") if p.is_file()]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--store DIR") as caught:
        Store(tmp_path / "file").ensure_writable()
    assert "\n" not in str(caught.value)


def test_a_cell_is_readable_json(store):
    store.write(HASH, {"loss": 0.5})
    assert json.loads(store.cell_path(HASH).read_text())["record"] == {"loss": 0.5}
