"""The interface of launchers: where cells are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .component import Component


class Launcher(Component, ABC):
    """What runs the commands that make cells: `mist-bench cell HASH… --store DIR`.

    A command finds its cells described in the store and writes them there, so that it may run in any process, or on any
    machine, that shares the store. Nothing else passes between it and the run, which reads progress from the store.
    """

    exclusive: ClassVar[bool] = False
    """True: each command has a machine to itself, so that cells whose speed is measured may be launched too."""
    automatic: ClassVar[bool] = False
    """True: a run on a CPU takes this launcher where no other is named and it runs at least two commands at once."""

    def at_once(self) -> int:
        """How many commands run at once."""
        return 1

    @abstractmethod
    def launch(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Run each command and give their exit statuses, in order. Called in a thread of its own."""

    def stop(self) -> None:  # noqa: B027 - a launcher that has nothing to stop needs none
        """Called in another thread if the run ends before `launch` returns: end the commands, so that it does."""
