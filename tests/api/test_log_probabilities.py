"""Log-probabilities of tokens, picked from those of all tokens."""

import numpy as np
from tinygrad import Tensor

from mist_bench.api.log_probabilities import pick


def test_pick_gives_the_entry_of_each_token_and_0_for_a_mask():
    rng = np.random.default_rng(0)
    log_p, x = np.log(rng.dirichlet(np.ones(8), (3, 5))), rng.integers(0, 8, (3, 5))
    expected = np.take_along_axis(log_p, x[..., None], axis=-1)[..., 0]
    x[0, 0], expected[0, 0] = 8, 0
    np.testing.assert_allclose(pick(Tensor(log_p.astype(np.float32)), Tensor(x)).numpy(), expected, rtol=1e-6)
