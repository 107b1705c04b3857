"""What is stored is what was measured: a data set that changes under its name is another one, and a text is known by what it
says, wherever it lies."""

import json

import pytest
from mist_bench_plugins.corpus_hub import HubCorpus

from harness import GRID
from mist_bench import UserError
from mist_bench.cli import main

STORIES = [f"Once there were {i} dogs. They ran all day, and then they slept." for i in range(60)]


def folder_of(path, stories):
    path.mkdir(exist_ok=True)
    (path / "train.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in stories))
    return str(path)


def test_a_local_data_set_that_changes_is_another_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = HubCorpus(dataset=folder_of(tmp_path / "set", STORIES))
    first = corpus.identity()
    assert first["fingerprint"] and corpus.identity() == first
    folder_of(tmp_path / "set", [*STORIES, "One more."])
    assert corpus.identity() != first
    assert "One more." in [*corpus.load(tmp_path).train, *corpus.load(tmp_path).validation, *corpus.load(tmp_path).test]


def test_a_split_that_nobody_asked_for_is_not_judged(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [])
    splits = {"train": datasets.Dataset.from_dict({"text": STORIES}), "odd": datasets.Dataset.from_dict({"number": [1, 2]})}
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: datasets.DatasetDict(splits))
    assert len(HubCorpus(dataset="me/it").load(tmp_path).train) > 40
    with pytest.raises(UserError, match="split 'odd' of 'me/it' has no column 'text'; known: number"):
        HubCorpus(dataset="me/it", test="odd").load(tmp_path)


def test_a_librarys_error_keeps_the_line_that_helps(tmp_path, monkeypatch):
    """Files of different columns: what is the matter stands in the cause of the error."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = folder_of(tmp_path / "set", STORIES)
    (tmp_path / "set" / "train.jsonl").rename(tmp_path / "set" / "a.jsonl")
    (tmp_path / "set" / "b.jsonl").write_text('{"number": 1}\n' * 3)
    with pytest.raises(UserError, match="cannot load .*column names don't match") as caught:
        HubCorpus(dataset=folder).load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_text_that_has_moved_is_the_same_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    old, new = tmp_path / "a, b.txt", tmp_path / "new.txt"
    old.write_text("\n\n".join(STORIES * 4))
    words = ["--preset", GRID, "--tokenizer", "char", "--family", "autoregressive", "--store", str(tmp_path / "store"),
             "--set", "training.train_steps=2", "--set", "training.validate_every=2", "--set", "length=16"]  # fmt: skip
    rest = ["--out", str(tmp_path / "out"), "--set", "generation.judge=none", "--set", "generation.samples=8"]
    assert main(["run", "--corpus", f"file:{old}", *words, *rest]) == 0
    old.rename(new)
    assert main(["sample", "--corpus", f"file:{new}", *words]) == 0, "without training again"
    (checkpoint,) = (tmp_path / "store" / "checkpoints").glob("*.safetensors")
    capsys.readouterr()
    given = ["sample", "--checkpoint", checkpoint.stem, "--store", str(tmp_path / "store")]
    assert main(given) == 2
    assert f"cannot read {old}" in capsys.readouterr().err
    assert main([*given, "--corpus", f"file:{new}"]) == 0
    new.write_text("\n\n".join(STORIES * 5))
    assert main([*given, "--corpus", f"file:{new}"]) == 2
    assert "its corpus" in capsys.readouterr().err
