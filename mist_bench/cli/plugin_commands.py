"""The arguments of the commands about plugins and speed: ls, plugins, check, new, bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import Work, command, discover, search
from .options import (
    AsJson,
    Beam,
    BenchOut,
    Budget,
    Debug,
    Factor,
    Files,
    Rounds,
    names,
    option,
)

if TYPE_CHECKING:
    pass


@command
def ls_command(
    kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False)] = "",
    verbose: Annotated[bool, option("-v", "--verbose", help="Every parameter, its meaning and the paper.")] = False,
    json: AsJson = False,
    plugin: Files = None,
) -> Work:
    """List samplers, schedules, tokenizers, corpora, families, metrics, launchers or presets."""

    def work() -> int:
        from .listing import list_kind

        registry = discover(plugin)
        list_kind(registry, kind, verbose=verbose, as_json=json)
        return 0

    return work


@command
def plugins_command(json: AsJson = False, plugin: Files = None) -> Work:
    """List plugins: where they come from, what they offer, what is wrong with them."""

    def work() -> int:
        from ..host.registry import Registry
        from .listing import list_plugins

        list_plugins(Registry.discover(plugin or ()), as_json=json)
        return 0

    return work


@command
def check_command(
    target: Annotated[list[str], typer.Argument(metavar="NAME|FILE...", show_default=False)],
    kind: Annotated[str | None, option("--kind", help="Only this kind, e.g. sampler.", metavar="KIND")] = None,
    plugin: Files = None,
    debug: Debug = False,
) -> Work:
    """Check that plugins keep what they promise, each in one line with what to change."""

    def work() -> int:
        from ..testing.report import check as start

        return start(target, plugin or (), kind=kind, debug=debug)

    return work


@command
def new_command(
    kind: Annotated[str, typer.Argument(metavar="KIND", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    plugin: Files = None,
) -> Work:
    """Write a sampler, schedule or tokenizer that already runs: NAME.py in this folder."""

    def work() -> int:
        from .scaffold import new as write
        from .scaffold import next_steps

        path = write(kind, name, discover(plugin), Path())
        print(next_steps(kind, name, path))
        return 0

    return work


@command
def bench_command(
    size: Annotated[
        str | None, option("--size", help="tiny, quick, small, tinystories, gpt2.", metavar="A,B,…")
    ] = None,
    only: Annotated[
        str | None, option("--only", help="training, generation, likelihood, startup; all.", metavar="A,B,…")
    ] = None,
    rounds: Rounds = 7,
    budget: Budget = 30.0,
    out: BenchOut = None,
    baseline: Annotated[
        Path | None, option("--baseline", help="Fail if slower than in this file.", metavar="FILE")
    ] = None,
    save_baseline: Annotated[
        bool, option("--save-baseline", help="Write this run into the baseline; results/bench-baseline.json.")
    ] = False,
    factor: Factor = 1.5,
    beam: Beam = None,
    debug: Debug = False,
) -> Work:
    """Time training, generation, likelihood and start-up beside PyTorch, in a checkout."""

    def work() -> int:
        search(beam)
        from ..bench.command import TASKS, BenchOptions
        from ..bench.command import bench as start

        options = BenchOptions(
            sizes=names("--size", size), only=names("--only", only) or TASKS, rounds=rounds, budget=budget, out=out,
            baseline=baseline or (Path("results/bench-baseline.json") if save_baseline else None), factor=factor,
            save_baseline=save_baseline,
        )  # fmt: skip
        return start(options)

    return work
