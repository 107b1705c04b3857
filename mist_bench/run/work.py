"""One cell: make it, and give the record that is stored. What was measured, and nothing about where it is shown."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..api.component import FloatArray, IntArray, UserError
from ..api.schedules import Schedule
from ..engine import device, noise
from ..engine.graph import held
from ..inference.causal import CausalEvaluator
from ..inference.generate import generate
from ..inference.masked import MaskedEvaluator
from ..inference.step import Needs
from ..measure import controls, statistics, target_error, text
from ..measure.likelihood import SMALLEST_MASK, Estimate, causal_likelihood, estimate, left_to_right, masked_likelihood
from ..measure.sampler_law import law_distance
from ..measure.speed import timed
from ..measure.statistics import perplexity_columns
from ..training.loop import Progress, train
from ..training.step import TrainingGraph
from . import provenance
from .cells import Cell
from .workbench import Parameters, Workbench

Report = Callable[[int, int, str], None]
"""(done, total, what it is at) within a cell."""
VALIDATION_SEQUENCES, VALIDATION_DRAWS = 64, 4
"""Numbers of their own: a curve must not depend on settings that are not part of its training."""


def make(cell: Cell, bench: Workbench, report: Report) -> dict[str, Any]:
    """Runs the cell. What it needs must be finished. Raises `UserError` if the device has not enough memory."""
    try:
        record = _make(cell, bench, report)
        return {**record, "measured_by": provenance.stamp()} if "tokens_per_second" in record else record
    except (MemoryError, RuntimeError) as error:
        if not device.out_of_memory(error) or cell.kind == "metric" or cell.content.get("control"):
            raise
        masked = cell.family is not None and cell.family.likelihood_kind == "bound"
        evaluates = masked and cell.kind in ("training", "likelihood")
        name, batch = ("likelihood", bench.likelihood_batch) if evaluates else ("generation", bench.generation_batch)
        raise UserError(
            f"the device has not enough memory to evaluate {batch} sequences at once; give a smaller {name}.batch_size"
        ) from error


def _make(cell: Cell, bench: Workbench, report: Report) -> dict[str, Any]:
    if cell.kind == "training":
        return _training(cell, bench, report)
    if cell.kind == "likelihood":
        return _likelihood(cell, bench, report)
    if cell.kind == "judgement":
        return _judgement(cell, bench, report)
    if cell.kind == "metric":
        return _metric(cell, bench)
    return _generation(cell, bench, report)


def _training(cell: Cell, bench: Workbench, report: Report) -> dict[str, Any]:
    family, config, tokens = cell.family, bench.config.training, bench.dataset.train.tokens
    assert family is not None
    seed, partial = cell.labels["training_seed"], f"{cell.hash}-partial"
    graph, progress = _resume(bench, partial, family, cell.schedule, seed)

    def save(now: Progress) -> None:
        bench.store.save_checkpoint(partial, graph.state(), vars(now))

    progress = train(
        graph, cell.schedule, tokens, seed, progress,
        validate=lambda values: validation(bench, cell, values), save=save,
        report=lambda step, loss: report(step, config.train_steps, f"loss {loss:.3f}{_parts(graph)}"),
    )  # fmt: skip
    bench.store.save_checkpoint(cell.hash, graph.averaged(), {"content": cell.content, "labels": cell.labels})
    bench.store.checkpoint_path(partial).unlink(missing_ok=True)
    return _training_record(graph, progress, bench)


def _parts(graph: TrainingGraph) -> str:
    """How the batch is read, if it is not read whole."""
    whole = graph.micro_batch == graph.config.batch_size
    return "" if whole else f", {graph.micro_batch} of {graph.config.batch_size} sequences at once"


def _resume(
    bench: Workbench, partial: str, family: Any, schedule: Schedule | None, seed: int
) -> tuple[TrainingGraph, Progress]:
    """From the last saved state, or from the beginning."""
    found = bench.store.load_checkpoint(partial)
    known = Progress.__dataclass_fields__  # a state of another release may say more, or less
    progress = Progress() if found is None else Progress(**{k: v for k, v in found[1].items() if k in known})
    graph = bench.training_graph(family, schedule, progress.micro_batch)
    if found is None:
        graph.start(bench.initial_parameters(family, seed))
    else:
        graph.restore(found[0])
    return graph, progress


def _training_record(graph: TrainingGraph, progress: Progress, bench: Workbench) -> dict[str, Any]:
    config, length = bench.config.training, bench.dataset.length
    per_step = config.batch_size * length
    speed = per_step / float(np.median(progress.step_seconds)) if progress.step_seconds else None
    peak = device.published_peak()
    work = 3 * graph.model.forward_flops() / length  # of a token: its gradients take twice as much again
    return {
        "parameters": graph.model.parameter_count(), "embedding_parameters": graph.model.embedding_parameters(),
        "train_steps": config.train_steps, "train_tokens": config.train_steps * per_step,
        "final_loss": float(np.mean([point["loss"] for point in progress.curve[-5:]])),
        "tokens_per_second": speed,
        "model_flops_utilization": work * speed / (peak * config.devices) if speed and peak else None,
        "compile_seconds": progress.compile_seconds, "wall_seconds": progress.wall_seconds + progress.compile_seconds,
        "peak_memory_bytes": held(graph.graphs), "micro_batch": graph.micro_batch,
        "devices": config.devices, "curve": progress.curve,
    }  # fmt: skip


def evaluator_of(bench: Workbench, cell: Cell, values: Parameters | None) -> MaskedEvaluator | CausalEvaluator:
    """The evaluator of the cell's family, holding these parameters."""
    assert cell.family is not None
    if cell.family.likelihood_kind == "exact":
        assert values is not None
        return bench.causal(cell.family, values)
    needs = None if cell.sampler is None else Needs.of(cell.sampler)
    batch = None if cell.kind == "generation" else bench.likelihood_batch
    return bench.masked(cell.family, values, needs=needs, batch=batch)


def validation(bench: Workbench, cell: Cell, values: Parameters) -> float:
    """Nats per token of the first validation sequences: exact, or the bound by exact-k with few draws."""
    evaluator, tokens = evaluator_of(bench, cell, values), _validated(bench)
    if isinstance(evaluator, CausalEvaluator):
        return float(causal_likelihood(evaluator, tokens).mean() / bench.dataset.length)
    return float(masked_likelihood(evaluator, tokens, VALIDATION_DRAWS, None).mean() / bench.dataset.length)


def validation_truth(bench: Workbench) -> float | None:
    """Nats per token of the same sequences under their own world; None if there is none."""
    if bench.oracle is None:
        return None
    return float(-bench.oracle.log_probability(_validated(bench)).mean() / bench.dataset.length)


def _validated(bench: Workbench) -> IntArray:
    return np.asarray(bench.dataset.validation.tokens[:VALIDATION_SEQUENCES])


def _checkpoint(cell: Cell, bench: Workbench) -> Parameters | None:
    return bench.parameters(cell.content["checkpoint"]) if "checkpoint" in cell.content else None


def _likelihood(cell: Cell, bench: Workbench, report: Report) -> dict[str, Any]:
    split = bench.dataset.test
    count = min(cell.content["sequences"], len(split))
    tokens, extra = np.asarray(split.tokens[:count]), dict[str, Any]()
    if cell.content.get("control") == "unigram":
        law = text.unigram(bench.dataset.train.tokens, bench.dataset.vocab_size)
        values = -np.log(law)[tokens].sum(axis=1)
    else:
        evaluator = evaluator_of(bench, cell, _checkpoint(cell, bench))
        if isinstance(evaluator, CausalEvaluator):
            values = causal_likelihood(evaluator, tokens, lambda done, total: report(done, total, "batches"))
        elif cell.content["estimator"] == "chain-rule":
            values = left_to_right(evaluator, tokens, lambda done, total: report(done, total, "batches"))
        else:
            values, extra = _bound(cell, evaluator, tokens, split.clusters[:count], report)
    found = estimate(values, bench.dataset.length, split.text_bytes[:count], split.clusters[:count])
    return {**_likelihood_columns(found, count), **extra, **_truth(bench, tokens, values)}


def _bound(
    cell: Cell, evaluator: MaskedEvaluator, tokens: IntArray, clusters: IntArray, report: Report
) -> tuple[FloatArray, dict[str, Any]]:
    """(N,) nats by the cell's estimator with its draws, or with as many as its target takes; and more columns."""
    draws, target = cell.content["draws"], cell.content.get("target_se")

    def block(number: int, blocks: int) -> FloatArray:
        def told(done: int, total: int) -> None:
            report(number * total + done, blocks * total, "batches")

        return masked_likelihood(evaluator, tokens, draws, cell.schedule, told, block=number)

    if target is None:
        return block(0, 1), {} if cell.schedule is None else {"smallest_mask_probability": SMALLEST_MASK}
    values, found = target_error.draw(block, target, tokens.shape[1], clusters)
    return values, {"mask_draws": found.blocks * draws, "nats_per_token_se_limit": found.limit}


def _likelihood_columns(found: Estimate, count: int) -> dict[str, Any]:
    return {
        "nats_per_token": found.nats_per_token, "nats_per_token_se": found.nats_per_token_se,
        "bits_per_byte": found.bits_per_byte, "bits_per_byte_se": found.bits_per_byte_se,
        **perplexity_columns(found.nats_per_token, found.nats_per_token_se),
        "sequences": count, "per_sequence": found.per_sequence.tolist(),
    }  # fmt: skip


def _truth(bench: Workbench, tokens: IntArray, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Nats per sequence beside the truth of the very same sequences, in oracle worlds."""
    if bench.oracle is None:
        return {}
    mean, error = statistics.mean_and_error(values)
    truth = -bench.oracle.log_probability(tokens)
    return {"nats_per_sequence": mean, "nats_per_sequence_se": error, "truth_nats_per_sequence": float(truth.mean())}


def _generation(cell: Cell, bench: Workbench, report: Report) -> dict[str, Any]:
    if "control" in cell.content:
        tokens = controls.sequences(cell.content["control"], bench.dataset, bench.oracle, cell.content["samples"])
        record: dict[str, Any] = {}
    else:
        tokens, record = _sampled(cell, bench, report)
    record |= {"samples": len(tokens), **text.text_columns(tokens, bench.dataset.vocab_size)}
    overlap, error = statistics.mean_and_error(bench.train_text.longest_runs(tokens))
    record |= {"longest_overlap": overlap, "longest_overlap_se": error}
    if bench.oracle is not None:
        record |= text.oracle_columns(bench.oracle, tokens, seed=0)
    texts = [bench.dataset.decode(row) for row in tokens[:8]]
    return {**record, "texts": texts, "tokens": pack(tokens)}


def _sampled(cell: Cell, bench: Workbench, report: Report) -> tuple[IntArray, dict[str, Any]]:
    """The sequences, with speed, evaluations and memory."""
    content, length, sampler = cell.content, bench.dataset.length, cell.sampler
    assert sampler is not None
    evaluator = evaluator_of(bench, cell, _checkpoint(cell, bench))
    batch, seed = evaluator.batch, noise.seed_of(axis="generation", seed=content["seed"])
    prompt = content.get("prompt", 0)
    batches: list[tuple[IntArray, IntArray]] = []

    def run(number: int, limit: int | None = None) -> tuple[IntArray, IntArray]:
        ids = np.arange(number * batch, (number + 1) * batch)
        given = _given(bench, ids, prompt)
        if isinstance(evaluator, CausalEvaluator):
            made = evaluator.generate(given, seed, ids, content["temperature"], limit=limit)
            return made, np.full(batch, length)
        assert cell.schedule is not None
        return generate(
            evaluator, bench.sampler_graph(sampler), cell.schedule, content["steps"] or length, given,
            seed=seed, sequences=ids, temperature=content["temperature"], limit=limit,
        )  # fmt: skip

    run(0, limit=2)  # captures and warms the graphs, outside the clock
    rounds = max(content["rounds"], -(-content["samples"] // batch))

    def one(number: int) -> None:
        batches.append(run(number))
        report(number + 1, rounds, "rounds")

    speed = timed(rounds, batch * (length - prompt), one)
    tokens = np.concatenate([made for made, _ in batches])[: content["samples"]]
    if (tokens >= bench.dataset.mask).any():
        raise UserError(f"sampler {sampler.spec!r} left masks in the text after its last step")
    nfe = np.concatenate([used for _, used in batches])[: content["samples"]]
    low, middle, high = np.percentile(nfe, [25, 50, 75])
    graphs = list(evaluator.graphs)
    if isinstance(evaluator, MaskedEvaluator):
        graphs.append(bench.sampler_graph(sampler).graph)
    return tokens, {
        **speed.columns(), "batch": batch, "nfe": float(middle), "nfe_iqr": float(high - low),
        "compile_seconds": sum(graph.compile_seconds for graph in graphs), "peak_memory_bytes": held(graphs),
        "law_distance": _law(cell, bench, sampler),
    }  # fmt: skip


def _given(bench: Workbench, ids: IntArray, prompt: int) -> IntArray:
    """(B, L) masks, but for a prompt: the first tokens of the test sequence of that number, in turn."""
    tokens = np.full((len(ids), bench.dataset.length), bench.dataset.mask, dtype=np.int32)
    if prompt:
        test = bench.dataset.test.tokens
        tokens[:, :prompt] = test[ids % len(test), :prompt]
    return tokens


def _law(cell: Cell, bench: Workbench, sampler: Any) -> float | None:
    """Exact distance of the sampler's own law from the truth under the perfect denoiser, on enumerable worlds."""
    perfect = cell.family is not None and not cell.family.trained
    own = cell.content["nucleus"] == 1 and not cell.content.get("prompt")
    if bench.oracle is None or cell.schedule is None or not perfect or not own:
        return None
    steps, frequencies = cell.content["steps"] or bench.dataset.length, None
    if "log_frequency" in sampler.needs:
        frequencies = bench.frequencies
    return law_distance(
        sampler, cell.schedule, steps, bench.oracle, temperature=cell.content["temperature"], frequencies=frequencies
    )


def _judgement(cell: Cell, bench: Workbench, report: Report) -> dict[str, Any]:
    """Nats per token of a generation under the judge: a baseline of another training seed, or a model of the Hub."""
    tokens = _generated(cell, bench)
    more: dict[str, float | None] = {}
    if isinstance(cell.content["judge"], str):
        judge = bench.causal(bench.judge_family(), bench.parameters(cell.content["judge"]))
        values = causal_likelihood(judge, tokens, lambda done, total: report(done, total, "batches"))
    else:
        texts = [bench.dataset.decode(row) for row in tokens]
        values, scored = bench.text_judge.score(texts, lambda done, total: report(done, total, "windows"))
        more = text.text_judge_columns(values, scored, texts)
    mean, error = statistics.mean_and_error(values / tokens.shape[1])
    return {"judge_nats_per_token": mean, "judge_nats_per_token_se": error, **more}


def _generated(cell: Cell, bench: Workbench) -> IntArray:
    """(N, L) the sequences of the generation that a cell is about."""
    generation = bench.store.read(cell.content["generation"])
    if generation is None:
        raise UserError(f"generation {cell.content['generation']} is missing; run again with --rerun all")
    return unpack(generation["tokens"])


def _metric(cell: Cell, bench: Workbench) -> dict[str, Any]:
    """What a metric says of a generation, beside held-out text."""
    assert cell.metric is not None
    tokens = _generated(cell, bench)
    references = controls.references(bench.dataset, len(tokens))
    texts, held_out = ([bench.dataset.decode(row) for row in rows] for rows in (tokens, references))
    return {"columns": dict(cell.metric.measure(texts, held_out))}


def pack(tokens: IntArray) -> dict[str, Any]:
    """Token ids as compressed text, for JSON."""
    data = zlib.compress(np.ascontiguousarray(tokens, dtype="<i4").tobytes(), 9)
    return {"shape": list(tokens.shape), "int32": base64.b64encode(data).decode()}


def unpack(packed: Mapping[str, Any]) -> IntArray:
    """(N, L) what `pack` was given."""
    data = zlib.decompress(base64.b64decode(packed["int32"]))
    return np.frombuffer(data, dtype="<i4").reshape(packed["shape"])

