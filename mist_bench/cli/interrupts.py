"""Ctrl-C that is never lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.01


@contextmanager
def never_lost() -> Iterator[None]:
    """Within, each SIGINT ends in a KeyboardInterrupt.

    Python prints and drops exceptions that are raised while an object is finalized, and tinygrad finalizes thousands of
    objects per second. A dropped interrupt is sent again, silently, until it reaches the code that runs. This
    holds also where SIGINT was ignored before, as it is in what a script of the shell runs in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    shown, main, timers = sys.unraisablehook, threading.get_ident(), set[threading.Timer]()

    def send_again() -> None:
        timer = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
        timer.daemon = True
        timers.add(timer)
        timer.start()

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            send_again()
        else:
            shown(what)

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame:
            if frame.f_code is dropped.__code__:  # what the hook itself raises is dropped without a hook
                return send_again()
            frame = frame.f_back
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = shown
        signal.signal(signal.SIGINT, handler)
