"""Checks of a family: its models are normalised, see only what they may, and learn with every parameter.

Fresh parameters may be zero where training begins at zero, which would hide errors: noise is added to them first.
"""

from __future__ import annotations

from typing import Any, cast, get_args

import numpy as np

from ..api.component import FloatArray, IntArray, UserError
from ..api.families import CONTROLS, CausalModel, Family, LikelihoodKind, MaskedModel, Model, TrainingBatch
from ..engine import compiler
from ..host.registry import NAME, Registry
from .core import Failed, Skipped, Study, check
from .worlds import SIZE, SYMBOLS

LENGTH, BATCH = 4, 8
ROUNDING = 1e-5
SHAKE = 0.2


class FamilyStudy(Study):
    """A family, and one of its models with shaken parameters."""

    component: Family

    @property
    def oracle(self) -> Any:
        """The world of all models here: V = 4 tokens, L = 4."""
        corpus = self.registry.make("corpus", f"markov[symbols={SYMBOLS},length={LENGTH}]")
        return self.once("oracle", corpus.oracle)

    def create(self, seed: int) -> Model:
        """A fresh model. Only a family that declares so is given the truth."""
        compiler.prepare()
        oracle = self.oracle if self.component.needs_oracle else None
        return self.component.create(SIZE, self.oracle.vocab_size, LENGTH, seed, oracle)

    @property
    def model(self) -> Any:
        return self.once("model", self._shaken)

    def _shaken(self) -> Model:
        from ..engine.graph import overwrite

        model, rng = self.create(0), np.random.default_rng(0)
        for tensor in model.parameters.values():
            values = tensor.numpy()
            overwrite(tensor, (values + SHAKE * rng.standard_normal(values.shape)).astype(np.float32))
        return model

    @property
    def masked(self) -> MaskedModel:
        if not isinstance(self.model, MaskedModel):
            raise Skipped("its models are not masked models")
        return self.model

    @property
    def causal(self) -> CausalModel:
        if not isinstance(self.model, CausalModel):
            raise Skipped("its models are not causal models")
        return self.model

    def texts(self) -> IntArray:
        """(B, L), all possible in the world."""
        return np.asarray(self.oracle.sample(BATCH, np.random.default_rng(1)))

    def seen(self) -> IntArray:
        """(B, L) the same with some masked, the first all and the last none."""
        hidden = np.random.default_rng(2).random((BATCH, LENGTH)) < 0.5
        hidden[0], hidden[-1] = True, False
        return np.where(hidden, self.oracle.vocab_size, self.texts())

    def answer(self, tokens: IntArray) -> FloatArray:
        """(B, L) -> (B, L, V) float64 log-probabilities."""
        from tinygrad import Tensor

        given = Tensor(tokens.astype(np.int32))
        if isinstance(self.model, CausalModel):
            found = self.model.log_probabilities(given)
        else:
            found = self.model.log_probabilities(given, Tensor(np.linspace(0.1, 0.9, len(tokens)).astype(np.float32)))
        return np.asarray(found.numpy().astype(np.float64))

    def loss(self, tokens: IntArray, mask_probability: float, rows: slice = slice(None)) -> Any:
        """The training loss of these rows as a tensor. Skips for a family that is not trained."""
        from tinygrad import Tensor

        if not self.component.trained:
            raise Skipped("it is not trained")
        uniform, coin = np.random.default_rng(3).random((len(tokens), LENGTH)), np.arange(len(tokens)) % 2
        tokens, uniform, coin = tokens[rows], uniform[rows], coin[rows]
        many = len(tokens)
        return self.component.loss(self.model, TrainingBatch(
            tokens=Tensor(tokens.astype(np.int32)), uniform=Tensor(uniform.astype(np.float32)),
            coin=Tensor(coin.astype(np.float32) * 0.5 + 0.25),
            t=Tensor(np.full(many, mask_probability, dtype=np.float32)),
            mask_probability=Tensor(np.full(many, mask_probability, dtype=np.float32)),
            weight=Tensor(np.ones(many, dtype=np.float32)),
        ))  # fmt: skip


def study(component: Family, registry: Registry) -> FamilyStudy:
    return FamilyStudy(component, registry)


@check("family")
def facts(its: FamilyStudy) -> None:
    """What it declares about itself fits together."""
    family = its.component
    if family.likelihood_kind not in get_args(LikelihoodKind):
        kinds = ", ".join(map(repr, get_args(LikelihoodKind)))
        raise Failed(f"likelihood_kind is {family.likelihood_kind!r}; it is one of {kinds}")
    if family.judges and family.likelihood_kind != "exact":
        raise Failed(
            f"judges is True and likelihood_kind is {family.likelihood_kind!r}; only an exact likelihood judges: set "
            "judges = False"
        )
    if family.control and not NAME.fullmatch(family.control):
        raise Failed(f"control is {family.control!r}; a name is lower-case letters, digits, - and _")
    if family.control in CONTROLS:
        raise Failed(f"control is {family.control!r}, a control row of every run; give a name of its own")
    if family.trained and family.control:
        raise Failed(f"control is {family.control!r}, and the family is trained; set control = '' or trained = False")
    if family.trained and family.needs_oracle:
        raise Failed("needs_oracle is True, and the family is trained; set needs_oracle = False or trained = False")
    if family.uses_schedule and not family.trained:
        raise Failed("uses_schedule is True, but only training uses the schedule; set uses_schedule = False")


@check("family")
def creates(its: FamilyStudy) -> str:
    """It makes a model of the kind that its likelihood asks for, of the size that it was asked for."""
    try:
        model = its.model
    except UserError as error:
        raise Failed(f"create refuses V = {its.oracle.vocab_size}, L = {LENGTH}: {error}") from error
    wanted = CausalModel if its.component.causal else MaskedModel
    if not isinstance(model, wanted):
        raise Failed(
            f"likelihood_kind is {its.component.likelihood_kind!r}, and create gives {type(model).__name__}, which is "
            f"not a {wanted.__name__}; derive the model from mist_bench.{wanted.__name__}"
        )
    if (model.vocab_size, model.length) != (its.oracle.vocab_size, LENGTH):
        raise Failed(
            f"the model says vocab_size {model.vocab_size} and length {model.length}, asked for "
            f"{its.oracle.vocab_size} and {LENGTH}"
        )
    if its.component.trained and model.parameter_count() < 1:
        raise Failed(
            "the model has no parameters outside the tables; list them in `parameters`, or set trained = False"
        )
    return f"{model.parameter_count()} parameters, {model.embedding_parameters()} in tables"


@check("family")
def same_seed_same_model(its: FamilyStudy) -> None:
    """The same seed gives the same parameters, another seed different ones."""
    first, again, other = ({n: p.numpy() for n, p in its.create(seed).parameters.items()} for seed in (0, 0, 1))
    differs = [n for n in first if not np.array_equal(first[n], again[n])]
    if first.keys() != again.keys() or differs:
        raise Failed(
            f"made twice from one seed, {', '.join(differs) or 'names'} differ; draw every parameter from the seed"
        )
    if first and all(np.array_equal(first[n], other[n]) for n in first):
        raise Failed("another seed gives the same parameters; use the seed")


@check("family")
def normalised(its: FamilyStudy) -> None:
    """Its answers are probabilities of the V tokens, without the mask."""
    tokens = its.texts() if isinstance(its.model, CausalModel) else its.seen()
    found = its.answer(tokens)
    if found.shape != (BATCH, LENGTH, its.oracle.vocab_size):
        raise Failed(
            f"log_probabilities gives shape {found.shape}; give (B, L, V): no column for the mask, whose id is V"
        )
    total = np.exp(found).sum(axis=-1)
    if not np.isfinite(found).all() or np.abs(total - 1).max() > ROUNDING:
        raise Failed(
            f"the probabilities of a position add up to {total.flat[np.abs(total - 1).argmax()]:.6g}; end with "
            "log_softmax(-1)"
        )


@check("family")
def carries_over(its: FamilyStudy) -> None:
    """A masked model gives seen tokens probability 1."""
    _ = its.masked
    seen, vocab = its.seen(), its.oracle.vocab_size
    p, shown = np.exp(its.answer(seen)), seen < vocab
    if (p[shown] != np.eye(vocab)[seen[shown]]).any():
        raise Failed(
            "a seen token is not carried over; (tokens == V).unsqueeze(-1).where(answer, itself), itself 0 and -1e9"
        )


@check("family")
def sees_only_the_past(its: FamilyStudy) -> None:
    """In a causal model, entry i does not depend on token i or later ones."""
    _ = its.causal
    texts = its.texts()
    first = its.answer(texts)
    for i in range(LENGTH):
        changed = texts.copy()
        changed[:, i:] = (changed[:, i:] + 1) % SYMBOLS
        if np.abs(its.answer(changed)[:, : i + 1] - first[:, : i + 1]).max() > ROUNDING:
            raise Failed(
                f"entries up to {i} change with tokens from {i} on; shift the input by one, and mask attention causally"
            )


@check("family")
def cached(its: FamilyStudy) -> None:
    """A causal model gives the same answer one position at a time."""
    from tinygrad import Tensor, UOp

    model, texts = its.causal, its.texts()
    whole, cache = its.answer(texts), model.new_cache(BATCH)
    place, given = UOp.variable("position", 0, LENGTH - 1), Tensor(texts.astype(np.int32)).realize()
    for i in range(LENGTH):
        found = model.next_log_probabilities(given, cast(Any, place.bind(i)), cache).numpy()
        if found.shape != (BATCH, 1, whole.shape[-1]) or np.abs(found[:, 0] - whole[:, i]).max() > 10 * ROUNDING:
            raise Failed(
                f"next_log_probabilities at {i} is not entry {i} of log_probabilities; check the cache and the shift"
            )
    if model.fills_cache:
        filled = model.fill_cache(given, model.new_cache(BATCH)).realize()
        found = model.next_log_probabilities(given, cast(Any, place.bind(LENGTH - 1)), filled).numpy()
        if np.abs(found[:, 0] - whole[:, -1]).max() > 10 * ROUNDING:
            raise Failed(
                "after fill_cache the last entry of next_log_probabilities is not that of log_probabilities; write at "
                "every position what next_log_probabilities writes there, or leave fills_cache False"
            )


@check("family")
def hidden_tokens(its: FamilyStudy) -> None:
    """A masked model learns without seeing the masked tokens.

    With everything hidden the loss is a sum over positions, each of its own token: changing two tokens changes it by
    the sum of what changing each does. A network that was fed the text itself would break that.
    """
    _ = its.masked
    # the same text in every row: one shape for all that is computed here
    base = np.repeat(its.texts()[:1], BATCH, axis=0)
    loss = {}
    for first, last in ((0, 0), (0, 1), (1, 0), (1, 1)):
        text = base.copy()
        text[:, 0] = (text[:, 0] + first) % SYMBOLS
        text[:, -1] = (text[:, -1] + last) % SYMBOLS
        loss[first, last] = float(its.loss(text, 1.0).item())
    joint = loss[1, 1] - loss[0, 1] - loss[1, 0] + loss[0, 0]
    if abs(joint) > 4 * ROUNDING * max(1.0, abs(loss[0, 0])):
        raise Failed(
            f"with everything masked, two hidden tokens act on the loss together (by {joint:.3g} nats): the network "
            "sees them; mask the text before the network reads it"
        )


@check("family")
def mean_over_sequences(its: FamilyStudy) -> None:
    """The loss of a batch is the mean of its halves' losses: it may be read in parts, and by several devices."""
    all_rows_and_halves = slice(None), slice(BATCH // 2), slice(BATCH // 2, BATCH)
    whole, *parts = (float(its.loss(its.texts(), 0.6, rows).item()) for rows in all_rows_and_halves)
    if abs(whole - sum(parts) / 2) > 10 * ROUNDING * max(1.0, abs(whole)):
        raise Failed(
            f"the loss of a batch is {whole:.6g}, the mean of its halves' losses {sum(parts) / 2:.6g}; average over "
            "the sequences, each by itself, and not over what is masked in all of them"
        )


@check("family")
def times_rise(its: FamilyStudy) -> None:
    """The times of its training rise from 0 to 1 with the numbers that they are made of; weights are finite."""
    if not (its.component.trained and its.component.uses_schedule):
        raise Skipped("its training has no times")
    given = (np.arange(BATCH) + 0.5) / BATCH
    t, weight = its.component.times(given, its.registry.make("schedule", "linear"))
    if t.shape != given.shape or weight.shape != given.shape:
        raise Failed(f"times gives shapes {t.shape} and {weight.shape}; give a time and a weight for each number")
    if (t <= 0).any() or (t > 1).any() or (np.diff(t) < 0).any():
        raise Failed(f"times gives {np.round(t, 3).tolist()}; make them by a quantile function, rising from 0 to 1")
    right = np.isfinite(weight) & (weight >= 0)
    if not right.all():
        raise Failed(f"times gives the weight {weight[~right][0]:g}; weights are finite and at least 0")


@check("family")
def learns(its: FamilyStudy) -> None:
    """The loss is finite, and its gradient reaches every parameter."""
    from tinygrad.helpers import Context

    model = its.model
    with Context(TRAINING=1):  # type: ignore[no-untyped-call]
        loss = its.loss(its.texts(), 0.6)
        if tuple(loss.shape) != ():
            raise Failed(
                f"the loss has shape {tuple(loss.shape)}; give a scalar: nats per token, averaged over the batch"
            )
        names = sorted(model.parameters)
        gradients = loss.gradient(*(model.parameters[name] for name in names))
    if not np.isfinite(loss.numpy()):
        raise Failed(f"the loss is {loss.item()}; look for the log of 0")
    for name, gradient in zip(names, gradients, strict=True):
        values = gradient.numpy()
        if not np.isfinite(values).all() or not values.any():
            what = "0 everywhere" if np.isfinite(values).all() else "not finite"
            raise Failed(
                f"the gradient of parameter {name!r} is {what}; it is cut off from the loss (detach?), or not used"
            )
