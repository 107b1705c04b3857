"""Parameters in one buffer: each at its offset, matrices first, and the gaps stay zero."""

import numpy as np
import pytest
from tinygrad import Tensor

from mist_bench.training.parameters import ALIGNMENT, Layout

SHAPES = {"a": (5,), "b": (3, 7), "c": (2, 3, 4), "d": (ALIGNMENT,), "e": (8, 8)}
VALUES = {name: np.random.default_rng(i).standard_normal(shape).astype(np.float32)
          for i, (name, shape) in enumerate(SHAPES.items())}  # fmt: skip
LAYOUT = Layout({name: Tensor(value) for name, value in VALUES.items()})


def test_matrices_come_first_and_each_begins_at_a_vector():
    starts = {name: place.start for name, place in LAYOUT.places.items()}
    assert all(start % ALIGNMENT == 0 for start in starts.values())
    assert {name for name, start in starts.items() if start < LAYOUT.matrices} == {"b", "c", "e"}
    ranges = sorted((place.start, place.stop) for place in LAYOUT.places.values())
    assert all(stop <= start for (_, stop), (start, _) in zip(ranges, ranges[1:], strict=False))
    assert ranges[-1][1] <= LAYOUT.size


@pytest.mark.parametrize("count", [1, 1024 * 3, 1024 * 3 + 1, 1024 * 8])
def test_the_whole_divides_well_and_its_squares_add_up(count):
    layout = Layout({"a": Tensor.zeros(count)})
    assert layout.size % 1024 == 0 and layout.size % 3 and count <= layout.size < count + 1024 + 1024 + ALIGNMENT
    values = np.random.default_rng(0).standard_normal(layout.size).astype(np.float32)
    assert layout.square_sum(Tensor(values)).item() == pytest.approx(np.square(values, dtype=np.float64).sum(), rel=1e-6)


def test_what_is_joined_is_split_again():
    flat = LAYOUT.join(VALUES)
    assert flat.dtype == np.float32 and (flat != 0).sum() == sum(value.size for value in VALUES.values())
    for name, value in LAYOUT.split(flat).items():
        np.testing.assert_array_equal(value, VALUES[name])
    views = LAYOUT.views(Tensor(flat).realize())
    for name, value in VALUES.items():
        np.testing.assert_array_equal(views[name].numpy(), value)
    with pytest.raises(ValueError, match=r"b has shape \(7, 3\), not \(3, 7\)"):
        LAYOUT.join({**VALUES, "b": VALUES["b"].T})


def test_what_is_stored_lies_in_its_place_and_nowhere_else():
    flat = Tensor.full((LAYOUT.size,), 9.0).contiguous().realize()
    stored = LAYOUT.store(flat, {name: Tensor(value) * 2 for name, value in VALUES.items()})
    found = (stored * 1).numpy()
    for name, value in VALUES.items():
        np.testing.assert_array_equal(found[LAYOUT.places[name]].reshape(value.shape), 2 * value)
    assert (found == 9).sum() == LAYOUT.size - sum(value.size for value in VALUES.values())
