"""What a launcher implements: where the cells of a run are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .component import Component


class Launcher(Component, ABC):
    """Runs the commands that compute cells, `mist-bench cell HASH… --store DIR`: here, elsewhere, or through a queue.

    A command is a list of arguments, the program first. It reads the description of its cells from the store and writes
    its results there, so it may run in any process, and on any machine, that shares the store. The run reads progress
    and results from the store as well: nothing else passes between it and the command.
    """

    exclusive: ClassVar[bool] = False
    """True: each command has a machine to itself, so that generations may run there. Speeds are always measured by the
    run itself, in turn."""
    automatic: ClassVar[bool] = False
    """True: a run on a CPU uses this launcher if none is named and at least two commands can run at once."""

    def at_once(self) -> int:
        """How many commands run at once."""
        return 1

    @abstractmethod
    def launch(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Run each command once, and return the exit statuses in the order of the commands once all have ended. A
        command that fails does not stop the rest. Called in a thread of its own."""

    def stop(self) -> None:  # noqa: B027 - a launcher without processes of its own has nothing to stop
        """End the commands, so that `launch` returns. Called from another thread if the run is interrupted, perhaps
        twice, or after all commands have ended. Does nothing by default."""
