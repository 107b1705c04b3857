"""Ctrl-C at the worst moment."""

import signal
import sys

import pytest
from rich.console import Console

from mist_bench.cli.progress import Display


class Finalized:
    def __init__(self, then=None):
        self.then = then

    def __del__(self):
        if self.then:
            raise self.then
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_python_loses_ends_the_work_at_the_next_report(monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: lost.append(what.exc_type))
    hook, handler = sys.unraisablehook, signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Display(1, Console(quiet=True)) as display:
        display.begin("a", "a cell")
        display.report("a", 1, 3, "")
        Finalized(ValueError("a fault"))
        Finalized()  # what it raises is lost
        display.report("a", 2, 3, "")
        raise AssertionError("it went on")
    assert lost == [ValueError], "a lost interrupt is not shown, with a traceback, as a fault"
    assert signal.getsignal(signal.SIGINT) is handler and sys.unraisablehook is hook
