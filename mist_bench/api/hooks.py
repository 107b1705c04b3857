"""The hooks of mist-bench. A plugin yields classes, which are checked and sorted by name.

A plugin implements any of these functions, marked with `@mist_bench.hookimpl`. None takes an argument. The example in
each docstring is a whole plugin file: `mist-bench ls samplers --plugin FILE` shows it, `run --plugin FILE` uses it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from .corpora import Corpus
    from .families import Family
    from .launchers import Launcher
    from .metrics import Metric
    from .samplers import Sampler
    from .schedules import Schedule
    from .tokenizers import Tokenizer

hookspec = pluggy.HookspecMarker("mist_bench")
hookimpl = pluggy.HookimplMarker("mist_bench")


@hookspec
def mist_bench_schedules() -> Iterable[type[Schedule]]:
    """Yield schedules: how likely a token is still clean at time t.

    Example::

        from mist_bench import Schedule, hookimpl

        class SlowStart(Schedule):
            '''alpha(t) = 1 - t^3, w(t) = 3/t.'''

            name = "slow-start"

            def alpha(self, t):
                return 1 - t**3

            def dalpha(self, t):
                return -3 * t**2

            def mask_probability(self, t):
                return t**3

        @hookimpl
        def mist_bench_schedules():
            yield SlowStart
    """
    return ()


@hookspec
def mist_bench_samplers() -> Iterable[type[Sampler]]:
    """Yield samplers: rules for which masked positions are revealed at each step. Most only score the positions.

    Example::

        from mist_bench import ScoreSampler, hookimpl

        class SureFirst(ScoreSampler):
            '''Reveal where the best token leads the second by most.'''

            name = "sure-first"

            def scores(self, view):
                return view.margin

        @hookimpl
        def mist_bench_samplers():
            yield SureFirst
    """
    return ()


@hookspec
def mist_bench_tokenizers() -> Iterable[type[Tokenizer]]:
    """Yield tokenizers: from text to ids and back, byte for byte.

    Example::

        import numpy as np
        from mist_bench import Codec, Tokenizer, hookimpl

        class Utf8Codec(Codec):
            vocab_size = 256

            def encode(self, text):
                return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)

            def decode(self, ids):
                return bytes(int(i) for i in ids).decode(errors="replace")

            def token_bytes(self):
                return np.ones(256, dtype=np.int64)

        class Utf8(Tokenizer):
            '''The bytes of UTF-8 are the tokens.'''

            name = "utf8"

            def fit(self, texts, vocabulary):
                return Utf8Codec()

        @hookimpl
        def mist_bench_tokenizers():
            yield Utf8
    """
    return ()


@hookspec
def mist_bench_corpora() -> Iterable[type[Corpus]]:
    """Yield corpora: named splits of text, and perhaps their exact law.

    Example::

        from dataclasses import dataclass
        from mist_bench import Corpus, Texts, hookimpl, parameter

        @dataclass(frozen=True, kw_only=True)
        class Counting(Corpus):
            '''Numbers in a row, a document each.'''

            name = "counting"
            count: int = parameter(1000, "documents of the train split")

            def load(self, cache):
                rows = [" ".join(str(i + j) for j in range(20)) for i in range(self.count + 200)]
                return Texts(train=rows[:-200], validation=rows[-200:-100], test=rows[-100:])

        @hookimpl
        def mist_bench_corpora():
            yield Counting
    """
    return ()


@hookspec
def mist_bench_families() -> Iterable[type[Family]]:
    """Yield families: kinds of models, with their training and the kind of their likelihood.

    Example::

        import math
        from mist_bench import Family, MaskedModel, hookimpl

        class UniformModel(MaskedModel):
            def __init__(self, vocab_size, length):
                self.vocab_size, self.length, self.parameters = vocab_size, length, {}

            def log_probabilities(self, tokens, t, previous=None):
                itself = tokens.unsqueeze(-1) == tokens.arange(self.vocab_size)
                seen = itself.where(0.0, -1e9)
                return (tokens == self.vocab_size).unsqueeze(-1).where(-math.log(self.vocab_size), seen)

        class Uniform(Family):
            '''Every token has the same probability: a floor for the other rows.'''

            name = "uniform"
            likelihood_kind = "bound"
            trained = False
            control = "uniform"

            def create(self, size, vocab_size, length, seed, oracle):
                return UniformModel(vocab_size, length)

        @hookimpl
        def mist_bench_families():
            yield Uniform
    """
    return ()


@hookspec
def mist_bench_metrics() -> Iterable[type[Metric]]:
    """Yield metrics: numbers about generated text, each a column of the generation table.

    They are computed on request: `mist-bench run --plugin FILE --set generation.metrics=mean-length`.

    Example::

        from mist_bench import Metric, hookimpl

        class MeanLength(Metric):
            '''Characters of a sample, averaged.'''

            name = "mean-length"

            def measure(self, texts, references):
                return {"mean_length": sum(map(len, texts)) / len(texts)}

        @hookimpl
        def mist_bench_metrics():
            yield MeanLength
    """
    return ()


@hookspec
def mist_bench_launchers() -> Iterable[type[Launcher]]:
    """Yield launchers: where the cells of a run are computed.

    Example::

        import subprocess
        from mist_bench import Launcher, hookimpl

        class OneByOne(Launcher):
            '''Each cell in a process of its own, one after another.'''

            name = "one-by-one"

            def launch(self, commands):
                return [subprocess.run(command).returncode for command in commands]

        @hookimpl
        def mist_bench_launchers():
            yield OneByOne
    """
    return ()
