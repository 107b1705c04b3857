"""Kernels on disk: reused by another process, one of the same release and processor."""

import os
import subprocess
import sys

import numpy as np
import pytest
from tinygrad import Tensor
from tinygrad.helpers import Context

from mist_bench.engine import kernel_cache
from mist_bench.engine.kernel_cache import Kernels, name
from mist_bench.engine.trusted_files import read


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A compiled kernel, its key, and its file."""
    from tinygrad import codegen
    from tinygrad.engine import realize

    kept = Kernels(tmp_path / "kernels", {})
    for module in (codegen, realize):
        monkeypatch.setattr(module, "to_program_cache", kept)
    values = np.random.default_rng(0).standard_normal((7, 13)).astype(np.float32)
    with Context(PARALLEL=0):
        out = (Tensor(values) * 3 + 1).realize().numpy()
    np.testing.assert_allclose(out, values * 3 + 1, rtol=1e-6)
    [(key, program)] = dict(kept).items()
    return key, program, tmp_path / "kernels" / name(key)


def test_a_kernel_is_kept_and_found_by_who_has_it_not(kernel):
    key, program, path = kernel
    assert path.exists() and read(path) is program  # tinygrad keeps one object of what is equal
    other = Kernels(path.parent, {})
    assert key in other and other[key] is program and other.get(key) is program
    assert (b"other", *key[1:]) not in other and other.get((b"other", *key[1:]), 5) == 5


def test_it_computes_the_same_in_another_process_without_lowering_it_again(tmp_path):
    code = (
        "from mist_bench.engine import compiler; compiler.prepare()\n"
        "from tinygrad import Tensor, codegen\n"
        "from tinygrad.helpers import Context\n"
        "import tinygrad.engine.realize as r\n"
        "made = []; own = r._compile_kernel\n"
        "r._compile_kernel = lambda task: made.append(1) or own(task)\n"
        "with Context(PARALLEL=0):\n"
        "    print((Tensor(list(range(48))).reshape(6, 8).float().exp().sum(axis=1)).tolist(), len(made))\n"
    )
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "DEV": "CPU"}
    first, again = (subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
                    for _ in range(2))  # fmt: skip
    assert first.rpartition("]")[0] == again.rpartition("]")[0]
    assert int(first.rpartition("]")[2]) > 0 and int(again.rpartition("]")[2]) == 0
    assert (tmp_path / "mist-bench" / "kernels").stat().st_mode & 0o777 == 0o700


def test_other_releases_processors_and_cuts_have_other_files(kernel, monkeypatch):
    key, _, path = kernel
    for place in range(len(kernel_cache._surroundings())):
        around = list(kernel_cache._surroundings())
        around[place] += " another"
        with monkeypatch.context() as patch:
            patch.setattr(kernel_cache, "_surroundings", lambda around=around: tuple(around))
            assert name(key) != path.name
    assert name((*key[:2], "CPU::arm64", *key[3:])) != path.name
