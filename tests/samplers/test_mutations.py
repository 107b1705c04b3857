"""The list of mutations fits the code: every expression is found, every test exists, and the page shows them all."""

import re

import pytest

from harness import TESTS
from harness.mutations import MUTATIONS, ROOT, changed
from mist_bench.host.registry import Registry

PAGE = (ROOT / "docs" / "mutations.md").read_text(encoding="utf-8")


def named(mutation) -> str:
    return f"{mutation.sampler}: {mutation.what}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=named)
def test_the_expression_is_there_and_the_mutated_file_is_code(mutation):
    assert changed(mutation) != mutation.file.read_text(encoding="utf-8")
    compile(changed(mutation), mutation.file, "exec")
    file, _, function = mutation.test.partition("::")
    assert re.search(rf"^def {function}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_shows_every_mutation_and_none_survived():
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
    assert [(row[0].strip("`"), row[1]) for row in rows] == [(m.sampler, m.what) for m in MUTATIONS]
    for row, mutation in zip(rows, MUTATIONS, strict=True):
        assert row[2].strip("`").startswith(mutation.test)
    assert f"{len(MUTATIONS)} mutations, 0 survived." in PAGE


def test_all_samplers_are_there():
    assert {m.sampler for m in MUTATIONS} == set(Registry.discover().names("sampler"))
