"""The base of all plugin objects: a name, a source, and parameters that are the fields of a frozen dataclass.

A plugin is a file with one class and one hook. Users set its parameters as `name[param=value]`. Nothing in this folder
imports tinygrad when it is imported, so that listing plugins stays instant.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.integer[Any]]


def parameter(default: Any, doc: str) -> Any:
    """A documented parameter of a plugin: `power: float = parameter(2.0, "the exponent p")`."""
    return dataclasses.field(default=default, metadata={"doc": doc})


def part(spec: str, doc: str) -> Any:
    """A parameter that is itself a plugin object, made from the text that the user gives, or from `spec`, so that no
    plugin imports another. Annotate it with its kind: `inner: Sampler = part("top-k", "the sampler of a block")`."""
    return dataclasses.field(metadata={"doc": doc, "spec": spec})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """What all plugin objects share: a name, a source, and parameters that are the fields of a frozen dataclass."""

    name: ClassVar[str]
    source: ClassVar[str] = ""
    """The paper or origin of the rule, e.g. `MDLM, arXiv 2406.07524`."""

    @property
    def spec(self) -> str:
        """The shortest text that makes this object again: `confidence[score=max]`; defaults are left out."""
        changed = [
            f"{f.name}={_show(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if getattr(self, f.name) != f.default and _show(getattr(self, f.name)) != f.metadata.get("spec")
        ]
        first = next(iter(dataclasses.fields(self)), None)
        if first and len(changed) == 1 and changed[0].startswith(f"{first.name}=") and not _balanced(changed[0]):
            return f"{self.name}:{_show(getattr(self, first.name))}"  # a path with an odd bracket
        return f"{self.name}[{','.join(changed)}]" if changed else self.name

    def content(self) -> dict[str, Any]:
        """Name and every parameter, defaults included: the content of a cell's hash."""
        inside = {name: component.content() for name, component in parts(self).items()}
        return {"name": self.name, **dataclasses.asdict(self), **inside}


def parts(component: Component) -> dict[str, Component]:
    """The parameters that are plugin objects themselves."""
    values = {field.name: getattr(component, field.name) for field in dataclasses.fields(component)}
    return {name: value for name, value in values.items() if isinstance(value, Component)}


def _balanced(text: str) -> bool:
    """Whether brackets in a text close as they open, so that it can stand within brackets."""
    depths = [0]
    for character in text:
        depths.append(depths[-1] + (character == "[") - (character == "]"))
    return min(depths) == depths[-1] == 0


def _show(value: Any) -> str:
    if isinstance(value, Component):
        return value.spec
    return str(value).lower() if isinstance(value, bool) else str(value)


class UserError(Exception):
    """A wrong call, in one line: what was given, what is known, what to type. Exit status 2."""
