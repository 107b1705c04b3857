"""Small corpora that each break one promise, with the check that must fail."""

from __future__ import annotations

from itertools import count

import numpy as np
from mist_bench_plugins.corpus_markov import MarkovCorpus, MarkovOracle, world

from mist_bench import Corpus, Texts, UserError

KIND = "corpus"
PLAIN = Texts(train=["one", "two", "three"], validation=["four"], test=["five"])


class Plain(Corpus):
    name = "bad"

    def load(self, cache):
        return PLAIN


def with_texts(name: str, **splits) -> type[Corpus]:
    texts = Texts(**{**vars(PLAIN), **splits})
    return type(name, (Plain,), {"load": lambda self, cache: texts})


class AnotherOneEachTime(Plain):
    loads = count()

    def load(self, cache):
        return Texts(train=[f"text {next(self.loads)}"], validation=["a"], test=["b"])


class LosesTextForLongSequences(Plain):
    def load_for(self, cache, length):
        return Texts(train=["one two"], validation=["four"], test=["five"])


class OffLine(Plain):
    def load(self, cache):
        raise UserError("cannot download 'it': no network; run once with a network")


class IdentityOfSets(Plain):
    def identity(self):
        return {**self.content(), "files": {"a"}}


class IdentityOfTheTime(Plain):
    times = count()

    def identity(self):
        return {**self.content(), "when": next(self.times)}


class IdentityWithoutName(Plain):
    def identity(self):
        return {"sha256": ""}


class PiecesMissing(Plain):
    def vocabulary(self):
        return ["one", "two"]


class OracleWithoutPieces(MarkovCorpus):
    def vocabulary(self):
        return None


class PiecesInAnotherNumber(MarkovCorpus):
    def vocabulary(self):
        return tuple("abcd")


class LengthUnsaid(MarkovCorpus):
    def fixed_length(self):
        return 5


class NeverSaysTheFirstLetter(MarkovOracle):
    def log_probability(self, tokens):
        return np.where((tokens == 0).any(axis=1), -np.inf, super().log_probability(tokens))


class WrongEntropy(MarkovOracle):
    def entropy(self):
        return 1.1 * super().entropy()


class AlmostTheEntropy(MarkovOracle):
    def entropy(self):
        return super().entropy() + 1e-6


class SamplesTheEndToken(MarkovOracle):
    def sample(self, count, rng):
        return super().sample(count, rng) + 2


class NotNormalised(MarkovOracle):
    def log_posterior(self, tokens):
        return super().log_posterior(tokens) + 0.001


class ForgetsWhatIsSeen(MarkovOracle):
    def log_posterior(self, tokens):
        return super().log_posterior(tokens.full_like(self.vocab_size))


class LooksAtTheLeftOnly(MarkovOracle):
    """Exact from left to right, and in no other order."""

    def log_posterior(self, tokens):
        mask, place = self.vocab_size, tokens.arange(self.length).reshape(1, 1, -1)
        before = place <= place.reshape(1, -1, 1)
        rows = before.where(tokens.unsqueeze(1), mask).reshape(-1, self.length)
        every = super().log_posterior(rows).reshape(-1, self.length, self.length, mask)
        own = (place == place.reshape(1, -1, 1)).unsqueeze(-1)
        return own.where(every, 0.0).sum(axis=2)


class ProbabilitiesTooSmall(MarkovOracle):
    def log_probability(self, tokens):
        return super().log_probability(tokens) - 1e-6


class CallsTextsInvalid(MarkovOracle):
    def slots(self, tokens):
        found, truth = super().slots(tokens)
        return np.where(found % 2, -1, found), truth


class TruthIsNoLaw(MarkovOracle):
    def slots(self, tokens):
        found, truth = super().slots(tokens)
        return found, truth * 0.9


def of(oracle: type[MarkovOracle]) -> type[Corpus]:
    true = world(3, 4, 1.2)
    return type(oracle.__name__, (MarkovCorpus,), {"oracle": lambda self: oracle(true.initial, true.transition, 4)})


BAD = [
    (with_texts("Empty", test=[]), "splits", "the test split is empty; hold some documents out"),
    (with_texts("Blank", test=["", ""]), "splits", "every document of the test split is empty"),
    (with_texts("OfBytes", validation=[b"four"]), "splits", r"validation\[0\] is bytes; documents are str"),
    (with_texts("Broken", train=["a\ud83d"]), "splits", r"train\[0\]: character 1 .* lone surrogate U\+D83D"),
    (LosesTextForLongSequences, "same-text-for-lengths", "gives 4 words where load.cache. gives 5, or others; cut"),
    (AnotherOneEachTime, "loads-the-same-again", "loaded again, the train split differs; .*a fixed seed"),
    (with_texts("HeldIn", test=["one", "two"]), "overlap", "2 of 2 documents of the test split are in the train split"),
    (IdentityOfSets, "identity", r"identity\(\) is not JSON \(Object of type set"),
    (IdentityOfTheTime, "identity", "differs from call to call; .*no times"),
    (IdentityWithoutName, "identity", r"does not hold the name; begin with self.content\(\)"),
    (PiecesMissing, "vocabulary", r"a document is not made of the pieces of vocabulary\(\): piece 't'"),
    (OracleWithoutPieces, "vocabulary", r"it has an oracle and no vocabulary\(\)"),
    (PiecesInAnotherNumber, "vocabulary", r"the oracle has 4 tokens, vocabulary\(\) 4; it has one more, the end token"),
    (LengthUnsaid, "vocabulary", r"fixed_length\(\) is 5, the oracle's length 4; give the latter"),
    (of(NeverSaysTheFirstLetter), "vocabulary", r"\d+ of 256 test documents have probability 0 under the oracle"),
    (of(NeverSaysTheFirstLetter), "oracle-samples", "log_probability of a sample is not finite; .* one law"),
    (of(WrongEntropy), "oracle-samples", r"the entropy is \S+ nats, but samples cost \S+ ± \S+; fix entropy"),
    (of(SamplesTheEndToken), "oracle-samples", r"ids up to 4; give \(N, L\) ids below vocab_size"),
    (of(NotNormalised), "posterior-normalised", "the posterior of a position sums to 1.001; normalise it"),
    (of(ForgetsWhatIsSeen), "posterior-normalised", "a seen token is not carried over; give it log-probability 0"),
    (of(ForgetsWhatIsSeen), "posterior-chain", r"add up to \S+ nats, its log_probability is \S+; fix log_posterior"),
    (of(LooksAtTheLeftOnly), "posterior-chain", "revealed one by one, add up to"),
    (of(LooksAtTheLeftOnly), "posterior-enumerated", r"a posterior is off by \S+ from counting all texts"),
    (of(AlmostTheEntropy), "posterior-enumerated", r"entropy\(\) is \S+, counted it is"),
    (of(ProbabilitiesTooSmall), "posterior-enumerated", "the probabilities of all texts add up to 0.999999"),
    (of(CallsTextsInvalid), "slots", r"calls a sample of the oracle invalid \(-1\)"),
    (of(TruthIsNoLaw), "slots", r"the truth of slots\(\) sums to 0.9; it is a law"),
]
FINE = [
    (OffLine, "splits", "skipped", "cannot be loaded here: cannot download"),
    (Plain, "splits", "ok", "^3 train, 1 validation, 1 test$"),
    (Plain, "slots", "skipped", "^it has no oracle$"),
    (of(LooksAtTheLeftOnly), "posterior-normalised", "ok", "^$"),
]
