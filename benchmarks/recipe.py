"""What each part of the recipe is worth: networks of `quick` trained with one setting changed, over several seeds.

    python -m benchmarks.recipe                                             # every variant, eight seeds: hours
    python -m benchmarks.recipe --only base,relu2,rate-6 --seeds 0,1,2,3
    python -m benchmarks.recipe --preset my.toml --store DIR                # another corpus or size

Each line is printed as soon as it is known; finished networks are in the store, so that a second start goes on. The
differences are paired: the same seed, data order, masks and test sequences. docs/recipe.md has the results.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mist_bench import FloatArray
from mist_bench.engine import compiler, device
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.measure.statistics import quantile, standard_error, with_error
from mist_bench.run.experiment import Experiment
from mist_bench.run.grid import lay_out
from mist_bench.run.kinds.likelihood import LikelihoodCell
from mist_bench.run.make import make
from mist_bench.run.store import Store
from mist_bench.run.workbench import Workbench

ALONE = ["likelihood.weighted_draws=0", "likelihood.chain_rule_sequences=0", "generation.judge=none"]
"""Nothing is made but the networks and their bounds."""
BASE = "base"
VARIANTS: dict[str, tuple[str, list[str]]] = {
    BASE: ("mdlm", []),
    "relu2": ("mdlm", ["model.activation=squared-relu"]),
    "swiglu": ("mdlm", ["model.activation=swiglu"]),
    "no-condition": ("mdlm[conditioning=none]", []),
    "told-time": ("mdlm[conditioning=time]", []),
    "self-conditioned": ("mdlm[self_conditioning=true]", []),
    "loss-ce": ("mdlm[weight=none]", []),
    "bell-t": ("mdlm[weight=schedule,bell=0.2]", []),
    "bell-t-ce": ("mdlm[weight=none,bell=0.2]", []),
    "bell-t-bound": ("mdlm[bell=0.2]", []),
    "rate-6": ("mdlm", ["training.learning_rate=0.006"]),
    "rate-8": ("mdlm", ["training.learning_rate=0.008"]),
    "rate-18": ("mdlm", ["training.learning_rate=0.018"]),
    "beta2-999": ("mdlm", ["training.beta2=0.999"]),
    "no-decay": ("mdlm", ["training.weight_decay=0"]),
    "no-warm-up": ("mdlm", ["training.warmup_steps=0"]),
    "warm-up-200": ("mdlm", ["training.warmup_steps=200"]),
    "clip-0.3": ("mdlm", ["training.gradient_clip=0.3"]),
    "baseline": ("autoregressive", []),
    "baseline-relu2": ("autoregressive", ["model.activation=squared-relu"]),
    "baseline-rate-6": ("autoregressive", ["training.learning_rate=0.006"]),
    "baseline-rate-18": ("autoregressive", ["training.learning_rate=0.018"]),
}
"""Family and settings of each variant; those of a baseline are held against `baseline`."""


def bounds(variant: str, preset: str, seeds: str, store: Store) -> Iterator[tuple[int, FloatArray]]:
    """(seed, nats of each test sequence) of the networks of a variant, each as soon as it is measured."""
    family, settings = VARIANTS[variant]
    config = override(load_preset(preset), [*ALONE, *settings], families=family, schedules="linear", samplers="random",
                      steps="2", training_seeds=seeds)  # fmt: skip
    precision = device.precision_name(config.training.precision)
    experiment = Experiment.of(config, Registry.discover(), device=device.name(), precision=precision)
    bench = Workbench(experiment, store)
    for cell in lay_out(experiment):
        if isinstance(cell, LikelihoodCell) and (network := cell.model.training):
            for needed in (network, cell):
                if store.status(needed.hash) != "done":
                    outcome = make(needed, bench, lambda *progress: None)
                    if outcome.record is None:
                        raise SystemExit(f"{variant}: {needed.name}: {outcome.failure}")
            record = store.read(cell.hash)
            assert record is not None
            yield network.seed, np.array(record["per_sequence"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(VARIANTS), help="variants, `base` and `baseline` before the others")
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--store", type=Path, default=Path("results/recipe-store"))
    given = parser.parse_args()
    if unknown := set(given.only.split(",")) - set(VARIANTS):
        parser.error(f"unknown variants {', '.join(sorted(unknown))}; known are {', '.join(VARIANTS)}")
    compiler.prepare()
    store, found = Store(given.store), dict[str, dict[int, float]]()
    store.ensure_writable()
    print("| variant | nats/sequence | difference | seeds |\n| :--- | ---: | ---: | :--- |")
    for variant in given.only.split(","):
        means = {seed: float(nats.mean()) for seed, nats in bounds(variant, given.preset, given.seeds, store)}
        found[variant] = means
        against = found.get("baseline" if variant.startswith("baseline") else BASE, {})
        apart = [means[seed] - against[seed] for seed in means if seed in against]
        error = standard_error(apart)
        wide = f" (95 % ±{quantile(len(apart) - 1) * error:.2f})" if error else ""
        difference = "" if not error else with_error(float(np.mean(apart)), error) + wide
        value = with_error(float(np.mean(list(means.values()))), standard_error(list(means.values())))
        print(f"| {variant} | {value} | {difference} | {' '.join(f'{v:.2f}' for v in means.values())} |", flush=True)


if __name__ == "__main__":
    main()
