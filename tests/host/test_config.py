"""Presets, overrides, and what a configuration refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness import ROOT
from harness.experiments import experiment
from harness.plugins import PARTS, Plugins
from mist_bench import UserError
from mist_bench.cli import listing
from mist_bench.host import presets
from mist_bench.host.config import RunConfig
from mist_bench.host.presets import (
    PRESETS,
    asked,
    default_preset,
    load_preset,
    override,
    preset_names,
)
from mist_bench.host.registry import Registry
from mist_bench.host.values import split_list
from mist_bench.pages import presets as preset_page
from mist_bench.run.experiment import Experiment
from mist_bench.sample.options import SampleOptions


@pytest.fixture
def smoke() -> RunConfig:
    return load_preset("smoke")


def edited(tmp_path: Path, old: str, new: str) -> str:
    """The smoke preset with one line changed, as a file of the user's."""
    text = (PRESETS / "smoke.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    return str(path)


@pytest.mark.parametrize("name", preset_names())
def test_presets_give_every_key_and_nothing_else(name: str):
    config = load_preset(name)
    assert config.preset == name
    json.dumps(config.to_dict())
    written = (PRESETS / f"{name}.toml").read_text()
    assert written.startswith("# ")
    for section, cls in presets.sections():
        block = written.partition(f"[{section}]\n")[2] if section else written
        keys = [line.partition(" = ")[0] for line in block.partition("\n[")[0].splitlines() if " = " in line]
        assert keys == presets.setting_keys(cls)


def test_the_five_presets_exist_and_the_device_chooses():
    assert preset_names() == ["austen", "quick", "smoke", "text8", "tinystories"]
    assert default_preset("CPU") == "quick"
    assert [default_preset(device) for device in ("CUDA", "NV:1", "METAL", "AMD")] == ["austen"] * 4


def test_austen_has_about_ten_million_parameters():
    m = load_preset("austen").model
    body = m.layers * (4 * m.dim**2 + 2 * m.dim * m.feed_forward)  # attention in and out, feed-forward in and out
    assert 9e6 < body < 13e6


def test_presets_name_things_that_exist():
    registry = Registry.discover()
    for name in preset_names():
        experiment(load_preset(name), registry=registry)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "train_steps = 20",
            "trian_steps = 20",
            "unknown key 'training.trian_steps'; did you mean 'train_steps'? (k",
        ),
        ("length = 64", "lenght = 64", "unknown key 'lenght'; did you mean 'length'?"),
        ("[likelihood]", "[likelyhood]", "unknown key 'likelyhood'; did you mean 'likelihood'?"),
        ("rounds = 1\n", "", "generation.rounds is missing"),
        ("batch_size = 16\nrounds", "batch_size = -1\nrounds", "generation.batch_size must be at least 0, given -1"),
        ("batch_size = 16\nweighted", "batch_size = -1\nweighted", "likelihood.batch_size must be at least 0, given -1"),
        ("train_steps = 20", 'train_steps = "20"', "training.train_steps is a whole number, given '20'"),
        ("train_steps = 20", "train_steps = true", "training.train_steps is a whole number, given True"),
        ("steps = [2, 8]", "steps = 4", "steps is a list of whole numbers, given 4"),
        ("learning_rate = 3e-3", "learning_rate = nan", "training.learning_rate is a number, given nan"),
        ('precision = "auto"', 'precision = "half"', "training.precision is one of auto, float32, bfloat16, given 'half'"),
        ("dim = 32", "dim = 33", "model.dim (33) must be divisible by twice the heads (2)"),
        ("steps = [2, 8]", "steps = [4, 0]", "steps must be at least 1, given 0"),
        ("steps = [2, 8]", "steps = []", "steps needs at least one value"),
        ("temperatures = [1.0]", "temperatures = [-0.5]", "temperatures must be at least 0, given -0.5"),
        ("training_seeds = [0]", "training_seeds = [-1]", "training_seeds must be at least 0, given -1"),
        ("nucleus = 1.0", "nucleus = 0.0", "generation.nucleus must be above 0 and at most 1, given 0.0"),
        ("nucleus = 1.0", "nucleus = 1.01", "generation.nucleus must be above 0"),
        ("ema_decay = 0.9", "ema_decay = 1.0", "training.ema_decay must be at least 0 and below 1, given 1.0"),
        ("samples = 16", "samples = 0", "generation.samples must be at least 1, given 0"),
        ("[model]", "[model", "mine.toml"),
        ('corpus = "tales"', 'corpus = "tales"\npreset = "x"', "remove the key 'preset'"),
        ("[model]", "model = 3\n[models]", "model is a section; write [model]"),
    ],
)
def test_wrong_presets_are_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str):
    path = edited(tmp_path, old, new)
    with pytest.raises(UserError) as caught:
        load_preset(path)
    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_a_preset_and_whole_numbers_are_floats(tmp_path: Path):
    config = load_preset(edited(tmp_path, "temperatures = [1.0]", "temperatures = [1, 0.5]"))
    assert (config.preset, config.temperatures) == ("mine", (1.0, 0.5))
    assert all(type(t) is float for t in config.temperatures)


@pytest.mark.parametrize("name", ["quik", "nowhere.toml", "", "../presets/quick"])
def test_an_unknown_preset(name: str):
    with pytest.raises(UserError, match="unknown preset") as caught:
        load_preset(name)
    assert (name != "quik") or "did you mean 'quick'?" in str(caught.value)


def test_repeated_values_are_dropped_in_order(smoke: RunConfig):
    config = override(smoke, steps="5,3,5,3", temperatures=(1.0, 1.0), samplers="b[x=1,y=2],a,b[x=1,y=2]")
    assert config.steps == (5, 3)
    assert config.temperatures == (1.0,)
    assert config.samplers == ("b[x=1,y=2]", "a")


def test_the_command_line_wins(smoke: RunConfig):
    config = override(smoke, ["training.train_steps=7", "steps=1,2", "generation.judge=none"], steps="9", corpus=None)
    assert config.training == dataclasses.replace(smoke.training, train_steps=7)
    assert config.steps == (9,)
    assert config.corpus == smoke.corpus
    assert config.generation.judge == "none"
    assert override(smoke, ["length=32"]).length == 32
    assert override(smoke) == smoke


def fitted(preset: RunConfig, *settings: str, **given: str) -> int:
    """The length of a run with these on its command line."""
    config = override(preset, settings, **given)
    known = {"written_for": preset.corpus, "length_asked": asked(settings, "length")}
    return Experiment.of(config, Registry.discover(), "CPU", "float32", **known).config.length


@pytest.mark.parametrize("name", preset_names())
def test_presets_give_the_length_that_their_corpus_has(name: str):
    preset = load_preset(name)
    assert fitted(preset) == preset.length


def test_a_corpus_with_a_length_of_its_own_takes_no_other(smoke: RunConfig, tmp_path: Path):
    assert fitted(smoke, corpus="markov") == 4, "the preset's length was that of its own corpus"
    assert fitted(smoke, "length=64") == 64
    assert fitted(smoke, "length=4", corpus="markov") == 4
    assert fitted(smoke, "length=400", tokenizer="byte", families="mdlm") == 400, "the length is that of its words"
    wrong = "length is 16, but sequences of tales have 64 tokens; "
    with pytest.raises(UserError, match=f"{wrong}leave --set length away, or give length=64$"):
        fitted(smoke, "length=16")
    with pytest.raises(UserError, match=r"markov have 4 tokens; .*, or take another world: --corpus 'markov\[length=64\]"):
        fitted(smoke, "length=64", corpus="markov")
    with pytest.raises(UserError, match=f"{wrong}write length = 64 in the preset"):
        fitted(load_preset(edited(tmp_path, "length = 64", "length = 16")))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.train_step=7", "--set: unknown key 'training.train_step'; did you mean 'train_steps'?"),
        ("trainig.train_steps=7", "--set: unknown key 'trainig'; did you mean 'training'?"),
        ("training.train_steps=many", "--set training.train_steps takes a whole number; given 'many'"),
        ("training.train_steps=0", "train_steps must be at least 1, given 0"),
        ("training.micro_batch=3", "micro_batch must divide batch_size (16), given 3"),
        ("training.micro_batch=32", "micro_batch must divide batch_size (16), given 32"),
        ("training.micro_batch=-1", "micro_batch must be at least 0, given -1"),
        ("training.train_steps", "write SECTION.KEY=VALUE"),
        ("training=7", "write SECTION.KEY=VALUE"),
        ("steps.x=7", "write SECTION.KEY=VALUE"),
        ("preset=quick", "write SECTION.KEY=VALUE"),
        ("", "--set: unknown key ''; known: corpus, families"),
        ("generation.metrics=a,,b", "--set generation.metrics: an empty item in 'a,,b'"),
        ("training.precision=half", "takes one of auto, float32, bfloat16; given 'half'"),
    ],
)
def test_wrong_settings(smoke: RunConfig, setting: str, message: str):
    with pytest.raises(UserError) as caught:
        override(smoke, [setting])
    assert message in str(caught.value)


def test_all_keys_are_listed_once(smoke: RunConfig):
    for setting, key in (("foo=1", "temperatures"), ("training.foo=1", "train_steps")):
        with pytest.raises(UserError) as caught:
            override(smoke, [setting])
        assert str(caught.value).count(key) == 1


def test_wrong_values_of_the_grid(smoke: RunConfig):
    with pytest.raises(UserError, match="--steps takes whole numbers, separated by commas; given '5,x'"):
        override(smoke, steps="5,x")
    with pytest.raises(UserError, match="--temperature takes numbers, separated by commas; given 'inf'"):
        override(smoke, temperatures="inf")
    with pytest.raises(UserError, match="--seed: an empty list"):
        override(smoke, seeds=",")
    with pytest.raises(UserError, match="--sampler: an empty item in 'random,,margin'"):
        override(smoke, samplers="random,,margin")


def test_lists_are_cut_outside_of_brackets():
    assert split_list("a, b[x=1,y=2[z=3,w]] ,c") == ("a", "b[x=1,y=2[z=3,w]]", "c")
    for broken in ("a[b", "a]b[", "a]"):
        with pytest.raises(UserError, match="brackets"):
            split_list(broken)


def test_every_name_of_a_run_is_made_and_the_grid_is_put_in_its_shortest_form(plugins: Plugins, smoke: RunConfig):
    registry = plugins.discover(plugins.file(PARTS))
    settings = ["likelihood.evaluation_schedules=linear", "families=mdlm", "schedules=linear", "generation.judge=none"]
    samplers = "confidence,confidence[score_by=proposal],confidence[score_by=max]"
    config = override(smoke, settings, samplers=samplers)
    assert experiment(config, registry=registry).config.samplers == ("confidence", "confidence[score_by=max]")
    for wrong in ("corpus", "tokenizer", "families", "schedules", "samplers", "likelihood.evaluation_schedules"):
        with pytest.raises(UserError, match="unknown .* 'nope'"):
            experiment(config, settings=[f"{wrong}=nope"], registry=registry)


def test_all_is_every_sampler_that_has_defaults(plugins: Plugins, smoke: RunConfig):
    more = """
    from dataclasses import MISSING
    @dataclass(frozen=True, kw_only=True)
    class Asks(S):
        name = "asks"
        inner: str = parameter(MISSING, "a sampler")
    class Early(S):
        name = "a-first"
    @hookimpl
    def mist_bench_samplers(): return [S, Asks, Early]
"""
    registry = plugins.discover(plugins.file(PARTS + more))
    assert not registry.failures and "asks" in registry.names("sampler")
    settings = ["likelihood.evaluation_schedules=linear", "families=mdlm", "schedules=linear", "generation.judge=none"]
    for given, made in [
        ("all", ("a-first", "confidence")),
        ("confidence[score_by=max],all,confidence", ("confidence[score_by=max]", "a-first", "confidence")),
        ("asks[inner=x],all", ("asks[inner=x]", "a-first", "confidence")),
    ]:
        assert experiment(smoke, settings=settings, samplers=given, registry=registry).config.samplers == made


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"nucleus": 0.0}, {"count": 0}, {"temperature": -1.0}, {"seed": -1}])
def test_sample_options_are_checked(smoke: RunConfig, wrong: dict[str, float]):
    SampleOptions(config=smoke)
    with pytest.raises(UserError, match=f"{next(iter(wrong))} must be"):
        SampleOptions(config=smoke, **wrong)


def test_every_field_is_documented_and_the_page_is_up_to_date():
    for _, cls in presets.sections():
        assert set(presets.field_docs(cls)) >= set(listing.setting_keys(cls))
    page = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
    assert page == preset_page.presets_page(), "run: python -m mist_bench.pages.presets"
