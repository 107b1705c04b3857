"""Links between documents are valid; the examples of docs/write-a-sampler.md run, and its tables are complete."""

import dataclasses
import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness import EXAMPLE, ROOT
from harness.brute_force import WORLD
from harness.runs import SMALL
from mist_bench import Sampler, View, cli, testing
from mist_bench.cli.scaffold import new, next_steps
from mist_bench.host.registry import Registry
from mist_bench.measure.sampler_law import law_distance

PAGE = (ROOT / "docs" / "write-a-sampler.md").read_text(encoding="utf-8")
SPECS = {"edges": 0, "coin": 1, "coin[boost=1.5]": 1, "patience": 2, "hedged": 3}

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "results" / "README.md"]


def anchors(document: Path) -> set[str]:
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> list[tuple[Path, str]]:
    """The files and headings of this repository that a document links to."""
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    pairs = (target.partition("#")[::2] for target in targets if "://" not in target)
    return [((document.parent / path).resolve() if path else document, anchor) for path, anchor in pairs]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document):
    for path, anchor in links(document):
        assert path.exists(), f"{document.name} links to {path}"
        assert not anchor or anchor in anchors(path), f"{document.name} links to #{anchor} in {path.name}"


def test_the_entry_page_lists_every_document():
    listed = {path for path, _ in links(ROOT / "docs" / "README.md")}
    assert set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "README.md"} <= listed


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def plugin(number: int, folder: Path) -> Path:
    file = folder / "edges.py"
    file.write_text(blocks("python")[number], encoding="utf-8")
    return file


def made(spec: str, folder: Path) -> Sampler:
    registry = Registry.discover([plugin(SPECS[spec], folder)])
    assert not registry.failures
    return registry.make("sampler", spec)


@pytest.mark.parametrize("spec", SPECS)
def test_the_examples_fill_a_text_and_keep_what_is_given(spec, tmp_path):
    sampler = made(spec, tmp_path)
    given = SMALL.empty.copy()
    given[::2, 1] = 2
    for steps in (1, 3, 9):
        filled, _ = SMALL(sampler, given, steps=steps)
        assert (filled < 3).all() and (filled[::2, 1] == 2).all()


def test_what_is_said_of_four_steps_is_so_under_linear_alone(tmp_path):
    sampler = made("edges", tmp_path)
    assert law_distance(sampler, LinearSchedule(), 4, WORLD) < 1e-6
    assert law_distance(sampler, CosineSchedule(), 4, WORLD) > 0.3


@pytest.mark.parametrize(("spec", "exact"), [("edges", True), ("coin", False)])
def test_the_examples_declare_what_is_true(spec, exact, tmp_path):
    sampler = made(spec, tmp_path)
    assert sampler.exact_one_at_a_time == exact
    assert (law_distance(sampler, LinearSchedule(), 4, WORLD) < 1e-5) == exact


def test_the_remembering_example_waits_for_guesses_that_hold(tmp_path):
    from tinygrad import Tensor

    sampler = made("patience", tmp_path)
    fields = {field.name: Tensor([[0.0]]) for field in dataclasses.fields(View)}
    fields |= {"masked": Tensor([[True, True, True, False]]), "tokens": Tensor([[4, 4, 4, 1]]),
               "target_masked": Tensor([1]), "last": Tensor([False])}  # fmt: skip
    fields |= {"proposal": Tensor([[2, 3, 0, 1]]), "log_probability": Tensor([[0.1, 0.5, 0.9, 1.0]]).log()}
    view = View(**fields)
    state = {"guess": Tensor([[2, 3, 1, 1]]), "held": Tensor([[1.0, 0.0, 5.0, 9.0]])}
    after, state = sampler.step(view, state)
    assert after.tolist() == [[2, 3, 4, 1]]  # held twice, held once; the third guess is new
    assert state["held"].tolist() == [[2.0, 1.0, 0.0, 10.0]] and state["guess"].tolist() == [[2, 3, 0, 1]]


def test_a_wrong_parameter_is_refused(tmp_path):
    registry = Registry.discover([plugin(1, tmp_path)])
    with pytest.raises(Exception, match="boost is above 0, not -1"):
        registry.make("sampler", "coin[boost=-1]")


def test_every_example_was_tried():
    assert sorted(set(SPECS.values())) == list(range(len(blocks("python")) - 1))  # the last is a test


def test_the_first_example_is_what_new_writes(tmp_path):
    path = new("sampler", "edges", Registry.discover(), tmp_path)
    assert (path.name, path.read_text(encoding="utf-8")) == ("edges.py", blocks("python")[0])


def test_the_two_lines_are_a_test(tmp_path, monkeypatch):
    file = plugin(0, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(blocks("python")[-1], names)
    [mark] = names["test_conformance"].pytestmark
    cases = [(case.values[0].title, case.values[1].name) for case in mark.args[1]]
    assert file.name in blocks("python")[-1]
    assert cases == [("sampler edges", check.name) for check in testing.checks_of("sampler")]


def test_the_commands_are_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, text = blocks("sh")
    assert [shlex.split(line)[1:] for line in first.splitlines()] == [["new", "sampler", "edges"], ["check", "edges.py"]]
    assert cli.main(["new", "sampler", "edges"]) == 0
    capsys.readouterr()
    commands = [shlex.split(line)[1:] for line in text.splitlines()]
    assert [command[0] for command in commands] == ["run", "run", "sample"]
    for command in commands[:2]:
        assert cli.main([*command, "--dry-run"]) == 0
        plan = capsys.readouterr().out
        for steps in command[-1].split(","):
            assert f"edges at {steps} steps" in plan
    assert text.splitlines()[0] in next_steps("sampler", "edges", tmp_path / "edges.py")
    assert "--schedule linear --steps 4` shows a `law_distance` of 0" in PAGE
    assert cli.main([*commands[0], "--dry-run"]) == 0
    assert "cosine" not in capsys.readouterr().out, "whose 4 steps reveal two positions at once: 0.4 from the truth"
    assert cli.main([*commands[2], "--preset", "smoke"]) == 2  # read as it should be: only the network is missing
    assert "has no checkpoint of mdlm linear" in capsys.readouterr().err


def named(heading: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name.partition("(")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_tables_leave_nothing_out():
    assert named("Check") == {check.name for check in testing.checks_of("sampler")}
    assert named("What a sampler sees") == {field.name for field in dataclasses.fields(View)}
    methods = {"name", "source", "spec", "content", "times", "initial_state", "step"}
    facts = {name for cls in Sampler.__mro__[:-2] for name in vars(cls) if not name.startswith("_")}
    assert named("Declared facts") == facts - methods


def test_the_package_is_one(tmp_path, monkeypatch):
    [text] = blocks("toml")
    described, example = tomllib.loads(text), tomllib.loads((EXAMPLE / "pyproject.toml").read_text())
    assert described["build-system"] == example["build-system"]
    [(key, module)] = described["project"]["entry-points"]["mist_bench"].items()
    assert described["tool"]["setuptools"]["py-modules"] == [module] == [plugin(0, tmp_path).stem]
    info = tmp_path / "mist_bench_edges-0.1.dist-info"  # what an installer makes of it
    info.mkdir()
    project = described["project"]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[mist_bench]\n{key} = {module}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.discover(distributions=metadata.distributions(path=[str(tmp_path)]))
    assert registry.names("sampler") == ["edges"] and not registry.failures
    assert registry.origin("sampler", "edges").distribution == "mist-bench-edges"
