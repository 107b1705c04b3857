"""Small random models of transformers in a folder, for tests that have the extra; small folders for those without."""

from __future__ import annotations

import json
from pathlib import Path

END = 256
CONTEXT = 32


def folder_like(path: Path, weights: bytes = b"weights", **config) -> Path:
    """A folder that looks like a saved model: enough to be found and named, not to be loaded."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"], **config}))
    (path / "model.safetensors").write_bytes(weights)
    return path


def gpt2(path: Path, *, end: bool = True, seed: int = 0) -> Path:
    """A random GPT-2 over bytes; token 256 begins and ends a text, if there is an end."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from transformers.utils import logging

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    logging.disable_progress_bar()
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary | {"<|endoftext|>": END}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = {name: "<|endoftext|>" for name in ("bos_token", "eos_token", "unk_token")} if end else {}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(path)
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=END + 1, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, bos_token_id=END,
                        eos_token_id=END, initializer_range=0.5)  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(path)
    return path
