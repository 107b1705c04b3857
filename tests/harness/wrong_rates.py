"""`random` with a reveal probability that is 5 % off: what the laws and the conformance kit must notice."""

from __future__ import annotations

from dataclasses import replace

from mist_bench_plugins.sampler_random import RandomSampler


class RevealsFivePercentTooOften(RandomSampler):
    def step(self, view, state):
        return super().step(replace(view, reveal_probability=view.reveal_probability * 1.05), state)


class RevealsFivePercentTooRarely(RandomSampler):
    def step(self, view, state):
        return super().step(replace(view, reveal_probability=view.reveal_probability * 0.95), state)
