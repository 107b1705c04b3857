"""Tiny families: two are right, each of the rest breaks one promise."""

from __future__ import annotations

from itertools import count

import numpy as np
from tinygrad import Tensor

from mist_bench import CausalModel, Family, MaskedModel, UserError

KIND = "family"


class Pairs(CausalModel):
    """p(x_i | x_i-1) from a table."""

    def __init__(self, vocab_size, length, seed):
        self.vocab_size, self.length = vocab_size, length
        values = np.random.default_rng(seed).standard_normal((vocab_size + 1, vocab_size)).astype(np.float32)
        self.parameters = {"table": Tensor(values).realize()}

    def before(self, tokens):
        return tokens[:, :-1].pad(((0, 0), (1, 0)), value=self.vocab_size)

    def log_probabilities(self, tokens):
        chosen = self.before(tokens).unsqueeze(-1) == tokens.arange(self.vocab_size + 1)
        return (chosen.float() @ self.parameters["table"]).log_softmax(-1)

    def new_cache(self, batch):
        return Tensor.zeros(batch).contiguous().realize()

    def next_log_probabilities(self, tokens, position, cache):
        begun = tokens.pad(((0, 0), (1, 0)), value=self.vocab_size).contiguous()[:, position : position + 1]
        chosen = begun.unsqueeze(-1) == tokens.arange(self.vocab_size + 1)
        return (chosen.float() @ self.parameters["table"]).log_softmax(-1)


class Bag(MaskedModel):
    """p(x_i | which tokens are seen anywhere)."""

    def __init__(self, vocab_size, length, seed):
        self.vocab_size, self.length = vocab_size, length
        rng = np.random.default_rng(seed)
        shapes = {"tokens": (vocab_size + 1, vocab_size), "places": (length, vocab_size)}
        made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        self.parameters = {name: Tensor(values).realize() for name, values in made.items()}

    def free(self, tokens):
        seen = (tokens.unsqueeze(-1) == tokens.arange(self.vocab_size + 1)).float().mean(axis=1)
        return ((seen @ self.parameters["tokens"]).unsqueeze(1) + self.parameters["places"]).log_softmax(-1)

    def log_probabilities(self, tokens, t, previous=None):
        itself = (tokens.unsqueeze(-1) == tokens.arange(self.vocab_size)).where(0.0, -1e9)
        return (tokens == self.vocab_size).unsqueeze(-1).where(self.free(tokens), itself)


class Causal(Family):
    name = "bad"
    likelihood_kind = "exact"
    model = Pairs

    def create(self, size, vocab_size, length, seed, oracle):
        return self.model(vocab_size, length, seed)

    def loss(self, model, batch):
        itself = batch.tokens.unsqueeze(-1) == batch.tokens.arange(model.vocab_size)
        return -itself.where(model.log_probabilities(batch.tokens), 0.0).sum(axis=-1).mean()


class Masked(Causal):
    likelihood_kind = "bound"
    uses_schedule = True
    model = Bag

    def seen(self, model, batch):
        return (batch.uniform < batch.mask_probability.reshape(-1, 1)).where(model.vocab_size, batch.tokens)

    def loss(self, model, batch):
        seen = self.seen(model, batch)
        itself = batch.tokens.unsqueeze(-1) == batch.tokens.arange(model.vocab_size)
        cost = -itself.where(model.free(seen), 0.0).sum(axis=-1)
        per_text = (seen == model.vocab_size).where(cost, 0.0).sum(axis=-1) * batch.weight
        return per_text.mean() / model.length


class Uniform(Family):
    """Untrained and no oracle: every token has the same probability."""

    name = "uniform"
    likelihood_kind = "bound"
    trained = False
    control = "uniform"

    def create(self, size, vocab_size, length, seed, oracle):
        assert oracle is None
        return Flat(vocab_size, length, seed)


class Flat(Bag):
    def __init__(self, vocab_size, length, seed):
        self.vocab_size, self.length, self.parameters = vocab_size, length, {}

    def free(self, tokens):
        return Tensor.full((*tokens.shape, self.vocab_size), -float(np.log(self.vocab_size)))


class JudgesByABound(Masked):
    judges = True


class ControlInCapitals(Uniform):
    control = "The floor"


class TrainedControl(Masked):
    control = "floor"


class TrainedOracle(Masked):
    needs_oracle = True


class OfNoKind(Masked):
    likelihood_kind = "guess"


class ScheduleForNothing(Uniform):
    uses_schedule = True


class RefusesToBeMade(Masked):
    def create(self, size, vocab_size, length, seed, oracle):
        raise UserError("at least 7 layers")


class SaysExact(Masked):
    likelihood_kind = "exact"


class OfAnotherLength(Masked):
    def create(self, size, vocab_size, length, seed, oracle):
        return Bag(vocab_size, length + 1, seed)


class WithoutParameters(Masked):
    def create(self, size, vocab_size, length, seed, oracle):
        model = super().create(size, vocab_size, length, seed, oracle)
        model.parameters = {}
        return model


class AnotherOneEachTime(Masked):
    seeds = count()

    def create(self, size, vocab_size, length, seed, oracle):
        return super().create(size, vocab_size, length, next(self.seeds), oracle)


class IgnoresTheSeed(Masked):
    def create(self, size, vocab_size, length, seed, oracle):
        return super().create(size, vocab_size, length, 0, oracle)


class Logits(Bag):
    def free(self, tokens):
        return super().free(tokens) + 0.5


class WithTheMask(Bag):
    def log_probabilities(self, tokens, t, previous=None):
        return super().log_probabilities(tokens, t).pad(((0, 0), (0, 0), (0, 1)), value=-1e9)


class CarriesNothingOver(Bag):
    def log_probabilities(self, tokens, t, previous=None):
        return self.free(tokens)


class SeesItself(Pairs):
    def before(self, tokens):
        return tokens


class CachesThePlaceBefore(Pairs):
    def next_log_probabilities(self, tokens, position, cache):
        return super().next_log_probabilities(tokens * 0, position, cache)


class FillsAnotherCache(Pairs):
    fills_cache = True

    def fill_cache(self, tokens, cache):
        return cache.assign(cache + 1)

    def next_log_probabilities(self, tokens, position, cache):
        return super().next_log_probabilities(tokens, position, cache) + cache.sum()


class ReadsTheText(Masked):
    def seen(self, model, batch):
        return batch.tokens

    def loss(self, model, batch):
        itself = batch.tokens.unsqueeze(-1) == batch.tokens.arange(model.vocab_size)
        return -itself.where(model.free(batch.tokens), 0.0).sum(axis=-1).mean()


class Detaches(Masked):
    def loss(self, model, batch):
        return super().loss(model, batch).detach()


class OverWhatIsMasked(Masked):
    def loss(self, model, batch):
        return super().loss(model, batch) / (self.seen(model, batch) == model.vocab_size).float().mean()


class OneEach(Masked):
    def loss(self, model, batch):
        return super().loss(model, batch).reshape(1)


class NotFinite(Masked):
    def loss(self, model, batch):
        return super().loss(model, batch) * float("inf")


class Unused(Masked):
    def create(self, size, vocab_size, length, seed, oracle):
        model = super().create(size, vocab_size, length, seed, oracle)
        model.parameters["more"] = Tensor(np.ones(3, dtype=np.float32) * (1 + seed)).realize()
        return model


class CutOff(Masked):
    def loss(self, model, batch):
        return super().loss(model, batch) + (model.parameters["places"] * 0).sum()

    class model(Bag):  # noqa: N801
        def free(self, tokens):
            seen = (tokens.unsqueeze(-1) == tokens.arange(self.vocab_size + 1)).float().mean(axis=1)
            return (seen @ self.parameters["tokens"]).unsqueeze(1).expand(-1, self.length, -1).log_softmax(-1)


class OneTimeOnly(Masked):
    def times(self, uniform, schedule):
        return uniform[:1], schedule.weight(uniform)


class TimesThatFall(Masked):
    def times(self, uniform, schedule):
        return 1 - uniform, schedule.weight(1 - uniform)


class WeighsLess(Masked):
    def times(self, uniform, schedule):
        return uniform, 0.25 - uniform


def of(family: type[Family], model: type) -> type[Family]:
    return type(model.__name__, (family,), {"model": model})


BAD = [
    (JudgesByABound, "facts", "judges is True and likelihood_kind is 'bound'; only an exact likelihood judges"),
    (ControlInCapitals, "facts", "control is 'The floor'; a name is lower-case letters"),
    (TrainedControl, "facts", "control is 'floor', and the family is trained"),
    (TrainedOracle, "facts", "needs_oracle is True, and the family is trained"),
    (OfNoKind, "facts", "likelihood_kind is 'guess'; it is one of 'bound', 'exact', 'chain-rule'"),
    (ScheduleForNothing, "facts", "uses_schedule is True, but only training uses the schedule"),
    (RefusesToBeMade, "creates", "create refuses V = 4, L = 4: at least 7 layers"),
    (SaysExact, "creates", "likelihood_kind is 'exact', and create gives Bag, which is not a CausalModel"),
    (OfAnotherLength, "creates", "the model says vocab_size 4 and length 5, asked for 4 and 4"),
    (WithoutParameters, "creates", "no parameters outside the tables; list them in `parameters`"),
    (AnotherOneEachTime, "same-seed-same-model", "made twice from one seed, tokens, places differ"),
    (IgnoresTheSeed, "same-seed-same-model", "another seed gives the same parameters; use the seed"),
    (of(Masked, Logits), "normalised", r"add up to 1.648\d+; end with log_softmax\(-1\)"),
    (of(Masked, WithTheMask), "normalised", r"gives shape \(8, 4, 5\); give \(B, L, V\): no column for the mask"),
    (of(Masked, CarriesNothingOver), "carries-over", "a seen token is not carried over"),
    (of(Causal, SeesItself), "sees-only-the-past", "entries up to 0 change with tokens from 0 on; shift the input by one"),
    (of(Causal, CachesThePlaceBefore), "cached", "next_log_probabilities at 1 is not entry 1"),
    (of(Causal, FillsAnotherCache), "cached", "after fill_cache the last entry of next_log_probabilities"),
    (ReadsTheText, "hidden-tokens", "two hidden tokens act on the loss together .* mask the text before"),
    (OverWhatIsMasked, "mean-over-sequences", "average over the sequences, each by itself, and not over what is masked"),
    (OneTimeOnly, "times-rise", r"shapes \(1,\) and \(8,\); give a time and a weight for each number"),
    (TimesThatFall, "times-rise", r"times gives \[0.938, .*; make them by a quantile function"),
    (WeighsLess, "times-rise", "times gives the weight -0.0625; weights are finite and at least 0"),
    (Detaches, "learns", r"the gradient of parameter 'places' is 0 everywhere; it is cut off from the loss \(detach\?\)"),
    (OneEach, "learns", r"the loss has shape \(1,\); give a scalar"),
    (NotFinite, "learns", "the loss is (inf|nan); look for the log of 0"),
    (Unused, "learns", "the gradient of parameter 'more' is 0 everywhere; .* or not used"),
    (CutOff, "learns", "the gradient of parameter 'places' is 0 everywhere"),
]
FINE = [
    *((Masked, name, "ok", "") for name in ("creates", "normalised", "carries-over", "hidden-tokens", "mean-over-sequences", "times-rise", "learns")),
    (Causal, "times-rise", "skipped", "its training has no times"),
    *((Causal, name, "ok", "") for name in ("creates", "normalised", "sees-only-the-past", "cached", "learns")),
    (Causal, "hidden-tokens", "skipped", "its models are not masked models"),
    *((Uniform, name, "ok", "") for name in ("facts", "creates", "same-seed-same-model", "normalised", "carries-over")),
    *((Uniform, name, "skipped", "it is not trained") for name in ("hidden-tokens", "mean-over-sequences", "learns")),
]
