"""A causal language model of transformers: nats of texts, and what it says of a text as a vector. Needs the extra `hf`.

Always in float32, on a GPU if torch has one. A text is scored as

    sum over i of  -log p(x_i | c, x_1, ..., x_{i-1})

with x the text's tokens under the model's own tokenizer and c its beginning-of-text token, or its end-of-text token if
it has no other (GPT-2's), which is seen and not scored. A tokenizer with neither leaves the first token unscored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..api.component import FloatArray, IntArray, UserError

LARGEST_CONTEXT = 2048
"""Tokens of a window, where the model has no limit or a larger one."""
BATCH_TOKENS = 2048
"""Tokens scored at once: the logits of so many over 50 thousand words are 0.4 GB."""
Report = Callable[[int, int], None]
Window = tuple[int, int, int]


class LanguageModel:
    """A network with its tokenizer. `context`: the most tokens that it sees at once, at least 2."""

    def __init__(self, network: Any, tokenizer: Any, context: int, title: str = "the model") -> None:
        self.network, self.tokenizer, self.context, self.title = network, tokenizer, context, title
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self.beginning: list[int] = [] if first is None else [int(first)]

    def score(self, texts: Sequence[str], report: Report = lambda done, total: None) -> tuple[FloatArray, IntArray]:
        """(N,) nats of each whole text, and (N,) how many tokens were scored; an empty text has 0 of both.

        A text beyond the context is scored in windows that overlap by half a context: each token once, after at
        least half a context. Raises `UserError` for a tokenizer without a token for part of a text.
        """
        sequences = [self.beginning + self._tokens(text) for text in texts]
        jobs = [(n, window) for n, ids in enumerate(sequences) for window in windows(len(ids), self.context)]
        jobs.sort(key=lambda job: (job[1][2] - job[1][0], job))  # neighbours of a batch are of one length
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
        """(N, D): the last layer's state at the last token of each text, of which the first `longest` tokens are seen.

        Tokens as the tokenizer gives them by default; of an empty text, the state at the beginning of a text.
        """
        longest = min(longest, self.context)
        sequences = [self._tokens(text, special=True)[:longest] or self.beginning or [0] for text in texts]
        order = sorted(range(len(texts)), key=lambda n: len(sequences[n]))
        found: dict[int, FloatArray] = {}
        for batch in _batches([(n, (0, 0, len(sequences[n]))) for n in order]):
            states = self._run([sequences[n] for n, _ in batch], output_hidden_states=True).hidden_states[-1]
            for row, (n, _) in enumerate(batch):
                found[n] = states[row, len(sequences[n]) - 1].double().cpu().numpy()
        return np.stack([found[n] for n in range(len(texts))])

    def _tokens(self, text: str, *, special: bool = False) -> list[int]:
        # lone surrogates cannot be UTF-8; what is written literally as <|endoftext|> is text, not an end of text
        clean = text.encode("utf-8", "replace").decode("utf-8")
        options = {"add_special_tokens": special, "split_special_tokens": True, "verbose": False}
        ids = [int(i) for i in self.tokenizer(clean, **options)["input_ids"]]
        unknown = self.tokenizer.unk_token_id
        if unknown in ids and unknown not in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            raise UserError(
                f"{self.title} has no token for part of a text, which would be scored as if it were not there; "
                "take a model whose tokenizer knows every byte, such as gpt2"
            )
        return ids

    def _run(self, parts: Sequence[Sequence[int]], **options: Any) -> Any:
        """The network's answer. Padding stands to the right, where a causal network does not look."""
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
        """(B, longest - 1) nats of each token but the first, given those before it in the part; padding: nonsense."""
        import torch

        logits = self._run(parts).logits[:, :-1]
        wanted = torch.zeros(logits.shape[:2], dtype=torch.long)
        for row, part in enumerate(parts):
            wanted[row, : len(part) - 1] = torch.tensor(part[1:])
        nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted.to(logits.device), reduction="none")
        return np.asarray(nats.double().cpu().numpy())


def windows(count: int, context: int) -> Iterator[Window]:
    """(start, first scored, end) of the windows over `count` tokens: each token but the very first is scored once.

    After the first window, half a context is seen again and not scored again.
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
    """Neighbouring jobs, as many as keep within `BATCH_TOKENS` once padded, at least one. Jobs grow in length."""
    batch: list[tuple[int, Window]] = []
    for job in jobs:
        start, _, end = job[1]
        if batch and (len(batch) + 1) * (end - start) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def load(source: str, revision: str | None, title: str) -> LanguageModel:
    """The network in float32 and its tokenizer, of a folder or of the Hub at a `revision`; messages call it `title`.

    Raises `UserError` if they cannot be loaded, or are not complete.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()  # what it warns of is checked below
    transformers.utils.logging.disable_progress_bar()
    pinned = {} if revision is None else {"revision": revision}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **pinned)
        network, info = transformers.AutoModelForCausalLM.from_pretrained(
            source, output_loading_info=True, **pinned
        )
    except Exception as error:  # what goes wrong in there has many types; its first line names the reason
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"cannot load {title}: {reason}") from error
    if missing := sorted(info["missing_keys"]):
        raise UserError(f"{title} is no whole causal language model: it lacks {missing[0]}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.float().eval().to(device)
    most = getattr(network.config.get_text_config(), "max_position_embeddings", None) or LARGEST_CONTEXT
    return LanguageModel(network, tokenizer, min(int(most), LARGEST_CONTEXT), title)
