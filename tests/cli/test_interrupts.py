"""Ctrl-C at the worst moment."""

import signal
import sys
import threading
import time

import pytest

from mist_bench.cli.interrupts import never_lost


class Finalized:
    """Interrupts where Python drops what is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class Faulty:
    """Raises there."""

    def __del__(self):
        raise ValueError("a fault")


@pytest.fixture
def shown(monkeypatch):
    """The exceptions that Python would print."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append(what.exc_type))
    return found


def finalize_for(seconds):
    """What tinygrad does: one object is finalized after the other."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        Faulty()


@pytest.mark.parametrize("work", [lambda: time.sleep(60), lambda: finalize_for(60)], ids=["rests", "finalizes"])
def test_an_interrupt_that_python_drops_comes_again(work, shown):
    hook, handler, start = sys.unraisablehook, signal.getsignal(signal.SIGINT), time.monotonic()
    with pytest.raises(KeyboardInterrupt), never_lost():
        Finalized()
        work()
    assert time.monotonic() - start < 30, "it waited for the end"
    assert set(shown) <= {ValueError}, "an interrupt is not printed as a fault"
    assert signal.getsignal(signal.SIGINT) is handler and sys.unraisablehook is hook


def test_other_faults_are_printed_as_ever(shown):
    with never_lost():
        Faulty()
    assert shown == [ValueError]


def test_none_comes_after_the_end(shown):
    with never_lost():
        Finalized()
    time.sleep(0.1)


def test_a_background_process_is_interrupted_too():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), never_lost():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_may_run_a_command():
    def command():
        with never_lost():
            ran.append(True)

    ran = []
    thread = threading.Thread(target=command)
    thread.start()
    thread.join()
    assert ran
