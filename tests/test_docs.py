"""The examples of docs/write-a-sampler.md run as they stand."""

import re
from pathlib import Path

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import world
from mist_bench_plugins.family_oracle import OracleModel
from mist_bench_plugins.schedule_linear import LinearSchedule

from mist_bench.evaluation import MaskedEvaluator
from mist_bench.generation import SamplerGraph, generate
from mist_bench.registry import Registry

PAGE = Path(__file__).parent.parent / "docs" / "write-a-sampler.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("number", "spec"), [(0, "edges"), (1, "coin[boost=1.5]")])
def test_the_examples_fill_a_text(number, spec, tmp_path):
    file = tmp_path / "my_sampler.py"
    file.write_text(BLOCKS[number], encoding="utf-8")
    registry = Registry.discover([file])
    assert not registry.failures
    oracle = world(3, 4, 1.2)
    evaluator = MaskedEvaluator("oracle", OracleModel(oracle), 8)
    graph = SamplerGraph(registry.make("sampler", spec), 8, 4, oracle.vocab_size)
    empty = np.full((8, 4), oracle.vocab_size, dtype=np.int32)
    made, _ = generate(
        evaluator, graph, LinearSchedule(), 4, empty, seed=0, sequences=np.arange(8), temperature=1.0
    )
    assert (made < 3).all()


def test_every_example_was_tried():
    assert len(BLOCKS) == 2
