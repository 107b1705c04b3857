"""Ctrl-C that is never lost, and SIGTERM, which ends a command in the same way."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.01


class Terminated(KeyboardInterrupt):
    """Another process asked this one to end (SIGTERM): what runs is left as it is after a Ctrl-C."""


@contextmanager
def never_lost() -> Iterator[None]:
    """Within, each SIGINT ends in a KeyboardInterrupt, and each SIGTERM in a `Terminated`, which is one.

    Python prints and drops exceptions that are raised while an object is finalized, and tinygrad finalizes thousands of
    objects per second. A dropped interrupt is sent again, silently, until it reaches the code that runs. This
    holds also where SIGINT was ignored before, as it is in what a script of the shell runs in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    shown, main, timers = sys.unraisablehook, threading.get_ident(), set[threading.Timer]()

    def send_again(number: int) -> None:
        timer = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, number))
        timer.daemon = True
        timers.add(timer)
        timer.start()

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            send_again(signal.SIGTERM if issubclass(what.exc_type, Terminated) else signal.SIGINT)
        else:
            shown(what)

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame:
            if frame.f_code is dropped.__code__:  # what the hook itself raises is dropped without a hook
                return send_again(number)
            frame = frame.f_back
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = shown
        for number, handler in handlers.items():
            signal.signal(number, handler)
