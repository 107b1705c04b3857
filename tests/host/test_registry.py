"""Discovery, its traps, and `name[param=value]`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

from harness.plugins import Plugins
from mist_bench import UserError
from mist_bench.host.registry import Registry

SAMPLER = """
    from dataclasses import dataclass
    from mist_bench import ScoreSampler, hookimpl, parameter

    @dataclass(frozen=True, kw_only=True)
    class Sampler(ScoreSampler):
        '''Made for a test.'''

        name = "NAME"
        tau: float = parameter(0.5, "a number")
        many: int = parameter(3, "a whole number")
        loud: bool = parameter(False, "a switch")
        inner: str = parameter("random", "a text")

        def __post_init__(self):
            if self.many < 0:
                raise ValueError("many must not\\n be negative")

        def scores(self, view):
            return view.margin

    @hookimpl
    def mist_bench_samplers():
        yield Sampler
"""


def sampler(name: str) -> str:
    return SAMPLER.replace("NAME", name)


# discovery


def test_installed_and_loose_plugins_are_found_and_sorted_by_name(plugins: Plugins):
    plugins.install("zoo", {"b": sampler("beta"), "a": sampler("gamma")}, version="3.4")
    registry = plugins.discover(plugins.file(sampler("alpha")))
    assert registry.names("sampler") == ["alpha", "beta", "gamma"]
    assert registry.failures == []
    assert registry.get("sampler", "beta").name == "beta"
    found = registry.plugins()
    assert [p.name for p in found] == ["zoo:a", "zoo:b", str(plugins.folder / "loose.py")]
    assert (found[0].distribution, found[0].version, found[0].entry_point) == ("zoo", "3.4", "a")
    assert found[0].hooks == ("mist_bench_samplers",)
    assert registry.origin("sampler", "alpha").file == str(plugins.folder / "loose.py")


def test_files_of_the_environment_variable_are_loaded_once(plugins: Plugins, monkeypatch: pytest.MonkeyPatch):
    one, two = plugins.file(sampler("one"), "one.py"), plugins.file(sampler("two"), "two.py")
    monkeypatch.setenv("MIST_BENCH_PLUGINS", os.pathsep.join(map(str, (one, two))))
    registry = plugins.discover(one)
    assert registry.names("sampler") == ["one", "two"]
    assert registry.failures == []
    assert len(registry.plugins()) == 2


@pytest.mark.parametrize(
    "crash", ["raise RuntimeError('boom')", "import no_such_module", "x = (", "raise SystemExit(3)"]
)
def test_a_crashing_installed_plugin_is_recorded_and_stops_nothing(plugins: Plugins, crash: str):
    plugins.install("bad", {"x": crash})
    plugins.install("good", {"x": sampler("fine")})
    registry = plugins.discover()
    assert registry.names("sampler") == ["fine"]
    assert [name for name, _ in registry.failures] == ["bad:x"]
    assert any(word in registry.failures[0][1] for word in ("boom", "no_such_module", "SyntaxError", "SystemExit"))


def test_strict_mode_raises(plugins: Plugins, monkeypatch: pytest.MonkeyPatch):
    plugins.install("bad", {"x": "raise RuntimeError('boom')"})
    monkeypatch.setenv("MIST_BENCH_STRICT", "1")
    with pytest.raises(RuntimeError, match="boom"):
        plugins.discover()


def test_two_distributions_may_use_one_entry_point_name(plugins: Plugins):
    plugins.install("one", {"samplers": sampler("first")})
    plugins.install("two", {"samplers": sampler("second")})
    registry = plugins.discover()
    assert registry.names("sampler") == ["first", "second"]
    assert [p.name for p in registry.plugins()] == ["one:samplers", "two:samplers"]


def test_leftovers_of_an_installation_do_not_load_a_plugin_twice(plugins: Plugins):
    plugins.install("one", {"x": sampler("first")}, version="1.0")
    (plugins.folder / "old").mkdir()
    leftovers = Plugins(plugins.folder / "old")
    leftovers.install("one", {"x": sampler("stale")}, version="0.9")
    found = metadata.distributions(path=[str(plugins.folder), str(leftovers.folder)])
    registry = Registry.discover(distributions=found)
    assert (registry.names("sampler"), registry.failures) == (["first"], [])


@pytest.mark.parametrize("mark", ["@hookimpl", ""])
def test_a_mistyped_hook_is_reported_and_the_rest_is_kept(plugins: Plugins, mark: str):
    source = textwrap.dedent(sampler("fine")) + f"\n{mark}\ndef mist_bench_sampler():\n    yield Sampler\n"
    registry = plugins.discover(plugins.file(source))
    assert registry.names("sampler") == ["fine"]
    assert "unknown hook 'mist_bench_sampler'; did you mean 'mist_bench_samplers'?" in registry.failures[0][1]


def test_an_unmarked_hook_is_reported(plugins: Plugins):
    registry = plugins.discover(plugins.file(sampler("fine").replace("@hookimpl", "")))
    assert registry.names("sampler") == []
    assert "mist_bench_samplers is not marked with @mist_bench.hookimpl" in registry.failures[0][1]


@pytest.mark.parametrize(
    ("signature", "word"), [("registry", "registry"), ("registry=None", "default")], ids=["unknown", "default"]
)
def test_hook_arguments_are_rejected_and_nothing_stays_registered(plugins: Plugins, signature: str, word: str):
    source = sampler("half").replace("mist_bench_samplers()", f"mist_bench_samplers({signature})")
    registry = plugins.discover(plugins.file(source))
    assert registry.names("sampler") == []
    assert word in registry.failures[0][1]
    assert registry.plugins()[0].hooks == ()


def test_hook_wrappers_are_rejected(plugins: Plugins):
    source = sampler("x").replace("@hookimpl", "@hookimpl(wrapper=True)").replace("yield Sampler", "return (yield)")
    registry = plugins.discover(plugins.file(source))
    assert "wrapper" in registry.failures[0][1]
    assert registry.plugins()[0].hooks == ()


def test_one_raising_hook_does_not_take_the_others_down(plugins: Plugins):
    plugins.install("bad", {"x": sampler("lost").replace("yield Sampler", "yield Sampler; raise KeyError('oh')")})
    plugins.install("good", {"x": sampler("fine")})
    registry = plugins.discover()
    assert registry.names("sampler") == ["fine"]
    assert registry.failures == [("bad:x", "mist_bench_samplers: KeyError: 'oh'")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("yield Sampler", "yield Sampler()", "yield the class"),
        ("yield Sampler", "yield int", "not a subclass of mist_bench.Sampler"),
        ("yield Sampler", "yield 3", "not a subclass of mist_bench.Sampler"),
        ("yield Sampler", "return None", "TypeError"),
        ("def scores", "def score", "does not implement scores"),
        ('name = "good"', "name = 7", "name is 7"),
        ('name = "good"', 'name = "Good one"', "name is 'Good one'"),
        ('name = "good"', 'name: str = "good"', "without a type"),
        ("@dataclass(frozen=True, kw_only=True)", "", "needs @dataclass"),
        ("if self.many < 0", "if 1 / 0", "ZeroDivisionError"),
        ("many: int", "count: int", "has a parameter 'count', which hides ScoreSampler.count; rename the parameter"),
        ('name = "good"', 'name, needs = "good", "entropy"', r"Sampler.needs is 'entropy'; write a set of names"),
        ('name = "good"', 'name, needs = "good", {"log_p"}', "Sampler.needs names 'log_p'; what can be asked for is left_out_"),
    ],
)
def test_what_a_hook_yields_is_checked(plugins: Plugins, old: str, new: str, message: str):
    source = sampler("good")
    assert old in source
    registry = plugins.discover(plugins.file(source.replace(old, new)))
    assert registry.names("sampler") == []
    assert len(registry.failures) == 1
    assert message in registry.failures[0][1]


def test_a_conflict_names_both_plugins_and_keeps_the_first(plugins: Plugins):
    plugins.install("ants", {"x": sampler("same")})
    plugins.install("mist-bench", {"y": sampler("same")})
    registry = plugins.discover()
    assert registry.origin("sampler", "same").name == "mist-bench:y"
    message = "sampler 'same' is provided by mist-bench:y and by ants:x; the first is used"
    assert registry.failures == [("ants:x", message)]


@pytest.mark.parametrize(("source", "line"), [("x = 1\ny = (\n", 2), ("x = 1\n\nraise ValueError('no')\n", 3)])
def test_a_broken_file_that_was_named_is_a_wrong_call(plugins: Plugins, source: str, line: int):
    path = plugins.file(source)
    with pytest.raises(UserError) as caught:
        plugins.discover(path)
    assert f"{path}:{line}:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_a_wrong_call(plugins: Plugins):
    with pytest.raises(UserError, match="no plugin file .*nowhere.py"):
        plugins.discover(Path("nowhere.py"))


def test_an_edited_file_has_another_digest(plugins: Plugins):
    path = plugins.file(sampler("x"))
    first = plugins.discover(path).plugins()[0].digest()
    path.write_text(path.read_text() + "\n# edited\n")
    assert plugins.discover(path).plugins()[0].digest() != first


# objects from text


@pytest.fixture
def one(plugins: Plugins) -> Registry:
    return plugins.discover(plugins.file(sampler("confidence")))


def test_defaults_and_parameters_of_each_type(one: Registry):
    made = one.make("sampler", "confidence")
    assert (made.tau, made.many, made.loud, made.inner) == (0.5, 3, False, "random")
    made = one.make("sampler", " confidence[tau=1e-2, many=7,loud=true,inner=a[x=1,y=b[z=2]]] ")
    assert (made.tau, made.many, made.loud, made.inner) == (0.01, 7, True, "a[x=1,y=b[z=2]]")
    assert one.make("sampler", made.spec) == made


def test_the_first_parameter_after_a_colon_may_hold_anything(plugins: Plugins):
    source = sampler("file").replace(
        '    tau: float = parameter(0.5, "a number")', '    path: str = parameter("", "a path")'
    )
    registry = plugins.discover(plugins.file(source))
    for path in ("/a/b,c=[1].txt", "C:\\x]y", "a b", "x:y"):
        assert registry.make("sampler", f"file:{path}").path == path
    made = registry.make("sampler", "file:/a,b.txt")
    assert registry.make("sampler", made.spec) == made  # file[path=/a,b.txt]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("confidance", "unknown sampler 'confidance'; did you mean 'confidence'? (mist-bench ls samplers)"),
        ("zzz", "unknown sampler 'zzz'; known: confidence (mist-bench ls samplers)"),
        ("confidence[taw=1]", "no parameter 'taw'; did you mean 'tau'? (parameters: tau, many, loud, inner)"),
        ("confidence[qqq=1]", "no parameter 'qqq'; known: inner, loud, many, tau"),
        ("confidence[many=2.5]", "sampler 'confidence': parameter 'many' is a whole number, given '2.5'"),
        ("confidence[tau=nan]", "parameter 'tau' is a number, given 'nan'"),
        ("confidence[tau=]", "parameter 'tau' is a number, given ''"),
        ("confidence[loud=yes]", "parameter 'loud' is true or false, given 'yes'"),
        ("confidence[many=-1]", "sampler 'confidence[many=-1]': many must not be negative"),
        ("confidence[tau=1,tau=2]", "gives 'tau' twice"),
        ("confidence[tau]", "cannot read 'tau'"),
        ("confidence[tau=1", "cannot read 'confidence[tau=1'"),
        ("confidence[inner=a[b]", "brackets"),
        ("a,b", "cannot read 'a,b' as one name"),
        ("", "cannot read ''"),
    ],
)
def test_wrong_specs_say_what_is_wrong_in_one_line(one: Registry, spec: str, message: str):
    with pytest.raises(UserError) as caught:
        one.make("sampler", spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parameter_that_must_be_given_is_asked_for(plugins: Plugins):
    needed = "    tau: float = field(metadata={'doc': 'how sure'})"
    source = sampler("strict").replace('    tau: float = parameter(0.5, "a number")', needed)
    registry = plugins.discover(plugins.file(source.replace("import dataclass", "import dataclass, field")))
    with pytest.raises(UserError, match=r"needs 'tau' \(how sure\); write strict\[tau=…\]"):
        registry.make("sampler", "strict")
    assert registry.make("sampler", "strict:0.25").tau == 0.25


def test_an_unknown_name_points_at_plugins_that_failed(plugins: Plugins):
    plugins.install("bad", {"x": "raise RuntimeError"})
    with pytest.raises(UserError, match="some plugins have problems: mist-bench plugins"):
        plugins.discover().make("schedule", "linear")


# the plugins that ship


def test_the_built_in_plugins_load_without_a_problem():
    registry = Registry.discover()
    built_in = [p for p in registry.plugins() if p.distribution == "mist-bench"]
    assert built_in
    assert [(p.name, p.failures) for p in built_in if p.failures or not p.hooks] == []
    assert "linear" in registry.names("schedule")


def test_finding_all_plugins_imports_nothing_heavy():
    program = """
        import sys
        from mist_bench.host.registry import Registry
        Registry.discover()
        import mist_bench_plugins.schedule_linear
        heavy = ("tinygrad", "pandas", "datasets", "tiktoken", "tokenizers", "seaborn", "matplotlib", "typer", "rich")
        print([name for name in heavy if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_file_of_that_name_in_this_folder_is_offered(plugins: Plugins, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(plugins.folder)
    (plugins.folder / "mine.py").write_text("")
    with pytest.raises(UserError, match=r"unknown sampler 'mine'; mine.py is here: --plugin mine.py; or "):
        plugins.discover().get("sampler", "mine")
