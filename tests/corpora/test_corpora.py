"""Corpora from the package, from files and (with a stand-in for the network) from the Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from mist_bench_plugins import corpus_openwebtext, corpus_text8
from mist_bench_plugins.corpus_austen import AustenCorpus, chapters
from mist_bench_plugins.corpus_file import FileCorpus
from mist_bench_plugins.corpus_hub import HubCorpus
from mist_bench_plugins.corpus_lm1b import Lm1bCorpus
from mist_bench_plugins.corpus_openwebtext import OpenWebTextCorpus
from mist_bench_plugins.corpus_text8 import Text8Corpus
from mist_bench_plugins.corpus_tinystories import TinyStoriesCorpus
from mist_bench_plugins.corpus_wikitext import WikiTextCorpus
from mist_bench_plugins.tokenizer_byte import ByteTokenizer

from mist_bench import TextColumn, Texts, UserError, hold_out
from mist_bench.data.dataset import open_dataset


def plain(texts: Texts) -> dict[str, list[str]]:
    return {name: list(getattr(texts, name)) for name in ("train", "validation", "test")}


# ---- austen


def test_austen_chapters(tmp_path):
    texts = AustenCorpus().load(tmp_path)
    # chapters as they stand in print: 50 + 61 + 48 + 55 + 31 and the 24 of Persuasion
    assert (len(texts.train), len(texts.validation), len(texts.test)) == (233, 12, 24)
    assert texts.test[0].startswith("Sir Walter Elliot, of Kellynch Hall")
    assert texts.test[-1].endswith("than in its\nnational importance.\n")
    assert texts.train[0].startswith("The family of Dashwood had long been settled in Sussex.")
    others = [*texts.train, *texts.validation]
    assert any("It is a truth universally acknowledged" in text for text in texts.train)
    assert not any("Kellynch" in text for text in others)
    everything = "".join([*others, *texts.test])
    assert 4_000_000 < len(everything.encode()) < 4_030_000
    for gone in ("CHAPTER", "VOLUME", "FINIS", "THE END", "Signet", "Gutenberg", "Printed by T. and A.", "[At this"):
        assert gone not in everything
    assert all(text.strip() == text.rstrip("\n").lstrip(" ") and len(text) > 3000 for text in others)
    assert not set("".join([*texts.validation, *texts.test])) - set("".join(texts.train))  # so that `char` will do


def test_austen_validation_is_every_twentieth_chapter(tmp_path):
    texts = AustenCorpus().load(tmp_path)
    # the tenth chapter of the first novel, read in the printed book
    assert texts.validation[0].startswith("Marianne's preserver, as Margaret, with more elegance than precision")
    assert "Marianne's preserver, as Margaret" not in "".join(texts.train)
    assert AustenCorpus().load(tmp_path) == texts
    assert len(AustenCorpus().identity()["sha256"]) == 64


def test_chapters_leave_out_what_is_not_hers():
    novel = (
        "TITLE\n\nVOLUME I\n\nCHAPTER I\n\n\nOne.\n\nTwo\n\n  [End volume one of this\n  edition]\n\n"
        "VOLUME II\n\nChapter 12\n\n    Three\n\n\nThe Chapter 3 of life.\n\nFINIS\n\nnotes\nCHAPTER I\n\nno"
    )
    assert chapters(novel) == ["One.\n\nTwo\n", "    Three\n\n\nThe Chapter 3 of life.\n"]


# ---- file


def make(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_text_file_is_cut_at_blank_lines(tmp_path):
    paragraphs = [f"paragraph {i} é\nline" for i in range(60)]
    path = make(tmp_path, "a.txt", "\n\n\n" + "\n\n".join(paragraphs) + "\n")
    least = len((paragraphs[0] + paragraphs[1]).encode())  # from the tenth on they are longer: two each
    texts = plain(FileCorpus(path=path, document_bytes=least).load(tmp_path))
    assert {name: len(documents) for name, documents in texts.items()} == {"train": 28, "validation": 1, "test": 1}
    assert texts["train"][0] == "\n\n".join(paragraphs[:2])
    assert texts["validation"] == ["\n\n".join(paragraphs[56:58])]
    assert "\n\n".join([*texts["train"], *texts["validation"], *texts["test"]]).strip() == "\n\n".join(paragraphs)
    one_each = plain(FileCorpus(path=path, document_bytes=0).load(tmp_path))
    assert [len(one_each[name]) for name in one_each] == [54, 3, 3]
    assert one_each["train"] == paragraphs[:54]


def test_text_inside_documents_is_kept_byte_for_byte(tmp_path):
    path = make(tmp_path, "a.md", "\ufeffa\r\nb\r\n \t\r\nc\td \r\n\r\nseven..\r\n\n\r\ne\n\nf\n")
    texts = plain(FileCorpus(path=path, document_bytes=5).load(tmp_path))
    assert texts == {"train": ["a\r\nb\r\n \t\r\nc\td "], "validation": ["seven.."], "test": ["e\n\nf\n"]}


def test_jsonl_and_parquet_give_the_same(tmp_path):
    records = [f"record {i}\nwith two lines" for i in range(40)]
    jsonl = make(tmp_path, "a.jsonl", "\n".join(json.dumps({"story": text, "n": 1}) for text in records) + "\n\n")
    parquet = str(tmp_path / "a.parquet")
    pandas.DataFrame({"story": records, "n": 1}).to_parquet(parquet)
    found = [plain(FileCorpus(path=path, field="story", document_bytes=0).load(tmp_path)) for path in (jsonl, parquet)]
    assert found[0] == found[1] == {"train": records[:36], "validation": records[36:38], "test": records[38:]}
    joined = plain(FileCorpus(path=jsonl, field="story", document_bytes=60).load(tmp_path))
    assert joined["train"][0] == "\n\n".join(records[:3])


def prose(tmp_path, paragraphs: int) -> tuple[str, str]:
    """A file of paragraphs of 150 to 750 bytes, and its text."""
    rng = np.random.default_rng(0)
    text = "\n\n".join(f"{i:04d} " + "la " * int(rng.integers(50, 250)) for i in range(paragraphs)) + "\n"
    return make(tmp_path, "prose.txt", text), text


@pytest.mark.parametrize("length", [128, 256, 512, 1024])
def test_less_of_a_file_is_left_out_than_with_documents_of_one_size(tmp_path, length):
    path, text = prose(tmp_path, 2_000)
    corpus = FileCorpus(path=path)
    found = open_dataset(corpus, ByteTokenizer(), length, tmp_path / "cache")
    assert found.left_out["train"] < 0.005, "what lies between its documents is read too"
    before, cut = plain(corpus.load(tmp_path)), plain(corpus.load_for(tmp_path, length))
    for name in ("validation", "test"):
        sizes = [len(document) for document in before[name]]
        lost = sum(size % length for size in sizes) / sum(sizes)
        assert found.left_out[name] <= (
            lost if length > 128 else 0.03
        )  # documents of 4096 bytes are long enough for 128
        assert min(map(len, cut["validation"])) >= min(32 * length, len(text) // 80)  # the last of a file is its rest
        assert len(np.unique(getattr(found, name).documents)) == len(cut[name]) >= 3
    assert "\n\n".join(part for name in cut for part in cut[name]) == text


def test_a_small_file_keeps_documents_for_its_errors(tmp_path):
    path, text = prose(tmp_path, 200)
    texts = plain(FileCorpus(path=path).load_for(tmp_path, 4096))
    assert texts["validation"] == plain(FileCorpus(path=path).load(tmp_path))["validation"]
    path, text = prose(tmp_path, 1_000)
    texts = plain(FileCorpus(path=path).load_for(tmp_path, 10**6))
    assert min(len(texts["validation"]), len(texts["test"])) >= 3
    assert min(len(document) for document in texts["validation"]) >= len(text) // 80


def test_records_that_were_asked_for_alone_stay_alone_and_what_is_lost_is_known(tmp_path):
    records = [f"{i:02d} {'x' * (i % 20)}" for i in range(60)]
    path = make(tmp_path, "a.jsonl", "\n".join(json.dumps({"text": text}) for text in records))
    corpus = FileCorpus(path=path, document_bytes=0)
    assert corpus.load_for(tmp_path, 16) == corpus.load(tmp_path)
    found = open_dataset(corpus, ByteTokenizer(), 16, tmp_path / "cache")
    sizes = [len(text) for text in records[:54]]
    assert found.left_out["train"] == pytest.approx(1 - sum(size // 16 * 16 for size in sizes) / sum(sizes))
    assert found.left_out["train"] > 0.5


def test_file_identity_is_the_content_not_the_place(tmp_path):
    first, second = make(tmp_path, "a.txt", "text"), make(tmp_path, "b.txt", "text")
    identity = FileCorpus(path=first).identity()
    assert identity == FileCorpus(path=second).identity()
    assert identity["sha256"] == hashlib.sha256(b"text").hexdigest()
    assert identity != FileCorpus(path=first, document_bytes=1).identity()
    assert identity != FileCorpus(path=make(tmp_path, "c.txt", "texts")).identity()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", None, "cannot read .*a.txt: No such file or directory; give a file"),
        ("a.txt", " \n\n", "a.txt is empty"),
        ("a.parquet", "", "a.parquet is empty"),
        ("a.txt", "one\n\ntwo", r"a.txt has 1 document\(s\) of at least 4096 bytes, and three are needed"),
        ("a.txt", b"abc \xff", r"a.txt is not UTF-8 \(line 1, byte 4\)"),
        ("a.jsonl", '{"text": "a"}\n{"story": "b"}', r"line 2 has no text in field 'text' \(it has story\)"),
        ("a.jsonl", '{"text": 1}', "line 1 has no text in field 'text'"),
        ("a.jsonl", "[1]", "line 1 has no text in field 'text'"),
        ("a.jsonl", "{", "line 1 is not JSON"),
        ("a.parquet", "PAR1", "a.parquet cannot be read as Parquet"),
    ],
)
def test_files_that_will_not_do(tmp_path, name, content, message):
    path = str(tmp_path / name) if content is None else make(tmp_path, name, content)
    with pytest.raises(UserError, match=message) as caught:
        FileCorpus(path=path).load(tmp_path)
    assert "\n" not in str(caught.value)


def test_more_files_that_will_not_do(tmp_path):
    with pytest.raises(UserError, match="is a folder; give a file"):
        FileCorpus(path=str(tmp_path)).load(tmp_path)
    path = str(tmp_path / "a.parquet")
    pandas.DataFrame({"n": [1, 2, 3]}).to_parquet(path)
    with pytest.raises(UserError, match="no column 'text'; known: n"):
        FileCorpus(path=path).load(tmp_path)
    with pytest.raises(UserError, match="row 1 of column 'n' holds no text"):
        FileCorpus(path=path, field="n").load(tmp_path)


# ---- hub


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the Hub: `hub(train=[…], test=[…])` sets its texts, `hub.calls` lists the calls."""
    import datasets

    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: [])
    calls = []

    def give(column: str = "text", **splits: Iterable[str]):
        found = {name: datasets.Dataset.from_dict({column: list(rows)}) for name, rows in splits.items()}

        def load_dataset(path, name=None, *, revision=None, cache_dir=None):
            calls.append((path, name, revision, cache_dir))
            return datasets.DatasetDict(found)

        monkeypatch.setattr("datasets.load_dataset", load_dataset)

    give.calls = calls
    return give


ROWS = [f"row {i}" for i in range(2050)]


def test_column_is_a_lazy_sequence(hub, tmp_path):
    import datasets

    column = TextColumn(datasets.Dataset.from_dict({"text": ROWS}), "text")
    assert list(column) == ROWS
    assert isinstance(column[5:], TextColumn)
    assert list(column[10:-3][5:]) == ROWS[15:-3]
    assert list(column[::-1][:3]) == ROWS[::-1][:3]
    assert (column[-1], column[3:][0], len(column[3:9])) == (ROWS[-1], ROWS[3], 6)
    with pytest.raises(IndexError):
        column[2:5][3]
    holes = TextColumn(datasets.Dataset.from_dict({"text": ["a", None]}), "text")
    with pytest.raises(UserError, match="row 1 of column 'text' is NoneType, not text"):
        list(holes)


def test_hold_out(hub):
    import datasets

    column = TextColumn(datasets.Dataset.from_dict({"text": ROWS}), "text")
    for most, count in ((10_000, 102), (7, 7)):
        train, held = hold_out(column, most)
        assert (list(train), list(held)) == (ROWS[:-count], ROWS[-count:])
    with pytest.raises(UserError, match="1 rows has none to hold out"):
        hold_out(column[:1])


def test_hub_takes_the_splits_that_are_there(hub, tmp_path):
    hub(train=ROWS[:100], validation=["v"], test=["t"])
    assert plain(HubCorpus(dataset="me/it").load(tmp_path)) == {
        "train": ROWS[:100],
        "validation": ["v"],
        "test": ["t"],
    }
    assert hub.calls == [("me/it", None, None, str(tmp_path / "hub"))]


def test_hub_holds_out_what_is_missing(hub, tmp_path):
    hub(column="story", all=ROWS[:100], dev=["v"])
    corpus = HubCorpus(dataset="me/it", subset="s", column="story", train="all", revision="r")
    assert plain(corpus.load(tmp_path)) == {"train": ROWS[:91], "validation": ROWS[91:95], "test": ROWS[95:100]}
    assert hub.calls == [("me/it", "s", "r", str(tmp_path / "hub"))]
    named = HubCorpus(dataset="me/it", column="story", train="all", validation="dev")
    assert plain(named.load(tmp_path)) == {"train": ROWS[:95], "validation": ["v"], "test": ROWS[95:100]}


def test_the_hubs_own_cache_is_used_if_it_is_set(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", "/somewhere")
    hub(train=ROWS)
    HubCorpus(dataset="me/it").load(tmp_path)
    assert hub.calls == [("me/it", None, None, None)]


def test_hub_errors(hub, tmp_path, monkeypatch):
    import datasets

    hub(train=ROWS[:10], dev=["v"])
    with pytest.raises(UserError, match="'me/it' has no split 'tset'; known: train, dev"):
        HubCorpus(dataset="me/it", test="tset").load(tmp_path)
    with pytest.raises(UserError, match="'me/it' has no split 'all'"):
        HubCorpus(dataset="me/it", train="all").load(tmp_path)
    with pytest.raises(UserError, match="split 'train' of 'me/it' has no column 'story'; known: text"):
        HubCorpus(dataset="me/it", column="story").load(tmp_path)
    for error, message in (
        (
            ConnectionError("Couldn't reach it"),
            "'me/it': no network; run once with a network, or set HF_HOME .*file:PATH",
        ),
        (datasets.exceptions.DatasetNotFoundError("gone\nlost"), "unknown data set 'me/it'"),
        (
            ValueError("BuilderConfig 'x' not found. Available: ['a']\nmore"),
            r"cannot load 'me/it' .*Available: \['a'\] more$",
        ),
    ):

        def fail(*args, error=error, **kwargs):
            raise error

        monkeypatch.setattr("datasets.load_dataset", fail)
        with pytest.raises(UserError, match=message) as caught:
            HubCorpus(dataset="me/it").load(tmp_path)
        assert "\n" not in str(caught.value)


def test_without_a_name_service_nothing_is_tried_twice(tmp_path, monkeypatch, capfd):
    import datasets
    from huggingface_hub import constants

    def no_network(*_):
        raise OSError("Name or service not known")

    for name in ("HF_HOME", "HF_DATASETS_CACHE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match="cannot download 'me/it': no network; run once with a network"):
        HubCorpus(dataset="me/it").load(tmp_path)
    assert constants.HF_HUB_OFFLINE and capfd.readouterr() == ("", "")


def test_tinystories_and_lm1b(hub, tmp_path):
    hub(train=ROWS[:40], validation=["v"], test=["t"])
    for corpus, test in ((TinyStoriesCorpus(), ["v"]), (Lm1bCorpus(), ["t"])):
        assert plain(corpus.load(tmp_path)) == {"train": ROWS[:38], "validation": ROWS[38:40], "test": test}
    assert [call[0] for call in hub.calls] == ["roneneldan/TinyStories", "dvruette/lm1b"]


def test_openwebtext(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_openwebtext, "TEST", 10)
    hub(train=ROWS[:50])
    found = plain(OpenWebTextCorpus().load(tmp_path))
    assert found == {"train": ROWS[:38], "validation": ROWS[38:40], "test": ROWS[40:50]}
    hub(train=ROWS[:11])
    with pytest.raises(UserError, match="has 11 documents here"):
        OpenWebTextCorpus().load(tmp_path)


@pytest.mark.parametrize(
    "splits", [{"train": [1.0], "test": [0.05]}, {"train": [0.9], "validation": [0.05], "test": [0.05]}]
)
def test_text8(hub, tmp_path, monkeypatch, splits):
    monkeypatch.setattr(corpus_text8, "CHARACTERS", 1000)
    monkeypatch.setattr(corpus_text8, "DOCUMENT", 32)
    text, at = ("abcdefghi " * 100), 0
    given = {}
    for name, (share,) in splits.items():
        size = round(share * 1000)
        given[name] = [(text * 2)[at : at + size]]
        at += size
    hub(**given)
    found = plain(Text8Corpus().load(tmp_path))
    assert ["".join(documents) for documents in found.values()] == [text[:900], text[900:950], text[950:]]
    assert [len(documents) for documents in found.values()] == [29, 2, 2]
    longer = plain(Text8Corpus().load_for(tmp_path, 12))  # the next multiple of 12 is 36
    assert {len(document) for document in longer["train"]} == {36} and "".join(longer["train"]) == text[:900]
    assert plain(Text8Corpus().load_for(tmp_path, 16)) == found
    hub(train=["short"])
    with pytest.raises(UserError, match="has 5 characters, not 1000"):
        Text8Corpus().load(tmp_path)


@pytest.mark.parametrize(
    ("corpus", "dataset", "subset"),
    [(TinyStoriesCorpus(), "roneneldan/TinyStories", None), (Lm1bCorpus(), "dvruette/lm1b", None),
     (OpenWebTextCorpus(), "Skylion007/openwebtext", None), (Text8Corpus(), "afmck/text8", None),
     (WikiTextCorpus(), "Salesforce/wikitext", "wikitext-103-raw-v1"),
     (WikiTextCorpus(subset="wikitext-2-raw-v1"), "Salesforce/wikitext", "wikitext-2-raw-v1")],
    ids=lambda value: getattr(value, "spec", ""),
)  # fmt: skip
def test_another_revision_on_the_hub_is_another_corpus(hub, monkeypatch, corpus, dataset, subset):
    """Else the old cells would be taken for the new data."""

    def builder_of(revision):
        def load_dataset_builder(path, name=None, *, revision=None, cache_dir=None):
            return SimpleNamespace(hash=f"{revision_of[path, name]}")

        revision_of = {(dataset, subset): revision}
        monkeypatch.setattr("datasets.load_dataset_builder", load_dataset_builder)

    builder_of("first")
    first = corpus.identity()
    assert corpus.identity() == first and first.items() >= corpus.content().items()
    builder_of("second")
    assert corpus.identity() != first


def test_wikitext_joins_lines_into_articles(hub, tmp_path):
    lines = [
        "",
        " = One = \n",
        "",
        " text \n",
        " = = Part = = \n",
        " = 3 = \n",
        " more \n",
        "",
        " = Two = \n",
        "",
        " end \n",
    ]
    hub(train=lines, validation=lines[:4], test=lines[7:])
    found = plain(WikiTextCorpus().load(tmp_path))
    first = " = One = \n text \n = = Part = = \n = 3 = \n more \n"
    assert found == {
        "train": [first, " = Two = \n end \n"],
        "validation": [" = One = \n text \n"],
        "test": [" = Two = \n end \n"],
    }
    assert hub.calls[0][:2] == ("Salesforce/wikitext", "wikitext-103-raw-v1")
