"""Rows like those of a run of `tales`: two schedules, two training seeds, a baseline, controls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Rows = list[dict[str, Any]]
MODEL = ("corpus", "tokenizer", "family", "schedule", "training_seed", "checkpoint")
WORLD = {"corpus": "tales", "tokenizer": "word"}
LENGTH, TRUTH = 64, 13.21  # tokens and nats of a story
MODELS = [("mdlm", "linear", 13.92), ("mdlm", "cosine", 14.05), ("autoregressive", None, 13.31)]
SAMPLERS = {"random": 0.55, "confidence": 0.82, "top-k": 0.8, "margin": 0.84, "first-hitting": 0.78}


def training() -> Rows:
    rows = []
    for family, schedule, nats in MODELS:
        for seed in (0, 1):
            name = f"{family[:4]}{schedule or ''}{seed}"
            rows.append(
                {**WORLD, "family": family, "schedule": schedule, "training_seed": seed, "checkpoint": name,
                 "parameters": 171_208 if family == "mdlm" else 170_944, "embedding_parameters": 12_224,
                 "train_steps": 600, "train_tokens": 2_457_600, "train_flops_per_token": 1_051_000.5 if family == "mdlm" else 1_223_000.0,
                 "final_loss": nats / LENGTH,
                 "tokens_per_second": 20_480.5, "compile_seconds": 31.25, "wall_seconds": 151.5}
            )  # fmt: skip
    return rows


def likelihood() -> Rows:
    rows = []
    for model in training():
        nats = next(n for f, s, n in MODELS if (f, s) == (model["family"], model["schedule"]))
        nats += 0.11 * model["training_seed"]
        base = {name: model[name] for name in (*MODEL, "parameters", "train_tokens")}
        if model["family"] == "autoregressive":
            rows.append(likelihood_row(base, "exact", "chain-rule", None, nats, 0.11))
            continue
        rows.append(likelihood_row(base, "bound", "exact-k", None, nats, 0.13))
        for schedule in ("linear", "cosine"):
            rows.append(likelihood_row(base, "bound", "weighted", schedule, nats + 0.02, 0.17))
        chain = likelihood_row(base, "chain-rule", "chain-rule", None, nats - 0.2, 0.42)
        rows.append({**chain, "sequences": 48, "clusters": 48, "truth_nats_per_sequence": TRUTH + 0.4, "ratio_to_truth": (nats - 0.2) / (TRUTH + 0.4), "bound_minus_chain_rule": 0.0031, "bound_minus_chain_rule_se": 0.0004})
    oracle = {**WORLD, "family": "oracle", "schedule": None, "training_seed": 0, "checkpoint": "oracle", "control": "oracle"}
    rows.append(likelihood_row(oracle, "bound", "exact-k", None, TRUTH + 0.01, 0.02))
    return rows


def likelihood_row(
    base: dict[str, Any], kind: str, estimator: str, evaluation: str | None, nats: float, se: float
) -> dict[str, Any]:
    token, token_se, to_bits = nats / LENGTH, se / LENGTH, LENGTH / 181 / math.log(2)
    against = {} if base["family"] != "mdlm" else {"ratio_to_ar": nats / MODELS[2][2], "ratio_to_ar_se": 0.0071}
    return {**base, **against, "kind": kind, "estimator": estimator, "evaluation_schedule": evaluation, "nats_per_token": token,
            "nats_per_token_se": token_se, "bits_per_byte": token * to_bits, "bits_per_byte_se": token_se * to_bits,
            "perplexity": math.exp(token), "perplexity_low": math.exp(token - 1.96 * token_se),
            "perplexity_high": math.exp(token + 1.96 * token_se), "sequences": 512, "clusters": 512, "mask_draws": 8,
            "nats_per_sequence": nats, "nats_per_sequence_se": se, "truth_nats_per_sequence": TRUTH, "ratio_to_truth": nats / TRUTH,
            "ratio_to_truth_se": 0.8 * se / TRUTH}  # fmt: skip


def generation() -> Rows:
    rng = np.random.default_rng(7)
    rows = []
    for model in training():
        base = {name: model[name] for name in MODEL}
        if model["family"] == "autoregressive":
            row = generation_row(base, "autoregressive", None, 64, 0.93 + 0.01 * model["training_seed"], 9100.0)
            rows.append({**row, "causal": 1})
            continue
        for sampler, top in SAMPLERS.items():
            for steps in (None,) if sampler == "first-hitting" else (5, 10, 20, 64):
                nfe = steps or 64
                rate = float(np.clip(top * (1 - math.exp(-nfe / 9)) + rng.normal(0, 0.01), 0, 1))
                rows.append(generation_row(base, sampler, steps, nfe, rate, 640_000 / nfe * rng.uniform(0.9, 1.1)))
    oracle = {**WORLD, "family": "oracle", "schedule": "linear", "training_seed": 0, "control": "oracle"}
    for steps in (5, 10, 20, 64):
        rows.append(generation_row(oracle, "random", steps, steps, 1 - math.exp(-steps / 12), 90_000 / steps))
    for control, rate in {"data": 1.0, "unigram": 0.0, "repeater": 1.0}.items():
        row = generation_row({**WORLD, "control": control}, None, None, None, rate, None)
        rows.append({**row, "seed": None, "temperature": None, "batch": None})
    return rows


def generation_row(
    base: dict[str, Any], sampler: str | None, steps: int | None, nfe: int | None, rate: float, speed: float | None
) -> dict[str, Any]:
    se = math.sqrt(rate * (1 - rate) / 512)
    against = {"speed_ratio_to_ar": speed / 9100.0, "speed_ratio_to_ar_se": speed / 9100.0 / 50} if speed and nfe != 64 else {}
    return {**base, "sampler": sampler, "steps": steps, "temperature": 1.0, "seed": 0, "batch": 64, "samples": 512, "clusters": 1 if base.get("control") == "repeater" else 512,
            "nfe": nfe, "nfe_iqr": 0.0, "tokens_per_second": speed, "tokens_per_second_iqr": speed and speed / 30,
            "tokens_per_second_se": speed and speed / 60, "timed_rounds": speed and 5, **against,
            "seconds_per_batch": speed and 64 * 64 / speed, "judge": "oracle", "judge_nats_per_token": 0.9 - 0.6 * rate,
            "judge_nats_per_token_se": 0.0091, "token_entropy": 2.9 + 0.1 * rate, "token_entropy_se": 0.01,
            "distinct_2": 0.2 + 0.1 * rate, "longest_overlap": 17.25, "longest_overlap_se": 0.3, "oracle_valid_rate": rate,
            "oracle_valid_rate_se": se, "oracle_distinct_ratio": 0.9 + 0.1 * rate,
            "oracle_divergence": 0.6 - 0.3 * rate, "oracle_divergence_floor": 0.2871, "oracle_divergence_floor_se": 0.0094, "law_distance": None}  # fmt: skip


def curves() -> Rows:
    rng = np.random.default_rng(11)
    rows = []
    for model in training():
        floor = next(n for f, s, n in MODELS if (f, s) == (model["family"], model["schedule"])) / LENGTH
        for step in range(50, 601, 50):
            nats = floor + 2.5 * math.exp(-step / 90) + rng.normal(0, 0.004)
            names = ("checkpoint", "corpus", "family", "schedule", "training_seed")
            rows.append({**{name: model[name] for name in names}, "train_step": step, "train_tokens": step * 4096,
                         "seconds": step / 5, "loss": nats + 0.02, "validation_nats_per_token": nats})  # fmt: skip
    return rows


def comparisons() -> Rows:
    base = {**WORLD, "kind": "bound", "family_a": "mdlm", "schedule_a": "cosine", "family_b": "mdlm",
            "schedule_b": "linear", "sequences": 512, "clusters": 512, "evaluation_schedule": None}  # fmt: skip
    rows = []
    for estimator, seed_p in (("exact-k", 0.21), ("chain-rule", 0.004)):
        base = {**base, "kind": "bound" if estimator == "exact-k" else "chain-rule", "estimator": estimator}
        for seed, value in ((0, 0.0013), (1, 0.0029), (None, 0.0021)):
            told = {"training_seed": seed, "training_seeds": 1, "difference": value, "difference_se": 0.0005,
                    "difference_low": value - 0.00098, "difference_high": value + 0.00098, "z": value / 0.0005,
                    "p_value": 3.1e-5 if seed is None else 0.009}  # fmt: skip
            if seed is None:
                told |= {"training_seeds": 2, "difference_seed_se": 0.0008, "seed_p_value": seed_p}
            rows.append({**base, **told})
    return rows


def samples() -> Rows:
    return [{**WORLD, "family": "mdlm", "schedule": "linear", "training_seed": 0, "sampler": "random", "steps": 5,
             "seed": 0, "index": index, "text": f"Once “{index}” upon\na time.", "nan": math.nan}
            for index in range(3)]  # fmt: skip


def everything() -> dict[str, Rows]:
    """The rows of all files, as `read_rows` gives them."""
    return {"training": training(), "likelihood": likelihood(), "generation": generation(), "curves": curves(),
            "comparisons": comparisons(), "samples": samples()}  # fmt: skip
