"""`mist-bench sample`: text from a trained network, with a prompt, blanks or a suffix, watched on request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from ..api.component import IntArray, UserError
from ..api.samplers import Sampler, most_steps
from ..engine import beam, compiler, noise
from ..engine.graph import debug_lines
from ..host.registry import Registry
from ..inference.causal import CausalEvaluator
from ..inference.generate import generate
from ..inference.masked import MaskedEvaluator
from ..inference.step import Needs
from ..report.layout import printable
from . import checkpoints
from .checkpoints import Network
from .options import SampleOptions
from .template import Template, template
from .watch import Watch

STEPS = 64
Run = Callable[[IntArray, Watch | None], IntArray]
"""Numbers of the sequences (B,), a watcher or None -> their tokens (B, L)."""


def sample(registry: Registry, options: SampleOptions) -> int:
    """Print the texts; gives the exit status. Raises `UserError` for a missing network or an impossible prompt."""
    compiler.prepare()
    screen, errors = Console(), Console(stderr=True)
    network = checkpoints.find(registry, options)
    sampler = _sampler(registry, options, network)
    laid = template(
        network.bench.dataset, network.bench.experiment.corpus.layout, prompt=options.prompt, suffix=options.suffix,
        length=options.length, causal=network.causal,
    )  # fmt: skip
    steps = options.steps or min(STEPS, laid.shown)
    evaluator = network.evaluator(Needs.of(sampler))
    how = "as many steps as it takes" if sampler.adaptive else "one token a step"
    how = f"{steps} steps{' at most' if sampler.adaptive else ''}" if sampler.uses_steps else how
    errors.print(f"{network.title}: {sampler.spec}, {how}, temperature {options.temperature:g}, seed {options.seed}",
                 style="dim", markup=False, highlight=False, soft_wrap=True)  # fmt: skip
    run, total = _runner(network, evaluator, sampler, laid, steps, options)
    for number, row in enumerate(_sequences(run, laid, evaluator.batch, total, options, screen, errors)):
        if (row[: laid.shown] == laid.dataset.mask).any():
            raise UserError(f"sampler {sampler.spec!r} left masks in the text after its last step")
        _print(screen, laid.text(row), number, options.count)
    if beam.width():
        errors.print(beam.said(), style="dim", markup=False, highlight=False)
    if options.debug:
        for line in debug_lines():
            errors.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def _sampler(registry: Registry, options: SampleOptions, network: Network) -> Sampler:
    if options.sampler is None:
        own: Sampler = registry.first("sampler", "left_to_right" if network.causal else "default")
        return own
    sampler: Sampler = registry.make("sampler", options.sampler)
    if network.causal and not sampler.left_to_right:
        raise UserError(f"family {network.family.spec!r} writes left to right, not by {sampler.spec!r}; "
                        "leave --sampler out, or take a masked family: mist-bench ls families")  # fmt: skip
    return sampler


def _runner(
    network: Network, evaluator: MaskedEvaluator | CausalEvaluator, sampler: Sampler, laid: Template, steps: int,
    options: SampleOptions,
) -> tuple[Run, int]:  # fmt: skip
    """The function that makes a batch, and the most steps that it takes. The noise is that of a run with this seed."""
    seed = noise.seed_of(axis="generation", seed=options.seed)
    tokens = np.tile(laid.tokens, (evaluator.batch, 1))
    if isinstance(evaluator, CausalEvaluator):
        first = int(laid.free.argmax())

        def left_to_right(ids: IntArray, watch: Watch | None) -> IntArray:
            def look(place: int, now: IntArray) -> None:
                if watch is not None and place >= first:
                    watch.step(place + 1 - first, now)

            return evaluator.generate(
                tokens, seed, ids, options.temperature, stop=laid.shown, watch=look if watch else None
            )[0]

        return left_to_right, laid.shown - first
    total = most_steps(sampler, steps, int(laid.free.sum()))

    def denoise(ids: IntArray, watch: Watch | None) -> IntArray:
        filled, used = generate(
            evaluator, network.bench.sampler_graph(sampler), network.schedule, steps, tokens, seed=seed, sequences=ids,
            temperature=options.temperature, watch=watch.step if watch else None,
        )  # fmt: skip
        if watch is not None:
            watch.step(int(used.max()) // sampler.evaluations if sampler.adaptive else total, filled)
        return filled

    return denoise, total


def _sequences(
    run: Run, laid: Template, batch: int, total: int, options: SampleOptions, screen: Console, errors: Console
) -> Iterator[IntArray]:
    """The sequences (L,), batch by batch."""
    for first in range(0, options.count, batch):
        ids = np.arange(first, first + batch)
        if options.watch:
            with Watch(screen if screen.is_terminal else errors, laid, batch, total) as watch:
                filled = run(ids, watch)
        else:
            with _waiting(errors, first == 0):
                filled = run(ids, None)
        yield from filled[: options.count - first]


def _waiting(errors: Console, compiling: bool) -> AbstractContextManager[Any]:
    """A moving sign of life, if there is a terminal."""
    if not errors.is_terminal:
        return nullcontext()
    return errors.status("compiling and sampling …" if compiling else "sampling …")


def _print(screen: Console, text: str, number: int, count: int) -> None:
    """Print the text byte for byte; on a terminal folded at words and without control characters."""
    head = f"[{number + 1}/{count}]\n" if count > 1 else ""
    if screen.is_terminal and screen.file.isatty():  # FORCE_COLOR makes a terminal of any file
        screen.print(Text.assemble((head, "cyan"), printable(text)))
        return
    sys.stdout.write(f"{head}{text}\n")
    sys.stdout.flush()

