"""Checks: named functions that raise `Failed` with what to change, or return a note."""

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
    """A check that failed: what is wrong, and what to change."""


def fail_on(problem: str) -> None:
    """Fail the check if there is a problem."""
    if problem:
        raise Failed(problem)


class Skipped(Exception):
    """A check that could not be run, and why."""


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
    """The outcome of one check."""

    subject: str
    """`sampler edges`, or the file that could not be used."""
    check: str
    promise: str
    status: Status
    message: str
    """What to change (failed), why not (skipped), or a note (ok; often empty)."""
    error: BaseException | None = None
    """The exception that the plugin's own code raised."""


_checks: dict[Kind, list[Check]] = {}
MODULES: dict[Kind, tuple[str, ...]] = {
    "sampler": ("samplers", "sampler_facts"),
    "corpus": ("corpora", "oracles"),
}
"""Modules of the checks of a kind, if not the one named by its plural."""


def check(kind: Kind) -> Callable[[Callable[[Any], str | None]], Callable[[Any], str | None]]:
    """Register a function as a check of this kind; its name and docstring are what the user reads."""

    def register(function: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
        promise = inspect.cleandoc(function.__doc__ or "").partition("\n")[0].rstrip(".")
        name = function.__name__.replace("_", "-")
        _checks.setdefault(kind, []).append(Check(kind=kind, name=name, promise=promise, function=function))
        return function

    return register


def checks_of(kind: Kind) -> list[Check]:
    """The checks of a kind, in the order in which they run."""
    for module in MODULES.get(kind, (PLURALS[kind],)):
        import_module(f".{module}", __package__)
    return _checks.get(kind, [])


class Study:
    """What the checks of one component share: each value is computed once, and an error is reported once."""

    def __init__(self, component: Any, registry: Registry) -> None:
        self.component, self.registry = component, registry
        self._made: dict[Hashable, Any] = {}
        self._broken: dict[Hashable, str] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """The result of `make`, cached under `key`. If it failed before, the check that asks again is skipped."""
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
        """The argument of its checks: a `Study` of its kind."""
        found: Study = import_module(f".{PLURALS[self.kind]}", __package__).study(self.component, self.registry)
        return found

    def run(self, check: Check) -> Result:
        """Run one check. An exception of the plugin is a failure, reported in one line with the place in its file."""
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
    """Whether an error, or its cause, is a missing network or file."""
    while error is not None:
        if isinstance(error, OSError):
            return True
        error = error.__cause__
    return False
