"""The hooks of plugins: one for each kind, each with an example that loads."""

from __future__ import annotations

import inspect

import pytest

from harness.plugins import Plugins
from mist_bench.api import hooks
from mist_bench.host.registry import PLURALS


@pytest.mark.parametrize(("kind", "plural"), PLURALS.items())
def test_the_example_in_each_hook_is_a_plugin_that_loads(plugins: Plugins, kind: str, plural: str):
    doc = inspect.getdoc(getattr(hooks, f"mist_bench_{plural}"))
    registry = plugins.discover(plugins.file(doc.partition("Example::")[2]))
    assert registry.failures == []
    assert len(registry.names(kind)) == 1
    registry.make(kind, registry.names(kind)[0])


def test_there_is_one_hook_for_each_kind():
    assert {name for name in vars(hooks) if name.startswith("mist_bench_")} == {
        f"mist_bench_{plural}" for plural in PLURALS.values()
    }
