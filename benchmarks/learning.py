"""How fast our masked model learns beside the network that the authors of MDLM train, on the same data and masks.

    python -m benchmarks.learning                                       # quick's corpus and size, three seeds, minutes
    python -m benchmarks.learning --seeds 0,1,2,3 --rates 0.006,0.012   # both sides at each learning rate

Both have the same number of parameters outside the tables, and train on the same sequences in the same order, with the
same masks, batch, steps, warm-up, decay and averaging of the weights. Ours has the recipe of the preset; theirs has the
authors' optimiser (beta2 0.999, no weight decay). Both are measured by exact-k on the same test sequences with the same
masks. With several rates each side is shown at its own best, by the mean at the last point.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mist_bench import FloatArray, IntArray, Schedule
from mist_bench.engine import compiler, device, noise
from mist_bench.host.config import TrainingConfig
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.measure.likelihood import exact_k, masked_likelihood
from mist_bench.measure.statistics import quantile, with_error
from mist_bench.run.experiment import Experiment
from mist_bench.run.store import Store
from mist_bench.run.workbench import Workbench
from mist_bench.training.loop import Progress, batch_rows, learning_rate, schedule_numbers, train

from .dit_peer import DitNetwork
from .torch_peer import masked_loss

DRAWS, BATCH, POINTS = 16, 256, 4
Curve = list[tuple[float, float]]
"""Seconds of training without compilation, and nats per sequence, at each of the points."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What both sides share."""

    bench: Workbench
    schedule: Schedule
    config: TrainingConfig
    test: IntArray

    def at(self, rate: float) -> Setting:
        """The same with another learning rate."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, learning_rate=rate))


def setting(preset: str, settings: list[str]) -> Setting:
    registry, config = Registry.discover(), override(load_preset(preset), settings)
    every = max(1, config.training.train_steps // POINTS)
    config = override(config, [f"training.validate_every={every}", f"training.checkpoint_every={10**9}"])
    experiment = Experiment.of(config, registry, device=device.name(), precision="float32")
    bench = Workbench(experiment, Store(Path(tempfile.mkdtemp()) / "store"))
    test = bench.dataset.test.tokens[: config.likelihood.sequences]
    schedule = registry.make("schedule", "linear")
    return Setting(bench=bench, schedule=schedule, config=config.training, test=np.asarray(test))


def ours(its: Setting, seed: int) -> Curve:
    """Our `mdlm`."""
    family = Registry.discover().make("family", "mdlm")
    its.bench.config = dataclasses.replace(its.bench.config, training=its.config)
    graph, points, progress = its.bench.training_graph(family, its.schedule), [], Progress()
    graph.start(its.bench.initial_parameters(family, seed))

    def validate(values: dict[str, np.ndarray[Any, Any]], last: bool) -> dict[str, float]:
        evaluator = its.bench.masked(family, values, batch=min(32, BATCH))
        points.append((progress.wall_seconds, float(masked_likelihood(evaluator, its.test, DRAWS, None).mean())))
        return {}

    train(graph, its.schedule, its.bench.dataset.train.tokens, seed, progress, validate=validate,
          save=lambda now: None, report=lambda step, loss: None)  # fmt: skip
    return points


def theirs(its: Setting, seed: int) -> Curve:
    """The authors' network, with their optimiser."""
    config, data, size = its.config, its.bench.dataset, its.bench.config.model
    family = Registry.discover().make("family", "mdlm")
    wanted = family.create(size.size(), data.vocab_size, data.length, 0, None).parameter_count()
    torch.manual_seed(seed)
    net = DitNetwork(size.dim, size.layers, size.heads, size.conditioning_dim, data.vocab_size, data.length,
                     parameters_wanted=wanted)  # fmt: skip
    assert abs(net.parameter_count() / wanted - 1) < 0.01
    optimiser = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.999), weight_decay=0.0, fused=True)
    average = [p.detach().clone() for p in net.parameters()]
    order, masks = noise.seed_of(axis="order", seed=seed), noise.seed_of(axis="masks", seed=seed)
    points, seconds = [], 0.0
    for step in range(config.train_steps):
        start = time.perf_counter()
        rows = np.sort(batch_rows(len(data.train.tokens), config.batch_size, order, step))
        tokens = torch.from_numpy(data.train.tokens[rows].astype(np.int64))
        uniform = noise.uniform_numpy(masks, step, noise.MASKING, np.arange(config.batch_size), data.length)
        (numbers,) = schedule_numbers(its.schedule, config.batch_size, masks, range(step, step + 1))
        told = (torch.from_numpy(x.astype(np.float32)) for x in (uniform, numbers[1], numbers[2]))
        masked_loss(net, tokens, *told).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), config.gradient_clip)
        optimiser.param_groups[0]["lr"] = learning_rate(config, step)
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(net.parameters()), 1 - min(config.ema_decay, (step + 1) / (step + 11)))
        seconds += time.perf_counter() - start
        if (step + 1) % config.validate_every == 0 or step + 1 == config.train_steps:
            points.append((seconds, measured(net, average, its.test)))
    return points


@torch.no_grad()
def measured(net: DitNetwork, average: list[torch.Tensor], test: IntArray) -> float:
    """Nats per sequence of the averaged weights, by the estimator and the masks that measure ours."""
    kept = [p.clone() for p in net.parameters()]
    torch._foreach_copy_(list(net.parameters()), average)

    def answer(tokens: IntArray, masked: np.ndarray, t: FloatArray) -> FloatArray:
        seen = torch.from_numpy(np.where(masked, net.vocab_size, tokens).astype(np.int64))
        told = torch.from_numpy(tokens.astype(np.int64)).unsqueeze(-1)
        return np.where(masked, net(seen).log_softmax(-1).gather(-1, told).squeeze(-1).numpy(), 0.0)

    total = 0.0
    for draw in range(DRAWS):
        for start in range(0, len(test), BATCH):
            part = test[start : start + BATCH]
            total += float(exact_k(answer, part, np.arange(start, start + len(part)), draw, DRAWS).sum())
    torch._foreach_copy_(list(net.parameters()), kept)
    return total / DRAWS / len(test)


def best(
    side: Callable[[Setting, int], Curve], its: Setting, rates: list[float], seeds: list[int]
) -> tuple[float, FloatArray]:
    """The learning rate with the lowest mean at the last point, and its (seeds, points, 2) curves."""
    found = {}
    for rate in rates:
        found[rate] = np.array([side(its.at(rate), seed) for seed in seeds])
        mean, error = pooled(found[rate][:, -1, 1])
        print(f"{side.__name__}, learning rate {rate:g}: {with_error(mean, error)} nats at the end", flush=True)
    chosen = min(rates, key=lambda rate: float(found[rate][:, -1, 1].mean()))
    return chosen, found[chosen]


def pooled(values: FloatArray) -> tuple[float, float | None]:
    """Mean over seeds and its standard error; None for one seed."""
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds")
    parser.add_argument("--rates", default="", help="learning rates, tried by both sides; default: the preset's")
    parser.add_argument("--set", action="append", default=[], dest="settings", help="as for mist-bench run")
    given = parser.parse_args()
    compiler.prepare()
    its = setting(given.preset, given.settings)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    rates = [float(rate) for rate in given.rates.split(",")] if given.rates else [its.config.learning_rate]
    (our_rate, mine), (their_rate, other) = (best(side, its, rates, seeds) for side in (ours, theirs))
    oracle = its.bench.oracle
    floor = float(-oracle.log_probability(its.test).mean()) if oracle else 0.0
    per_step, every = its.config.batch_size * its.test.shape[1], its.config.validate_every
    rows = []
    for i in range(mine.shape[1]):
        ratios = (mine[:, i, 1] - floor) / (other[:, i, 1] - floor)
        rows.append([
            f"{min((i + 1) * every, its.config.train_steps) * per_step:,}", with_error(*pooled(mine[:, i, 1])),
            with_error(*pooled(other[:, i, 1])), with_error(*pooled(ratios)), f"{mine[:, i, 0].mean():.0f}",
            f"{other[:, i, 0].mean():.0f}",
        ])  # fmt: skip
    wide = f"; {quantile(len(seeds) - 1):.2f} of them on each side are a 95 % interval" if len(seeds) > 1 else ""
    print(f"\nnats per sequence, lower is better; the truth is {floor:.3f}; errors are over {len(seeds)} seeds{wide}; "
          f"learning rates {our_rate:g} and {their_rate:g}\n")  # fmt: skip
    header = ["tokens", "ours", "theirs", "excess over the truth, ours / theirs", "s, ours", "s, theirs"]
    print("\n".join(f"| {' | '.join(line)} |" for line in (header, ["---:"] * len(header), *rows)))


if __name__ == "__main__":
    main()
