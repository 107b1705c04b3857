"""Registry of all plugins by kind and name: `registry.make("sampler", "confidence[score=max]")`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pluggy

from ..api.component import Component, UserError
from ..api.corpora import Corpus
from ..api.families import Family
from ..api.launchers import Launcher
from ..api.metrics import Metric
from ..api.samplers import Sampler, facts_problem
from ..api.schedules import Schedule
from ..api.tokenizers import Tokenizer
from .discovery import Plugin, error_text, load_file, load_installed, named_files, new_host
from .values import field_types, from_text, parse_spec, suggest, wanted

Kind = Literal["schedule", "sampler", "tokenizer", "corpus", "family", "metric", "launcher"]

PLURALS: dict[Kind, str] = {
    "schedule": "schedules",
    "sampler": "samplers",
    "tokenizer": "tokenizers",
    "corpus": "corpora",
    "family": "families",
    "metric": "metrics",
    "launcher": "launchers",
}
BASES: dict[Kind, type[Component]] = {
    "schedule": Schedule,
    "sampler": Sampler,
    "tokenizer": Tokenizer,
    "corpus": Corpus,
    "family": Family,
    "metric": Metric,
    "launcher": Launcher,
}
OWN = "mist-bench"
"""The distribution of the plugins that ship with mist-bench."""
NAME = re.compile(r"[a-z][a-z0-9_-]*")


class Registry:
    """The classes that all plugins provide, checked and sorted by name."""

    def __init__(self, host: pluggy.PluginManager, plugins: Iterable[Plugin]) -> None:
        self._plugins = list(plugins)
        self._classes: dict[Kind, dict[str, type[Component]]] = {kind: {} for kind in BASES}
        self._origins: dict[tuple[Kind, str], Plugin] = {}
        for kind in BASES:
            self._collect(host, kind)
        used = {id(plugin) for plugin in self._origins.values()}
        for plugin in self._plugins:
            if not plugin.distribution and not plugin.failures and id(plugin) not in used:
                plugin.fail(plugin.nothing())  # the user named this file, so it should have provided something

    @classmethod
    def discover(
        cls, plugin_files: Sequence[Path] = (), *, distributions: Iterable[metadata.Distribution] | None = None
    ) -> Registry:
        """A registry of the installed plugins and of these files. Raises `UserError` for a file that cannot be loaded.

        `distributions`: where to look for installed plugins, by default all that are installed.
        """
        host = new_host()
        plugins = list(load_installed(host, metadata.distributions() if distributions is None else distributions))
        loaded = {Path(plugin.file).resolve() for plugin in plugins if plugin.file}
        plugins += [load_file(host, path) for path in named_files(plugin_files) if path not in loaded]
        return cls(host, plugins)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """The errors of all plugins: (plugin, message)."""
        return [(plugin.name, message) for plugin in self._plugins for message in plugin.failures]

    def plugins(self) -> list[Plugin]:
        """All plugins in order of precedence, including those that failed."""
        return list(self._plugins)

    def names(self, kind: Kind) -> list[str]:
        """The sorted names of a kind."""
        return list(self._classes[kind])

    def with_defaults(self, kind: Kind) -> list[str]:
        """The sorted names of a kind that need no parameters."""
        return [name for name, cls in self._classes[kind].items() if not _missing(cls, ())]

    def origin(self, kind: Kind, name: str) -> Plugin:
        """The plugin that provides a name."""
        self.get(kind, name)
        return self._origins[kind, name]

    def get(self, kind: Kind, name: str) -> type[Any]:
        """The class of a name. Raises `UserError` with the nearest known name."""
        if name not in self._classes[kind]:
            problems = "; some plugins have problems: mist-bench plugins" if self.failures else ""
            hint = f"{suggest(name, self._classes[kind])} (mist-bench ls {PLURALS[kind]}{problems})"
            here = f"{name}.py is here: --plugin {name}.py; or " if Path(f"{name}.py").is_file() else ""
            raise UserError(f"unknown {kind} {name!r}; {here}{hint}")
        return self._classes[kind][name]

    def having(self, kind: Kind, fact: str) -> list[Any]:
        """The objects, by their defaults, whose class has `fact`: mist-bench's own classes first, then by name."""
        own = {name: self._origins[kind, name].distribution == OWN for name in self.names(kind)}
        names = sorted(self.with_defaults(kind), key=lambda name: (not own[name], name))
        return [made for name in names if getattr(made := self.make(kind, name), fact)]

    def first(self, kind: Kind, fact: str) -> Any:
        """The first of `having`. Raises `UserError` if there is none."""
        if found := self.having(kind, fact):
            return found[0]
        raise UserError(f"no {kind} has {fact}; install mist-bench with its own plugins (mist-bench plugins)")

    def make(self, kind: Kind, spec: str) -> Any:
        """The object of a spec such as `name[param=value]` or `name:value`. Raises `UserError` in one line."""
        asked = parse_spec(spec)
        cls = self.get(kind, asked.name)
        types, texts = field_types(cls), dict(asked.given)
        if asked.first is not None:
            if not types:
                raise UserError(f"{kind} {asked.name!r} has no parameters, given {spec!r}")
            texts[next(iter(types))] = asked.first
        values = {}
        for key, text in texts.items():
            if key not in types:
                raise UserError(f"{kind} {asked.name!r} has no parameter {key!r}; {suggest(key, types, 'parameters')}")
            if inner := kind_of(types[key]):
                values[key] = self.make(inner, text)
                continue
            try:
                values[key] = from_text(text, types[key])
            except (ValueError, UserError):
                what = wanted(types[key])
                raise UserError(f"{kind} {asked.name!r}: parameter {key!r} is {what}, given {text!r}") from None
        for field in dataclasses.fields(cls):
            if "spec" in field.metadata and field.name not in values:
                values[field.name] = self.make(kind_of(types[field.name]) or kind, field.metadata["spec"])
        return _construct(kind, spec, cls, values)

    def _collect(self, host: pluggy.PluginManager, kind: Kind) -> None:
        """Add the classes of each plugin's hook. A hook that raises does not stop the others."""
        hook = getattr(host.hook, f"mist_bench_{PLURALS[kind]}")
        functions = {impl.plugin_name: impl.function for impl in hook.get_hookimpls()}
        for plugin in self._plugins:
            if plugin.name not in functions:
                continue
            try:
                yielded = list(functions[plugin.name]())
            except (Exception, SystemExit) as error:
                plugin.fail(f"{hook.name}: {type(error).__name__}: {error_text(error)}", error)
                continue
            for cls in yielded:
                self._add(plugin, kind, cls)
        self._classes[kind] = dict(sorted(self._classes[kind].items()))

    def _add(self, plugin: Plugin, kind: Kind, cls: Any) -> None:
        if problem := _problem(cls, BASES[kind]):
            plugin.fail(f"mist_bench_{PLURALS[kind]}: {problem}")
        elif cls.name in self._classes[kind]:
            first = self._origins[kind, cls.name].name
            plugin.fail(f"{kind} {cls.name!r} is provided by {first} and by {plugin.name}; the first is used")
        else:
            self._classes[kind][cls.name] = cls
            self._origins[kind, cls.name] = plugin


def kind_of(cls: Any) -> Kind | None:
    """The kind of plugin that a type belongs to, None for any other type."""
    return next((kind for kind, base in BASES.items() if isinstance(cls, type) and issubclass(cls, base)), None)


def _missing(cls: type[Any], given: Iterable[str]) -> list[dataclasses.Field[Any]]:
    """The required parameters that are not given."""
    none = dataclasses.MISSING
    fields = [f for f in dataclasses.fields(cls) if f.default is none and f.default_factory is none]
    return [f for f in fields if f.name not in given and "spec" not in f.metadata]


def _construct(kind: Kind, spec: str, cls: type[Any], values: dict[str, Any]) -> Any:
    for field in _missing(cls, values):
        doc = field.metadata.get("doc", "")
        raise UserError(f"{kind} {spec!r} needs {field.name!r} ({doc}); write {cls.name}[{field.name}=…]")
    try:
        made = cls(**values)
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"{kind} {spec!r}: {error_text(error)}") from error
    if isinstance(made, Sampler) and (problem := facts_problem(made)):
        raise UserError(f"{kind} {spec!r}: {problem}")
    return made


def _hidden(cls: type[Component]) -> tuple[str, str] | None:
    """A parameter that takes the place of something of mist-bench's own base classes: its name, and the class."""
    own = [base for base in cls.__mro__ if base.__module__.startswith(Component.__module__.rpartition(".")[0])]
    names = {name: base.__name__ for base in reversed(own) for name in vars(base)}
    return next(((f.name, names[f.name]) for f in dataclasses.fields(cls) if f.name in names), None)


def _problem(cls: Any, base: type[Component]) -> str:
    """Why an object that a hook yielded cannot be used; empty if it can."""
    if isinstance(cls, base):
        return f"yielded an object of {type(cls).__name__}; yield the class"
    if not (isinstance(cls, type) and issubclass(cls, base)):
        return f"yielded {cls!r}, which is not a subclass of mist_bench.{base.__name__}"
    if abstract := sorted(getattr(cls, "__abstractmethods__", ())):
        return f"{cls.__name__} does not implement {', '.join(abstract)}"
    if any(isinstance(value, dataclasses.Field) for value in vars(cls).values()):
        return f"{cls.__name__} has parameters and needs @dataclass(frozen=True, kw_only=True)"
    if any(field.name == "name" for field in dataclasses.fields(cls)):
        return f"{cls.__name__}.name must be written without a type: a typed name is a parameter"
    if hidden := _hidden(cls):
        parameter, owner = hidden
        return f"{cls.__name__} has a parameter {parameter!r}, which hides {owner}.{parameter}; rename the parameter"
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        return f"{cls.__name__}.name is {name!r}; a name is lower-case letters, digits, - and _"
    try:
        made = cls()
    except (UserError, ValueError, TypeError):  # a parameter is required
        return ""
    except Exception as error:
        return f"{cls.__name__}() fails: {type(error).__name__}: {error_text(error)}"
    problem = facts_problem(made) if isinstance(made, Sampler) else ""
    return problem and f"{cls.__name__}.{problem}"
