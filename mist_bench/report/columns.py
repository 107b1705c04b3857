"""The columns of the files of a run: name, type, unit, what is better, and meaning."""

from __future__ import annotations

import dataclasses
from typing import Literal

Better = Literal["", "lower", "higher", "one", "data"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a file. `better`: "one" is best at 1, "data" is best at the value of the held-out data."""

    name: str
    type: Literal["text", "int", "float"]
    unit: str
    better: Better
    meaning: str


def _columns(table: str) -> tuple[Column, ...]:
    found = []
    for line in filter(None, table.splitlines()):
        name, type_, unit, better, meaning = (cell.strip() for cell in line.split("|"))
        found.append(Column(name=name, type=type_, unit=unit, better=better, meaning=meaning))  # type: ignore[arg-type]
    return tuple(found)


_WHICH_MODEL = """
corpus        | text | | | the corpus, with its parameters
tokenizer     | text | | | the tokenizer, with its parameters
family        | text | | | the model family, with its parameters
schedule      | text | | | the schedule it was trained under; empty for families that have none
training_seed | int  | | | seed of the weights at the start and of the order of the data
checkpoint    | text | | | hash of the training cell
"""
TRAINING = _columns(
    _WHICH_MODEL
    + """
parameters              | int   | numbers  |        | trained numbers outside the token and position tables
embedding_parameters    | int   | numbers  |        | trained numbers inside those tables
train_steps             | int   | steps    |        | optimiser steps
train_tokens            | int   | tokens   |        | tokens seen: steps x batch x length
final_loss              | float | nats     | lower  | training loss per token at the end
tokens_per_second       | float | tokens/s | higher | without compilation; on a CPU trainings run side by side
model_flops_utilization | float | 1        | higher | work of all positions over the peak that the device's maker states
compile_seconds         | float | s        | lower  | time of the calls that capture the graphs
wall_seconds            | float | s        | lower  | time of the whole cell
peak_memory_bytes       | int   | bytes    | lower  | all that its captured graphs read and write, parameters too
micro_batch             | int   | numbers  |        | sequences that were read at once; the whole batch if it fits
devices                 | int   | numbers  |        | devices that shared each step
"""
)
LIKELIHOOD = _columns(
    _WHICH_MODEL
    + """
parameters          | int   | numbers |       | trained numbers outside the token and position tables
train_tokens        | int   | tokens  |       | tokens seen in training
kind                | text  |         |       | bound, exact or chain-rule: three different things
estimator           | text  |         |       | exact-k, weighted or chain-rule
evaluation_schedule | text  |         |       | the schedule whose weight is used; empty if the estimator needs none
nats_per_token      | float | nats    | lower | negative log-likelihood of the test split, or its upper bound, per token
nats_per_token_se   | float | nats    | lower | its standard error over sequences
bits_per_byte       | float | bits    | lower | the same per byte of raw UTF-8: compares across tokenizers
bits_per_byte_se    | float | bits    | lower | its standard error over sequences
perplexity          | float | 1       | lower | exp(nats_per_token): an upper bound where kind is bound
perplexity_low      | float | 1       | lower | exp(nats_per_token - 1.96 SE)
perplexity_high     | float | 1       | lower | exp(nats_per_token + 1.96 SE)
sequences           | int   | numbers |       | test sequences measured, the same for every model
mask_draws          | int   | numbers |       | maskings drawn for each sequence, the same for every model
"""
)
GENERATION = _columns(
    _WHICH_MODEL
    + """
sampler                 | text  |          |        | the sampler, with its parameters
steps                   | int   | steps    | lower  | denoising steps asked for; empty if the sampler ignores them
temperature             | float | 1        |        | of the proposal; 1 is the model's own law
seed                    | int   |          |        | seed of the noise of the sampler
batch                   | int   | numbers  |        | sequences generated at once, the same for all when timing
samples                 | int   | numbers  |        | sequences generated and judged
control                 | text  |          |        | data, unigram, repeater or oracle: no trained model
nfe                     | float | numbers  | lower  | network evaluations for a sequence, median
nfe_iqr                 | float | numbers  |        | interquartile range of the same over sequences
tokens_per_second       | float | tokens/s | higher | median over timed rounds, synchronised, compilation apart
tokens_per_second_iqr   | float | tokens/s | lower  | interquartile range over the rounds
seconds_per_batch       | float | s        | lower  | median time of one batch
compile_seconds         | float | s        | lower  | time of the calls that capture the graphs
peak_memory_bytes       | int   | bytes    | lower  | all that its captured graphs read and write, parameters too
judge                   | text  |          |        | who judges: a baseline of another training seed, or hf:NAME
judge_nats_per_token    | float | nats     | data   | negative log-likelihood of the samples under the judge, per token
judge_nats_per_token_se | float | nats     | lower  | its standard error over samples
token_entropy           | float | nats     | data   | entropy of the unigram distribution within a sample, averaged
token_entropy_se        | float | nats     | lower  | its standard error over samples
distinct_2              | float | 1        | data   | distinct pairs of neighbouring tokens over all such pairs
longest_overlap         | float | tokens   | data   | longest run that a sample shares with a train sequence, averaged
oracle_valid_rate       | float | 1        | higher | share of the samples that the world could have said
oracle_valid_rate_se    | float | 1        | lower  | its standard error over samples; shown is Wilson's interval
oracle_distinct_ratio   | float | 1        | one    | distinct stories over those expected of perfect samples
oracle_divergence       | float | 1        | lower  | total variation of the world's slots from the truth
oracle_divergence_floor | float | 1        |        | what perfect samples of the same number would give
law_distance            | float | 1        | lower  | exact total variation of the sampler's law from the truth
prompt                  | int   | tokens   |        | tokens of each sample that were given, those of a test sequence
"""
)
CURVES = _columns(
    """
checkpoint                | text  |        |       | hash of the training cell
corpus                    | text  |        |       | the corpus, with its parameters
family                    | text  |        |       | the model family, with its parameters
schedule                  | text  |        |       | the schedule it is trained under
training_seed             | int   |        |       | seed of the weights at the start and of the order of the data
train_step                | int   | steps  |       | optimiser steps done
train_tokens              | int   | tokens |       | tokens seen so far
seconds                   | float | s      |       | time of training so far, validation apart
loss                      | float | nats   | lower | training loss per token, mean since the row before
validation_nats_per_token | float | nats   | lower | likelihood or bound of the validation split per token
"""
)
COMPARISONS = _columns(
    """
corpus              | text  |         |       | the corpus, with its parameters
tokenizer           | text  |         |       | the tokenizer, with its parameters
kind                | text  |         |       | bound, exact or chain-rule, the same for both models
estimator           | text  |         |       | exact-k, weighted or chain-rule, the same for both models
evaluation_schedule | text  |         |       | the schedule whose weight is used; empty if the estimator needs none
family_a            | text  |         |       | the first model's family
schedule_a          | text  |         |       | the schedule that it was trained under
family_b            | text  |         |       | the second model's family
schedule_b          | text  |         |       | the schedule that it was trained under
training_seed       | int   |         |       | of both networks; empty: the mean over training seeds
training_seeds      | int   | numbers |       | training seeds in the row, those that both models have
sequences           | int   | numbers |       | test sequences that both were measured on
clusters            | int   | numbers |       | independent units among them: sequences, or chapters
difference          | float | nats    |       | nats per token, the first minus the second: below 0, the first is better
difference_se       | float | nats    | lower | its standard error over clusters, sequence by sequence
difference_low      | float | nats    |       | lower end of its 95 % interval (Student's t)
difference_high     | float | nats    |       | upper end of its 95 % interval
z                   | float | 1       |       | difference over difference_se
p_value             | float | 1       |       | two-sided: these networks do not differ on new text
difference_seed_se  | float | nats    | lower | standard error over training seeds; empty for one seed
seed_p_value        | float | 1       |       | two-sided: networks of other training seeds do not differ on this text
"""
)
TRAINING_COLUMNS = tuple(column.name for column in TRAINING)
LIKELIHOOD_COLUMNS = tuple(column.name for column in LIKELIHOOD)
GENERATION_COLUMNS = tuple(column.name for column in GENERATION)
CURVE_COLUMNS = tuple(column.name for column in CURVES)
COMPARISON_COLUMNS = tuple(column.name for column in COMPARISONS)
METRIC_COLUMNS = "metric_columns"
"""A column more of generation.csv: which columns come from metrics, joined by `; `."""
VALIDATION_TRUTH = "validation_truth_nats_per_token"
"""A column more of curves.csv: the validation sequences under their own world, where it is known."""
