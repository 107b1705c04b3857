"""Cells: what decides their names, what does not, and in which order they can be made."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from harness import GRID
from harness.experiments import cells as lay_out
from harness.experiments import experiment
from mist_bench.host import presets
from mist_bench.host.config import HOW_IT_IS_READ, LikelihoodConfig, ModelConfig, TrainingConfig
from mist_bench.host.presets import load_preset
from mist_bench.host.registry import Registry
from mist_bench.run import grid
from mist_bench.run.execute import to_do
from mist_bench.run.store import Store

FOREIGN = """
from mist_bench_plugins.corpus_markov import MarkovCorpus
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.sampler_random import RandomSampler
from mist_bench_plugins.schedule_linear import LinearSchedule
from mist_bench_plugins.tokenizer_byte import ByteTokenizer

from mist_bench import hookimpl

class OtherCorpus(MarkovCorpus):
    name = "other-corpus"

class OtherFamily(MdlmFamily):
    name = "other-family"

class OtherSampler(RandomSampler):
    name = "other-sampler"

class OtherSchedule(LinearSchedule):
    name = "other-schedule"

class OtherTokenizer(ByteTokenizer):
    name = "other-tokenizer"

@hookimpl
def mist_bench_corpora():
    yield OtherCorpus

@hookimpl
def mist_bench_families():
    yield OtherFamily

@hookimpl
def mist_bench_samplers():
    yield OtherSampler

@hookimpl
def mist_bench_schedules():
    yield OtherSchedule

@hookimpl
def mist_bench_tokenizers():
    yield OtherTokenizer
"""


def hashes(found, kind=None):
    return {cell.hash for cell in found if kind in (None, cell.kind)}


def changed(value):
    """Another value that the field allows."""
    if isinstance(value, str):
        return {"float32": "bfloat16", "gelu": "squared-relu", "last": "best"}[value]
    return value / 2 if isinstance(value, float) and value else value + 1 if isinstance(value, int) else 0.5


@pytest.mark.parametrize(
    ("section", "key"),
    [("training", f.name) for f in dataclasses.fields(TrainingConfig) if f.name not in HOW_IT_IS_READ]
    + [("model", f.name) for f in dataclasses.fields(ModelConfig)],
)
def test_every_setting_of_a_training_is_in_its_name(section, key):
    config = load_preset(GRID)
    part = getattr(config, section)
    other = {key: changed(getattr(part, key))}
    if key in ("dim", "heads"):  # one divides the other
        other = {"dim": 32} if key == "dim" else {"heads": 4}
    config = dataclasses.replace(config, **{section: dataclasses.replace(part, **other)})
    after = lay_out(config)
    before = lay_out()
    assert hashes(before, "training").isdisjoint(hashes(after, "training"))
    trained = {cell.hash for cell in after if cell.needs}
    assert trained.isdisjoint(hashes(before)), "what was measured of another network"


@pytest.mark.parametrize("key", HOW_IT_IS_READ)
def test_how_a_batch_is_read_changes_no_name(key):
    assert hashes(lay_out(settings=[f"training.{key}=2"])) == hashes(lay_out())


def test_the_configuration_that_is_kept_has_the_length_that_was_used():
    made = experiment(corpus="markov[length=3]")
    assert made.config.length == 3 == made.text["length"] == grid.lay_out(made)[0].content["length"]


def test_weights_are_compared_on_the_first_checkpoint_alone():
    found = lay_out(training_seeds="0,1")
    weighted = [cell for cell in found if cell.labels.get("estimator") == "weighted"]
    first = next(cell for cell in found if cell.kind == "training")
    assert [cell.labels["evaluation_schedule"] for cell in weighted] == ["linear", "cosine"]
    assert {cell.needs for cell in weighted} == {(first.hash,)}
    assert "one checkpoint, the first" in presets.field_docs(LikelihoodConfig)["evaluation_schedules"]


@pytest.mark.parametrize("given", [{"device": "CUDA"}, {"precision": "bfloat16"}, {"corpus": "markov[skew=0.5]"}])
def test_device_precision_and_corpus_are_in_the_name_of_a_training(given):
    assert hashes(lay_out(), "training").isdisjoint(hashes(lay_out(**given), "training"))


@pytest.mark.parametrize("family", ["mdlm[weight=none]", "mdlm[bell=0.2]"])
def test_how_a_family_trains_is_in_the_name_of_its_training(family):
    alone = ["generation.judge=none"]  # the judge is another family's network, the same one for all
    own, other = (hashes(lay_out(families=each, settings=alone), "training") for each in ("mdlm", family))
    assert own and other and own.isdisjoint(other)


@pytest.mark.parametrize(
    "given",
    [{"samplers": "margin"}, {"steps": "3"}, {"temperatures": "0.5"}, {"seeds": "7"},
     {"settings": ["generation.samples=32"]}, {"settings": ["generation.nucleus=0.9"]},
     {"settings": ["likelihood.sequences=16"]}, {"settings": ["likelihood.mask_draws=2"]}],
)  # fmt: skip
def test_what_comes_after_a_training_is_not_in_its_name(given):
    before, after = lay_out(), lay_out(**given)
    assert hashes(before, "training") == hashes(after, "training")
    assert hashes(before) != hashes(after)


@pytest.mark.parametrize(
    ("key", "kinds"),
    [("generation.samples=32", {"generation", "control"}), ("generation.batch_size=16", {"generation"}),
     ("generation.rounds=3", {"speed"}), ("generation.nucleus=0.9", {"generation"}),
     ("likelihood.sequences=16", {"likelihood", "control-likelihood", "corpus"}),
     ("likelihood.mask_draws=2", {"likelihood"}),
     ("likelihood.weighted_draws=2", {"likelihood"}), ("likelihood.chain_rule_sequences=3", {"likelihood"}),
     ("likelihood.sampler_sequences=3", {"sampler-likelihood"}), ("likelihood.target_se=0.01", {"likelihood"})],
)  # fmt: skip
def test_a_setting_of_a_measurement_is_in_its_name(key, kinds):
    before, after = lay_out(), lay_out(settings=[key])
    new = {cell.kind for cell in after if cell.hash not in hashes(before)}
    assert new - {"judgement"} == kinds | ({"speed"} if "generation" in kinds else set()), "of other rows, another cell"


def test_the_chain_rule_is_a_row_of_its_own_with_sequences_of_its_own():
    def chains(found):
        return [cell for cell in found if cell.labels.get("kind") == "chain-rule"]

    found = lay_out()
    assert [cell.labels["estimator"] for cell in chains(found)] == ["chain-rule"] * 2, "one for each masked network"
    assert {cell.content["sequences"] for cell in chains(found)} == {32}
    without = lay_out(settings=["likelihood.chain_rule_sequences=0"])
    assert hashes(found) - hashes(without) == hashes(chains(found)) and not chains(without)
    many = chains(lay_out(settings=["likelihood.chain_rule_sequences=900"]))
    assert {cell.content["sequences"] for cell in many} == {64}, "never more than the bound has"


def test_a_target_names_the_bounds_of_trained_networks_alone():
    targeted = [cell for cell in lay_out(settings=["likelihood.target_se=0.01"]) if "target_se" in cell.content]
    assert {(c.labels["family"], c.labels["estimator"]) for c in targeted} == {("mdlm", "exact-k")}
    assert not any("target_se" in cell.content for cell in lay_out()), "cells of before there was one stay"


def test_a_wider_grid_keeps_every_cell():
    wider = lay_out(samplers="random,confidence,margin", steps="2,4,3", seeds="0,1", training_seeds="0,1",
                    temperatures="1,0.5")  # fmt: skip
    assert hashes(cell for cell in lay_out() if cell.kind != "speed") < hashes(wider)
    assert hashes(lay_out(), "speed").isdisjoint(hashes(wider)), "rows that are compared are timed together"


@pytest.mark.parametrize("seeds", ["0,1", "0,1000", "1000,0,2000"])
def test_no_network_judges_itself_nor_does_the_order_of_seeds_choose_the_judge(seeds):
    def judges(text):
        found = lay_out(training_seeds=text)
        used = {need for cell in found if cell.kind == "judgement" for need in cell.needs[1:]}
        return {cell.labels["training_seed"] for cell in found if cell.hash in used}

    [judge] = judges(seeds)
    assert judge not in [int(seed) for seed in seeds.split(",")]
    assert judges(",".join(reversed(seeds.split(",")))) == {judge}


def test_each_cell_comes_after_what_it_needs():
    made = set()
    found = lay_out(training_seeds="0,1")
    for cell in found:
        assert made.issuperset(cell.needs)
        made.add(cell.hash)
    assert len(made) == len(found), "no cell twice"
    assert {cell.kind for cell in found if cell.needs} == {"likelihood", "speed", "generation", "sampler-likelihood", "judgement"}


def test_a_sampler_that_ignores_the_steps_makes_one_row():
    found = [cell for cell in lay_out(samplers="first-hitting", families="oracle", schedules="linear")
             if cell.kind == "generation"]  # fmt: skip
    assert [(cell.labels["sampler"], cell.labels["steps"]) for cell in found] == [("first-hitting", None)]


def test_a_training_that_failed_is_not_one_whose_checkpoint_is_gone(tmp_path):
    store, found = Store(tmp_path), lay_out()
    training = next(cell for cell in found if cell.kind == "training")
    store.write_failure(training.hash, "it broke")
    assert training.hash not in {cell.hash for cell in to_do(found, store, "missing")}
    assert training.hash in {cell.hash for cell in to_do(found, store, "failed")}
    store.write(training.hash, {})
    assert training.hash in {cell.hash for cell in to_do(found, store, "missing")}, "others need its checkpoint"


def test_our_own_plugins_leave_no_code_in_the_content():
    assert not any("code" in str(cell.content) for cell in lay_out())


USES = {
    "corpora": {"corpus": "other-corpus"},
    "families": {"families": "other-family"},
    "samplers": {"samplers": "other-sampler"},
    "schedules": {"schedules": "other-schedule"},
    "tokenizers": {"tokenizer": "other-tokenizer", "families": "mdlm"},
}


@pytest.mark.parametrize("kind", USES)
def test_an_edited_plugin_makes_other_cells(kind, tmp_path):
    """Whatever a plugin of somebody else offers: its file is part of the name of what was made with it."""
    file = tmp_path / "foreign.py"
    file.write_text(FOREIGN)
    before = lay_out(registry=Registry.discover([file]), **USES[kind])
    moved = Path(shutil.copy(file, tmp_path / "elsewhere.py"))
    assert hashes(lay_out(registry=Registry.discover([moved]), **USES[kind])) == hashes(before), "the code, not its place"
    file.write_text(FOREIGN + "# edited\n")
    after = lay_out(registry=Registry.discover([file]), **USES[kind])
    assert len(after) == len(before)
    kept = {cell.title for cell in after if cell.hash in hashes(before)}
    made_with = [cell for cell in before if "other-" in str(cell.labels)]
    assert made_with and kept.isdisjoint(cell.title for cell in made_with)
    if kind in ("samplers", "schedules", "families"):
        assert kept, "what has nothing to do with it stays"
    else:
        assert not kept, "all that comes of another text is another"
