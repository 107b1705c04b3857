"""Discovery of plugins: installed distributions (entry-point group `mist_bench`) and loose files.

A plugin that fails never stops the others: its errors are recorded in its `failures`. `MIST_BENCH_STRICT=1` raises
them instead, which helps authors of plugins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from ..api import hooks
from ..api.component import UserError
from .values import suggest

GROUP = "mist_bench"
PREFIX = "mist_bench_"


@dataclasses.dataclass(kw_only=True)
class Plugin:
    """A plugin: its origin, the hooks that it implements, and its errors."""

    name: str
    """`distribution:entry-point`, or the path of a loose file."""
    distribution: str = ""
    version: str = ""
    entry_point: str = ""
    file: str = ""
    hooks: tuple[str, ...] = ()
    failures: list[str] = dataclasses.field(default_factory=list)

    def digest(self) -> str:
        """The sha256 of the plugin's file, which distinguishes an edited plugin from the one that made a result."""
        return hashlib.sha256(Path(self.file).read_bytes()).hexdigest() if self.file else ""

    def nothing(self, kind: str = "class") -> str:
        """The message for a plugin that provides nothing, or nothing of a kind."""
        if self.hooks:
            return f"its hooks yield no {kind}; yield the class in the hook"
        return (
            "it has no hooks; end it with a function such as mist_bench_samplers, marked @hookimpl, that yields the "
            "class"
        )

    def fail(self, message: str, error: BaseException | None = None) -> None:
        """Record an error; in strict mode, raise it."""
        if os.environ.get("MIST_BENCH_STRICT") == "1":
            raise error or RuntimeError(f"plugin {self.name}: {message}")
        self.failures.append(message)


def new_host() -> pluggy.PluginManager:
    """A pluggy manager with mist-bench's hooks and no plugins."""
    host = pluggy.PluginManager("mist_bench")
    host.add_hookspecs(hooks)
    return host


@contextlib.contextmanager
def same_folder() -> Iterator[None]:
    """Come back to the current folder, which a plugin may leave: results would go elsewhere."""
    here = os.getcwd()
    try:
        yield
    finally:
        os.chdir(here)


def load_installed(host: pluggy.PluginManager, distributions: Iterable[metadata.Distribution]) -> Iterator[Plugin]:
    """Load and register the installed plugins one by one: mist-bench's own first, then the other distributions by
    name."""
    for distribution in _with_plugins(distributions):
        own_name, version = distribution.name, distribution.version  # each reads the whole of its METADATA again
        for entry_point in sorted(distribution.entry_points.select(group=GROUP), key=lambda e: e.name):
            plugin = Plugin(
                # two distributions may use the same entry-point name, and pluggy would drop the second
                name=f"{own_name}:{entry_point.name}",
                distribution=own_name,
                version=version,
                entry_point=entry_point.name,
            )
            try:
                with same_folder():
                    module = entry_point.load()
            except (Exception, SystemExit) as error:
                plugin.fail(f"{type(error).__name__}: {error_text(error)}", error)
            else:
                plugin.file = str(getattr(module, "__file__", None) or "")
                register(host, module, plugin)
            yield plugin


def _with_plugins(distributions: Iterable[metadata.Distribution]) -> list[metadata.Distribution]:
    """The distributions with plugins, each once: after an editable install one may be listed twice."""
    by_name: dict[str, metadata.Distribution] = {}
    for distribution in distributions:
        try:
            if distribution.entry_points.select(group=GROUP):
                by_name.setdefault(re.sub(r"[-_.]+", "-", distribution.name).lower(), distribution)
        except Exception:  # a damaged installation of an unrelated package
            continue
    return [by_name[name] for name in sorted(by_name, key=lambda name: (name != "mist-bench", name))]


def named_files(plugin_files: Sequence[Path]) -> list[Path]:
    """The plugin files of the command line, then those of MIST_BENCH_PLUGINS, each once."""
    listed = [Path(p) for p in os.environ.get("MIST_BENCH_PLUGINS", "").split(os.pathsep) if p]
    return list(dict.fromkeys(path.expanduser().resolve() for path in [*plugin_files, *listed]))


def load_file(host: pluggy.PluginManager, path: Path) -> Plugin:
    """Load and register a plugin file. Raises `UserError` if it cannot be loaded, since the user named it."""
    if not path.is_file():
        raise UserError(f"no plugin file {str(path)!r}; name a Python file with --plugin or MIST_BENCH_PLUGINS")
    plugin = Plugin(name=str(path), file=str(path))
    try:
        with same_folder():
            module = _import_file(path)
    except (Exception, SystemExit) as error:
        message = f"{path}:{_line(error, path)}: {type(error).__name__}: {error_text(error)}"
        raise UserError(f"cannot load the plugin {message}") from error
    register(host, module, plugin)
    return plugin


def _import_file(path: Path) -> ModuleType:
    name = f"mist_bench_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look up their module
    try:
        # compiled from source each time: a cached .pyc may be older than an edit within the same second
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _line(error: BaseException, path: Path) -> int:
    """The line of the file at which an error was raised."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1


def register(host: pluggy.PluginManager, module: Any, plugin: Plugin) -> None:
    """Register a loaded plugin with pluggy, unless its hooks are wrong."""
    if not _hooks_are_valid(host, module, plugin):
        return
    try:
        host.register(module, name=plugin.name)
    except Exception as error:
        if host.has_plugin(plugin.name):  # pluggy 1.6 leaves it partly registered
            host.unregister(name=plugin.name)
        plugin.fail(error_text(error), error)
        return
    plugin.hooks = tuple(sorted(c.name for c in host.get_hookcallers(module) or () if c.has_spec()))


def _hooks_are_valid(host: pluggy.PluginManager, module: Any, plugin: Plugin) -> bool:
    """Record hooks that pluggy would silently ignore; False if the plugin must not be registered at all."""
    known = [name for name in vars(hooks) if name.startswith(PREFIX)]
    valid = True
    for attribute in dir(module):
        function = getattr(module, attribute, None)
        if not inspect.isroutine(function):
            continue
        marks = host.parse_hookimpl_opts(module, attribute)
        hook = (marks["specname"] if marks else None) or attribute
        if marks is None and attribute.startswith(PREFIX) and attribute in known:
            plugin.fail(f"{attribute} is not marked with @mist_bench.hookimpl")
        elif (marks is not None or attribute.startswith(PREFIX)) and hook not in known:
            plugin.fail(f"unknown hook {hook!r}; {suggest(hook, known)}")
        elif marks is not None and (marks.get("wrapper") or marks.get("hookwrapper")):
            plugin.fail(f"{attribute} is a hook wrapper; plugins only yield classes")
            valid = False
        elif marks is not None and _has_defaults(function):
            # whether pluggy passes such an argument depends on its version
            plugin.fail(f"{attribute} has an argument with a default; hooks take no arguments of their own")
            valid = False
    return valid


def _has_defaults(function: Any) -> bool:
    return any(p.default is not p.empty for p in inspect.signature(function).parameters.values())


def describe_error(error: BaseException, files: Iterable[str]) -> str:
    """One line about an error in plugin code: its type, the last line in these files that it passed, its message."""
    known = set(files)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in known]
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    text = error_text(error)
    return f"raised {type(error).__name__}{place}{f': {text[:300]}' if text else ''}{_hint(error, text)}"


def _hint(error: BaseException, text: str) -> str:
    """The usual cause of an error whose own message does not name it."""
    if "NoneType" in text:
        return "; if it is view.log_probabilities, set needs = frozenset({'log_probabilities'})"
    if "Jit" in type(error).__name__ or "jit" in text.lower():
        return "; a step is captured once: tensor operations only, state of the same shapes and types"
    return ""


def error_text(error: BaseException) -> str:
    """The message of an error on one line, without what a terminal would obey."""
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:  # a plugin's own exception may fail at this too
        return "(its message cannot be shown)"
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
