"""Several devices train what one device trains: the same losses and parameters, with the batch split over them."""

from dataclasses import replace

import numpy as np
import pytest
from mist_bench_plugins.family_mdlm import MdlmFamily
from tinygrad import Tensor

from harness.brute_force import L, S
from harness.commands import in_process, run_command
from harness.experiments import REGISTRY, experiment
from harness.trainings import BATCH, CONFIG, FAMILIES, SIZE, Saved, curve, graph, start, train
from mist_bench import UserError
from mist_bench.cli import run as run_module
from mist_bench.engine import device
from mist_bench.engine.graph import fetch, overwrite
from mist_bench.report import files
from mist_bench.run.grid import lay_out
from mist_bench.training.step import TrainingGraph

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(device.name() != "CPU", reason="a CPU has as many devices as one likes"),
    pytest.mark.xdist_group("small trainings"),
]


@pytest.mark.parametrize(
    ("family", "devices", "micro_batch"),
    [("self-conditioned", 2, BATCH), ("self-conditioned", 4, BATCH), ("autoregressive", 2, 4), ("autoregressive", 2, BATCH)],
)
def test_several_devices_train_what_one_trains(family, devices, micro_batch):
    one, many = start(graph(family)), start(graph(family, micro_batch, devices))
    expected, found = train(one), train(many)
    np.testing.assert_allclose(curve(found), curve(expected), rtol=1e-5)
    states = one.state(), many.state()
    assert states[0].keys() == states[1].keys()
    for name, values in states[0].items():
        np.testing.assert_allclose(states[1][name], values, rtol=1e-3, atol=2e-5, err_msg=name)
    places = {tensor.device for tensor in (*many.model.parameters.values(), *many.optimiser.groups.values())}
    assert places == {("CPU", *(f"CPU:{i}" for i in range(1, devices)))}


class Watched(MdlmFamily):
    """Records how the inputs of a step lie on the devices."""

    def loss(self, model, batch):
        tensors = {name: value for name, value in vars(batch).items() if name != "full"}
        assert batch.full is None  # nobody has all the rows
        seen.extend((tensor.uop.axis, tensor.device, tensor.shape[0]) for tensor in tensors.values())
        return super().loss(model, batch)


seen: list = []


def test_each_device_has_its_share_of_the_batch():
    family = Watched()
    its = TrainingGraph(family, family.create(SIZE, S, L, 0, None), replace(CONFIG, devices=2), full=3)
    train(start(its))
    assert seen == [(0, ("CPU", "CPU:1"), BATCH)] * 6  # every input of the batch


def test_the_copies_stay_the_same():
    """Each device takes the optimiser's step on its own copy, from the same sum of gradients."""
    its = start(graph("self-conditioned", devices=4))
    train(its)
    for name, tensor in its.optimiser.groups.items():
        copies = [buffer.numpy() for buffer in tensor.uop.buffer.bufs]
        assert len(copies) == 4
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0], err_msg=name)


def test_a_resumed_training_is_the_undisturbed_one_bit_for_bit():
    its = start(graph("self-conditioned", devices=2))
    saved = Saved(its)
    whole = train(its, save=saved)
    undisturbed = its.state()
    assert saved.progress.step == 4
    start(its)
    its.restore(saved.state)
    assert curve(train(its, saved.progress)) == curve(whole)
    for name, values in its.state().items():
        np.testing.assert_array_equal(values, undisturbed[name], err_msg=name)


def test_parts_for_another_number_of_devices_are_not_taken_over():
    made, config = FAMILIES["self-conditioned"], replace(CONFIG, devices=4)
    found = [TrainingGraph(made, made.create(SIZE, S, L, 0, None), config, at_once).micro_batch for at_once in (4, 2, 0)]
    assert found == [4, BATCH, BATCH]


def test_values_go_to_every_copy_and_come_from_one():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    copies = Tensor.zeros(2, 3).contiguous().shard(("CPU", "CPU:1")).realize()
    overwrite(copies, values)
    np.testing.assert_array_equal(fetch(copies), values)
    np.testing.assert_array_equal((copies * 2).to("CPU:1").numpy(), 2 * values)
    assert all((buffer.numpy() == values.ravel()).all() for buffer in copies.uop.buffer.bufs)
    parts = Tensor.zeros(2, 3).contiguous().shard(("CPU", "CPU:1"), axis=0).realize()
    with pytest.raises(ValueError, match="parts lie on several devices"):
        overwrite(parts, values)


def test_as_many_as_fit_are_as_many_for_each_device():
    made = FAMILIES["self-conditioned"]
    its = TrainingGraph(made, made.create(SIZE, S, L, 0, None), replace(CONFIG, batch_size=24, devices=4))
    found = [its.micro_batch]
    with pytest.raises(UserError, match="not enough memory"):
        while True:
            its._read_less()
            found.append(its.micro_batch)
    assert found == [24, 12, 4]


# ---- the command


@pytest.fixture
def run(tmp_path):
    """A run that trains the baseline alone, for a few steps; returns its status and the rows of training.csv."""
    settings = ["training.train_steps=4", "training.validate_every=4", "generation.judge=none", "generation.rounds=1",
                "generation.samples=32", "likelihood.sequences=32"]  # fmt: skip
    words = run_command(tmp_path / "store", tmp_path / "out", "--family", "autoregressive", settings=settings)

    def start(*more):
        status = in_process(*words, *more)
        path = tmp_path / "out" / "training.csv"
        return status, files.read_csv(path) if path.exists() else []

    return start


def test_a_run_on_two_devices_makes_the_cell_of_a_run_on_one(run, capsys):
    status, [row] = run("--devices", "2")
    assert status == 0 and (row["devices"], row["micro_batch"]) == (2, 16)
    before = capsys.readouterr().err
    assert "autoregressive" in before
    status, [again] = run()
    assert status == 0 and again == row and "autoregressive" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--devices", "3"], "devices (3) must divide batch_size, given 16"),
        (["--set", "training.micro_batch=4", "--devices", "8"], "devices (8) must divide micro_batch, given 4"),
        (["--devices", "0"], "Invalid value for '--devices': '0'; give a whole number of at least 1"),
        (["--set", "training.devices=0"], "devices must be at least 1, given 0"),
    ],
)
def test_a_number_that_cannot_be_is_one_line(run, capsys, given, message):
    assert run(*given) == (2, [])
    assert capsys.readouterr().err == f"mist-bench: error: {message}\n"


def test_more_devices_than_there_are(run, capsys, monkeypatch):
    monkeypatch.setattr(device, "name", lambda: "NOWHERE")
    assert run("--devices", "4") == (2, [])
    assert capsys.readouterr().err == "mist-bench: error: --devices 4 is more than there are of NOWHERE; give at most 1\n"


def test_trainings_on_several_devices_run_one_after_another(monkeypatch):
    monkeypatch.setenv("MIST_BENCH_JOBS", "2")
    for settings, automatic in ([], "local"), (["training.devices=2"], None):
        made = experiment(settings=settings)
        chosen = run_module._launcher(None, REGISTRY, made, lay_out(made), debug=False)
        assert (chosen and chosen.name) == automatic
