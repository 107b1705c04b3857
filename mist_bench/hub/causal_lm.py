"""Causal language model of transformers: scores texts in nats, and represents them as vectors. Needs the extra `hf`.

It computes in float32, on a GPU if torch has one. The score of a text is

    sum over i of  -log p(x_i | c, x_1, ..., x_{i-1})

with x the text's tokens under the model's own tokenizer and c its beginning-of-text token, or its end-of-text token if
it has no other (GPT-2). c is an input and is not scored. If the tokenizer has neither, the first token is not scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..api.component import FloatArray, IntArray, UserError

LARGEST_CONTEXT = 2048
"""Largest number of tokens in a window, whatever the model's own limit."""
BATCH_TOKENS = 2048
"""Tokens scored at once: their logits over 50 thousand words take 0.4 GB."""
Window = tuple[int, int, int]
"""(start, first scored, end) positions in a sequence of tokens."""


class LanguageModel:
    """A causal network with its tokenizer. `context`: the largest number of tokens it reads at once, at least 2."""

    def __init__(self, network: Any, tokenizer: Any, context: int, title: str = "the model") -> None:
        self.network, self.tokenizer, self.context, self.title = network, tokenizer, context, title
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.beginning: list[int] = [] if first is None else [int(first)]

    def score(
        self, texts: Sequence[str], report: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[FloatArray, IntArray]:
        """(N,) nats of each whole text, and (N,) number of scored tokens; both are 0 for an empty text.

        A text longer than the context is scored in windows that overlap by half a context, so that each token is
        scored once, with at least half a context before it. Raises `UserError` if the tokenizer has no token for a
        part of a text.
        """
        sequences = [self.beginning + self._tokens(text) for text in texts]
        jobs = [(n, window) for n, ids in enumerate(sequences) for window in windows(len(ids), self.context)]
        jobs.sort(key=lambda job: (job[1][2] - job[1][0], job))  # a batch has texts of similar length
        nats = np.zeros(len(texts))
        done = 0
        for batch in _batches(jobs):
            parts = [sequences[n][start:end] for n, (start, _, end) in batch]
            values = self._nats(parts)
            for (n, (start, scored, _)), row, part in zip(batch, values, parts, strict=True):
                nats[n] += row[scored - start - 1 : len(part) - 1].sum()
            done += len(batch)
            report(done, len(jobs))
        return nats, np.array([max(0, len(ids) - 1) for ids in sequences])

    def features(self, texts: Sequence[str], longest: int) -> FloatArray:
        """(N, D) vector of each text: the last layer's state at its last token, or at its token number `longest` if it
        has more.

        The tokenizer adds its special tokens, as it does by default. An empty text has the state of its beginning.
        """
        longest = min(longest, self.context)
        sequences = [self._tokens(text, special=True)[:longest] or self.beginning or [0] for text in texts]
        order = sorted(range(len(texts)), key=lambda n: len(sequences[n]))
        vectors: dict[int, FloatArray] = {}
        for batch in _batches([(n, (0, 0, len(sequences[n]))) for n in order]):
            states = self._run([sequences[n] for n, _ in batch], output_hidden_states=True).hidden_states[-1]
            for row, (n, _) in enumerate(batch):
                vectors[n] = states[row, len(sequences[n]) - 1].double().cpu().numpy()
        return np.stack([vectors[n] for n in range(len(texts))])

    def _tokens(self, text: str, *, special: bool = False) -> list[int]:
        # lone surrogates are not valid UTF-8; a literal <|endoftext|> is text, not an end of text
        clean = text.encode("utf-8", "replace").decode("utf-8")
        options = {"add_special_tokens": special, "split_special_tokens": True, "verbose": False}
        ids = [int(i) for i in self.tokenizer(clean, **options)["input_ids"]]
        unknown = self.tokenizer.unk_token_id
        if unknown in ids and unknown not in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            raise UserError(
                f"{self.title} has no token for part of a text, which would be scored as if it were not there; "
                "use a model whose tokenizer knows every byte, such as gpt2"
            )
        return ids

    def _run(self, parts: Sequence[Sequence[int]], **options: Any) -> Any:
        """The network's output for a batch, padded on the right, which a causal network does not read."""
        import torch

        longest = max(map(len, parts))
        ids = torch.zeros((len(parts), longest), dtype=torch.long)
        seen = torch.zeros_like(ids)
        for row, part in enumerate(parts):
            ids[row, : len(part)], seen[row, : len(part)] = torch.tensor(part), 1
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            return self.network(input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False, **options)

    def _nats(self, parts: Sequence[Sequence[int]]) -> FloatArray:
        """(B, longest - 1) nats of each token after the first, given those before it; arbitrary values at padding."""
        import torch

        logits = self._run(parts).logits[:, :-1]
        targets = torch.zeros(logits.shape[:2], dtype=torch.long)
        for row, part in enumerate(parts):
            targets[row, : len(part) - 1] = torch.tensor(part[1:])
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets.to(logits.device), reduction="none")
        return np.asarray(nats.double().cpu().numpy())


def windows(count: int, context: int) -> Iterator[Window]:
    """The windows over `count` tokens, which score each token after the first once.

    Each window after the first begins with half a context of tokens that are already scored.
    """
    if count < 2:
        return
    end = min(count, context)
    yield 0, 1, end
    while end < count:
        start = end - context // 2
        scored, end = end, min(count, start + context)
        yield start, scored, end


def _batches(jobs: Sequence[tuple[int, Window]]) -> Iterator[list[tuple[int, Window]]]:
    """Batches of consecutive jobs, each of at most `BATCH_TOKENS` tokens with padding, or of one job. Jobs must be
    sorted by length."""
    batch: list[tuple[int, Window]] = []
    for job in jobs:
        start, _, end = job[1]
        if batch and (len(batch) + 1) * (end - start) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def load_language_model(source: str, revision: str | None, title: str) -> LanguageModel:
    """The model of a folder, or of the Hub at a `revision`; messages call it `title`.

    Raises `UserError` if it cannot be loaded or is not complete.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()  # missing weights, its usual warning, are checked below
    transformers.utils.logging.disable_progress_bar()
    pinned = {} if revision is None else {"revision": revision}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **pinned)
        network, info = transformers.AutoModelForCausalLM.from_pretrained(
            source, output_loading_info=True, **pinned
        )
    except Exception as error:  # transformers raises many types; the first line of the message names the reason
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot load {title}: {reason}") from error
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{title} is not a complete causal language model: it lacks {missing[0]}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.float().eval().to(device)
    most = getattr(network.config.get_text_config(), "max_position_embeddings", None) or LARGEST_CONTEXT
    return LanguageModel(network, tokenizer, min(int(most), LARGEST_CONTEXT), title)
