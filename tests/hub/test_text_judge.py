"""A model of somebody else as the judge: found before anything is made, named by what it is, right in its arithmetic.

What needs torch and transformers is skipped without them; the rest runs with a judge that stands in for one.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness import GRID
from harness.commands import in_process, run_command
from harness.experiments import bench_of, cells, experiment, silent
from harness.tiny_models import CONTEXT, END, folder_like, gpt2
from mist_bench import UserError, cli
from mist_bench.hub import models
from mist_bench.hub.causal_lm import LanguageModel, windows
from mist_bench.hub.models import HubModel
from mist_bench.report import tables
from mist_bench.report.rows import Finished, read_rows
from mist_bench.run.experiment import judge_model
from mist_bench.run.grid import lay_out
from mist_bench.run.jobs import read_job, write_job
from mist_bench.run.kinds.training import judging
from mist_bench.run.store import Store

TEXTS = ["a tale", "", "x", "naïve 👩‍👩‍👧 e\u0301", "cut \ufffd and \x00 and \ud800", "<|endoftext|>", "w" * 90, "b"]


@pytest.fixture
def installed(monkeypatch):
    """As if the extra were there: models are found, and cannot be loaded."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in models.LIBRARIES else real(name))


def judged_by(judge):
    return cells(settings=[f"generation.judge={judge}"])


def hashes(found, kind):
    return {cell.hash for cell in found if cell.kind == kind}


# ---- asked for on the command line


def said(capsys, tmp_path, judge, *more):
    """The one line on standard error of a run that must end before anything is made."""
    given = run_command(tmp_path / "store", tmp_path / "out", *more, settings=[f"generation.judge={judge}"])
    assert in_process(*given) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert not (tmp_path / "store").exists() and not (tmp_path / "out").exists()
    return err


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_without_the_extra_one_line_says_what_to_type(monkeypatch, capsys, tmp_path, more):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in models.LIBRARIES else real(name))
    told = said(capsys, tmp_path, "hf:gpt2", *more)
    assert told == (
        "mist-bench: error: judge 'hf:gpt2' needs torch and transformers, which are not installed; "
        "type: pip install 'mist-bench[hf]'\n"
    )


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ("gpt2", "unknown family 'gpt2'"),
        ("hf:", "names no model; write hf:OWNER/NAME, e.g. hf:gpt2"),
        ("hf[revision=main]", "names no model"),
        ("hf[model=gpt2,revsion=main]", "no parameter 'revsion'; did you mean 'revision'?"),
        ("hf:/no/such/folder", "no folder '/no/such/folder'"),
        ("hf:./nowhere", "no folder './nowhere'"),
        ("hf:{empty}", "has no config.json; give the folder that save_pretrained wrote"),
        ("hf:{light}", "has no weights (*.safetensors)"),
        ("hf:{bert}", "is BertForMaskedLM, not a causal language model"),
        ("hf:{t5}", "is an encoder-decoder, not a causal language model"),
        ("hf:{broken}", "its config.json cannot be read"),
        ("hf[model={fine},revision=main]", "a folder has no revisions"),
    ],
)
def test_wrong_judges(judge, message, installed, capsys, tmp_path):
    places = {name: tmp_path / "models" / name for name in ("empty", "light", "bert", "t5", "broken", "fine")}
    for place in places.values():
        folder_like(place)
    (places["empty"] / "config.json").unlink()
    (places["light"] / "model.safetensors").unlink()
    folder_like(places["bert"], architectures=["BertForMaskedLM"])
    folder_like(places["t5"], is_encoder_decoder=True)
    (places["broken"] / "config.json").write_text("[")
    assert message in said(capsys, tmp_path, judge.format(**places))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("LocalEntryNotFoundError", "cannot be downloaded: no network; run once with a network, or give the folder"),
        ("RepositoryNotFoundError", "no such model on the Hugging Face Hub; give OWNER/NAME"),
        ("HFValidationError", "no such model on the Hugging Face Hub"),
        ("RevisionNotFoundError", "'no/body' has no revision 'then'"),
        ("GatedRepoError", "requires accepting its terms"),
        ("EntryNotFoundError", "not a model of transformers"),
        ("", "cannot query the Hugging Face Hub: out of order"),
    ],
)
def test_what_the_hub_refuses_is_one_line(error, message, installed, monkeypatch, capsys, tmp_path):
    import huggingface_hub
    from huggingface_hub import errors

    kind = getattr(errors, error, RuntimeError)
    refusal = kind.__new__(kind, "out of order\nand more")

    def refuse(*_, **__):
        raise refusal

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(models, "go_offline_without_network", lambda: None)
    assert message in said(capsys, tmp_path, "hf[model=no/body,revision=then]")


def test_importing_and_planning_load_no_library(tmp_path):
    """Not even where they are installed: planning looks for them without a start of seconds."""
    folder_like(tmp_path)
    program = (
        "import sys, importlib.util; real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: name if name in ('torch', 'transformers') else real(name)\n"
        "from mist_bench.run.experiment import judge_model; import mist_bench.hub.causal_lm\n"
        f"judge_model('hf:{tmp_path}')\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# ---- who judges is in the name of a judgement, and nowhere else


def test_a_changed_folder_makes_new_judgements_and_another_place_does_not(installed, tmp_path):
    before = judged_by(f"hf:{folder_like(tmp_path / 'one')}")
    assert hashes(before, "judgement") and all(cell.judge.source for cell in before if cell.kind == "judgement")
    assert {cell.needs for cell in before if cell.kind == "judgement"} == {
        (cell.hash,) for cell in before if cell.file == "generation" and not cell.adds
    }
    moved = judged_by(f"hf:{shutil.copytree(tmp_path / 'one', tmp_path / 'moved')}")
    (tmp_path / "moved" / "README.md").write_text("What it is.")
    assert hashes(moved, "judgement") == hashes(before, "judgement")
    assert hashes(judged_by(f"hf:{tmp_path / 'moved'}"), "judgement") == hashes(before, "judgement")
    for name, text in (("model.safetensors", "other"), ("tokenizer.json", "{}")):
        other = shutil.copytree(tmp_path / "one", tmp_path / name)
        (other / name).write_text(text)
        after = judged_by(f"hf:{other}")
        assert hashes(after, "judgement").isdisjoint(hashes(before, "judgement"))
        for kind in ("training", "likelihood", "generation"):
            assert hashes(after, kind) == hashes(before, kind)
    [name] = {cell.labels["judge"] for cell in before if cell.kind == "judgement"}
    assert name.startswith("hf:one, sha256 ") and str(tmp_path) not in name


def test_a_model_of_the_hub_is_its_commit(installed, monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def download(name, file, revision=None):
        asked.append((name, file, revision))
        commit = {"then": "1" * 40}.get(revision, "2" * 40)
        return str(folder_like(tmp_path / commit) / "config.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(models, "go_offline_without_network", lambda: None)
    newest, then = judge_model("hf:no/body"), judge_model("hf[model=no/body,revision=then]")
    assert newest.identity() == {"model": "no/body", "commit": "2" * 40}
    assert then == HubModel(source="no/body", version="1" * 40, is_folder=False)
    assert asked == [("no/body", "config.json", None), ("no/body", "config.json", "then")]
    assert newest.title == "no/body, commit 222222222"
    assert hashes(judged_by("hf:no/body"), "judgement").isdisjoint(
        hashes(judged_by("hf[model=no/body,revision=then]"), "judgement")
    )


def test_it_replaces_the_network_that_judged(installed, tmp_path):
    judged, ours = judged_by(f"hf:{folder_like(tmp_path)}"), judged_by("auto")
    assert hashes(ours, "training") - hashes(judged, "training") == {judging(experiment()).hash}
    assert hashes(judged, "generation") == hashes(ours, "generation")
    assert hashes(judged, "judgement").isdisjoint(hashes(ours, "judgement"))


def test_processes_of_trainings_do_not_look_for_it_again(installed, tmp_path):
    folder, store = folder_like(tmp_path / "model"), Store(tmp_path / "store")
    training = next(cell for cell in judged_by(f"hf:{folder}") if cell.kind == "training")
    write_job(training, store)
    shutil.rmtree(folder)
    assert read_job(training.hash, store).experiment.text_judge is None


# ---- what is stored and shown, by a judge that stands in


class Counting:
    """Half a nat for every byte of a text, of which the first of each is no token of its own."""

    def score(self, texts, report):
        sizes = np.array([len(text.encode()) for text in texts])
        report(1, 1)
        return 0.5 * sizes, np.maximum(sizes - 1, 0)


@pytest.fixture
def judged(installed, monkeypatch, tmp_path):
    """The control rows of the grid, judged: (bench, rows by control)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(HubModel, "load", lambda self: Counting())
    folder = folder_like(tmp_path / "counting")
    bench, made = bench_of(experiment(settings=[f"generation.judge=hf:{folder}"]), tmp_path / "store"), set()
    found = lay_out(bench.experiment)
    for cell in found:
        control = cell.labels.get("control") and not cell.labels.get("sampler")
        if cell.kind in ("control", "judgement") and control:
            assert made.issuperset(cell.needs)
            bench.store.write(cell.hash, cell.make(bench, silent))
            made.add(cell.hash)
    return bench, read_rows(Finished.of([cell.entry for cell in found], bench.store), 4)["generation"]


def test_controls_are_judged_by_their_text(judged):
    bench, rows = judged
    assert {row["control"] for row in rows} == {"data", "unigram", "repeater", "oracle"}
    for row in rows:
        assert row["judge"].startswith("hf:counting, sha256 ")
    data = next(row for row in rows if row["control"] == "data")
    texts = [bench.dataset.decode(tokens) for tokens in bench.dataset.test.tokens[:64]]
    sizes = np.array([len(text.encode()) for text in texts])
    assert data["judge_nats_per_token"] == pytest.approx(0.5 * sizes.mean() / bench.dataset.length)
    assert data["judge_nats_per_token_se"] == pytest.approx(0.5 * sizes.std(ddof=1) / 8 / bench.dataset.length)
    assert data["judge_nats_per_byte"] == pytest.approx(0.5)
    assert data["judge_nats_per_byte_se"] == pytest.approx(0, abs=1e-12)
    assert data["judge_perplexity"] == pytest.approx(np.exp(0.5 * sizes.sum() / (sizes - 1).sum()))


def test_the_tables_say_what_the_number_is(judged):
    _, rows = judged
    shown = tables.markdown(tables.throughput_tables(rows))
    assert "judge hf:counting, sha256" in shown and "judge nats/byte" in shown and "judge ppl" in shown
    assert "those of the text under the judge's own tokenizer, over our tokens" in shown
    ours = [{k: v for k, v in row.items() if k not in ("judge_nats_per_byte", "judge_perplexity")} for row in rows]
    assert "judge ppl" not in tables.markdown(tables.throughput_tables(ours)) and "own tokenizer" not in tables.markdown(tables.throughput_tables(ours))


def test_texts_without_a_byte_have_no_nats_per_byte():
    from mist_bench.measure.text import text_judge_columns

    none = text_judge_columns(np.zeros(2), np.zeros(2, dtype=int), ["", ""], np.arange(2))
    assert none == {"judge_nats_per_byte": None, "judge_nats_per_byte_se": None, "judge_perplexity": None}
    some = text_judge_columns(np.array([3.0, 0.0]), np.array([4, 0]), ["ab", ""], np.arange(2))
    assert some["judge_nats_per_byte"] == 1.5 and some["judge_perplexity"] == pytest.approx(np.exp(0.75))


# ---- windows and tokens


@pytest.mark.parametrize("context", [2, 3, 8, 9])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 8, 9, 12, 13, 50])
def test_windows_score_each_token_once_after_half_a_context(count, context):
    found = list(windows(count, context))
    assert [i for _, scored, end in found for i in range(scored, end)] == list(range(1, count))
    for start, scored, end in found:
        assert 0 <= start < scored < end <= count and end - start <= context
        assert start == 0 or scored - start >= context // 2


class Letters:
    """A tokenizer of letters; a model over them that is half a nat surer for every token that it sees."""

    bos_token_id = eos_token_id = unk_token_id = None

    def __call__(self, text, **_):
        return {"input_ids": [self.unk_token_id if c == "?" and self.unk_token_id else ord(c) for c in text]}


class Surer(LanguageModel):
    def _nats(self, parts):
        longest = max(map(len, parts))
        values = 100 - 0.5 * np.tile(np.arange(1, longest), (len(parts), 1))
        for row, part in zip(values, parts, strict=True):
            row[len(part) - 1 :] = np.nan  # padding
        return values


@pytest.mark.parametrize(("bos", "eos", "beginning"), [(7, 9, [7]), (None, 9, [9]), (None, None, []), (0, 9, [0])])
def test_the_first_token_is_scored_after_the_beginning_of_a_text(bos, eos, beginning):
    tokenizer = Letters()
    tokenizer.bos_token_id, tokenizer.eos_token_id = bos, eos
    model = Surer(None, tokenizer, 4)
    nats, scored = model.score(["ab", "", "a", "abcdef"])
    assert model.beginning == beginning
    if beginning:  # of six after the beginning: three in the first window, then two in each, with 2 and 3 seen
        assert scored.tolist() == [2, 0, 1, 6]
        assert nats.tolist() == [99.5 + 99, 0, 99.5, (99.5 + 99 + 98.5) + (99 + 98.5) + 99]
    else:
        assert scored.tolist() == [1, 0, 0, 5]
        assert nats.tolist() == [99.5, 0, 0, (99.5 + 99 + 98.5) + (99 + 98.5)]


def test_a_judge_that_cannot_read_the_text_says_so():
    tokenizer = Letters()
    tokenizer.unk_token_id = 3
    with pytest.raises(UserError, match="has no token for part of a text"):
        Surer(None, tokenizer, 4).score(["really?"])
    tokenizer.eos_token_id = 3  # GPT-2's unknown token is its end, and never used
    Surer(None, tokenizer, 4).score(["really?"])


# ---- with the extra


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return gpt2(tmp_path_factory.mktemp("models") / "tiny")


def by_hand(folder, ids):
    """(T - 1,) nats of the tokens after the first, from the plain network's logits, in numpy's float64."""
    import torch
    from transformers import GPT2LMHeadModel

    with torch.no_grad():
        logits = GPT2LMHeadModel.from_pretrained(folder).eval()(torch.tensor([ids])).logits[0].double().numpy()
    top = logits.max(axis=1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(ids) - 1), ids[1:]]


def ids_of(text):
    """Bytes as GPT-2's byte-level alphabet sorts them."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return [alphabet.index(letter) for piece, _ in pieces for letter in piece]


def test_nats_are_those_computed_by_hand(tiny):
    model = judge_model(f"hf:{tiny}").load()
    assert model.context == CONTEXT
    nats, scored = model.score(TEXTS)
    for text, value, count in zip(TEXTS, nats, scored, strict=True):
        ids = [END, *ids_of(text.replace("\ud800", "?"))]
        assert count == len(ids) - 1 == len(text.encode("utf-8", "replace"))
        if len(ids) <= CONTEXT:
            wanted = by_hand(tiny, ids).sum()
        else:  # 32 tokens, then 16 at a time after the 16 before them
            wanted = by_hand(tiny, ids[:32]).sum()
            for end in range(32, len(ids), 16):
                wanted += by_hand(tiny, ids[end - 16 : end + 16])[15:].sum()
        assert value == pytest.approx(wanted, abs=1e-4, rel=1e-6)
    assert nats[1] == 0 and nats.min() >= 0 and nats[2] != nats[7]


def test_a_text_is_scored_alike_in_any_company(tiny, monkeypatch):
    model = judge_model(f"hf:{tiny}").load()
    together, _ = model.score(TEXTS)
    alone = [model.score([text])[0][0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)
    monkeypatch.setattr("mist_bench.hub.causal_lm.BATCH_TOKENS", 40)
    np.testing.assert_allclose(model.score(TEXTS)[0], together, rtol=1e-5, atol=1e-4)


def test_without_an_end_the_first_token_is_left_out(tiny, tmp_path):
    model = judge_model(f"hf:{gpt2(tmp_path, end=False)}").load()
    nats, scored = model.score(["tale", "t", ""])
    assert scored.tolist() == [3, 0, 0] and nats[1:].tolist() == [0, 0]
    assert nats[0] == pytest.approx(by_hand(tmp_path, ids_of("tale")).sum(), abs=1e-4)


def test_the_network_is_read_in_float32_whatever_it_was_saved_in(tiny, tmp_path):
    import torch
    from transformers import GPT2LMHeadModel

    half = Path(shutil.copytree(tiny, tmp_path / "half"))
    GPT2LMHeadModel.from_pretrained(tiny).to(torch.bfloat16).save_pretrained(half)
    network = judge_model(f"hf:{half}").load().network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_what_is_not_whole_is_no_judge(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    damaged, partial = (Path(shutil.copytree(tiny, tmp_path / name)) for name in ("damaged", "partial"))
    (damaged / "model.safetensors").write_bytes(b"no weights")
    tensors = load_file(partial / "model.safetensors")
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="cannot load damaged, sha256"):
        judge_model(f"hf:{damaged}").load()
    with pytest.raises(UserError, match="partial, .* is not a complete causal language model: it lacks .*h.0.mlp.c_fc.weight"):
        judge_model(f"hf:{partial}").load()


def test_a_whole_run(tiny, tmp_path, capsys):
    """No training, no graph: control rows, and the same command once more makes nothing."""
    given = ["run", "--preset", GRID, "--store", str(tmp_path / "store"), "--set", f"generation.judge=hf:{tiny}",
             "--family", "oracle", "--schedule", "linear", "--sampler", "random", "--steps", "2"]  # fmt: skip
    assert cli.main([*given, "--out", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    rows = (tmp_path / "one" / "generation.csv").read_text().splitlines()
    assert len(rows) == 6 and all("hf:tiny, sha256" in row for row in rows[1:])
    assert cli.main([*given, "--out", str(tmp_path / "two")]) == 0
    assert "judgement" not in capsys.readouterr().err
    assert (tmp_path / "two" / "generation.csv").read_text().splitlines() == rows
    run = json.loads((tmp_path / "one" / "run.json").read_text())
    assert {"torch", "transformers"} <= set(run["provenance"]["libraries"])
