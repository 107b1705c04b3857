"""Bad input: one clear line, exit status 2, nothing written."""

from pathlib import Path

import pytest

from harness import GRID
from mist_bench import cli

WRONG = {
    "sampler": (["--sampler", "confidance"], "did you mean 'confidence'"),
    "schedule": (["--schedule", "linaer"], "did you mean 'linear'"),
    "family": (["--family", "mdml"], "did you mean 'mdlm'"),
    "corpus": (["--corpus", "tale"], "did you mean 'tales'"),
    "tokenizer": (["--tokenizer", "bytes"], "did you mean 'byte'"),
    "preset": (["--preset", "quik"], "did you mean 'quick'"),
    "steps": (["--steps", "0"], "steps must be at least 1"),
    "steps in words": (["--steps", "five"], "steps"),
    "temperature": (["--temperature", "-1"], "temperatures must be at least 0"),
    "missing corpus file": (["--corpus", "file:/no/b.txt", "--tokenizer", "byte", "--family", "mdlm"], "no/b.txt"),
    "no corpus file": (["--corpus", "file:", "--tokenizer", "byte"], "corpus 'file:': the path is empty; write file:PATH"),
    "vocabulary": (["--corpus", "file:{book}", "--tokenizer", "bpe[vocab=9000]", "--family", "mdlm"], "9000"),
    "empty corpus file": (["--corpus", "file:{empty}", "--tokenizer", "byte", "--family", "mdlm"], "empty"),
    "parameter": (["--schedule", "polynomial[powr=2]"], "powr"),
    "setting": (["--set", "training.train_step=5"], "train_steps"),
    "preset with an unknown key": (["--preset", "{preset}"], "unknown key"),
    "plugin with a syntax error": (["--plugin", "{plugin}"], "bad_plugin.py"),
    "length of another world": (["--set", "length=16"], "length is 16, but sequences of markov have 4 tokens; leave"),
    "results folder": (["--out", "{empty}/results"], "cannot write"),
    "store": (["--store", "{empty}/store"], "cannot write"),
    "an empty name": (["--sampler", "random,,confidence"], "--sampler: an empty item in 'random,,confidence'"),
    "results where no file can be": (["--out", "/proc/nope"], "cannot write the results folder '/proc/nope'"),
    "results where no file can be, dry": (["--out", "/proc/nope", "--dry-run", ""], "cannot write the results folder"),
    "a store that is a file, dry": (["--store", "{empty}", "--dry-run", ""], "is a file; name another: --store DIR"),
    "oracle without a world": (["--family", "oracle", "--corpus", "austen", "--tokenizer", "byte"], "--corpus markov --tokenizer word"),
    "oracle under other tokens": (["--family", "oracle", "--tokenizer", "byte"], "--tokenizer word"),
}


@pytest.mark.parametrize("case", WRONG)
def test_one_line_status_2_nothing_written(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    given, expected = WRONG[case]
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "book.txt").write_text("\n\n".join(f"A short tale, number {i}. " * 40 for i in range(200)))
    (inputs / "empty.txt").write_text("")
    (inputs / "bad_plugin.py").write_text("def broken(:\n")
    (inputs / "preset.toml").write_text(Path(GRID).read_text().replace("length = 4", "length = 4\nlenght = 5"))
    paths = {"book": inputs / "book.txt", "empty": inputs / "empty.txt", "plugin": inputs / "bad_plugin.py",
             "preset": inputs / "preset.toml"}  # fmt: skip
    arguments = ["--preset", GRID, "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    for name, value in zip(given[::2], given[1::2], strict=True):
        text = value.format(**paths)
        if not text:
            arguments.append(name)
        elif name in arguments:
            arguments[arguments.index(name) + 1] = text
        else:
            arguments += [name, text]
    status = cli.main(["run", *arguments])
    said = capsys.readouterr()
    assert status == 2
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1 and said.err.startswith("mist-bench: error: ")
    assert expected in said.err
    assert not (tmp_path / "store").exists() and not (tmp_path / "out").exists()
