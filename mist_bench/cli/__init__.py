"""The command line: arguments only. Each command gives back the work to do, which `main` does outside of typer.

Everything but typer is imported when it is needed, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    AsJson,
    Beam,
    Budget,
    CorpusName,
    Count,
    Debug,
    Devices,
    Factor,
    Files,
    Length,
    Nucleus,
    Preset,
    Rerun,
    Rounds,
    Seed,
    Settings,
    Steps,
    Store,
    TargetError,
    Temperature,
    TokenizerName,
    names,
    option,
)

if TYPE_CHECKING:
    from ..host.config import RunConfig
    from ..host.registry import Registry

Work = Callable[[], int]

app = typer.Typer(
    name="mist-bench",
    help="Compare schedules, samplers and tokenizers of discrete diffusion language models on equal terms.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(function: Callable[..., Work]) -> Callable[..., Work]:
    """A command named by its function; the list shows its whole docstring, which typer would cut."""
    return app.command(function.__name__.removesuffix("_command"), short_help=function.__doc__)(function)


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, option("--version", help="Show the version.")] = False
) -> Work | None:
    if version:
        from .. import __version__

        typer.echo(f"mist-bench {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    return None


@command
def run_command(
    preset: Preset = None,
    corpus: CorpusName = None,
    tokenizer: TokenizerName = None,
    family: Annotated[str | None, option("--family", help="Families of models.", metavar="A,B[x=1],…")] = None,
    schedule: Annotated[str | None, option("--schedule", help="Schedules.", metavar="A,B[x=1],…")] = None,
    sampler: Annotated[str | None, option("--sampler", help="Samplers, or all.", metavar="A,B[x=1],…")] = None,
    steps: Annotated[str | None, option("--steps", help="Denoising steps.", metavar="N,N,…")] = None,
    temperature: Annotated[str | None, option("--temperature", help="Temperatures.", metavar="X,X,…")] = None,
    training_seed: Annotated[str | None, option("--training-seed", help="Seeds of training.", metavar="N,N,…")] = None,
    seed: Annotated[str | None, option("--seed", help="Seeds of generation.", metavar="N,N,…")] = None,
    target_se: TargetError = None,
    devices: Devices = None,
    out: Annotated[Path | None, option("--out", help="Tables and report; results/PRESET.", metavar="DIR")] = None,
    store: Store = None,
    plugin: Files = None,
    rerun: Annotated[Rerun, typer.Option(help="Which cells to compute.")] = Rerun.missing,
    launcher: Annotated[
        str | None, option("--launcher", help="Where cells are made: mist-bench ls launchers.", metavar="SPEC")
    ] = None,
    dry_run: Annotated[bool, option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    json: Annotated[bool, option("--json", help="End with one line of JSON that names the files.")] = False,
    beam: Beam = None,
    debug: Debug = False,
    settings: Settings = None,
) -> Work:
    """Train and measure what is missing, and show the tables."""

    def work() -> int:
        _search(beam)
        wanted = [] if target_se is None else [f"likelihood.target_se={target_se}"]
        wanted += [] if devices is None else [f"training.devices={devices}"]
        registry, config, length = _configure(
            plugin, preset, [*(settings or []), *wanted], corpus=corpus, tokenizer=tokenizer, families=family,
            schedules=schedule, samplers=sampler, steps=steps, temperatures=temperature, training_seeds=training_seed,
            seeds=seed,
        )  # fmt: skip
        from .run import run as start

        return start(
            config, registry, out=out or Path("results") / config.preset, store=_store(store), rerun=rerun.value,
            launcher=launcher, dry_run=dry_run, json_output=json, debug=debug, **length,
        )  # fmt: skip

    return work


@command
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
    store: Annotated[
        Path | None, option("--store", help="Finished cells; the store beside DIR, or that of run.", metavar="DIR")
    ] = None,
) -> Work:
    """Show the tables of a finished run again, from its files and the store."""

    def work() -> int:
        from .report import report as start

        return start(folder, store)

    return work


@command
def cell_command(
    hashes: Annotated[list[str], typer.Argument(metavar="HASH...", show_default=False)],
    store: Store = None,
    debug: Debug = False,
) -> Work:
    """Make cells that a run with a launcher has planned."""

    def work() -> int:
        from .cell import make_cells

        return make_cells(hashes, _store(store), debug=debug)

    return work


@command
def sample_command(
    prompt: Annotated[str, option("--prompt", help="Text to begin with; ___ is a blank to fill.")] = "",
    suffix: Annotated[str, option("--suffix", help="Text to end with.")] = "",
    steps: Steps = None,
    sampler: Annotated[str | None, option("--sampler", help="Sampler.", metavar="SPEC")] = None,
    temperature: Temperature = 1.0,
    nucleus: Nucleus = 1.0,
    count: Count = 1,
    length: Length = None,
    seed: Seed = 0,
    watch: Annotated[bool, option("--watch", help="See the text emerge from the mist.")] = False,
    checkpoint: Annotated[
        str | None, option("--checkpoint", help="Which network: the beginning of its hash, or a file.", metavar="HASH")
    ] = None,
    preset: Preset = None,
    corpus: CorpusName = None,
    tokenizer: TokenizerName = None,
    family: Annotated[str | None, option("--family", help="Family of the network.", metavar="SPEC")] = None,
    schedule: Annotated[str | None, option("--schedule", help="Schedule of its training.", metavar="SPEC")] = None,
    training_seed: Annotated[str | None, option("--training-seed", help="Seed of its training.", metavar="N")] = None,
    store: Store = None,
    plugin: Files = None,
    beam: Beam = None,
    debug: Debug = False,
    settings: Settings = None,
) -> Work:
    """Generate text from a trained network."""

    def work() -> int:
        _search(beam)
        registry, config, length_of = _configure(
            plugin, preset, settings, corpus=corpus, tokenizer=tokenizer, families=family, schedules=schedule,
            training_seeds=training_seed,
        )  # fmt: skip
        from ..sample.options import SampleOptions

        options = SampleOptions(
            config=config, checkpoint=checkpoint, store=_store(store), prompt=prompt, suffix=suffix, sampler=sampler,
            steps=steps, length=length, temperature=temperature, nucleus=nucleus, count=count, seed=seed, watch=watch,
            debug=debug, **length_of,
            training_command=_command("run", {
                "--preset": preset, "--corpus": corpus, "--tokenizer": tokenizer, "--family": family,
                "--schedule": schedule, "--training-seed": training_seed, "--store": store, "--plugin": plugin,
                "--set": settings,
            }),
        )  # fmt: skip
        from ..sample.command import sample as start

        return start(registry, options)

    return work


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

        registry = _discover(plugin)
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

        path = write(kind, name, _discover(plugin), Path())
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
    out: Annotated[Path | None, option("--out", help="Tables; results/bench-DEVICE.", metavar="DIR")] = None,
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
        _search(beam)
        from ..bench.command import TASKS, BenchOptions
        from ..bench.command import bench as start

        options = BenchOptions(
            sizes=names("--size", size), only=names("--only", only) or TASKS, rounds=rounds, budget=budget, out=out,
            baseline=baseline or (Path("results/bench-baseline.json") if save_baseline else None), factor=factor,
            save_baseline=save_baseline,
        )  # fmt: skip
        return start(options)

    return work


def _search(width: int | None) -> None:
    from ..engine.beam import use

    use(width)


def _discover(files: list[Path] | None) -> Registry:
    """All plugins; one line on standard error for each that failed."""
    from ..host.registry import Registry

    registry = Registry.discover(files or ())
    for name, message in registry.failures:
        print(f"mist-bench: warning: plugin {name}: {message}", file=sys.stderr)
    return registry


def _configure(
    files: list[Path] | None, preset: str | None, settings: list[str] | None, **texts: str | None
) -> tuple[Registry, RunConfig, dict[str, Any]]:
    """The plugins, the preset with what the command line changes, and what that means for the length: see
    `Experiment.of`."""
    from ..host.presets import default_preset, length_asked, load_preset, override

    registry = _discover(files)
    if preset is None:
        from ..engine import compiler, device

        compiler.prepare()
        preset = default_preset(device.name())
    start = load_preset(preset)
    config = override(start, settings or (), **texts)
    return registry, config, {"written_for": start.corpus, "length_asked": length_asked(settings or ())}


def _command(name: str, options: Mapping[str, Any]) -> str:
    """A command with these options as the user would type it; a list is an option given several times."""
    words = ["mist-bench", name]
    for flag, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [] if each is None else [flag, str(each)]
    return shlex.join(words)


def _store(given: Path | None) -> Path:
    return given or Path(os.environ.get("MIST_BENCH_STORE") or "results/store")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. 0: done; 1: failed; 2: a wrong call; 130: interrupted. One line for each of the last three."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        work = app(args=given, prog_name="mist-bench", standalone_mode=False)
        status = work() if callable(work) else int(work or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        kept = "; finished cells are kept, and the same command goes on from there" if given[:1] == ["run"] else ""
        return _say(f"interrupted{kept}", 130)
    except BrokenPipeError:  # `mist-bench ls samplers | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        from ..api.component import UserError

        if "--debug" in given:
            traceback.print_exc()
        if isinstance(error, UserError):
            return _say(f"error: {error}", 2)
        if hasattr(error, "format_message"):  # typer's usage errors, whose class is not public
            return _say(f"error: {error.format_message()}", 2)
        hides = given[0] in ("run", "cell", "sample", "bench") and "--debug" not in given
        hint = " (--debug shows the traceback)" if hides else ""
        return _say(f"error: {type(error).__name__}: {error}{hint}", 1)


def _say(message: str, status: int) -> int:
    print(f"mist-bench: {' '.join(message.split())}", file=sys.stderr)
    return status
