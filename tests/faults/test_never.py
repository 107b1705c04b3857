"""What is never executed: stores, checkpoints, descriptions of cells, cached tokens, run folders and baselines."""

import pickle

import numpy as np
import pytest
from mist_bench_plugins.corpus_markov import MarkovCorpus
from mist_bench_plugins.tokenizer_word import WordTokenizer

from mist_bench import UserError
from mist_bench.bench import baseline
from mist_bench.cli.report import report
from mist_bench.data.dataset import open_dataset
from mist_bench.run.jobs import read_job
from mist_bench.run.store import Store

HASH = "0123456789abcdef"


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def bomb(tmp_path):
    """Bytes that would be executed by a pickle's reader, and a test that they were not."""
    marker = tmp_path / "executed"
    data = pickle.dumps(Bomb(marker))
    pickle.loads(data).close()
    assert marker.exists(), "it is a bomb"
    marker.unlink()
    yield data
    assert not marker.exists()


def test_a_store(tmp_path, bomb):
    store = Store(tmp_path / "store")
    for path in (store.cell_path(HASH), store.checkpoint_path(HASH), store.job_path(HASH), store.progress_path(HASH)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bomb)
    assert store.status(HASH) == "missing" and store.load_checkpoint(HASH) is None
    with pytest.raises(UserError, match="planned by another version or plugin"):
        read_job(HASH, store)


def test_cached_tokens(tmp_path, bomb):
    made = open_dataset(MarkovCorpus(), WordTokenizer(), 4, tmp_path)
    (folder,) = (tmp_path / "data").iterdir()
    expected = np.array(made.test.tokens)
    del made
    for path in folder.glob("*.npy"):
        path.unlink()
        np.save(path, np.array([Bomb(tmp_path / "executed")], dtype=object), allow_pickle=True)
    assert (np.array(open_dataset(MarkovCorpus(), WordTokenizer(), 4, tmp_path).test.tokens) == expected).all()


def test_a_run_folder_and_a_baseline(tmp_path, bomb):
    (tmp_path / "run.json").write_bytes(bomb)
    with pytest.raises(UserError, match="damaged or of another version"):
        report(tmp_path, None)
    with pytest.raises(UserError, match="is not a baseline"):
        baseline.read(tmp_path / "run.json")
