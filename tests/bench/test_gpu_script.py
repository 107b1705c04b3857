"""`benchmarks/gpu.py` without a GPU: what it installs, how it chooses a device, and what it reports."""

import importlib.util
import json
import platform
import subprocess
import sys
import time
import tomllib
import zipfile

import numpy as np
import pytest
from tinygrad.helpers import Context

from mist_bench.bench import command
from mist_bench.engine import device

gpu = command.benchmark_module("gpu")
from benchmarks import memory, offers  # noqa: E402
from benchmarks.sizes import sizes  # noqa: E402

OWN, OTHER = f"cp3{sys.version_info.minor}", f"cp3{sys.version_info.minor + 1}"
HERE = platform.machine()
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def wheel(folder, name, *modules, tag="py3-none-any"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for module in modules or (f"{name}.py",):
            archive.writestr(module, "")
    return path


def call(monkeypatch, out, *arguments):
    """`gpu.py` with these arguments: its status, and gpu.json if it wrote one."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(out), *map(str, arguments)])
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)  # pytest has its own
    status = gpu.main()
    told = out / "gpu.json"
    return status, json.loads(told.read_text()) if told.exists() else None


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("py2-none-any", False),
        (f"{OWN}-{OWN}-manylinux2014_{HERE}.manylinux_2_17_{HERE}", True),
        (f"{OTHER}-{OTHER}-manylinux2014_{HERE}", False),
        ("cp310-abi3-manylinux_2_17_" + HERE, True),
        (f"{OTHER}-abi3-manylinux_2_17_" + HERE, False),
        (f"{OWN}-{OWN}t-manylinux2014_{HERE}", False),
        (f"{OWN}-{OWN}-manylinux2014_other", False),
        (f"{OWN}-{OWN}-win_amd64", False),
        ("py3-none-manylinux1_" + HERE, True),
    ],
)
def test_a_wheel_fits_by_its_tag(tag, expected):
    assert gpu.fits(f"some_thing-1.0-{tag}.whl") is expected
    assert gpu.fits(f"some_thing-1.0-1-{tag}.whl") is expected, "with a build number"


def test_a_name_without_a_tag_does_not_fit():
    assert not gpu.fits("some.whl")


def test_new_wheels_are_unpacked_at_a_second_call(tmp_path):
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheel(wheels, "one")
    wheel(wheels, "foreign", tag=f"{OTHER}-{OTHER}-manylinux2014_{HERE}")
    first, left_out = gpu.install(wheels, site)
    assert (first / "one.py").exists() and [name.split("-")[0] for name in left_out] == ["foreign"]
    (first / "mark").touch()
    assert gpu.install(wheels, site) == (first, left_out) and (first / "mark").exists(), "once for each set of wheels"
    wheel(wheels, "two")
    second, _ = gpu.install(wheels, site)
    assert (second / "one.py").exists() and (second / "two.py").exists() and second != first
    assert {path.name for path in site.iterdir()} == {first.name, second.name}


def test_the_entry_points_are_those_of_the_checkout_wherever_it_has_moved(tmp_path, monkeypatch):
    for place in ("here", "there"):
        root = tmp_path / place
        root.mkdir()
        (root / "pyproject.toml").write_text((gpu.ROOT / "pyproject.toml").read_text())
        monkeypatch.setattr(gpu, "ROOT", root)
        folder, _ = gpu.install(None, tmp_path / "site")
        assert (folder / "mist_bench_plugins").readlink() == root / "plugins"
        [info] = folder.glob("mist_bench-*.dist-info")
        assert "\nsampler-random = mist_bench_plugins.sampler_random\n" in (info / "entry_points.txt").read_text()


def test_a_compiler_of_the_wheels_goes_first_and_hides_nothing_of_torchs(tmp_path, monkeypatch):
    monkeypatch.delenv("NVRTC_PATH", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    library = "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"
    path = wheel(wheels, "nvidia_cuda_nvrtc_cu12", library, "nvidia/__init__.py")
    caches = []
    for content in ("one", "two"):
        folder, _ = gpu.install(wheels, site)
        found = folder / gpu.COMPILERS / library
        found.write_text(content)
        environment = gpu.surroundings(folder, site)
        assert environment["NVRTC_PATH"] == str(found)
        caches.append(environment["XDG_CACHE_HOME"])
    assert path.exists() and not (folder / "nvidia").exists()
    assert caches[0] != caches[1] and all(cache.startswith(str(site)) for cache in caches)


def test_what_fails_before_the_first_step_is_in_gpu_json(tmp_path, monkeypatch, capsys):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "broken-1.0-py3-none-any.whl").write_text("no archive")
    status, told = call(monkeypatch, tmp_path / "out", "--wheels", wheels, "--site", tmp_path / "site")
    assert status == 1 and told["failed"].startswith("BadZipFile") and "BadZipFile" in capsys.readouterr().out
    assert not list((tmp_path / "site").iterdir()), "what is half unpacked is not taken for whole"


def test_a_probe_that_hangs_is_said_and_the_next_device_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("PARALLEL", raising=False)
    monkeypatch.setattr(gpu, "PROBE", "import os, time; print('at work', flush=True); os.environ['DEV'] == 'A' and time.sleep(60)")  # fmt: skip
    monkeypatch.setattr(gpu, "PROBE_SECONDS", 1.0)
    start = time.monotonic()
    name, environment, said = gpu.working_device("A,B", {}, tmp_path, start + 60)
    assert time.monotonic() - start < 20 and name == environment["DEV"] == "B"
    assert said == ["A: no answer in 1 s; at work", "A PARALLEL=0: no answer in 1 s; at work", "B: at work"]


def test_a_device_that_works_without_compile_workers_is_used_without(tmp_path, monkeypatch):
    monkeypatch.delenv("PARALLEL", raising=False)
    monkeypatch.setattr(gpu, "PROBE", "import os, sys; sys.exit('dead worker' if 'PARALLEL' not in os.environ else 0)")
    name, environment, said = gpu.working_device("A,B", {}, tmp_path, time.monotonic() + 60)
    assert name == environment["DEV"] == "A" and environment["PARALLEL"] == "0"
    assert said == ["A: dead worker", "A PARALLEL=0: "]


def test_no_device_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "PROBE", "raise SystemExit('nothing here')")
    status, told = call(monkeypatch, tmp_path / "out", "--devices", "A", "--site", tmp_path / "site")
    assert status == 1 and told["device"] == "" and told["probes"] == ["A: nothing here", "A PARALLEL=0: nothing here"]


def test_what_runs_too_long_leaves_no_worker(tmp_path):
    mark = tmp_path / "mark"
    worker = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    with (tmp_path / "log").open("w") as log:
        assert gpu.run(["-c", code], {}, 1.0, log) is None
    time.sleep(3)
    assert not mark.exists()


def test_the_probe_passes_here():
    """The probe of a GPU also passes on a CPU: copies, products, and a captured graph with new inputs."""
    done = subprocess.run([sys.executable, "-c", gpu.PROBE], cwd=gpu.ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith(device.name()), done.stderr


def test_a_step_that_there_is_not_is_one_line_and_status_2(tmp_path, monkeypatch, capsys):
    status, told = call(monkeypatch, tmp_path / "out", "--steps", "small,smal,")
    said = capsys.readouterr().err
    assert status == 2 and told is None and said.count("\n") == 1
    assert said.startswith("unknown step 'smal', ''; known: small-training, small-generation, tinystories-training,")


def test_a_size_means_its_steps_in_the_scripts_order():
    found, unknown = gpu.chosen(["memory", "gpt2", "small-generation"])
    assert [step.name for step in found] == ["small-generation", "memory", "gpt2-training", "gpt2-generation"]
    assert not unknown
    everything = [step.name for step in gpu.steps()]
    assert [step.name for step in gpu.chosen(everything)[0]] == everything


def test_the_calls_of_the_docstring_name_all_steps():
    words = [line.split("--steps ")[1] for line in gpu.__doc__.splitlines() if "--site build/site" in line]
    assert len(words) == 3
    found = [gpu.chosen(word.split(",")) for word in words]
    assert [step.name for steps, _ in found for step in steps] == [step.name for step in gpu.steps()]
    assert not any(unknown for _, unknown in found)


def test_a_step_ends_with_its_time_and_the_next_one_goes_on(tmp_path):
    environment = {"DEV": "CPU"}
    step = gpu.Step(name="x", commands=(("-c", "print('{out}')"), ("-c", "import sys; sys.exit(3)")), seconds=30)
    assert gpu.do(step, tmp_path, environment, time.monotonic() + 100)["ends"] == ["0", "3"]
    assert (tmp_path / "x.log").read_text().strip() == str(tmp_path)
    assert gpu.do(step, tmp_path, environment, time.monotonic() + 10)["ends"] == ["no time left"] * 2


def test_the_download_command_names_the_pinned_tinygrad():
    project = tomllib.loads((gpu.ROOT / "pyproject.toml").read_text())["project"]
    [pinned] = [name for name in project["dependencies"] if name.startswith("tinygrad")]
    assert f" {pinned} " in gpu.__doc__


def test_another_driver_is_timed_without_peers(monkeypatch):
    [step] = [step for step in gpu.steps() if step.name == "nv"]
    [[how, code, *arguments]] = step.commands
    assert step.environment == {"DEV": "NV"} and (how, code) == ("-c", gpu.WITHOUT_TORCH) and arguments[0] == "bench"
    done = subprocess.run([sys.executable, how, code, "--version"], cwd=gpu.ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("mist-bench "), done.stderr
    monkeypatch.setitem(sys.modules, "torch", None)  # as WITHOUT_TORCH does
    assert not offers.has_torch()


@needs_torch
@pytest.mark.parametrize("family", ["mdlm", "autoregressive"])
def test_the_peers_weights_take_no_room_on_the_device(family):
    from benchmarks import ours, theirs
    from benchmarks.torch_peer import as_ours

    size = sizes()["tiny"]
    with Context(DEV="NULL"):  # a device that cannot even be read
        net, model = theirs.create(size, family)
        assert device.name() == "NULL"
    assert {str(tensor.device) for tensor in model.parameters.values()} == {"PYTHON"}
    _, expected = ours.create(size, family)
    for name, parameters in net.by_name().items():
        np.testing.assert_array_equal(as_ours(name, parameters), expected.parameters[name].numpy(), err_msg=name)


@needs_torch
def test_batches_of_the_peer_are_taken_where_it_computes(monkeypatch):
    import torch

    from benchmarks import theirs

    seen, step = [], theirs.Training.step
    monkeypatch.setattr(theirs.Training, "step", lambda self, tokens: (seen.append(tokens), step(self, tokens))[1])
    size = sizes()["tiny"]
    theirs.training(size, "mdlm", "torch eager").run()
    assert [tuple(tokens.shape) for tokens in seen] == [(size.batch, size.length)] * size.train_steps
    assert {tokens.device for tokens in seen} == {theirs.torch_device()} and seen[0].dtype == torch.int64


@needs_torch
def test_memory_says_what_its_numbers_mean(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["memory", "--size", "tiny", "--who", "torch eager"])
    memory.main()
    told = json.loads(capsys.readouterr().out)
    assert told["who"] == "torch eager" and told["allocated_bytes_means"] == "the most at any time"
    assert told["device"] == device.name() and "card_bytes" in told
