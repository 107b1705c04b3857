"""What corpora and tokenizers give is looked at when it is used, and what is wrong is said with the plugin's name."""

import numpy as np
import pytest
from mist_bench_plugins.tokenizer_byte import ByteTokenizer

from mist_bench import Corpus, Texts, Tokenizer, UserError
from mist_bench.data.dataset import open_dataset
from mist_bench.data.layouts import SPLITS

TEXTS = ["once there was a dog"] * 9


class Given(Corpus):
    name = "given"
    layout = "windows"
    texts = Texts(train=TEXTS, validation=TEXTS, test=TEXTS)

    def load(self, cache):
        return self.texts


def corpus(texts=Given.texts, layout="windows"):
    return type("Odd", (Given,), {"texts": texts, "layout": layout, "name": "given"})()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (corpus({"train": TEXTS}), "corpus 'given' gives dict from load; give Texts"),
        (corpus(Texts(train=TEXTS, validation="a text", test=TEXTS)), "gives str as its validation split; give a list of texts"),
        (corpus(Texts(train=TEXTS, validation=TEXTS, test=[])), "gives an empty test split"),
        (corpus(Texts(train=[*TEXTS, None], validation=TEXTS, test=TEXTS)), "gives NoneType in its train split; give texts"),
        (corpus(Texts(train=[*TEXTS, b"x"], validation=TEXTS, test=TEXTS)), "gives bytes in its train split"),
        (corpus(layout="rows"), "declares layout = 'rows'; it is one of 'padded', 'packed', 'windows'"),
        (corpus(Texts(train=TEXTS, validation=["", ""], test=TEXTS)), "the validation split of given has no full sequence"),
    ],
    ids=["no texts", "a text as a split", "empty", "null", "bytes", "layout", "empty texts"],
)
def test_what_a_corpus_gives(tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        open_dataset(given, ByteTokenizer(), 4, tmp_path)


class Odd(Tokenizer):
    name = "odd"

    def __init__(self, **changed):
        object.__setattr__(self, "changed", changed)

    def content(self):
        return {"name": "odd"}

    def fit(self, texts, vocabulary):
        made = type("OddCodec", (type(ByteTokenizer().fit([], None)),), self.changed)()
        made.vocab_size = self.changed.get("vocab_size", made.vocab_size)
        return made

    def restore(self, state):
        return self.fit([], None)

    @property
    def spec(self):
        return "odd"


def ids(change):
    return {"encode_batch": lambda self, texts: change([np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts])}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (ids(lambda found: found[:-1]), "tokenizer odd gives 8 results of encode_batch for 9 texts; give one for each"),
        (ids(lambda found: found * 2), "gives 18 results of encode_batch for 9 texts"),
        (ids(lambda found: [each + 0.7 for each in found]), r"gives float64 \(20,\) as the ids of a text; give a numpy array"),
        (ids(lambda found: [each > 0 for each in found]), r"gives bool \(20,\) as the ids"),
        (ids(lambda found: [each.tolist() for each in found]), "gives list as the ids of a text"),
        (ids(lambda found: [each[None] for each in found]), r"gives int32 \(1, 20\) as the ids"),
        ({"token_bytes": lambda self: np.ones(256) * 0.5}, r"token_bytes gives float64 \(256,\); give \(256,\) whole numbers"),
        ({"token_bytes": lambda self: -np.ones(256, int)}, "token_bytes gives int64"),
        ({"token_bytes": lambda self: np.ones(300, int)}, r"token_bytes gives int64 \(300,\)"),
        ({"vocab_size": 256.5}, "vocab_size is 256.5; it is a whole number"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
    ],
    ids=["fewer", "more", "floats", "bools", "lists", "rows", "half bytes", "negative bytes", "many bytes", "half a word", "many words"],
)
def test_what_a_tokenizer_gives(tmp_path, changed, said):
    with pytest.raises(UserError, match=said):
        open_dataset(corpus(), Odd(**changed), 4, tmp_path)


@pytest.mark.parametrize("name", ["test.tokens.npy", "train.tokens.npy", "test.in_train.npy", "train.text_bytes.npy"])
def test_a_changed_byte_of_the_cache_is_not_read(tmp_path, name):
    """Of the same size and shape: the tokens would be others, and nothing would say so."""
    whole = {split: getattr(open_dataset(corpus(), ByteTokenizer(), 4, tmp_path), split).tokens.copy() for split in SPLITS}
    (path,) = tmp_path.glob(f"data/*/{name}")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    again = open_dataset(corpus(), ByteTokenizer(), 4, tmp_path)
    assert path.read_bytes() != bytes(data), "it was made again"
    assert all((getattr(again, split).tokens == whole[split]).all() for split in SPLITS)
