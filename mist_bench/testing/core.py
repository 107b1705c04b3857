"""What a check is: a named function that raises `Failed` with what to change, or gives a note about what it saw."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, Literal, TypeVar

from ..api.component import Component
from ..host.discovery import describe_error
from ..host.registry import PLURALS, Kind, Registry

T = TypeVar("T")
Status = Literal["ok", "failed", "skipped"]


class Failed(AssertionError):
    """A check that failed: what was seen, and what to change."""


class Skipped(Exception):
    """A check that could not be made, and why."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One promise that every component of a kind makes."""

    kind: Kind
    name: str
    promise: str
    """The first line of the function's docstring: what holds if the check passes."""
    function: Callable[[Any], str | None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one check."""

    subject: str
    """`sampler edges`, or the file that could not be used."""
    check: str
    promise: str
    status: Status
    message: str
    """What to change (failed), why not (skipped), or a note (ok; often empty)."""
    error: BaseException | None = None
    """What the plugin's own code raised."""


_checks: dict[Kind, list[Check]] = {}
MODULES: dict[Kind, tuple[str, ...]] = {
    "sampler": ("samplers", "sampler_facts"),
    "corpus": ("corpora", "oracles"),
}
"""Where the checks of a kind are, if not in the module of its plural."""


def check(kind: Kind) -> Callable[[Callable[[Any], str | None]], Callable[[Any], str | None]]:
    """Register a function as a check of this kind; its name and docstring are what the user reads."""

    def register(function: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        promise = inspect.cleandoc(function.__doc__ or "").partition("\n")[0].rstrip(".")
        name = function.__name__.replace("_", "-")
        _checks.setdefault(kind, []).append(Check(kind=kind, name=name, promise=promise, function=function))
        return function

    return register


def checks_of(kind: Kind) -> list[Check]:
    """The checks of a kind, in the order in which they are made."""
    for module in MODULES.get(kind, (PLURALS[kind],)):
        import_module(f".{module}", __package__)
    return _checks.get(kind, [])


class Study:
    """What the checks of one component share: each thing is made once, and an error is met once."""

    def __init__(self, component: Any, registry: Registry) -> None:
        self.component, self.registry = component, registry
        self._made: dict[Hashable, Any] = {}
        self._broken: dict[Hashable, str] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, kept under `key`. If it failed before, the check that asks again is skipped."""
        if key in self._broken:
            raise Skipped(self._broken[key])
        if key not in self._made:
            try:
                self._made[key] = make()
            except Exception as error:
                self._broken[key] = str(error) if isinstance(error, Skipped) else "needs what failed above"
                raise
        found: T = self._made[key]
        return found


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A component to be checked."""

    kind: Kind
    component: Component
    registry: Registry = field(repr=False)

    @property
    def title(self) -> str:
        return f"{self.kind} {self.component.spec}"

    @cached_property
    def study(self) -> Study:
        """What its checks are given: a `Study` of its kind."""
        found: Study = import_module(f".{PLURALS[self.kind]}", __package__).study(self.component, self.registry)
        return found

    def run(self, check: Check) -> Result:
        """Make one check. Whatever the plugin raises is its failure, told in one line with the place in its file."""
        status: Status = "ok"
        raised: BaseException | None = None
        try:
            message = check.function(self.study) or ""
        except Skipped as error:
            status, message = "skipped", str(error)
        except Failed as error:
            status, message = "failed", str(error)
        except (Exception, SystemExit) as error:
            status, message, raised = "failed", describe_error(error, [inspect.getfile(type(self.component))]), error
        return Result(
            subject=self.title, check=check.name, promise=check.promise, status=status,
            message=" ".join(message.split()), error=raised,
        )  # fmt: skip


def unreachable(error: BaseException | None) -> bool:
    """Whether an error came from a network or a file that is not there, however it was reworded."""
    while error is not None:
        if isinstance(error, OSError):
            return True
        error = error.__cause__
    return False
