"""Memory that grows with what there is, and not with what there could be."""

import json
import tracemalloc

import numpy as np
import pytest
from mist_bench_plugins import corpus_file
from mist_bench_plugins.corpus_file import FileCorpus
from mist_bench_plugins.tokenizer_byte import ByteTokenizer

from mist_bench.data import layouts, occurrences, text_files
from mist_bench.data.dataset import open_dataset
from mist_bench.measure.text import distinct_2, token_entropy

VOCABULARY = 50_257


def entropy_by_hand(row) -> float:
    counts = np.bincount(row)
    p = counts[counts > 0] / len(row)
    return float(-(p * np.log(p)).sum())


def test_the_entropy_of_samples_takes_a_few_times_the_tokens():
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (256, 128)).astype(np.int32)
    tokens[0] = 7
    tracemalloc.start()
    found = token_entropy(tokens, VOCABULARY)
    distinct_2(tokens, VOCABULARY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30 * tokens.nbytes
    assert found == pytest.approx([entropy_by_hand(row) for row in tokens]) and found[0] == 0


@pytest.mark.parametrize("kind", [".txt", ".lines.txt", ".one.txt", ".jsonl", ".csv", ".json"])
def test_a_file_is_read_in_blocks(tmp_path, monkeypatch, kind):
    """What is held beside the arrays of the held-out splits does not grow with the file."""
    for module, name, value in (
        (layouts, "CHARACTERS", 2**15),
        (text_files, "BLOCK", 2**14),
        (text_files, "ROWS", 100),
        (occurrences, "BLOCK", 2**12),
        (occurrences, "SIEVE", 10),
        (corpus_file, "TRAIN_BYTES", 2**14),
    ):
        monkeypatch.setattr(module, name, value)  # fmt: skip
    words = np.random.default_rng(0).choice(["once", "there", "was", "a", "dog", "named", "Sam"], (6_000, 50))
    stories = [" ".join(row) for row in words]
    texts = {".txt": "\n\n".join(stories), ".lines.txt": "\n".join(stories), ".one.txt": " ".join(stories),
             ".jsonl": "\n".join(json.dumps({"text": story}) for story in stories),
             ".csv": "text\n" + "\n".join(stories), ".json": json.dumps(stories)}  # fmt: skip
    path = tmp_path / f"a{kind}"
    path.write_text(texts[kind])
    size = path.stat().st_size
    open_dataset(FileCorpus(path=str(path)), ByteTokenizer(), 128, tmp_path / "before")  # imports what is imported once
    del words, stories, texts
    tracemalloc.start()
    open_dataset(FileCorpus(path=str(path)), ByteTokenizer(), 64, tmp_path / "cache")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size, "read whole, and as tokens, it takes five times its size"
