"""What a launcher implements: where the cells of a run are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .component import Component


class Launcher(Component, ABC):
    """Runs commands, each of which makes one cell of a run: on this machine, on several, or through a queue.

    A command is a list of arguments, the program first. It writes its result into the run's store, so wherever it runs
    it must see the store's folder. The launcher decides how many run at a time, and waits for all of them.
    """

    exclusive: ClassVar[bool] = False
    """True: each command has a machine to itself, so that cells whose speed is measured may run there."""

    @abstractmethod
    def launch(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Run each command once, and return the exit statuses in the order of the commands once all have ended. A
        command that fails does not stop the rest."""

    def stop(self) -> None:  # noqa: B027 - most have nothing left to stop
        """Called when the run is interrupted: end what `launch` has started. Does nothing by default; it may be called
        from another thread, also when nothing runs."""
