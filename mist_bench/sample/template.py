"""From a prompt, blanks and a suffix to a sequence of tokens with masks, and back to text.

Each `___` is one token to fill, `______` two. Where the tokenizer's words begin with a space, a blank takes the space
before it along: `the ___ sat` is the, a word, sat.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from ..api.component import IntArray, UserError
from ..api.corpora import Layout
from ..api.tokenizers import Codec
from ..data.dataset import Dataset

BLANK = re.compile(r"(_{3,})")
BLANK_TOKENS = 3
"""Underscores to a token."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """A sequence with given tokens and positions to fill."""

    dataset: Dataset
    tokens: IntArray
    """(L,) int32; the mask's id where free."""
    shown: int
    """Tokens of the text; those after them only fill the network's window and are dropped."""
    ends: bool
    """Whether the text ends at the first end token after the given tokens."""

    @property
    def free(self) -> IntArray:
        """(L,) bool."""
        return np.asarray(self.tokens == self.dataset.mask)

    def visible(self, row: IntArray) -> int:
        """How many of the tokens (L,) belong to the text, without its end token."""
        if not self.ends:
            return self.shown
        given = np.flatnonzero(~self.free[: self.shown] & (self.tokens[: self.shown] != self.dataset.end))
        first = int(given[-1]) + 1 if given.size else 0
        ends = np.flatnonzero(row[first : self.shown] == self.dataset.end)
        return first + int(ends[0]) if ends.size else self.shown

    def text(self, row: IntArray) -> str:
        """The text of filled tokens (L,), with an empty line between documents."""
        return self.dataset.decode(row[: self.visible(row)], end="" if self.ends else "\n\n")


def template(
    dataset: Dataset, layout: Layout, *, prompt: str, suffix: str, length: int | None, causal: bool
) -> Template:
    """The template of a prompt and a suffix.

    Raises `UserError` for text that the tokenizer refuses or that does not fit, and for what a causal family cannot do.
    """
    limit = dataset.length if length is None else length
    if limit > dataset.length:
        raise UserError(f"--length {limit} is more than the {dataset.length} tokens of this network; give fewer")
    head, tail = _read(dataset, "--prompt", prompt, before_gap=True), _read(dataset, "--suffix", suffix)
    if causal and (suffix or _gap_before_text(head, dataset.mask)):
        raise UserError("a causal family writes left to right, before it reads what follows: "
                        "no --suffix and no ___ before text; take a masked one: mist-bench ls families")  # fmt: skip
    given, what = len(head) + len(tail), "prompt and suffix together" if suffix else "--prompt alone"
    if length is None and suffix and layout == "padded":
        limit = min(dataset.length, max(_usual_length(dataset), given + 1))
    if given > limit:
        longer = f", or give --length up to {dataset.length}" if limit < dataset.length else ""
        raise UserError(f"{given} tokens are given by {what}, and the text has {limit}; shorten what is given{longer}")
    tokens = np.full(dataset.length, dataset.mask, dtype=np.int32)
    tokens[: len(head)] = head
    if suffix:
        tokens[limit - len(tail) : limit] = tail
        if layout == "padded" and dataset.end is not None:
            tokens[limit:] = dataset.end
    if not (tokens[:limit] == dataset.mask).any():
        raise UserError(f"all {limit} tokens are given by {what}; leave a ___ or shorten what is given")
    return Template(dataset=dataset, tokens=tokens, shown=limit, ends=layout == "padded")


def _gap_before_text(ids: IntArray, mask: int) -> bool:
    return bool(((ids[:-1] == mask) & (ids[1:] != mask)).any())


def _usual_length(dataset: Dataset) -> int:
    """Median length of a training text: a text that ends with the suffix should not have to fill the whole window."""
    rows = np.asarray(dataset.train.tokens[:1000])
    return int(np.median((rows != dataset.end).sum(axis=1)))


def _read(dataset: Dataset, option: str, text: str, *, before_gap: bool = False) -> IntArray:
    """The ids (N,) of a text with blanks; a blank is masks."""
    ids: list[IntArray] = []
    parts = BLANK.split(text)
    joined = any(part.endswith(" ") for part in parts) and joins_spaces(dataset.codec)
    for i, part in enumerate(parts):
        if i % 2:
            ids.append(np.full(len(part) // BLANK_TOKENS, dataset.mask, dtype=np.int32))
            continue
        gap_follows = before_gap or i < len(parts) - 1
        own = part[:-1] if joined and gap_follows and part.endswith(" ") else part
        if own:
            ids.append(_encode(dataset, option, own, alone=i == 0 and option == "--suffix"))
    return np.concatenate([np.zeros(0, dtype=np.int32), *ids])


def _encode(dataset: Dataset, option: str, text: str, *, alone: bool) -> IntArray:
    """`alone`: the text follows a gap, so a tokenizer that refuses its first word may want the space before it."""
    try:
        return dataset.codec.encode(text)
    except UserError as error:
        if alone and not text.startswith(" "):
            try:
                return dataset.codec.encode(f" {text}")
            except UserError:
                pass
        reason = str(error).split("; ")[0]  # what to type next is meant for those who choose a tokenizer
        known = f"this network knows only what its tokenizer {dataset.tokenizer!r} does"
        raise UserError(f"{option}: {reason}; {known}") from None


def joins_spaces(codec: Codec) -> bool:
    """Whether a word and the space before it are one token."""
    for i in range(codec.vocab_size):
        text = codec.decode([i])
        if text.startswith(" ") and text.strip():
            return True
    return False
