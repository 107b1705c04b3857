"""What test files share: paths, networks and laws by enumeration, deliberately wrong plugins, ways to run a command."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TESTS = ROOT / "tests"
GRID = str(TESTS / "harness" / "grid.toml")
"""The smallest run that has everything."""
EXAMPLE = TESTS / "plugin_example"
"""A third party's distribution: one file and its pyproject.toml."""
