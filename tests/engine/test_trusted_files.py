"""Expressions on disk: the same after reading, and never trusted where somebody else could have written them."""

import hashlib
import io
import os
import pickle

import pytest
from tinygrad import Tensor

from mist_bench.engine.tinygrad_private import buffers_of
from mist_bench.engine.trusted_files import READABLE, _Reader, read, write


@pytest.fixture
def expression(tmp_path):
    """An expression, and its file."""
    made = (Tensor.empty(7, 13) * 3 + 1).sum(axis=1).uop
    write(tmp_path / "kept" / "it", made)
    return made, tmp_path / "kept" / "it"


def test_what_is_read_is_what_was_written(expression):
    made, path = expression
    assert read(path) is made  # tinygrad keeps one object of what is equal


def test_an_expression_deeper_than_python_recurses(tmp_path):
    deep = Tensor.empty(3).uop
    for _ in range(5000):
        deep = deep.exp()
    write(tmp_path / "kept" / "deep", deep)
    assert read(tmp_path / "kept" / "deep") is deep


def test_the_memory_of_a_tensor_is_not_written(tmp_path):
    place = Tensor([1.0, 2.0, 3.0]).realize().uop.base
    write(tmp_path / "kept" / "place", place)
    assert len(buffers_of(place)[0].numpy()) == 3
    assert (tmp_path / "kept" / "place").stat().st_size < 1000 and read(tmp_path / "kept" / "place") is place


@pytest.mark.parametrize("change", ["cut", "flipped", "empty", "group", "others", "folder", "gone"])
def test_what_is_damaged_or_could_be_anothers_is_ignored(expression, change):
    _, path = expression
    data = path.read_bytes()
    spoiled = {"cut": data[:-7], "flipped": data[:50] + bytes([data[50] ^ 1]) + data[51:], "empty": b""}
    if change in spoiled:
        path.write_bytes(spoiled[change])
    elif change == "gone":
        path.unlink()
    else:
        where = path.parent if change == "folder" else path
        where.chmod(where.stat().st_mode | (0o020 if change == "group" else 0o002))
    assert read(path) is None


def test_another_users_file_is_ignored(expression, monkeypatch):
    _, path = expression
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert read(path) is None


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_a_file_that_would_run_code_runs_none(expression, tmp_path, monkeypatch):
    _, path = expression
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Evil())
    path.write_bytes(hashlib.sha256(data).digest() + data)
    assert read(path) is None and not (tmp_path / "pwned").exists()



def test_the_classes_that_may_be_read_are_tinygrads_and_there(tmp_path):
    reader = _Reader(io.BytesIO())
    for module, names in READABLE.items():
        assert module.startswith("tinygrad.")
        for name in names:
            assert reader.find_class(module, name).__name__ == name
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system is not part of an expression"):
        reader.find_class("os", "system")


def test_a_folder_that_cannot_be_written_costs_nothing_else(expression, tmp_path):
    made, _ = expression
    (tmp_path / "file").write_text("")
    write(tmp_path / "file" / "x", made)
    assert read(tmp_path / "file" / "x") is None
