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
    """Another process asked this one to end, or its terminal is gone (SIGTERM, SIGHUP): what runs is left as it is
    after a Ctrl-C."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


@contextmanager
def never_lost() -> Iterator[None]:
    """Within, each SIGINT ends in a KeyboardInterrupt, and each SIGTERM or SIGHUP in a `Terminated`, which is one.

    Python prints and drops exceptions that are raised while an object is finalized, and tinygrad finalizes thousands of
    objects per second. A dropped interrupt is sent again, silently, until it reaches the code that runs. This
    holds also where SIGINT was ignored before, as it is in what a script of the shell runs in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    shown, main, timers = sys.unraisablehook, threading.get_ident(), set[threading.Timer]()
    raised = list[KeyboardInterrupt]()

    def send_again(number: int) -> None:
        timer = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, number))
        timer.daemon = True
        timers.add(timer)
        timer.start()

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            send_again(getattr(what.exc_value, "number", signal.SIGINT))
        else:
            shown(what)

    def interrupt(number: int, frame: FrameType | None) -> None:
        while frame:
            if frame.f_code is dropped.__code__:  # what the hook itself raises is dropped without a hook
                return send_again(number)
            frame = frame.f_back
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        raise raised[-1]

    hang_up = [number for number in (getattr(signal, "SIGHUP", None),)  # not with nohup, nor on Windows
               if number is not None and signal.getsignal(number) is not signal.SIG_IGN]  # fmt: skip
    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, *hang_up)}
    sys.unraisablehook = dropped
    try:
        yield
    except Exception as error:
        if raised:  # lost in code that makes an error of its own of it, such as a compilation
            raise raised[-1] from error
        raise
    finally:
        for timer in timers:
            timer.cancel()
        sys.unraisablehook = shown
        for number, handler in handlers.items():
            signal.signal(number, handler)
