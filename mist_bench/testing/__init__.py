"""The conformance kit: what every plugin promises, checked. `mist-bench check` and an author's own tests use it.

A test file of two lines:

    from mist_bench.testing import conformance
    test_conformance = conformance("my_sampler.py")

Importing this loads no tinygrad, and a test session that never uses it loads nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .core import Check, Result, Subject, checks_of
from .subjects import Found, find

__all__ = ["Check", "Found", "Result", "Subject", "checks_of", "conformance", "find"]


def conformance(*targets: str | Path, plugin_files: Sequence[str | Path] = ()) -> Callable[..., None]:
    """A pytest test with one case for each check of each component of the targets.

    A target is a plugin file, relative to the file that calls this, or the name of a component, such as
    `"confidence[score=max]"`, of an installed plugin or of one of `plugin_files`. Raises `UserError` as
    `mist-bench check` does.
    """
    import pytest

    folder = Path(sys._getframe(1).f_globals.get("__file__") or "").resolve().parent
    found = find([_beside(folder, t) for t in targets], [Path(_beside(folder, p)) for p in plugin_files])
    cases: list[Any] = [pytest.param(result, None, id=f"{result.subject}: {result.check}") for result in found.problems]
    for subject in found.subjects:
        cases += [pytest.param(subject, c, id=f"{subject.title}: {c.name}") for c in checks_of(subject.kind)]

    def test_conformance(subject: Any, check: Check | None) -> None:
        result = subject if check is None else subject.run(check)
        if result.status == "skipped":
            pytest.skip(result.message)
        if result.status == "failed":
            pytest.fail(f"{result.promise}: {result.message}", pytrace=False)

    parametrised: Callable[..., None] = pytest.mark.parametrize(("subject", "check"), cases)(test_conformance)
    return parametrised


def _beside(folder: Path, target: str | Path) -> str | Path:
    """A file beside the test file, if there is one; else what was given."""
    near = folder / target
    return near if near.is_file() else target
