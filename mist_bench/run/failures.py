"""The errors that end one cell and not the run, and how they are reported in one line."""

from __future__ import annotations

from ..api.component import UserError
from ..host.discovery import describe_error, error_text
from ..host.registry import Registry

FAILURES = (UserError, ArithmeticError, ValueError, RuntimeError, MemoryError, TypeError, AttributeError, LookupError,
            NameError, AssertionError, ImportError)  # fmt: skip
"""What a cell may fail with; the run goes on without it."""


def why(error: Exception, registry: Registry) -> str:
    """Why a cell failed, in one line. What is no message of ours may come from a plugin: then the place in its file."""
    if isinstance(error, UserError):
        return error_text(error)
    return describe_error(error, [plugin.file for plugin in registry.plugins()])
