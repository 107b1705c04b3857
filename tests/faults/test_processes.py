"""Processes that a run starts: they run nothing of the user's folder and not his script again, and show nothing of a Ctrl-C."""

import os
import subprocess
import sys

import pytest

from harness.commands import run_command

pytestmark = pytest.mark.slow
SHORT = ("training.train_steps=2", "training.validate_every=2", "likelihood.sequences=16", "generation.judge=none",
         "likelihood.weighted_draws=0", "likelihood.chain_rule_sequences=0", "generation.samples=8")  # fmt: skip
TWO = ("--family", "autoregressive", "--training-seed", "0", "--schedule", "linear", "--sampler", "random", "--steps", "2",
       "--launcher", "local")  # fmt: skip


def environment(**more):
    """With compile workers, which the processes of the tests do without."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return {**kept, "PARALLEL": "2", "CACHELEVEL": "0", **more}


def test_neither_the_users_folder_nor_his_script_is_executed(tmp_path):
    """A file named like a module of the standard library, and a script without a main guard."""
    for name in ("socket", "json", "random"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write('{name} ')\n")
    words = run_command(tmp_path / "store", tmp_path / "out", *TWO, settings=SHORT)
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(f"open({str(tmp_path / 'runs')!r}, 'a').write('once ')\n"
                      f"import sys\nfrom mist_bench.cli import main\nsys.exit(main({words!r}))\n")  # fmt: skip
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True,
                          timeout=240, env=environment(XDG_CACHE_HOME=str(tmp_path / "cache")))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "executed").exists() and (tmp_path / "runs").read_text() == "once "
