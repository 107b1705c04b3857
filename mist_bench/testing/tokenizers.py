"""Checks of a tokenizer: a text is restored byte for byte, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..api.component import IntArray, UserError
from ..api.corpora import Corpus
from ..api.tokenizers import Codec, Tokenizer
from ..host.registry import Registry
from .core import Failed, Skipped, Study, check, unreachable

HARD = {
    "the empty text": "",
    "emoji": "👩‍👩‍👧‍👦🏴‍☠️ 🇩🇪",
    "combining marks": "e\u0301 a\u0308\u0323 \u0301 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "control characters": "".join(chr(i) for i in range(32)) + "\x7f\x80\x85\xa0\u200b\u2028\ufeff\ufffd\U0010ffff",
    "carriage returns": "a\rb\r\rc\r\n\n\r d\r",
    "runs of spaces": "a  b   c \t\t \n \n\n   ",
    "words of many scripts": "the kite's KITE'S 1 12 12345 x1y2 ½ Ⅷ ١٢٣ 日本語のテキスト Ελληνικά",
    "the names of special tokens": "<|endoftext|><unk>[MASK]</s>",
    "a lone surrogate": "a\ud83d",
    "100 000 letters": "a" * 100_000,
}
CHAPTERS = 8


class TokenizerStudy(Study):
    """A tokenizer, fitted on some chapters of Jane Austen."""

    component: Tokenizer

    @property
    def texts(self) -> list[str]:
        """What it is fitted on."""
        return self.once("texts", lambda: list(_prose(self.registry.make("corpus", "austen"))[:CHAPTERS]))

    @property
    def codec(self) -> Codec:
        return self.once("codec", self.fit)

    def fit(self) -> Codec:
        """A fresh codec. Skips if its files cannot be downloaded."""
        try:
            return self.component.fit(self.texts, None)
        except UserError as error:
            if unreachable(error):
                raise Skipped(f"cannot be fitted here: {error}") from error
            raise Failed(f"fit refuses {CHAPTERS} chapters of plain English prose: {error}") from error

    def encoded(self) -> dict[str, tuple[str, IntArray]]:
        """The hard texts that it accepts, and their ids."""
        return self.once("encoded", lambda: {name: (text, ids) for name, text, ids in self._encode()})

    def _encode(self) -> Any:
        for name, text in {**HARD, "its own train split": self.texts[0]}.items():
            try:
                yield name, text, self.codec.encode(text)
            except UserError as error:
                if name == "its own train split":
                    raise Failed(f"a text of the train split is refused ({error}); fit on all of the texts") from error
                if "\n" in str(error):
                    raise Failed(f"{name}: the UserError has several lines; say it in one") from error
            except UnicodeError as error:
                raise Failed(
                    f"{name}: encode raises {type(error).__name__}; take the bytes with mist_bench.utf8, or raise "
                    "UserError"
                ) from error


@cache
def _prose(corpus: Corpus) -> Sequence[str]:
    return corpus.load(Path()).train


def study(component: Tokenizer, registry: Registry) -> TokenizerStudy:
    return TokenizerStudy(component, registry)


def _of(text: str) -> str:
    return repr(text[:20]) + ("…" if len(text) > 20 else "")


@check("tokenizer")
def fits(its: TokenizerStudy) -> str:
    """It is fitted on prose, and declares how many tokens it has."""
    size = its.codec.vocab_size
    if not isinstance(size, int | np.integer) or size < 1:
        raise Failed(f"vocab_size is {size!r}; it is the number of tokens, an int of at least 1")
    return f"{size} tokens"


@check("tokenizer")
def refuses_in_one_line(its: TokenizerStudy) -> str:
    """Hard text is accepted, or refused by a UserError of one line."""
    refused = [name for name in HARD if name not in its.encoded()]
    return f"refused: {', '.join(refused)}" if refused else ""


@check("tokenizer")
def ids(its: TokenizerStudy) -> None:
    """Ids are whole numbers from 0 to vocab_size - 1."""
    for name, (_, found) in its.encoded().items():
        if not isinstance(found, np.ndarray) or found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
            raise Failed(
                f"{name}: encode gives {type(found).__name__}; give np.array(ids, dtype=np.int32), also if empty"
            )
        if found.size and (found.min() < 0 or found.max() >= its.codec.vocab_size):
            raise Failed(
                f"{name}: an id is {found.max()} (least {found.min()}) with vocab_size = {its.codec.vocab_size}"
            )


@check("tokenizer")
def round_trip(its: TokenizerStudy) -> None:
    """Decoding gives back the text byte for byte."""
    for name, (text, found) in its.encoded().items():
        back = its.codec.decode(found)
        if back != text:
            same = (a == b for a, b in zip(back, text, strict=False))
            place = next((i for i, equal in enumerate(same) if not equal), min(len(back), len(text)))
            raise Failed(
                f"{name}: {_of(text[place:])} comes back as {_of(back[place:])} (character {place}); do not "
                "normalise or strip, and refuse with UserError what has no token"
            )


@check("tokenizer")
def token_bytes(its: TokenizerStudy) -> None:
    """The bytes of the tokens add up to those of the text."""
    sizes = its.codec.token_bytes()
    if np.shape(sizes) != (its.codec.vocab_size,):
        raise Failed(
            f"token_bytes() has shape {np.shape(sizes)}; give one number for each of {its.codec.vocab_size} tokens"
        )
    for name, (text, found) in its.encoded().items():
        counted, true = int(np.asarray(sizes)[found].sum()), len(text.encode("utf-8", "surrogatepass"))
        if counted != true:
            raise Failed(
                f"{name}: token_bytes of its ids add up to {counted}, the text has {true} bytes of UTF-8; bits per "
                "byte would be wrong: count bytes, not characters"
            )


@check("tokenizer")
def any_ids_decode(its: TokenizerStudy) -> None:
    """Every single token decodes to a text: cut characters are shown as U+FFFD."""
    for i in range(min(its.codec.vocab_size, 1024)):
        try:
            found = its.codec.decode([i])
        except UnicodeError as error:
            raise Failed(f"decode([{i}]) raises {type(error).__name__}; use bytes.decode(errors='replace')") from error
        if not isinstance(found, str):
            raise Failed(f"decode([{i}]) gives {type(found).__name__}, not str")


@check("tokenizer")
def batches(its: TokenizerStudy) -> None:
    """Encode_batch gives the ids that encode gives."""
    taken = list(its.encoded().values())
    found = its.codec.encode_batch([text for text, _ in taken])
    if len(found) != len(taken) or any(not np.array_equal(a, b) for a, (_, b) in zip(found, taken, strict=True)):
        raise Failed("encode_batch and encode differ; leave encode_batch out, or make both use the same code")


@check("tokenizer")
def fits_the_same_again(its: TokenizerStudy) -> None:
    """The same texts give the same tokens."""
    taken = its.encoded()  # first: what cannot be fitted is not tried twice
    again = its.fit()
    for name, (text, found) in taken.items():
        if again.vocab_size != its.codec.vocab_size or not np.array_equal(again.encode(text), found):
            raise Failed(
                f"fitted again on the same texts, {name} has other ids; sort sets, break ties, use no random numbers"
            )


@check("tokenizer")
def state(its: TokenizerStudy) -> str | None:
    """The state goes through JSON, and restore makes the same codec of it."""
    found = its.codec.state()
    if found is None:
        return "no state: it is fitted again whenever it is needed"
    try:
        text = json.dumps(found)
    except (TypeError, ValueError) as error:
        raise Failed(f"state() is not JSON ({error}); give dicts, lists, str and numbers, bytes as hex") from error
    try:
        restored = its.component.restore(json.loads(text))
    except TypeError as error:
        raise Failed(
            f"restore fails on what state() gave ({error}); write restore, or let state() give None"
        ) from error
    if restored.vocab_size != its.codec.vocab_size:
        raise Failed(
            f"restored, it has {restored.vocab_size} tokens instead of {its.codec.vocab_size}; state() leaves some out"
        )
    for name, (sample, ids_) in its.encoded().items():
        if not np.array_equal(restored.encode(sample), ids_):
            raise Failed(f"restored from its state, {name} has other ids; state() leaves something out")
    return None
