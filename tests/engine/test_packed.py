"""`Packed`: what is packed on the host is read back by name within a graph, bit for bit."""

from typing import NamedTuple

import numpy as np
import pytest
from tinygrad import Tensor

from mist_bench.engine.graph import Graph, Inbox
from mist_bench.engine.packed import Field, Packed
from mist_bench.inference.step import step_inputs
from mist_bench.training.batch import batch_inputs


class Three(NamedTuple):
    ids: Tensor
    rate: Tensor
    key: Tensor


LAYOUT = Packed(Three, ids=Field("int32", (2, 3)), rate=Field("float32"), key=Field("uint32", (2,)))
VALUES = {"ids": np.arange(6).reshape(2, 3) - 3, "rate": 1 / 3, "key": (2**32 - 1, 7)}


def test_fields_lie_one_after_another():
    assert LAYOUT.size == 9
    words = LAYOUT.pack(**VALUES)
    assert words.dtype == np.int32 and words[:6].tolist() == [-3, -2, -1, 0, 1, 2]
    assert words[6:7].view(np.float32)[0] == np.float32(1 / 3) and words[7:].view(np.uint32).tolist() == [2**32 - 1, 7]


def test_a_graph_reads_them_by_name():
    def read(words):
        return [x.contiguous().realize() for x in LAYOUT.unpack(words)]

    graph, inbox = Graph("three", read), Inbox(LAYOUT.size)
    for shift in (0, 1, 2):
        ids, rate, key = graph(inbox(LAYOUT.pack(**{**VALUES, "ids": VALUES["ids"] + shift})))
        np.testing.assert_array_equal(ids.numpy(), VALUES["ids"] + shift)
        assert rate.shape == () and rate.item() == np.float32(1 / 3)
        assert key.numpy().dtype == np.uint32 and key.tolist() == [2**32 - 1, 7]


def test_wrong_values_are_refused():
    with pytest.raises(TypeError, match="the fields are ids, rate, key, not ids, rate"):
        LAYOUT.pack(ids=VALUES["ids"], rate=1.0)
    with pytest.raises(TypeError, match=r"field 'ids' has the shape \(2, 3\), not \(3, 2\)"):
        LAYOUT.pack(**{**VALUES, "ids": VALUES["ids"].T})


@pytest.mark.parametrize("layout", [step_inputs(3), batch_inputs(3, 5)], ids=["generation", "training"])
def test_the_layouts_in_use_read_what_was_packed(layout):
    rng = np.random.default_rng(0)
    values = {name: rng.integers(1, 100, field.shape).astype(field.dtype) for name, field in layout.fields.items()}
    back = layout.unpack(Tensor(layout.pack(**values)).realize())
    for name, value in values.items():
        read = getattr(back, name).numpy()
        assert read.dtype == value.dtype
        np.testing.assert_array_equal(read, value, err_msg=name)
