"""How a text is cut into pieces while it is read: paragraphs, lines, pieces of a size, elements of a JSON list.

The text comes in blocks of any size; what is held of it is a block and a piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

LINE_ENDS = re.compile(r"\r\n|\r(?!\n)|(?<!\r)\n")
BLANK_LINES = re.compile(rf"(?:{LINE_ENDS.pattern})(?:[ \t]*(?:{LINE_ENDS.pattern}))+")
NEWLINES = re.compile("\n")
BLANK = " \t\r\n"
"""What these patterns consist of: where text follows one of them, it is whole."""
BLANKS, COMMA = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n]*([,\]])")
LONGEST = 64
"""Characters after an element by which its comma comes; before that it may be a number that goes on."""

Piece = tuple[str, str]
"""A piece of a text, and what is between it and the next."""


def cut(blocks: Iterable[str], between: re.Pattern[str]) -> Iterator[Piece]:
    """The pieces of a text between the matches of a pattern of blanks; the last may be empty."""
    parts = list[str]()
    for text, after in _parts(blocks, between):
        parts.append(text)
        if after is not None:
            yield "".join(parts), after
            parts = []


def has_pieces(blocks: Iterable[str], between: re.Pattern[str], count: int) -> bool:
    """Whether at least `count` pieces are not blank; reads no further than needed, and holds no piece."""
    found, some = 0, False
    for text, after in _parts(blocks, between):
        some = some or bool(text.strip())
        if after is not None:
            found, some = found + some, False
            if found >= count:
                return True
    return False


def _parts(blocks: Iterable[str], between: re.Pattern[str]) -> Iterator[tuple[str, str | None]]:
    """The text in order: parts of a piece, with None, and the end of a piece, with what follows it."""
    rest, blanks = "", list[str]()
    for block in blocks:
        if not block.strip(BLANK):  # looked at once, when it is known what follows
            blanks.append(block)
            continue
        rest, blanks = "".join((rest, *blanks, block)), []
        start, known = 0, len(rest.rstrip(BLANK))
        for found in between.finditer(rest):
            if found.end() >= known:  # the next block may go on with it
                break
            yield rest[start : found.start()], found.group()
            start = found.end()
        yield rest[start:known], None
        rest = rest[max(start, known) :]
    rest, start = "".join((rest, *blanks)), 0
    for found in between.finditer(rest):
        yield rest[start : found.start()], found.group()
        start = found.end()
    yield rest[start:], ""


def cut_every(blocks: Iterable[str], size: int) -> Iterator[Piece]:
    """Pieces of `size` characters or a word more, cut at a space, or at that place if there is none near."""
    rest = ""
    for block in chain(blocks, [None]):
        rest, start = rest + (block or ""), 0
        while len(rest) - start >= 2 * size if block is not None else start < len(rest):
            end = min(start + size, len(rest))
            space = rest.find(" ", end, end + size)
            stop = end if space < 0 or end == len(rest) else space
            after = stop + (stop == space)
            yield rest[start:stop], rest[stop:after]
            start = after
        rest = rest[start:]


def elements(blocks: Iterable[str]) -> Iterator[Any]:
    """The elements of a JSON list, each as soon as it is read. Raises `ValueError`, which says what is wrong where in
    the element, and `RecursionError`."""
    decode, text, begun, ended = json.JSONDecoder().raw_decode, "", False, False
    for block in chain(blocks, [None]):
        text, at = (text + (block or "")).lstrip(BLANK), 0
        if text and not begun:
            if text[0] != "[":
                raise ValueError(f"it begins with {text[0]!r} and is no list")
            begun, at = True, 1
        while begun and not ended:
            try:
                value, end = decode(text, _after_blanks(text, at))
            except json.JSONDecodeError as error:
                more = error.msg.startswith("Unterminated string") or error.pos >= len(text) - LONGEST
                if block is None or not more:
                    raise ValueError(f"{error.msg.removesuffix(' at')} at its character {error.pos - at + 1}") from None
                break
            after = COMMA.match(text, end)
            if after is None:
                if block is None or len(text[end:].lstrip(BLANK)) > LONGEST:
                    raise ValueError("no comma between two elements")
                break
            yield value
            at, ended = after.end(), after.group(1) == "]"
        text = text[at:]
        if ended and text.strip():
            raise ValueError("something follows the list")


def _after_blanks(text: str, at: int) -> int:
    found = BLANKS.match(text, at)
    return at if found is None else found.end()
