"""The interface of launchers: where cells run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from .component import Component


class Launcher(Component, ABC):
    """Where cells run."""

    @abstractmethod
    def launch(self, commands: Sequence[Sequence[str]]) -> list[int]:
        """Run each command (one cell each) and give their exit statuses."""
