"""Lint and types, beside the tests, so that no core waits for them."""

import subprocess
import sys

import pytest

from harness import ROOT


@pytest.mark.slow
@pytest.mark.xdist_group("lint")
@pytest.mark.parametrize("words", [("ruff", "check", "."), ("mypy",)], ids=["ruff", "mypy"])
def test_nothing_is_found(words):
    found = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
