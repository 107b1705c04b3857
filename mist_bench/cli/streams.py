"""Outputs that may break: a closed pipe, a full disk, a closed stream. The work goes on, and it is said at the end."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any


class Unfailing:
    """A text stream whose first failing write is its last: what follows is dropped, and `problem` keeps the error."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.problem = stream, None if stream is not None else OSError(errno.EBADF, "it is closed")

    def write(self, text: str) -> int:
        if self.problem is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:  # of a closed stream it is a ValueError
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        if self.problem is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._fail(error)

    def isatty(self) -> bool:
        return self.problem is None and bool(self._stream.isatty())

    def _fail(self, error: Exception) -> None:
        self.problem = error if isinstance(error, OSError) else OSError(errno.EBADF, "it is closed")
        with contextlib.suppress(OSError, ValueError, AttributeError):  # else Python fails to flush it at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(io.StringIO() if self._stream is None else self._stream, name)


@contextlib.contextmanager
def unfailing() -> Iterator[Unfailing]:
    """Within, standard output and error are `Unfailing`; gives the output."""
    before, inside = (sys.stdout, sys.stderr), (Unfailing(sys.stdout), Unfailing(sys.stderr))
    sys.stdout, sys.stderr = inside
    try:
        yield inside[0]
    finally:
        for stream in inside:
            stream.flush()
        sys.stdout, sys.stderr = before
