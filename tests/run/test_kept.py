"""Which weights of a training are measured: the last ones, or the best on the validation split."""

import numpy as np
import pytest

from harness import synthetic_rows
from harness.experiments import bench_of, experiment
from mist_bench.report import tables
from mist_bench.run.grid import lay_out
from mist_bench.run.kinds.training import TrainingCell
from mist_bench.run.kinds.validation import ALONG, LAST

SETTINGS = ["training.train_steps=6", "training.validate_every=2", "training.checkpoint_every=2", "generation.judge=none"]


class Trained:
    """A training whose validation says what it is told: at steps 2, 4 and 6, the last with more sequences and then again
    as all others."""

    def __init__(self, keep, folder, monkeypatch, said):
        its = experiment(settings=[*SETTINGS, f"training.keep={keep}"], families="autoregressive")
        self.bench, self.seen, told = bench_of(its, folder), [], iter(said)
        self.cell = next(cell for cell in lay_out(its) if isinstance(cell, TrainingCell))

        def validation(cell, bench, values, amount):
            self.seen.append((amount, values))
            return {"validation_nats_per_token": next(told)}

        monkeypatch.setattr(TrainingCell, "_validation", validation)

    def make(self, progress=lambda *told: None):
        return self.cell.make(self.bench, progress)

    def holds(self, values):
        kept = self.bench.parameters(self.cell.hash)
        return all(np.array_equal(kept[name], value) for name, value in values.items())


def test_the_last_weights_are_kept_unless_the_best_are_asked_for(tmp_path, monkeypatch):
    its = Trained("last", tmp_path, monkeypatch, [3.0, 1.0, 2.0])
    assert its.make()["kept_step"] == 6 and [amount for amount, _ in its.seen] == [ALONG, ALONG, LAST]
    assert its.holds(its.seen[-1][1]) and not its.holds(its.seen[1][1])


@pytest.mark.parametrize(("last", "step"), [(2.0, 4), (0.5, 6)])
def test_the_best_are_those_of_the_same_validation(last, step, tmp_path, monkeypatch):
    """What the last point says of more sequences is not compared with the others."""
    its = Trained("best", tmp_path, monkeypatch, [3.0, 1.0, 0.1, last])
    assert its.make()["kept_step"] == step and [amount for amount, _ in its.seen] == [ALONG, ALONG, LAST, ALONG]
    assert its.holds(its.seen[step // 2 - 1][1])
    assert not list(tmp_path.rglob("*-best*")) and not list(tmp_path.rglob("*-partial*"))


def test_a_resumed_training_knows_the_best_before(tmp_path, monkeypatch):
    its = Trained("best", tmp_path, monkeypatch, [3.0, 1.0, 0.1, 2.0])

    def stop(done, total, note):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        its.make(stop)
    assert its.make()["kept_step"] == 4 and its.holds(its.seen[1][1])


def test_the_table_says_which_steps_are_measured():
    training = [{**row, "kept_step": 400, "train_steps": 600} for row in synthetic_rows.training()]
    [table] = tables.perplexity_tables(training, synthetic_rows.likelihood())
    (note,) = [note for note in table.notes if "best on the validation split" in note]
    assert "mdlm linear 400" in note and "autoregressive 400" in note
    [table] = tables.perplexity_tables([{**row, "kept_step": 600} for row in training], synthetic_rows.likelihood())
    assert not any("best on the validation split" in note for note in table.notes)
