"""Parser of what users write: `name[param=value]`, comma-separated lists, and values of a field's declared type."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal, Union

from ..api.component import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """A parsed `name[param=value]`, or `name:value`, whose value goes to the first parameter."""

    name: str
    first: str | None
    """The text after `name:`, None without a colon."""
    given: dict[str, str]


def parse_spec(text: str) -> Spec:
    """Read `confidence`, `semi-autoregressive[block=8,inner=confidence[score=max]]` or `file:PATH`."""
    match = re.fullmatch(r"([^\[\]:,=]+)(?::(.*)|\[(.*)\])?", text.strip(), re.DOTALL)
    if match is None:
        raise UserError(f"cannot read {text!r} as one name; write name, name[param=value,param2=value2] or name:VALUE")
    name, first, inside = match[1].strip(), match[2], match[3]
    given: dict[str, str] = {}
    # a comma separates parameters only where another one begins, so that a path may contain commas
    for piece in filter(None, _split(inside or "", rf"\s*{_PARAMETER}\s*=", text)):
        key, equals, value = piece.partition("=")
        if not equals or not re.fullmatch(_PARAMETER, key.strip()):
            raise UserError(f"cannot read {piece!r} in {text!r}; write {name}[param=value]")
        if key.strip() in given:
            raise UserError(f"{text!r} gives {key.strip()!r} twice")
        given[key.strip()] = value.strip()
    return Spec(name=name, first=first, given=given)


def split_list(text: str) -> tuple[str, ...]:
    """The items of a comma-separated list; commas within brackets do not count: `a,b[x=1,y=2],c` has three."""
    items = tuple(_split(text, "", text))
    if not any(items):
        raise UserError("an empty list; write one or more values, separated by commas")
    if "" in items:  # a missing name must not go unnoticed
        raise UserError(f"an empty item in {text!r}; write values, separated by single commas")
    return items


_PARAMETER = r"[A-Za-z_]\w*"


def _split(text: str, after_comma: str, whole: str) -> list[str]:
    """The pieces between commas outside brackets that are followed by the pattern."""
    depth, start, pieces = 0, 0, []
    for i, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth < 0:
            break
        if character == "," and depth == 0 and re.match(after_comma, text[i + 1 :]):
            pieces.append(text[start:i])
            start = i + 1
    if depth:
        raise UserError(f"the brackets of {whole!r} do not match")
    return [piece.strip() for piece in [*pieces, text[start:]]]


def suggest(given: str, known: Iterable[str], every: str = "") -> str:
    """The end of an "unknown …" message: the nearest known name, or all of them if none is near.

    With `every`, e.g. `keys`, the nearest name is followed by all of them, under that heading.
    """
    in_order = list(known)
    names = sorted(in_order)
    if near := difflib.get_close_matches(given, names, n=1):
        return f"did you mean {near[0]!r}?" + (f" ({every}: {', '.join(in_order)})" if every else "")
    return f"known: {', '.join(names) or 'none'}"


def field_types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields by name; the type of the default where an annotation cannot be resolved."""
    found = {}
    for field in dataclasses.fields(cls):
        owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
        names = vars(sys.modules.get(owner.__module__, types))
        try:
            hints = typing.get_type_hints(types.SimpleNamespace(__annotations__={field.name: field.type}), names)
            found[field.name] = hints[field.name]
        except Exception:  # a name imported for the type checker only
            found[field.name] = type(field.default)
    return found


def type_name(kind: Any) -> str:
    """The name of a type in messages and tables: `float`, `proposal|max`, `list of int`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "|".join(str(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return "|".join("none" if a is type(None) else type_name(a) for a in arguments)
    if origin is tuple:
        return f"list of {type_name(arguments[0])}"
    return str(getattr(kind, "__name__", kind))


def wanted(kind: Any, *, in_file: bool = False) -> str:
    """A type in words for a message about what to type: `a whole number`, `numbers, separated by commas`.

    `in_file`: as TOML has it, where several values are a list.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        several = f"{words[arguments[0]].removeprefix('a ')}s"
        return f"a list of {several}" if in_file else f"{several}, separated by commas"
    return words.get(kind) or type_name(kind)


def from_text(text: str, kind: Any) -> Any:
    """The value of a type, read from text. Raises ValueError if the text is not such a value."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return tuple(from_text(item, arguments[0]) for item in split_list(text))
    if origin in (Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        return _first_that_fits(text, [a for a in arguments if a is not type(None)])
    if origin is Literal:
        return from_value(next((a for a in arguments if str(a) == text), text), kind)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in (int, float) and ("_" in text or not text.isascii()):  # Python takes 1_0, and digits of any script
        raise ValueError(text)
    if kind is int:
        return int(text)
    if kind is float:
        return from_value(float(text), float)
    return from_value(text, kind)


def _first_that_fits(text: str, kinds: list[Any]) -> Any:
    for kind in kinds:
        try:
            return from_text(text, kind)
        except ValueError:
            continue
    raise ValueError(text)


def from_value(value: Any, kind: Any) -> Any:
    """A value converted to a field's type: a list to a tuple, a whole number to a float. Raises ValueError if it does
    not fit."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(from_value(item, arguments[0]) for item in value)
    if origin is Literal and value in arguments:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(kind, type) and type(value) is kind and kind is not float:
        return value
    raise ValueError(value)
