"""The notes below the tables: what their columns mean, and what of these rows may mislead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..run.columns import Row
from .fields import count
from .pooling import speed_interval, units_of


def about_likelihoods(rows: Sequence[Row], training: Sequence[Row]) -> list[str]:
    """The notes below table 1. `training`: the rows of all networks, in order."""
    notes = [
        "≤ an upper bound on perplexity; = exact for that model. A chain rule is the left-to-right decoder of a "
        "masked model: a different model, which may be better or worse than the bound.",
        "± standard error over test sequences (their documents, or blocks of these); with several networks, in all "
        "columns but nats/token over training seeds too; so are the intervals, which are Student's",
    ]
    if any(units_of(row) == 1 for row in rows):
        notes.append("no ± and no interval where the test sequences are one independent unit: nothing shows how others "
                     "would differ (likelihood.sequences)")  # fmt: skip
    if any(row.get("evaluation_schedule") for row in rows):
        notes.append("weight of: the schedule whose weight w(t) the weighted estimator takes; exact-k needs none")
    if any(row.get("ratio_to_ar") is not None for row in rows):
        notes.append("÷AR: nats over those of the autoregressive baseline of the same training seed on the same "
                     "sequences, with the error of that ratio")  # fmt: skip
    notes += _about_work(training)
    notes += _about_unseen(rows)
    notes += _about_kept(training)
    if len({row.get("sequences") for row in rows}) > 1:
        notes.append("seq.: test sequences measured, the first ones; compare only rows with the same number")
    return notes


def _about_work(training: Sequence[Row]) -> list[str]:
    """The FLOPs of each family beside its parameters, where there are several families to compare."""
    work: dict[str, list[float]] = {}
    for row in training:
        if row.get("train_flops_per_token") is not None:
            work.setdefault(row["family"], []).append(row["train_flops_per_token"])
    ends = {family: dict.fromkeys([count(min(each)), count(max(each))]) for family, each in work.items()}
    shown = ", ".join(f"{family} {' to '.join(each)}" for family, each in ends.items())
    if len(ends) < 2:
        return []
    return [f"equal parameters are not equal work; FLOPs of training a token: {shown} (forward, backward and update, "
            "counted by tinygrad)"]  # fmt: skip


def _about_unseen(rows: Sequence[Row]) -> list[str]:
    """How many of the test sequences are unseen, by the rows with the most; nothing where the train split has none."""
    known = [row for row in rows if row.get("unseen_sequences") is not None]
    if not known:
        return []
    most = max(known, key=lambda row: row["sequences"])
    if not most["unseen_sequences"]:
        return [f"all {most['sequences']} test sequences are in the train split, token for token"]
    return [
        f"unseen: the {most['unseen_sequences']} of {most['sequences']} test sequences that are nowhere in the train "
        "split, token for token; the other columns are of all. Unseen texts are rarer ones: compare their nats with "
        "each other, and ÷truth with ÷truth"
    ]


def _about_kept(training: Sequence[Row]) -> list[str]:
    """Which steps' weights are measured, where these are not the last."""
    kept = [f"{row['family']} {row.get('schedule') or ''}".strip() + f" {row['kept_step']}" for row in training
            if row.get("kept_step") and row["kept_step"] < row["train_steps"]]  # fmt: skip
    steps = ", ".join(dict.fromkeys(kept))
    return [f"measured are the weights that were best on the validation split, of step: {steps}"] if kept else []


def about_samples(rows: Sequence[Row], asked: Mapping[str, int]) -> list[str]:
    """The notes below table 2. `asked`: the columns of the metrics that were asked for."""
    notes = ["± standard error over samples", *_about_speeds(rows)]
    if any(units_of(row) == 1 for row in rows):
        notes.append("no ± and no interval where all samples are the same text (temperature 0, the repeater): they are "
                     "one measurement")  # fmt: skip
    if any(row.get("oracle_valid_rate") is not None for row in rows):
        notes.append("valid [95%CI]: Wilson's interval over samples; dist. and div. have no error of their own")
        notes.append("valid: stories that are possible in the world; dist. →1: distinct stories over those of perfect "
                     "samples; div.: total variation of the world's slots from the truth; its floor: that of as many "
                     "perfect samples, ± their standard deviation")  # fmt: skip
    if len({row["samples"] for row in rows if row.get("samples")}) > 1:
        notes.append("dist. 2, dist. and div. depend on the number of samples: compare them only between rows with the "
                     "same number")  # fmt: skip
    if any(row.get("longest_overlap") is not None for row in rows):
        notes.append("copied: the longest run of tokens that a sample shares with a train sequence, averaged; best "
                     "near the data's")  # fmt: skip
    if any(row.get("sampler_nats_per_token") is not None for row in rows):
        notes.append("perplexity: that of test text under the sampler itself at its steps, no judge's: = exact, ≤ a "
                     "bound over its orders, - not known of one that looks at its draws or masks again")  # fmt: skip
    if any(row.get("judge_nats_per_token") is not None for row in rows):
        notes.append("repetitive text has low judge nats too, so look at entropy and dist. 2 (distinct pairs of "
                     "tokens) as well, and compare with the data")  # fmt: skip
    if any(row.get("judge_nats_per_byte") is not None for row in rows):
        notes.append("judge nats: those of the text under the judge's own tokenizer, over our tokens; judge ppl: per "
                     "token of the judge, as papers give it")  # fmt: skip
    if asked:
        notes.append(f"{', '.join(asked)}: of metrics that were asked for (mist-bench ls metrics -v)")
    return notes


def _about_speeds(rows: Sequence[Row]) -> list[str]:
    """What tokens/s and their intervals are."""
    notes = []
    if any(speed_interval(row) for row in rows):
        notes.append("tokens/s: geometric mean of rounds in which all rows took turns, without compilation; the "
                     "interval is for comparing these rows: what slowed all of a round alike is not in it")  # fmt: skip
    have = {row.get("tokens_per_second") is not None for row in rows if row.get("sampler")}
    if have == {True, False}:  # one cell times all rows of a run, so that others would have no speed either
        notes.append("without tokens/s: failed while it was timed (--rerun failed times all rows again)")
    if any(row.get("speed_ratio_to_ar") is not None for row in rows):
        notes.append("speed ÷AR: times as fast as the autoregressive baseline, ± standard error over the same rounds")
    return notes


def about_same_texts(rows: Sequence[Row]) -> list[str]:
    """Which rows of one network have the same texts, token for token: one rule on the same noise under several names.
    With fewer evaluations the same texts are a result, and not named here. Rows of one text alone are left out: nothing
    varies in them."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.get("sampler") and row.get("texts_digest") and units_of(row) != 1:
            names = ("tokenizer", "family", "checkpoint", "nfe", "texts_digest")
            groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    same: dict[str, list[str]] = {}
    for group in groups.values():
        if len(group) > 1:
            names_of_rows, steps = _named(group)
            same.setdefault(names_of_rows, []).extend(steps)
    if not same:
        return []
    listed = [f"{names}, {'/'.join(steps)} steps" if steps else names for names, steps in same.items()]
    return ["these rows have the same texts, token for token, since they are one rule on the same noise; that they "
            f"agree is no evidence: {'; '.join(listed)}"]  # fmt: skip


def _named(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Rows of one network by all in which they differ, `mdlm linear: confidence = top-k`; and their steps, if equal."""
    own = [name for name in ("schedule", "steps", "temperature") if len({row.get(name) for row in rows}) > 1]
    texts = [" ".join(str(row[name]) for name in ("sampler", *own) if row.get(name) is not None) for row in rows]
    model = [str(rows[0][name]) for name in ("family", "schedule") if rows[0].get(name) and name not in own]
    steps = [] if "steps" in own or rows[0].get("steps") is None else [str(rows[0]["steps"])]
    return f"{' '.join(model)}: {' = '.join(texts)}", steps


def about_pairs(rows: Sequence[Row]) -> list[str]:
    """The notes below table 3."""
    notes = [
        "a−b: paired, on the same sequences and masks; ± standard error and p over sequences (documents), for these "
        "networks",
        "better: the lower one where p < 0.05 over sequences and over training seeds; p is not corrected for comparing "
        "many pairs",
    ]
    if all(row["training_seeds"] == 1 for row in rows):
        notes.append("undecided: with one training seed two networks are compared, not two schedules or families; two "
                     "of the same kind would differ too (--training-seed 0,1,2)")  # fmt: skip
    if any(equal_everywhere(row) for row in rows):
        notes.append("the same: equal on every sequence, one network under two names, so that their agreement is no "
                     "evidence")  # fmt: skip
    return notes


def equal_everywhere(row: Row) -> bool:
    """Whether the two models of a pair have the same nats on every sequence."""
    return bool(row["difference"] == 0 and row.get("difference_se") == 0)
