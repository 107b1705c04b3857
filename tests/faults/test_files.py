"""Files as people have them: read, or refused by kind with the place; a text without paragraphs is cut, which is said."""

import bz2
import gzip
import json
import lzma
import os

import pandas
import pytest
from mist_bench_plugins.corpus_file import FileCorpus

from mist_bench import UserError
from mist_bench.cli import main
from mist_bench.data import cutting, text_files
from mist_bench.data.text_files import TextFile

STORIES = [f"Once there were {i} dogs.\nThey ran." for i in range(30)]
RECORDS = [{"id": i, "text": story} for i, story in enumerate(STORIES)]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def texts(path, **how):
    """All documents, each record one."""
    found = FileCorpus(path=str(path), document_bytes=0, **how).load(path.parent)
    return [*found.train, *found.validation, *found.test], found.said


def csv(sep):
    return pandas.DataFrame(RECORDS).to_csv(index=False, sep=sep)


KINDS = {
    "a.jsonl": LINES, "a.ndjson": LINES, "a.json": json.dumps(RECORDS), "b.json": json.dumps(STORIES), "a.csv": csv(","),
    "a.tsv": csv("\t"), "a.txt": "\n\n".join(STORIES),
}  # fmt: skip


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_read_also_with_a_byte_order_mark(tmp_path, name, mark):
    if name.endswith(".json") and mark:
        mark = ""  # json's own module writes none
    (tmp_path / name).write_bytes((mark + KINDS[name]).encode())
    assert texts(tmp_path / name) == (STORIES, "")


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress), (".bz2", bz2.compress)])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_read_packed(tmp_path, name, suffix, pack):
    (tmp_path / (name + suffix)).write_bytes(pack(KINDS[name].encode()))
    assert texts(tmp_path / (name + suffix))[0] == STORIES
    (tmp_path / (name + suffix)).write_bytes(pack(KINDS[name].encode())[:-20])
    with pytest.raises(UserError, match=r"cannot be unpacked|cannot be read"):
        texts(tmp_path / (name + suffix))


def test_zstd(tmp_path):
    import pyarrow

    with pyarrow.CompressedOutputStream(str(tmp_path / "a.txt.zst"), "zstd") as file:
        file.write(KINDS["a.txt"].encode())
    assert texts(tmp_path / "a.txt.zst")[0] == STORIES


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.zip", "a.html", "a.tar.gz", "A.PDF"])
def test_other_kinds_are_refused_by_kind(tmp_path, name):
    (tmp_path / name).write_bytes(b"%PDF-1.7 some text " * 100)
    with pytest.raises(
        UserError, match=r"is a \.\w+ file, which is not read; give plain text, \.jsonl, .*, each also as \.gz"
    ):
        texts(tmp_path / name)


LONG = "one line as long as text8 is and no end in sight " * 200


@pytest.mark.parametrize(
    ("text", "said", "count"),
    [
        ("\n".join(f"record {i} of a file with one a line" for i in range(50)), "each line counts as one", 50),
        ("\r".join(f"record {i} of a file of an old Mac" for i in range(50)), "each line counts as one", 50),
        ("\r\n".join(f"record {i} of a file of Windows" for i in range(50)), "each line counts as one", 50),
        ("\r\r".join(f"paragraph {i} of an old Mac" for i in range(50)), "", 50),
        (LONG, "it has no lines to cut at, so it is cut into pieces of some 163 characters, at spaces if it has any", None),
        ("x" * 5000, "it has no lines to cut at", None),
    ],
    ids=["lines", "old Mac", "Windows", "old paragraphs", "one line", "one word"],
)
def test_a_text_without_paragraphs_is_cut_and_it_is_said(tmp_path, text, said, count):
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    found, line = texts(path)
    assert said in line and bool(said) == bool(line)
    assert len(found) == count if count else len(found) >= 30
    joined = FileCorpus(path=str(path), document_bytes=10**9)
    with pytest.raises(UserError, match=r"1 document\(s\) of at least .*file\[path=.*,document_bytes=0\]"):
        joined.load(tmp_path)
    assert " ".join(found).split() == text.split() or "x" in text, "nothing is lost"


def test_advice_that_would_not_help_is_not_given(tmp_path):
    (tmp_path / "a.txt").write_text("two\n\nparagraphs")
    with pytest.raises(UserError, match="needed; give a longer file$"):
        FileCorpus(path=str(tmp_path / "a.txt")).load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", LINES + '{"text": "half \\ud800 of it"}\n', r"a.jsonl, line 31 holds '\\ud800', half of a letter"),
        ("a.jsonl", LINES + "[" * 100_000, "a.jsonl, line 31 is not JSON"),
        ("a.json", '{"text": "a"}', "a.json is not JSON, record 1: it begins with '{' and is no list"),
        (
            "a.json",
            json.dumps([*RECORDS, {"story": "b"}]),
            "a.json, record 31 has no text in field 'text' .it has story",
        ),
        ("a.csv", "id,story\n1,a\n", "a.csv has no column 'text'; known: id, story; write file"),
        ("a.csv", 'text\n"a\n', "a.csv cannot be read as CSV"),
        ("a.txt", b"first\nsecond \xff", r"a.txt is not UTF-8 \(line 2, byte 13\)"),
        ("a.txt", b"abc\0def" * 200, "a.txt holds zero bytes and is no text"),
    ],
    ids=[
        "half a letter",
        "deep",
        "no list",
        "other field",
        "other column",
        "open quote",
        "other encoding",
        "zero bytes",
    ],
)
def test_an_error_names_the_file_and_the_place(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said) as caught:
        texts(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "id,text\n0,Once there was, near the pond, a dog\n", r"a.csv, line 2 has 4 fields and the header 2; write a text that holds ','"),
        ("a.csv", "id,text\n0,fine\n1\n", "a.csv, line 3 has 1 fields and the header 2"),
        ("a.csv", "# a comment\nid,text\n0,a\n", "a.csv has no column 'text'; known: # a comment; write file"),
        ("a.csv", "x" * 9999 + "\na\n", "a.csv has no column 'text'; known: x{200}…; write"),
        ("a.csv", "\n \n", "a.csv is empty"),
        ("a.jsonl", '{"text": "a", "id": ' + "1" * 5000 + "}\n", r"a.jsonl, line 1 is not JSON: Exceeds the limit \(4300 digits\)"),
        ("a.jsonl", '{"text": null}\n', "a.jsonl, line 1 is null; drop such records"),
        ("a.json", '["a", "b\nc"]', "a.json is not JSON, record 2: Invalid control character at its character 3"),
        ("a.json", '["a", ' + "x" * 2**21, "record 2: Expecting value at its character 2; write a list"),
        ("a.json", '["a", "b"', "record 2: no comma between two elements"),
    ],
    ids=["more fields", "fewer fields", "no header", "long names", "blank", "long number", "null", "line end in a text", "early", "cut"],
)  # fmt: skip
def test_what_is_wrong_is_found_where_it_is(tmp_path, name, content, said):
    test_an_error_names_the_file_and_the_place(tmp_path, name, content, said)


def test_commas_at_the_ends_of_rows_and_quotes_in_tables_with_tabs_change_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{i},dog {i},\n" for i in range(9)))
    assert texts(tmp_path / "a.csv")[0] == [f"dog {i}" for i in range(9)]
    said = ['"Hello', "he said", 'no" end', '"Go"']
    (tmp_path / "a.tsv").write_text("id\ttext\n" + "".join(f"{i}\t{text}\n" for i, text in enumerate(said)))
    assert texts(tmp_path / "a.tsv")[0] == said


def test_null_in_a_table_is_said(tmp_path):
    pandas.DataFrame({"text": ["a", None]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a.parquet, row 2 of column 'text' is null; drop such records"):
        texts(tmp_path / "a.parquet")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match="is a pipe or a device; write its text to a file"):
        texts(tmp_path / "a.txt")


def test_one_content_read_in_two_ways_is_two_corpora(tmp_path):
    packed = gzip.compress(KINDS["a.csv"].encode())
    names = ("a.csv.gz", "a.txt.gz", "b.csv.gz")
    for name in names:
        (tmp_path / name).write_bytes(packed)
    table, text, again = (FileCorpus(path=str(tmp_path / name)).identity() for name in names)
    assert table != text and table == again


def test_a_text_with_two_blank_lines_at_its_head_is_cut_at_lines(tmp_path):
    body = "\n".join(f"line {i} of a book without paragraphs, as long as they are" for i in range(2000))
    (tmp_path / "a.txt").write_text(f"My title\n\nby Me\n\n{body}")
    found = FileCorpus(path=str(tmp_path / "a.txt")).load(tmp_path)
    assert len(found.train) > 10 and "it has hardly any blank lines" in found.said


@pytest.mark.parametrize("blank", ["\n", " ", "\n" + " " * 1000])
def test_a_long_run_of_blanks_takes_no_longer_than_its_length(tmp_path, blank, monkeypatch):
    """Looked at with each block again, a hundred blocks would be looked at five thousand times."""
    monkeypatch.setattr(text_files, "BLOCK", 4096)
    text = "a" + blank * (400_000 // len(blank)) + "b"
    (tmp_path / "a.txt").write_text(text)
    sizes = []
    pattern = cutting.BLANK_LINES

    class Watched:
        def finditer(self, rest):
            sizes.append(len(rest))
            return pattern.finditer(rest)

    pieces = list(cutting.cut(TextFile(str(tmp_path / "a.txt"))._blocks(), Watched()))
    assert "".join(piece + after for piece, after in pieces) == text
    assert sum(sizes) < 4 * len(text)


def test_a_file_is_hashed_once_for_each_state_of_it(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = FileCorpus(path=str(path)).identity()
    path.write_text("two!")
    assert FileCorpus(path=str(path)).identity() != first
    (tmp_path / "b.txt").write_text("one")
    assert FileCorpus(path=str(tmp_path / "b.txt")).identity() == first


def test_a_preset_leaves_out_what_does_not_apply_and_a_user_is_told_that_it_does_not(tmp_path, capsys):
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(STORIES * 20))
    words = ["run", "--preset", "smoke", "--corpus", f"file:{book}", "--tokenizer", "byte", "--dry-run",
             "--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "family 'oracle' of the preset is left out: it needs a corpus with a known law" in said.err
    assert "oracle" not in said.out and "mdlm" in said.out
    assert main([*words, "--family", "mdlm,oracle"]) == 2
    assert "family 'oracle' needs a corpus with a known law" in capsys.readouterr().err
