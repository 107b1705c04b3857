"""The tests of a file share one process, and with it their captured graphs and fixtures."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_each_test_is_in_a_group(request):
    """pytest-xdist 3.8 reads groups in vain where pytest is 9.2 or newer: each test would go anywhere."""
    assert all("@" in item.nodeid for item in request.session.items)
