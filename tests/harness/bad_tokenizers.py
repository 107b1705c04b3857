"""Small tokenizers that each break one promise, with the check that must fail."""

from __future__ import annotations

from itertools import count

import numpy as np

from mist_bench import ByteCodec, Tokenizer, UserError, utf8

KIND = "tokenizer"


class Bytes(ByteCodec):
    def __init__(self, shift=0):
        super().__init__([bytes([(i - shift) % 256]) for i in range(256)])
        self.shift = shift

    def encode(self, text):
        return ((np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int32)) + self.shift) % 256

    def state(self):
        return {}


class Fine(Tokenizer):
    name = "bad"
    codec = Bytes

    def fit(self, texts, vocabulary):
        return self.codec()

    def restore(self, state):
        return self.codec()


def of(codec: type[ByteCodec], name: str) -> type[Tokenizer]:
    return type(name, (Fine,), {"codec": codec})


class Uncounted(Bytes):
    def __init__(self):
        super().__init__()
        self.vocab_size = "256"


class RefusesEverything(Fine):
    def fit(self, texts, vocabulary):
        raise UserError("no words")


class OffLine(Fine):
    def fit(self, texts, vocabulary):
        try:
            raise ConnectionError("no route")
        except ConnectionError as error:
            raise UserError("cannot be downloaded") from error


class RefusesItsOwn(Bytes):
    def encode(self, text):
        raise UserError("unknown word")


class RefusesInLines(Bytes):
    def encode(self, text):
        if "\ud83d" in text:
            raise UserError("cannot\nencode")
        return super().encode(text)


class TakesSurrogates(Bytes):
    def encode(self, text):
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)


class GivesLists(Bytes):
    def encode(self, text):
        return super().encode(text).tolist()


class BeyondItsVocabulary(Bytes):
    def encode(self, text):
        return super().encode(text) + 20


class LowerCases(Bytes):
    def encode(self, text):
        return super().encode(text.lower())


class Strips(Bytes):
    def decode(self, ids):
        return super().decode(ids).strip()


class CountsCharacters(Bytes):
    def token_bytes(self):
        return np.array([int(i & 0xC0 != 0x80) for i in range(256)])


class LeavesOneOut(Bytes):
    def token_bytes(self):
        return np.ones(255, dtype=int)


class Strict(Bytes):
    def decode(self, ids):
        return bytes(np.asarray(ids, dtype=np.uint8)).decode()


class DecodesToBytes(Bytes):
    def decode(self, ids):
        return bytes(np.asarray(ids, dtype=np.uint8))


class BatchesDiffer(Bytes):
    def encode_batch(self, texts):
        return [self.encode(text)[:-1] for text in texts]


class FitsOtherwiseEachTime(Fine):
    fits = count()

    def fit(self, texts, vocabulary):
        return Bytes(shift=next(self.fits) % 256)


class StateOfBytes(Bytes):
    def state(self):
        return {"tokens": self.tokens}


class NotRestored(Fine):
    def restore(self, state):
        return Tokenizer.restore(self, state)


class RestoredOtherwise(Fine):
    def restore(self, state):
        return Bytes(shift=1)


BAD = [
    (of(Uncounted, "Uncounted"), "fits", "vocab_size is '256'; it is the number of tokens, an int"),
    (RefusesEverything, "fits", "fit refuses 8 chapters of plain English prose: no words"),
    (of(RefusesItsOwn, "RefusesItsOwn"), "refuses-in-one-line", "a text of the train split is refused .*fit on all of the texts"),
    (of(RefusesInLines, "RefusesInLines"), "refuses-in-one-line", "a lone surrogate: the UserError has several lines"),
    (of(TakesSurrogates, "TakesSurrogates"), "refuses-in-one-line", "raises UnicodeEncodeError; take the bytes with mist_bench.utf8"),
    (of(GivesLists, "GivesLists"), "ids", r"encode gives list; give np.array\(ids, dtype=np.int32\)"),
    (of(BeyondItsVocabulary, "BeyondItsVocabulary"), "ids", r"an id is \d+ \(least \d+\) with vocab_size = 256"),
    (of(LowerCases, "LowerCases"), "round-trip", r"combining marks: 'Z.*comes back as 'z.*do not normalise or strip"),
    (of(Strips, "Strips"), "round-trip", "comes back as .*do not normalise or strip"),
    (of(CountsCharacters, "CountsCharacters"), "token-bytes", r"emoji: token_bytes .* add up to \d+, the text has \d+ bytes of UTF-8"),
    (of(LeavesOneOut, "LeavesOneOut"), "token-bytes", r"has shape \(255,\); give one number for each of 256 tokens"),
    (of(Strict, "Strict"), "any-ids-decode", r"decode\(\[128\]\) raises UnicodeDecodeError; use bytes.decode\(errors='replace'\)"),
    (of(DecodesToBytes, "DecodesToBytes"), "any-ids-decode", "gives bytes, not str"),
    (of(BatchesDiffer, "BatchesDiffer"), "batches", "encode_batch and encode differ; leave encode_batch out"),
    (FitsOtherwiseEachTime, "fits-the-same-again", "has other ids; sort sets, break ties"),
    (of(StateOfBytes, "StateOfBytes"), "state", r"state\(\) is not JSON .* bytes as hex"),
    (NotRestored, "state", r"restore fails on what state\(\) gave .* write restore"),
    (RestoredOtherwise, "state", r"has other ids; state\(\) leaves something out"),
]
FINE = [
    (OffLine, "fits", "skipped", "cannot be fitted here: cannot be downloaded"),
    (Fine, "refuses-in-one-line", "ok", "^refused: a lone surrogate$"),
]
