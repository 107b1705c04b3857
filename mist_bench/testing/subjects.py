"""The subjects of `mist-bench check`: the components of a plugin file, or of a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..api.component import UserError
from ..host.registry import BASES, Kind, Registry
from ..host.values import parse_spec, suggest
from .core import Result, Status, Subject


@dataclass(frozen=True, kw_only=True)
class Found:
    """The components to check, the problems of files, and notes for the user."""

    subjects: list[Subject]
    problems: list[Result]
    notes: list[str]


def find(targets: Sequence[str | Path], plugin_files: Sequence[Path] = (), kind: str | None = None) -> Found:
    """The components of these files and names (`confidence[score=max]`), of all kinds or of one.

    Raises `UserError` for an unknown name, wrong parameters, and a file that cannot be loaded.
    """
    if kind is not None and kind not in BASES:
        raise UserError(f"unknown kind {kind!r}; {suggest(kind, BASES)}")
    files = [Path(t).expanduser().resolve() for t in targets if _is_file(t)]
    registry = Registry.discover([*plugin_files, *files])
    found = Found(subjects=[], problems=[], notes=[])
    for target in targets:
        if _is_file(target):
            _of_file(registry, Path(target).expanduser().resolve(), kind, found)
        else:
            _of_name(registry, str(target), kind, found)
    return found


def _is_file(target: str | Path) -> bool:
    if isinstance(target, Path):
        return True
    if re.match(r"[a-z][a-z0-9_-]*[:\[]", target):  # `file:notes.py` is a corpus
        return False
    return target.endswith(".py") or Path(target).is_file()


def _of_name(registry: Registry, spec: str, kind: str | None, found: Found) -> None:
    name = parse_spec(spec).name
    known: list[Kind] = [k for k in BASES if kind in (None, k)]
    kinds = [k for k in known if name in registry.names(k)]
    if not kinds:
        every = {n for k in known for n in registry.names(k)}
        what = kind or "component"
        near = suggest(name, every)
        hint = near if near.startswith("did") else "name a plugin file (NAME.py), or a name that is listed"
        raise UserError(f"unknown {what} {name!r}; {hint} (mist-bench ls KIND)")
    if len(kinds) > 1:
        found.notes.append(f"{name!r} is a {' and a '.join(kinds)}; --kind {kinds[0]} checks one of them")
    for k in kinds:
        found.subjects.append(Subject(kind=k, component=registry.make(k, spec), registry=registry))


def _of_file(registry: Registry, path: Path, kind: str | None, found: Found) -> None:
    [plugin] = [p for p in registry.plugins() if p.file and Path(p.file).resolve() == path]
    names: list[tuple[Kind, str]] = [
        (k, n) for k in BASES if kind in (None, k) for n in registry.names(k) if registry.origin(k, n) is plugin
    ]
    found.problems.extend(_problem(path, message, "failed") for message in plugin.failures)
    if not names and not plugin.failures:
        found.problems.append(_problem(path, plugin.nothing(kind or "class"), "failed"))
    for k, name in names:
        try:
            found.subjects.append(Subject(kind=k, component=registry.make(k, name), registry=registry))
        except UserError as error:  # it has parameters without a default
            message = f"{error}; give it by name: mist-bench check '{name}[…]' --plugin {path.name}"
            found.problems.append(_problem(path, message, "skipped"))


def _problem(path: Path, message: str, status: Status) -> Result:
    promise = "The file is a plugin, and all that it yields can be used"
    return Result(subject=path.name, check="loads", promise=promise, status=status, message=message)
