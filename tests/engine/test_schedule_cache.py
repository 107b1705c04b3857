"""Schedules on disk: found by another process, and only for the same graph under the same settings and releases."""

import os
import subprocess
import sys

from tinygrad import Tensor
from tinygrad.helpers import Context

from mist_bench.engine import schedule_cache
from mist_bench.engine.schedule_cache import VARIABLES, name, on_disk

TRAINING = """
import numpy as np, sys
from mist_bench.engine import compiler; compiler.prepare()
others = [object() for _ in range(int(sys.argv[1]))]  # what follows lies elsewhere in memory in each process
from tinygrad import Tensor, nn
from tinygrad.schedule import rangeify
cut, own = [], rangeify.run_rangeify
rangeify.run_rangeify = lambda *arguments: cut.append(1) or own(*arguments)
table = nn.Embedding(5, 3)
table.weight = Tensor(np.arange(15.0, dtype=np.float32).reshape(5, 3)).is_param_()
loss = table(Tensor([[0, 4, 4]])).square().sum()
loss.backward()
print(table.weight.grad.tolist(), len(cut))
"""


def test_another_process_finds_the_schedule_of_a_gradient_and_computes_the_same(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "DEV": "CPU"}
    outs = [subprocess.run([sys.executable, "-c", TRAINING, many], env=env, capture_output=True, text=True, check=True)
            for many in ("1", "100000")]  # fmt: skip
    (first, cut), (again, cut_again) = (out.stdout.rsplit(" ", 1) for out in outs)
    zeros = [[0.0] * 3] * 3
    assert first == again == str([[0.0, 2.0, 4.0], *zeros, [48.0, 52.0, 56.0]])
    assert int(cut) > 0 and int(cut_again) == 0
    assert (tmp_path / "mist-bench" / "schedules").stat().st_mode & 0o777 == 0o700


PLACE = Tensor.empty(4)


def graph(grad_fxn=None, factor=2):
    return PLACE.call(fxn=PLACE.as_param(0) * factor, grad_fxn=grad_fxn).sum().uop.sink()


def test_a_graph_is_cut_once_and_read_from_then_on(tmp_path):
    calls = []
    cut = on_disk(lambda g: calls.append(g) or g.src[0].sink(), tmp_path / "schedules")
    made = graph()
    assert cut(made) is cut(made) is made.src[0].sink()
    assert calls == [made]
    [file] = (tmp_path / "schedules").iterdir()
    assert file.name == name(made)


def test_the_function_of_a_gradient_is_not_part_of_the_name_and_all_else_is(monkeypatch):
    made = graph()
    assert name(graph(lambda *a: None)) == name(graph(lambda *a: 1)) == name(made)
    assert name(graph(factor=3)) != name(made)
    names = [name(made)]
    with Context(SPLIT_REDUCEOP=0):
        names.append(name(made))
    for variable in VARIABLES:
        with monkeypatch.context() as patch:
            patch.setenv(variable, "7")
            names.append(name(made))
    monkeypatch.setattr(schedule_cache, "_releases", lambda: ("another", "release"))
    names.append(name(made))
    assert len(set(names)) == len(names) == 7


def test_without_caches_nothing_is_read_or_written(tmp_path):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "DEV": "CPU", "CCACHE": "0"}
    subprocess.run([sys.executable, "-c", TRAINING, "1"], env=env, capture_output=True, check=True)
    assert not (tmp_path / "mist-bench" / "schedules").exists()
