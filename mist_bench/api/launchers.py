"""What a launcher implements: where the cells of a run are made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .component import Component


class Launcher(Component, ABC):
    """Runs commands that make the cells of a run: on this machine, on several, or through a queue.

    A command is a list of arguments, the program first: `mist-bench cell HASH… --store DIR`. It reads its cells from
    the run's store and writes them there, so wherever it runs it must see the store's folder; nothing else passes
    between it and the run. The launcher decides how many run at a time, and waits for all of them.
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
        """Run each command once, and return the exit statuses in the order of the commands once all have ended. A
        command that fails does not stop the rest. Called in a thread of its own."""

    def stop(self) -> None:  # noqa: B027 - a launcher that has nothing to stop needs none
        """End what `launch` has started, so that it returns. Called from another thread when the run is interrupted,
        also when nothing runs."""
