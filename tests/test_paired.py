"""Pairs of models on the same sequences: differences and ratios with errors that cover the truth."""

import numpy as np
import pytest

from mist_bench import paired
from mist_bench.cells import Cell

LENGTH = 8


def likelihood_cell(family, estimator, kind, needs=(), **labels) -> Cell:
    content = {"family": family, "estimator": estimator, "kind": kind, "needs": list(needs), **labels}
    labels = {"family": family, "estimator": estimator, "kind": kind, **labels}
    return Cell(kind="likelihood", content=content, labels=labels, needs=tuple(needs))


def recorded(*pairs):
    """Cells with their values -> the cells, and their records by hash."""
    return [cell for cell, _ in pairs], {cell.hash: {"per_sequence": list(values)} for cell, values in pairs}


def test_a_chain_rule_is_compared_with_its_own_bound_on_its_own_sequences():
    chain = likelihood_cell("mdlm", "chain-rule", "chain-rule", ["a"])
    cells, records = recorded(
        (likelihood_cell("mdlm", "exact-k", "bound", ["b"]), [50.0] * 4),
        (likelihood_cell("mdlm", "weighted", "bound", ["a"]), [40.0] * 4),
        (likelihood_cell("mdlm", "exact-k", "bound", ["a"]), [10.0, 12.0, 14.0, 99.0]),
        (chain, [9.0, 10.0, 11.0]),
    )
    found = paired.columns(cells, records, np.arange(4), LENGTH)
    assert list(found) == [chain.hash]
    assert found[chain.hash]["bound_minus_chain_rule"] == pytest.approx(2 / LENGTH)
    assert found[chain.hash]["bound_minus_chain_rule_se"] == pytest.approx(1 / np.sqrt(3) / LENGTH)
