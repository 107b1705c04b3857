"""`tales`: a world of small stories, whose exact law is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from mist_bench import Corpus, FloatArray, Oracle, Plot, SlotWorld, Texts, hookimpl

LENGTH = 64
BEGINNING = (
    "One day, {hero} took {his} {colour} {thing} to the {place}. {He} saw a {friend} there. The {friend} liked the "
    "{colour} {thing}, and {hero} let the {friend} play with it."
)
ENDINGS = (
    "They played at the {place} all day. Then {hero} took the {thing} home and was happy.",
    "But the {thing} fell in the mud. {hero} was sad, and the {friend} ran home from the {place}.",
    "Then the {friend} took the {thing} and hid. {hero} looked for it at the {place} until it was late.",
    "Soon it was late, so {hero} said good night to the {friend}. {He} took the {thing} home from the {place}.",
)
PLOTS = tuple(f"{BEGINNING} {ending}" for ending in ENDINGS)
PLOT_LAW = (0.4, 0.3, 0.2, 0.1)
GIRLS, BOYS = ("Mia", "Lily", "Anna", "Sue"), ("Tom", "Ben", "Max", "Sam")
NAMES = (*GIRLS, *BOYS)
FRIENDS = ("dog", "cat", "fox", "bear", "frog", "hen", "pig")
THINGS = ("ball", "kite", "book", "hat", "boat", "drum", "cup", "doll", "car", "bell")
PLACES = ("park", "pond", "barn", "hill", "shop", "school", "garden", "beach")
COLOURS = ("red", "blue", "green", "big", "new", "little")
FORMS = {"hero": ("hero", 0), "he": ("hero", 1), "He": ("hero", 2), "his": ("hero", 3)}


def _plot(template: str) -> Plot:
    """A template as pieces: a word with the space before it, or a punctuation mark."""
    pieces: list[str | tuple[str, int]] = []
    for piece in re.findall(r" ?\{\w+\}| ?\w+|[^\w\s]", template):
        name = piece.strip(" {}")
        pieces.append(FORMS.get(name, (name, 0)) if "{" in piece else piece)
    return Plot(pieces=tuple(pieces))


def _skewed(count: int, ratio: float, shift: int = 0) -> FloatArray:
    """Unequal weights: a geometric law whose most likely value is number `shift`."""
    return np.roll(ratio ** np.arange(count), shift)


@cache
def world() -> SlotWorld:
    """107 520 stories: plot x hero x friend (by hero) x thing x place (by thing) x colour."""
    plots = range(len(PLOTS))
    heroes = np.stack([_skewed(len(NAMES), 0.8, 3 * c) for c in plots])
    friends = np.stack([_skewed(len(FRIENDS), 0.7, h) for h in range(len(NAMES))])
    friends /= friends.sum(1, keepdims=True)
    things = np.stack([_skewed(len(THINGS), 0.8, 2 * c) for c in plots])
    places = np.stack([_skewed(len(PLACES), 0.6, g) for g in range(len(THINGS))])
    places /= places.sum(1, keepdims=True)
    pronouns = [(" she", " She", " her") if name in GIRLS else (" he", " He", " his") for name in NAMES]
    return SlotWorld(
        length=LENGTH,
        plots=[_plot(template) for template in PLOTS],
        plot_law=np.array(PLOT_LAW),
        slots={
            "hero": [(f" {name}", *pronoun) for name, pronoun in zip(NAMES, pronouns, strict=True)],
            "friend": [(f" {friend}",) for friend in FRIENDS],
            "thing": [(f" {thing}",) for thing in THINGS],
            "place": [(f" {place}",) for place in PLACES],
            "colour": [(f" {colour}",) for colour in COLOURS],
        },
        groups={
            ("hero", "friend"): heroes[:, :, None] * friends[None],
            ("thing", "place"): things[:, :, None] * places[None],
            ("colour",): np.stack([_skewed(len(COLOURS), 0.7, c) for c in plots]),
        },
        shown=("hero", "thing"),
    )


class TalesCorpus(Corpus):
    """Short stories in which a hero, a pronoun, a thing, a place and a friend must agree across sentences.

    A finite world of 107 520 stories with known, unequal weights; every sequence is 64 tokens, the end token fills the
    tail and is masked, predicted and scored. Splits are independent draws (20 000, 1 024 and 1 024 stories).
    """

    name = "tales"
    source = "made for mist-bench"
    layout = "padded"

    def load(self, cache: Path) -> Texts:
        rng = np.random.default_rng(np.random.Philox(key=20260101))
        train, validation, test = (self._draw(n, rng) for n in (20_000, 1_024, 1_024))
        return Texts(train=train, validation=validation, test=test)

    @staticmethod
    def _draw(count: int, rng: np.random.Generator) -> list[str]:
        truth = world()
        pieces = np.array([*truth.pieces, ""], dtype=object)
        return ["".join(row) for row in pieces[truth.sample(count, rng)]]

    def fixed_length(self) -> int:
        return LENGTH

    def vocabulary(self) -> Sequence[str]:
        return world().pieces

    def oracle(self) -> Oracle:
        return world()


@hookimpl
def mist_bench_corpora() -> Iterator[type[Corpus]]:
    yield TalesCorpus
