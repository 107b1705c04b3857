"""The public surface of a plugin author: what a plugin file may import, and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .codec import ByteCodec, TiktokenCodec, utf8
    from .families import CausalModel, Family, MaskedModel, Model, NetworkSize, TrainingBatch
    from .hookspecs import hookimpl
    from .hub import Column, download, hold_out
    from .hub_models import HubModel, find_model, require
    from .interfaces import (
        Codec,
        Component,
        Corpus,
        FloatArray,
        IntArray,
        Launcher,
        Metric,
        Oracle,
        Schedule,
        Texts,
        Tokenizer,
        UserError,
        parameter,
        part,
    )
    from .network import Transformer
    from .oracle import Plot, SlotWorld
    from .outer import OuterSampler
    from .samplers import (
        Choice,
        Network,
        Sampler,
        ScoreSampler,
        State,
        View,
        block_shares,
        comes_before,
        reveal_best,
        scheduled_count,
        scheduled_left,
    )

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # numpy takes a fifth of a second to import, tinygrad longer: neither must be waited for by `mist-bench --help`
    if name in __all__:
        homes = "hookspecs interfaces families samplers outer codec hub hub_models oracle network"
        for module in (import_module(f".{home}", __name__) for home in homes.split()):
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ByteCodec",
    "CausalModel",
    "Choice",
    "Codec",
    "Column",
    "Component",
    "Corpus",
    "Family",
    "FloatArray",
    "HubModel",
    "IntArray",
    "Launcher",
    "MaskedModel",
    "Metric",
    "Model",
    "Network",
    "NetworkSize",
    "Oracle",
    "OuterSampler",
    "Plot",
    "Sampler",
    "Schedule",
    "ScoreSampler",
    "SlotWorld",
    "State",
    "Texts",
    "TiktokenCodec",
    "Tokenizer",
    "TrainingBatch",
    "Transformer",
    "UserError",
    "View",
    "block_shares",
    "comes_before",
    "download",
    "find_model",
    "hold_out",
    "hookimpl",
    "parameter",
    "part",
    "require",
    "reveal_best",
    "scheduled_count",
    "scheduled_left",
    "utf8",
]
