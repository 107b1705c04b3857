"""A batch that is read in parts trains what the whole batch trains: the same masks, losses and parameters."""

import gc
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from mist_bench_plugins.schedule_linear import LinearSchedule
from tinygrad import Device, Tensor

from harness.brute_force import L, S, shaken
from harness.experiments import cells
from harness.trainings import BATCH, CONFIG, DATA, FAMILIES, SIZE, Saved, graph, losses, start, train
from mist_bench import UserError
from mist_bench.engine import device
from mist_bench.engine import graph as graph_module
from mist_bench.host.config import TrainingConfig
from mist_bench.run.kinds.training import TrainingCell
from mist_bench.training import loop
from mist_bench.training.batch import BatchInputs, batch_inputs
from mist_bench.training.step import TrainingGraph

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small trainings")]
PART = 2


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_train_what_the_whole_batch_trains(family):
    whole, parts = start(graph(family, BATCH)), start(graph(family, PART))
    one, other = train(whole), train(parts)
    np.testing.assert_allclose(losses(other), losses(one), rtol=1e-5)
    before, after = whole.state(), parts.state()
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-3, atol=2e-5, err_msg=name)


def test_a_whole_batch_is_one_graph_without_more_buffers():
    whole, parts = graph("mdlm", BATCH), graph("mdlm", PART)
    for its in (whole, parts):
        train(start(graph("mdlm", its.micro_batch)))
    assert whole.update is None and whole.total == []
    assert parts.update is not None and len(parts.total) == 2
    assert whole.graph.kernels > parts.graph.kernels > parts.update.kernels > 0
    captured = parts.graph._jit.captured, parts.update._jit.captured
    train(start(graph("mdlm", PART)))
    assert captured == (parts.graph._jit.captured, parts.update._jit.captured)


def test_the_work_of_a_step_is_that_of_all_its_parts():
    """Three times the matrix products of an evaluation and more, as the norms of tiny networks weigh; parts differ from the
    whole by sums alone; and the baseline, with equal parameters, has the more products (and, where these weigh more than
    norms, the more work: run/test_whole_runs.py)."""
    work, products = {}, {}
    for family in ("mdlm", "autoregressive"):
        whole, parts = graph(family, BATCH), graph(family, PART)
        for its in (whole, parts):
            train(start(its))
        work[family], products[family] = whole.operations, whole.model.forward_flops()
        assert 3 * BATCH * products[family] < work[family]
        assert 0.9 < parts.operations / work[family] < 1.3
    assert products["autoregressive"] > products["mdlm"]


def unpacked(words, count):
    """The inputs of a part of `count` sequences, as arrays."""
    inputs = batch_inputs(count, L).unpack(Tensor(words))
    return BatchInputs(*(x.numpy() for x in inputs))


def test_each_part_gets_its_own_sequences(monkeypatch):
    told, real = [], TrainingGraph._run

    def spy(self, parts):
        told.extend(parts)
        real(self, parts)

    monkeypatch.setattr(TrainingGraph, "_run", spy)
    for micro_batch in (BATCH, PART):
        train(start(graph("mdlm", micro_batch)))
    steps, count = CONFIG.train_steps, BATCH // PART
    assert len(told) == steps + steps * count
    for step in range(steps):
        whole = unpacked(told[step], BATCH)
        parts = [unpacked(words, PART) for words in told[steps + step * count :][:count]]
        np.testing.assert_array_equal(np.concatenate([part.tokens for part in parts]), whole.tokens)
        np.testing.assert_array_equal(np.concatenate([part.numbers for part in parts], axis=1), whole.numbers)
        assert [part.start for part in parts] == list(range(0, BATCH, PART)) and whole.start == 0
        for name in ("key", "rates", "slot"):
            assert all((getattr(part, name) == getattr(whole, name)).all() for part in parts), name


@pytest.mark.parametrize("then", [PART, BATCH])
def test_a_resumed_training_is_the_undisturbed_one(then):
    """Bit for bit with the same parts; within rounding if it is read otherwise."""
    its = start(graph("mdlm", PART))
    saved = Saved(its)
    whole = train(its, save=saved)
    undisturbed = its.state()
    assert saved.progress.step == 4
    other = start(graph("mdlm", then))
    train(other)  # another training in between
    other.restore(saved.state)
    resumed = train(other, saved.progress)
    same = then == PART
    assert losses(resumed) == (losses(whole) if same else pytest.approx(losses(whole), rel=1e-5))
    for name, values in other.state().items():
        if same:
            np.testing.assert_array_equal(values, undisturbed[name], err_msg=name)
        else:
            np.testing.assert_allclose(values, undisturbed[name], rtol=1e-3, atol=2e-5, err_msg=name)


def test_what_an_interrupted_step_added_is_forgotten():
    its = start(graph("mdlm", PART))
    train(its)
    undisturbed = its.state()
    start(graph("mdlm", PART))
    (batch,) = loop.batches(CONFIG, [DATA[:BATCH]], LinearSchedule(), 0, range(1))
    its.graph(its.inbox(its.inputs.pack(**batch.part(0, PART))))
    train(its)
    for name, values in its.state().items():
        np.testing.assert_array_equal(values, undisturbed[name], err_msg=name)


# ---- as many as fit

MANY = replace(CONFIG, batch_size=64, train_steps=4, validate_every=4)  # of the family that compiles fastest


def make(config: TrainingConfig, at_once: int = 0) -> TrainingGraph:
    """A started training with a graph of its own."""
    model = FAMILIES["autoregressive"].create(SIZE, S, L, 1, None)
    shaken(model, 5)
    values = {name: tensor.numpy() for name, tensor in model.parameters.items()}
    its = TrainingGraph(FAMILIES["autoregressive"], model, config, at_once)
    its.start(values)
    return its


class Trained:
    """Losses, parameters and peak bytes of a training with this many sequences at once."""

    def __init__(self, micro_batch: int) -> None:
        gc.collect()
        before = device.memory_used()
        its = make(replace(MANY, micro_batch=micro_batch))
        self.losses, self.state = losses(train(its)), its.state()
        self.memory = device.memory_used() - before


@cache
def trained(micro_batch: int) -> Trained:
    return Trained(micro_batch)


@pytest.fixture
def limit(monkeypatch):
    """`limit(n)` lets the CPU's allocator give n more bytes; the list that it returns holds the refused requests."""

    def give(count: int) -> list[int]:
        gc.collect()
        allocator = Device[Device.DEFAULT].allocator
        allocator.free_cache()  # buffers that it keeps for later are handed out without asking
        most, real, refused = device.memory_used() + count, allocator._alloc, []

        def alloc(size, options):
            if device.memory_used() + size > most:
                refused.append(size)
                raise MemoryError("no room")
            return real(size, options)

        monkeypatch.setattr(allocator, "_alloc", alloc)
        return refused

    return give


def test_less_at_once_takes_less_memory():
    assert trained(64).memory > 1.2 * trained(32).memory > 1.2 * 1.2 * trained(16).memory


def test_what_fits_is_read_whole(limit):
    trained(64)
    refused = limit(2 * trained(64).memory)
    its = make(MANY)
    assert losses(train(its)) == trained(64).losses
    assert its.micro_batch == 64 and not refused and its.update is None


def test_what_does_not_fit_is_halved_until_it_does(limit):
    """Also when the first step runs out of memory half way: it starts again, and trains the same network."""
    refused = limit((trained(16).memory + trained(32).memory) // 2)
    its = make(MANY)
    progress = train(its)
    assert refused and its.micro_batch == 16 == progress.micro_batch
    assert losses(progress) == trained(16).losses
    for name, values in its.state().items():
        np.testing.assert_array_equal(values, trained(16).state[name], err_msg=name)
    assert progress.compile_seconds == its.compile_seconds > its.graph.compile_seconds + its.update.compile_seconds
    said = len(refused)
    its.graph.drop()
    its.update.drop()
    del its  # what it trains lies in buffers of its own
    gc.unfreeze()
    gc.collect()
    train(make(MANY, at_once=progress.micro_batch))  # a resumed training does not search again
    assert len(refused) == said


def test_a_size_that_is_asked_for_is_not_changed(limit):
    limit((trained(16).memory + trained(32).memory) // 2)
    with pytest.raises(UserError, match=r"not enough memory to train with training.micro_batch=32; give a smaller one"):
        train(make(replace(MANY, micro_batch=32)))


def test_when_nothing_fits_one_line_says_so(limit):
    its = make(replace(MANY, batch_size=2))
    limit(64)
    with pytest.raises(UserError, match="not enough memory to train on one sequence at a time; a smaller network"):
        train(its)


def fails_once(monkeypatch, error: Exception) -> None:
    """The device raises the error after the first step, which has changed the parameters by then."""
    real, errors = graph_module.device.synchronize, [error]

    def synchronize():
        real()
        if errors:
            raise errors.pop()

    monkeypatch.setattr(graph_module.device, "synchronize", synchronize)


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA Error 2, out of memory")], ids=["own", "driver"])
def test_a_step_that_fails_half_way_leaves_nothing(monkeypatch, error):
    trained(32)
    fails_once(monkeypatch, error)
    its = make(MANY)
    assert losses(train(its)) == trained(32).losses and its.micro_batch == 32
    for name, values in its.state().items():
        np.testing.assert_array_equal(values, trained(32).state[name], err_msg=name)


def test_only_a_lack_of_memory_is_taken_for_one(monkeypatch):
    fails_once(monkeypatch, RuntimeError("a kernel is wrong"))
    with pytest.raises(RuntimeError, match="a kernel is wrong"):
        train(make(MANY))


class Bench:
    """A stand-in for the workbench of `_resume`: a store with one saved state, and graphs; it records the calls."""

    def __init__(self, saved) -> None:
        self.store, self.saved, self.asked = self, saved, []

    def load_checkpoint(self, name):
        return self.saved

    def training_graph(self, family, schedule, at_once):
        self.asked.append(at_once)
        return self

    def initial_parameters(self, family, seed):
        return {"seed": seed}

    def start(self, values):
        self.asked.append(values)

    def restore(self, state):
        self.asked.append(state)


def trains(**settings):
    """A training cell of `mdlm`."""
    given = [f"training.{name}={value}" for name, value in settings.items()]
    return next(cell for cell in cells(settings=given) if isinstance(cell, TrainingCell) and cell.family.name == "mdlm")


def test_a_resumed_training_reads_as_much_at_once_as_before():
    progress, cell = loop.Progress(step=4, micro_batch=16), trains()
    bench = Bench(({"state": 1}, vars(progress)))
    assert cell._resume(bench, "abc-partial") == (bench, progress) and bench.asked == [16, {"state": 1}]
    older = {name: value for name, value in vars(progress).items() if name != "micro_batch"}
    assert cell._resume(Bench(({}, older)), "abc-partial")[1].micro_batch == 0
    bench = Bench(None)
    assert cell._resume(bench, "abc-partial") == (bench, loop.Progress())
    assert bench.asked == [0, {"seed": cell.seed}]


@pytest.mark.parametrize(("micro_batch", "parts"), [(BATCH, ""), (PART, ", 2 of 8 sequences at once")])
def test_the_progress_says_how_a_batch_is_read(monkeypatch, micro_batch, parts):
    def train(graph, schedule, tokens, seed, reached, *, report, **more):
        report(4, 2.0)
        raise InterruptedError

    resumed = SimpleNamespace(micro_batch=micro_batch), loop.Progress()
    monkeypatch.setattr(TrainingCell, "_resume", lambda self, bench, partial: resumed)
    monkeypatch.setattr(loop, "train", train)
    bench, notes = SimpleNamespace(dataset=SimpleNamespace(train=SimpleNamespace(tokens=DATA))), []
    with pytest.raises(InterruptedError):
        trains(batch_size=BATCH).make(bench, lambda done, total, note: notes.append((done, note)))
    assert notes == [(4, f"loss 2.000{parts}")]
