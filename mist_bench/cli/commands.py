"""The arguments of the commands that work with a store: run, report, cell, sample."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import Work, command, discover, search
from .options import (
    Beam,
    CorpusName,
    Count,
    Debug,
    Devices,
    Files,
    Length,
    Nucleus,
    Out,
    Preset,
    ReportStore,
    Rerun,
    Seed,
    Settings,
    Steps,
    Store,
    TargetError,
    Temperature,
    TokenizerName,
    option,
)
from .options import folder as parse_folder

if TYPE_CHECKING:
    from ..host.config import RunConfig
    from ..host.registry import Registry


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
    out: Out = None,
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
        search(beam)
        wanted = [] if target_se is None else [f"likelihood.target_se={target_se}"]
        wanted += [] if devices is None else [f"training.devices={devices}"]
        registry, config, known = _configure(
            plugin, preset, [*(settings or []), *wanted], corpus=corpus, tokenizer=tokenizer, families=family,
            schedules=schedule, samplers=sampler, steps=steps, temperatures=temperature, training_seeds=training_seed,
            seeds=seed,
        )  # fmt: skip
        from .run import run as start

        return start(
            config, registry, out=out or Path("results") / config.preset, store=_store(store), rerun=rerun.value,
            launcher=launcher, dry_run=dry_run, json_output=json, debug=debug, **known,
        )  # fmt: skip

    return work


@command
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, parser=parse_folder)],
    store: ReportStore = None,
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
        search(beam)
        registry, config, known = _configure(
            plugin, preset, settings, corpus=corpus, tokenizer=tokenizer, families=family, schedules=schedule,
            training_seeds=training_seed,
        )  # fmt: skip
        from ..sample.options import SampleOptions

        if sampler is not None:
            registry.make("sampler", sampler)  # a wrong name is said before a network is looked for
        options = SampleOptions(
            config=config, checkpoint=checkpoint, store=_store(store), prompt=prompt, suffix=suffix, sampler=sampler,
            steps=steps, length=length, temperature=temperature, nucleus=nucleus, count=count, seed=seed, watch=watch,
            debug=debug, corpus_asked=corpus is not None, written_for=known["written_for"],
            length_asked=known["length_asked"],
            training_command=_command("run", {
                "--preset": preset, "--corpus": corpus, "--tokenizer": tokenizer, "--family": family,
                "--schedule": schedule, "--training-seed": training_seed, "--store": store, "--plugin": plugin,
                "--set": settings,
            }),
        )  # fmt: skip
        from ..sample.command import sample as start

        return start(registry, options)

    return work


def _configure(
    files: list[Path] | None, preset: str | None, settings: list[str] | None, **texts: str | None
) -> tuple[Registry, RunConfig, dict[str, Any]]:
    """The plugins, the preset with what the command line changes, and what of it was asked for: see `Experiment.of`."""
    from ..host.presets import asked, default_preset, load_preset, override

    registry = discover(files)
    if preset is None:
        from ..engine import compiler, device

        compiler.prepare()
        preset = default_preset(device.name())
    start = load_preset(preset)
    config = override(start, settings or (), **texts)
    given = settings or ()
    families_asked = texts["families"] is not None or asked(given, "families")
    known = {"written_for": start.corpus, "length_asked": asked(given, "length"), "families_asked": families_asked}
    return registry, config, known


def _command(name: str, options: Mapping[str, Any]) -> str:
    """A command with these options as the user would type it; a list is an option given several times."""
    words = ["mist-bench", name]
    for flag, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            words += [] if each is None else [flag, str(each)]
    return shlex.join(words)


def _store(given: Path | None) -> Path:
    return given or Path(os.environ.get("MIST_BENCH_STORE") or "results/store")
