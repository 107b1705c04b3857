"""`mist-bench sample`: which network is asked, what is given and what is filled, and what is seen on the way."""

import io
import re
import shlex

import numpy as np
import pytest
from mist_bench_plugins.tokenizer_byte import ByteTokenizer
from mist_bench_plugins.tokenizer_word import PieceCodec
from rich.console import Console

from harness import GRID
from harness.experiments import experiment, silent
from mist_bench import UserError, cli
from mist_bench.data.dataset import Dataset, Split
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.report import layout
from mist_bench.run.grid import lay_out
from mist_bench.run.store import Store, unpack_tokens
from mist_bench.run.workbench import Workbench
from mist_bench.sample import watch
from mist_bench.sample.template import template

WORLD = "markov[length=6]"
PIECES = ["One", " day", " the", " cat", " sat", ".", "\n"]


def dataset(codec, *, end=True, length=8, usual=5) -> Dataset:
    """Sequences without a corpus: the training texts have `usual` tokens."""
    vocab = codec.vocab_size + end
    rows = np.full((3, length), vocab - 1)
    rows[:, :usual] = [[i % codec.vocab_size for i in range(usual)]] * 3
    split = Split(tokens=rows, documents=np.arange(9).reshape(3, 3) // 3, places=np.arange(3), text_bytes=np.full(3, 9))
    return Dataset(
        corpus="made", tokenizer="word", codec=codec, vocab_size=vocab, end=vocab - 1 if end else None, mask=vocab,
        length=length, train=split, validation=split, test=split, left_out={}, oracle_ids=False,
    )  # fmt: skip


WORDS = dataset(PieceCodec(PIECES, r" ?\w+"))
BYTES = dataset(ByteTokenizer().fit([], None), end=False)
M, E = WORDS.mask, WORDS.end


def filled(prompt="", suffix="", length=None, *, data=WORDS, layout="padded", causal=False):
    return template(data, layout, prompt=prompt, suffix=suffix, length=length, causal=causal)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("One day", [0, 1]),
        ("One day ", [0, 1]),  # the next word brings its space
        ("One ___ cat", [0, M, 3]),
        ("One ______ cat", [0, M, M, 3]),
        ("One ___ ___ cat", [0, M, M, 3]),
        ("___ day.", [M, 1, 5]),
    ],
)
def test_a_blank_is_a_token_and_takes_the_space_before_it(prompt, expected):
    made = filled(prompt)
    assert made.tokens.tolist() == expected + [M] * (8 - len(expected))
    assert made.shown == 8


def test_without_words_a_blank_leaves_the_space_alone():
    made = filled("a ___b ", data=BYTES, layout="windows")
    assert made.tokens.tolist() == [97, 32, 256, 98, 32, 256, 256, 256]


@pytest.mark.parametrize(
    ("prompt", "suffix", "length", "layout", "expected"),
    [
        ("One", " cat.", None, "padded", [0, M, M, 3, 5, E, E, E]),  # the usual length, then the end
        ("One", " cat.", 7, "padded", [0, M, M, M, M, 3, 5, E]),
        ("One", " cat.", 8, "padded", [0, M, M, M, M, M, 3, 5]),
        ("One day the cat sat", ".", None, "padded", [0, 1, 2, 3, 4, M, 5, E]),  # longer than usual
        ("One", "cat.", 6, "padded", [0, M, M, M, 3, 5, E, E]),  # the space that the tokenizer wants
        ("One", " cat.", None, "packed", [0, M, M, M, M, M, 3, 5]),
        ("One", " cat.", 5, "packed", [0, M, M, 3, 5, M, M, M]),
        ("", "One ___.", 4, "padded", [M, 0, M, 5, E, E, E, E]),
    ],
)
def test_the_text_ends_with_the_suffix(prompt, suffix, length, layout, expected):
    assert filled(prompt, suffix, length, layout=layout).tokens.tolist() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"length": 9}, "--length 9 is more than the 8 tokens"),
        ({"prompt": "One day the cat", "length": 3}, "4 tokens are given by --prompt alone, .* has 3; .* to 8"),
        ({"prompt": "One day the cat sat", "suffix": " the cat sat."}, "9 tokens .* together, and the text has 8"),
        ({"prompt": "One day", "length": 2}, "all 2 tokens are given by --prompt alone; leave a ___"),
        ({"prompt": "One dog"}, "--prompt: piece ' dog' is none of the 7 .*'word'"),
        ({"suffix": "dog"}, "--suffix: piece 'dog' is none"),
        ({"suffix": ".", "causal": True}, "left to right"),
        ({"prompt": "One ___ the", "causal": True}, "left to right"),
    ],
)
def test_what_cannot_be_is_one_line(given, message):
    with pytest.raises(UserError, match=message) as error:
        filled(**given)
    assert "\n" not in str(error.value)


def test_a_causal_family_may_have_blanks_at_the_end():
    assert filled("One ___", causal=True).tokens.tolist() == [0] + [M] * 7


def test_a_padded_text_ends_at_the_first_end_after_what_is_given():
    assert filled("One").text(np.array([0, 1, E, 2, E, E, E, E])) == "One day"
    assert filled("One", " cat.").text(np.array([0, E, 1, 3, 5, E, E, E])) == "One day cat."
    assert filled("One", length=2).text(np.array([0, 1, 2, 3, 4, 5, E, E])) == "One day"
    assert filled("One").text(np.array([0, E, E, E, E, E, E, E])) == "One"
    # documents that follow each other
    assert filled("One", layout="packed").text(np.array([0, E, 0, 1, 5, 5, 5, 5])) == "One\n\nOne day...."


STEPS = [[0, M, M, M, M, M, M, M], [0, 1, M, M, M, 6, M, M], [0, 1, 2, 3, 5, 6, E, E]]


def shown(console, rows, guesses=None) -> str:
    with watch.Watch(console, filled("One"), 1, len(rows) - 1) as view:
        for step, row in enumerate(rows):
            told = None if guesses is None else np.array([guesses[step]])
            view.step(step, np.array([row]), told)
    return console.file.getvalue()


def test_without_a_terminal_a_step_is_a_line():
    lines = shown(Console(file=io.StringIO(), width=20), STEPS).splitlines()
    assert len(lines) == 3
    assert [line[:13] for line in lines] == ["step 0/2   0%", "step 1/2  29%", "step 2/2 100%"]
    assert lines[0][15:] == "One" + " ░░░" * 7  # words of four characters, with the space before them
    assert lines[1][15:] == "One day ░░░ ░░░ ░░░↵ ░░░ ░░░"
    assert lines[2][15:] == "One day the cat.↵"


def test_in_a_terminal_a_guess_shows_through_once_it_has_held(monkeypatch):
    monkeypatch.setattr(watch, "FRAME_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm-256color")
    steps, guesses = [STEPS[0], STEPS[1], STEPS[1]], [[0, 2, 4, 4, 2, 2, 2, 2], [0, 1, 4, 3, 2, 6, 2, 2]] * 2
    guesses[2] = [0, 1, 4, 3, 5, 6, 4, 4]
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard", legacy_windows=False)
    frames = shown(console, steps, guesses).split("revealed")
    assert " sat" not in frames[1]  # a first guess may still change
    assert "\x1b[2m sat\x1b[0m" in frames[2] and " cat" not in frames[2]
    assert "\x1b[2m sat cat\x1b[0m" in frames[3]
    assert "\x1b[1;36mOne\x1b[0m" in frames[3]  # given
    assert "\x1b[1;92m day\x1b[0m" in frames[2] and "\x1b[1m day\x1b[0m" in frames[3]  # new, then revealed
    assert "\x1b[?25h" in frames[-1]  # the cursor is back


def test_a_terminal_is_not_commanded_by_the_text():
    assert layout.printable("a\x1b[2Jb\x07\tc\nd\u00a0é\x9b") == "a\ufffd[2Jb\ufffd\tc\nd\u00a0é\ufffd"


@pytest.fixture(scope="session")
def registry():
    return Registry.discover()


@pytest.fixture(scope="session")
def untrained(tmp_path_factory, registry):
    """A store with an untrained network of each family, under the hashes of their trainings."""
    folder = tmp_path_factory.mktemp("sample")
    store = Store(folder / "store")
    config = override(load_preset(GRID), corpus=WORLD, families="mdlm,autoregressive", schedules="linear")
    bench = Workbench(experiment(config), store)
    hashes = {}
    for cell in lay_out(bench.experiment):
        if cell.kind == "training" and cell.labels["training_seed"] == 0:
            values = bench.initial_parameters(cell.family, 0)
            store.save_checkpoint(cell.hash, values, {"content": cell.content, "labels": cell.labels})
            hashes[cell.labels["family"]] = cell.hash
    return store, hashes


class Sampled:
    """Runs the command on the untrained networks, two texts at once, so that all tests share their graphs."""

    def __init__(self, store, hashes, capsys):
        self.store, self.hashes, self.capsys = store, hashes, capsys

    def __call__(self, *more, store=None):
        given = ["--preset", GRID, "--corpus", WORLD, "--store", str(store or self.store.path), "--count", "2"]
        self.status = cli.main(["sample", *given, *more])
        self.out, self.err = self.capsys.readouterr()
        return self.out.splitlines()

    def error(self, *more, store=None) -> str:
        assert self(*more, store=store) == [] and self.status == 2
        assert self.err.count("\n") == 1 and self.err.startswith("mist-bench: error: ")
        return self.err


@pytest.fixture
def sampled(untrained, capsys):
    return Sampled(*untrained, capsys)


def test_what_is_given_is_kept(sampled):
    lines = sampled("--prompt", "ab___c", "--sampler", "confidence")
    assert sampled.status == 0 and lines[::2] == ["[1/2]", "[2/2]"]
    # an untrained network may fill the blank with the end token, which is shown as nothing
    assert all(re.fullmatch("ab[abc]?c[abc]{0,2}", line) for line in lines[1::2])
    assert "mdlm under linear on markov[length=6] by word" in sampled.err and "confidence, 6 steps" in sampled.err
    again = sampled("--checkpoint", sampled.hashes["mdlm"][:6], "--prompt", "ab___c", "--sampler", "confidence")
    assert again == lines  # the same network, found by its hash
    path = str(sampled.store.checkpoint_path(sampled.hashes["mdlm"]))
    assert sampled("--checkpoint", path, "--prompt", "ab___c") == lines


def test_a_perfect_denoiser_needs_no_checkpoint(sampled, tmp_path):
    lines = sampled("--family", "oracle", "--prompt", "b", "--suffix", "ca", "--seed", "4", store=tmp_path)
    assert all(len(line) == 6 and line[0] == "b" and line[4:] == "ca" for line in lines[1::2])
    assert sampled("--family", "oracle", "--prompt", "b", "--suffix", "ca", "--seed", "4", store=tmp_path) == lines
    assert not (tmp_path / "checkpoints").exists()


def steps_of(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("step ")]


def test_watching_prints_the_steps_and_then_the_texts(sampled):
    plain = sampled("--steps", "3")
    assert len(plain) == 4
    assert sampled("--steps", "3", "--watch") == plain, "texts alone are on standard output"
    lines = steps_of(sampled.err)
    assert [line[:8] for line in lines] == [f"step {i}/3" for i in range(4)]
    assert lines[0].count("░") > lines[2].count("░") > 0 and lines[3].endswith(plain[1])


def test_left_to_right_keeps_the_prompt_too(sampled):
    lines = sampled("--family", "autoregressive", "--prompt", "cab", "--watch")
    steps = steps_of(sampled.err)
    assert [line.split()[1] for line in steps] == ["1/3", "2/3", "3/3"]
    assert lines[0] == "[1/2]" and lines[1].startswith("cab")
    assert steps[2].endswith(lines[1])
    assert sampled("--checkpoint", sampled.hashes["autoregressive"], "--prompt", "cab") == lines


def test_wrong_calls(sampled):
    assert "did you mean 'confidence'" in sampled.error("--sampler", "confidance")
    assert "leave --sampler out" in sampled.error("--family", "autoregressive", "--sampler", "random")
    assert "left to right" in sampled.error("--family", "autoregressive", "--suffix", "a")
    assert "piece 'z'" in sampled.error("--prompt", "z")
    assert "more than the 6 tokens" in sampled.error("--length", "7")
    assert "nucleus must be" in sampled.error("--nucleus", "0")


def test_the_network_that_is_missing_is_named_by_the_command_that_trains_it(sampled, registry, tmp_path):
    said = sampled.error("--training-seed", "7", "--set", "training.learning_rate=1e-3", store=tmp_path)
    assert "mdlm linear (training seed 7)" in said
    command = shlex.split(said.partition("train it: ")[2])
    assert command == ["mist-bench", "run", "--preset", GRID, "--corpus", WORLD, "--training-seed", "7",
                       "--store", str(tmp_path), "--set", "training.learning_rate=1e-3"], "the user's own words"  # fmt: skip
    config = override(
        load_preset(GRID), ["training.learning_rate=1e-3"], corpus=WORLD, families="mdlm", schedules="linear",
        training_seeds="7",
    )  # fmt: skip
    wanted = next(cell.hash for cell in lay_out(experiment(config)) if cell.kind == "training")
    assert cli.main([*command[1:], "--dry-run"]) == 0
    assert f"{wanted}  would be made  training mdlm linear" in sampled.capsys.readouterr().out


def edited(sampled, folder, change) -> Store:
    """A store of its own with one checkpoint, changed."""
    store, hash = Store(folder), sampled.hashes["mdlm"]
    tensors, metadata = sampled.store.load_checkpoint(hash)
    change(tensors, metadata)
    store.save_checkpoint(hash, tensors, metadata)
    return store


def grow(tensors, _):
    tensors["tokens"] = np.zeros((50, 16), dtype=np.float32)


def add(tensors, _):
    tensors["condition"] = np.zeros((16, 16), dtype=np.float32)


def drop(tensors, _):
    del tensors["head"]


def another_world(_, metadata):
    metadata["content"]["corpus"]["skew"] = 0.5


def no_labels(_, metadata):
    del metadata["labels"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (grow, "another configuration: its parameters do not fit"),
        (add, "another configuration: its parameters do not fit"),
        (drop, "another configuration: its parameters do not fit"),
        (another_world, "its corpus 'markov[length=6]' has changed"),
        (no_labels, "does not say which network it holds"),
    ],
)
def test_a_checkpoint_that_is_not_what_it_says(sampled, tmp_path, change, message):
    store = edited(sampled, tmp_path, change)
    assert message in sampled.error("--checkpoint", sampled.hashes["mdlm"][:8], store=store.path)


def test_a_checkpoint_of_another_device_is_welcome(sampled, tmp_path):
    def other_device(_, metadata):
        metadata["content"]["device"] = "CUDA bfloat16"

    sampled("--checkpoint", sampled.hashes["mdlm"], store=edited(sampled, tmp_path, other_device).path)
    assert sampled.status == 0


def test_a_checkpoint_is_found_by_a_unique_beginning(sampled, tmp_path):
    for hash in ("aa00000000000000", "aabb000000000000", "aacc000000000000-partial"):
        Store(tmp_path).save_checkpoint(hash, {}, {"curve": []})
    assert "'aa' is the beginning of aa00000000000000, aabb000000000000;" in sampled.error(
        "--checkpoint", "aa", store=tmp_path
    )
    assert "unknown checkpoint 'aac'; in the store" in sampled.error("--checkpoint", "aac", store=tmp_path)
    assert "unknown checkpoint '*'" in sampled.error("--checkpoint", "*", store=tmp_path)
    assert "train a network first" in sampled.error("--checkpoint", "aa", store=tmp_path / "empty")
    unfinished = str(tmp_path / "checkpoints" / "aacc000000000000-partial.safetensors")
    assert "unfinished training" in sampled.error("--checkpoint", unfinished)


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "missing"])
def test_a_damaged_file_is_said_and_left_where_it_is(sampled, tmp_path, damage):
    path = tmp_path / "mine.safetensors"
    data = bytearray(sampled.store.checkpoint_path(sampled.hashes["mdlm"]).read_bytes())
    if damage == "flipped":
        data[-5] ^= 1
    if damage != "missing":
        path.write_bytes({"cut": data[:-9], "text": b"no checkpoint"}.get(damage, bytes(data)))
    said = sampled.error("--checkpoint", str(path))
    assert ("no checkpoint file" if damage == "missing" else "damaged") in said
    assert [p.name for p in tmp_path.iterdir()] == ([] if damage == "missing" else [path.name])


def test_a_damaged_checkpoint_of_the_store(sampled, tmp_path):
    path = edited(sampled, tmp_path, lambda tensors, metadata: None).checkpoint_path(sampled.hashes["mdlm"])
    path.write_bytes(path.read_bytes()[:-9])
    assert "is damaged and was set aside" in sampled.error("--checkpoint", path.stem, store=tmp_path)


@pytest.mark.parametrize(("family", "how"), [("mdlm", ["--sampler", "confidence"]), ("autoregressive", [])])
def test_the_texts_are_those_of_a_run_with_the_same_seed(sampled, registry, family, how):
    small = [f"generation.{name}" for name in ("samples=2", "batch_size=2", "rounds=1", "judge=none")]
    config = override(
        load_preset(GRID), small, corpus=WORLD, families=family, schedules="linear", samplers="confidence", steps="3",
        seeds="5",
    )  # fmt: skip
    bench = Workbench(experiment(config), sampled.store)
    [cell] = [cell for cell in lay_out(bench.experiment) if cell.kind == "generation"]
    rows = unpack_tokens(cell.make(bench, silent)["tokens"])
    texts = ["".join("abc|"[i] for i in row).partition("|")[0] for row in rows]
    assert sampled("--family", family, *how, "--steps", "3", "--seed", "5")[1::2] == texts
