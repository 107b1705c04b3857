"""In training the output layer is computed at masked positions alone: their number, and that nothing else changes.

The loss itself is tested in tests/network/test_layers.py.
"""

from dataclasses import replace

import numpy as np
import pytest
from mist_bench_plugins.family_mdlm import MdlmFamily
from mist_bench_plugins.schedule_cosine import CosineSchedule
from mist_bench_plugins.schedule_linear import LinearSchedule

from harness.brute_force import WORLD, L, S, shaken
from harness.experiments import bench_of, experiment
from mist_bench import NetworkSize
from mist_bench.engine import noise
from mist_bench.host.config import TrainingConfig
from mist_bench.host.presets import load_preset, override
from mist_bench.host.registry import Registry
from mist_bench.network import layers, transformer
from mist_bench.training import loop
from mist_bench.training.batch import full_sequences
from mist_bench.training.step import TrainingGraph

REGISTRY = Registry.discover()
SCHEDULES = [REGISTRY.make("schedule", name) for name in REGISTRY.with_defaults("schedule")]
BATCH = 64
CONFIG = TrainingConfig(
    train_steps=20, batch_size=BATCH, learning_rate=1e-2, warmup_steps=0, weight_decay=0.1, beta1=0.9, beta2=0.99,
    gradient_clip=0.5, ema_decay=0.8, validate_every=20, checkpoint_every=20,
)  # fmt: skip
DATA = WORLD.sample(100, np.random.default_rng(0))


def positions_masked(schedule, batch: int, length: int, steps: range, times) -> np.ndarray:
    """How many positions each of these steps of a training masks."""
    numbers = loop.schedule_numbers(schedule, batch, 11, steps, times)
    return np.array([
        (noise.uniform_numpy(11, step, noise.MASKING, np.arange(batch), length) < own[1][:, None]).sum()
        for step, own in zip(steps, numbers, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.spec)
@pytest.mark.parametrize(("batch", "length"), [(16, 128), (64, 128), (8, 32)])
@pytest.mark.parametrize("family", [MdlmFamily(), MdlmFamily(bell=0.2)], ids=lambda family: family.spec)
def test_no_batch_has_more_and_few_have_far_less(schedule, family, batch, length):
    full = full_sequences(schedule, batch, length, family.times)
    found = positions_masked(schedule, batch, length, range(200), family.times)
    assert found.max() <= full * length
    # 4 sqrt(N) is above what is expected by 8 of the largest standard deviations there can be, and one time is a row
    assert full == batch or full * length - found.mean() < 4 * np.sqrt(batch * length) + 2.5 * length


def test_linear_reads_little_more_than_half():
    assert full_sequences(LinearSchedule(), 64, 128) == 36 and full_sequences(LinearSchedule(), 16, 512) == 10
    assert full_sequences(LinearSchedule(), 1, 8) == 1


def trained(full: int | None, **options) -> TrainingGraph:
    """Twenty steps from random parameters, with a vocabulary large enough for the selection to pay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformer, "ROWS_PAY", 0)
        family = MdlmFamily(**options)
        size = NetworkSize(dim=16, layers=1, heads=2, feed_forward=32, conditioning_dim=8)
        model = family.create(size, S, L, 1, None)
        shaken(model, 5)
        values = {name: tensor.numpy() for name, tensor in model.parameters.items()}
        its = TrainingGraph(family, model, CONFIG, full=full)
        its.start(values)
        progress = loop.train(
            its, LinearSchedule(), DATA, 3, loop.Progress(), validate=lambda values, last: {}, save=lambda now: None,
            report=lambda step, loss: None,
        )  # fmt: skip
        its.found = progress.curve
        return its


@pytest.mark.parametrize("options", [{}, {"self_conditioning": True}], ids=str)
def test_a_training_is_the_same_within_rounding(options, monkeypatch):
    seen: list[int] = []
    own = layers._part
    monkeypatch.setattr(layers, "_part", lambda h, *rest: seen.append(int(h.shape[0])) or own(h, *rest))
    full = full_sequences(LinearSchedule(), BATCH, L)
    whole, few = trained(None, **options), trained(full, **options)
    assert seen == [BATCH, full] and full < 0.8 * BATCH
    assert few.found[-1]["loss"] == pytest.approx(whole.found[-1]["loss"], rel=1e-5)
    for name, values in whole.state().items():
        np.testing.assert_allclose(few.state()[name], values, rtol=2e-3, atol=5e-5, err_msg=name)


def test_a_part_of_a_batch_is_read_whole(monkeypatch):
    """The times of a part are all early or all late, so that all its positions may be masked."""
    told = []
    own = MdlmFamily.loss
    monkeypatch.setattr(MdlmFamily, "loss", lambda self, model, batch: told.append(batch.full) or own(self, model, batch))
    monkeypatch.setitem(globals(), "CONFIG", replace(CONFIG, micro_batch=16, train_steps=1))
    trained(49)
    assert told == [None]


def test_schedules_share_a_graph_unless_the_table_is_large(tmp_path, monkeypatch):
    config = override(load_preset("smoke"), corpus="tales", families="mdlm", samplers="confidence")
    bench = bench_of(experiment(config), tmp_path)
    family, schedules = MdlmFamily(), (LinearSchedule(), CosineSchedule())
    small = [bench.training_graph(family, schedule) for schedule in schedules]
    assert small[0] is small[1] and small[0].full is None
    monkeypatch.setattr(transformer, "ROWS_PAY", 0)
    monkeypatch.setattr("mist_bench.run.workbench.kept", lambda key, make: make())
    large = [bench.training_graph(family, schedule).full for schedule in schedules]
    assert large == [full_sequences(s, config.training.batch_size, bench.dataset.length) for s in schedules]
    assert large[1] < large[0]
    bell = MdlmFamily(bell=0.2)  # under cosine, whose mean mask probability is not that of its middle
    full = bench.training_graph(bell, schedules[1]).full
    assert full == full_sequences(schedules[1], config.training.batch_size, bench.dataset.length, bell.times) != large[1]
