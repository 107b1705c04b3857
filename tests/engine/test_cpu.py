"""The fast paths of a CPU change no number: tiles against numpy, replays against tinygrad's own executor."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
from tinygrad import Context, Device, Tensor, UOp
from tinygrad.engine.realize import get_graph_runtime

from mist_bench.engine import compiler, device
from mist_bench.engine import graph as graph_module
from mist_bench.engine import heuristic as tiles
from mist_bench.engine.graph import Graph, Inbox
from mist_bench.engine.graph import held as held_by
from mist_bench.engine.replay import CpuGraph

pytestmark = pytest.mark.skipif(device.name() != "CPU", reason="of a CPU alone")
RNG = np.random.default_rng(0)


def numbers(*shape) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def on(values) -> Tensor:
    return Tensor(values).realize()


# ---- tiles


def chosen(monkeypatch, work, worth: int = 0, medium: int = 0) -> list[list[tuple[str, int, int]]]:
    """The choices of `tiled` for the kernels of this work, compiled in this process; None where it makes none.

    `worth`, `medium`: from how many terms on kernels are cut, and along both axes."""
    from tinygrad import codegen
    from tinygrad.codegen.opt import heuristic
    from tinygrad.engine import realize
    from tinygrad.helpers import Context

    found: list = []
    own = heuristic.hand_coded_optimizations

    def watch(k):
        mine = tiles.tiled(k)
        found.append(None if mine is None else [(o.op.name, o.axis, o.arg) for o in mine.applied_opts])
        return own(k)

    monkeypatch.setattr(tiles, "WORTH", worth)
    monkeypatch.setattr(tiles, "MEDIUM", medium)
    monkeypatch.setattr(heuristic, "hand_coded_optimizations", watch)
    for module in (codegen, realize):  # kernels that are kept would not be cut again
        monkeypatch.setattr(module, "to_program_cache", {})
    with Context(PARALLEL=0):
        work()
    return found


@pytest.mark.parametrize(
    ("rows", "inner", "columns", "opts"),
    [
        (64, 20, 48, [("UPCAST", 1, 16), ("UPCAST", 0, 4)]),
        (64, 20, 36, [("UPCAST", 1, 12), ("UPCAST", 0, 4)]),
        (66, 20, 40, [("UPCAST", 1, 8), ("UPCAST", 0, 3)]),
        (64, 20, 35, None),  # nothing divides
    ],
)
def test_products_are_tiled_along_memory(monkeypatch, rows, inner, columns, opts):
    a, b = numbers(rows, inner), numbers(inner, columns)
    x, y, out = on(a), on(b), []
    assert chosen(monkeypatch, lambda: out.append((x @ y).numpy())) == [opts]
    np.testing.assert_allclose(out[0], a.astype(np.float64) @ b, rtol=0, atol=1e-4)


def test_small_kernels_of_any_kind_are_left_as_they_are(monkeypatch):
    """They would be slow to compile and hardly faster; a size that a variable sets counts as the largest it may have."""

    def product(rows):
        return lambda: (on(numbers(rows, 16)) @ on(numbers(16, 32))).realize()

    assert chosen(monkeypatch, product(63), 64 * 16 * 32) == [[]]
    assert chosen(monkeypatch, product(64), 64 * 16 * 32) == [[("UPCAST", 1, 16), ("UPCAST", 0, 4)]]
    assert chosen(monkeypatch, lambda: on(numbers(8, 64)).max(axis=1).realize(), 8 * 64 + 1)[-1] == []
    assert chosen(monkeypatch, product(63), medium=64 * 16 * 32) == [[("UPCAST", 1, 16)]], "of medium size: vectors"
    rows, x = UOp.variable("rows", 1, 64).bind(3), on(numbers(64, 16))
    assert chosen(monkeypatch, lambda: x.shrink(((0, rows), None)).sum(axis=1).realize(), 64 * 16)[-1] != []
    assert chosen(monkeypatch, lambda: x.shrink(((0, rows), None)).sum(axis=1).realize(), 64 * 16 + 1)[-1] == []


def test_what_lies_along_the_sum_takes_several_terms_at_once_if_it_is_large(monkeypatch):
    a, b = numbers(64, 20), numbers(48, 20)
    x, y, out = on(a), on(b), []
    opts = chosen(monkeypatch, lambda: out.append((x @ y.T).numpy()))
    assert opts == [[("UPCAST", 0, 16), ("UPCAST", 1, 4), ("UNROLL", 0, 4)]]
    np.testing.assert_allclose(out[0], a.astype(np.float64) @ b.T, rtol=0, atol=1e-4)
    opts = chosen(monkeypatch, lambda: out.append((x @ y.T).numpy()), medium=64 * 48 * 20 + 1)
    assert opts == [[("UPCAST", 0, 16)]]
    np.testing.assert_allclose(out[1], a.astype(np.float64) @ b.T, rtol=0, atol=1e-4)


def test_batches_gradients_tables_and_what_has_no_sum(monkeypatch):
    a, b, ids = numbers(3, 32, 24), numbers(24, 16), RNG.integers(0, 40, 50)
    w, x, out = on(b), on(a), []

    def gradient():
        out.append((x @ w).sum().gradient(w)[0].numpy())

    chosen(monkeypatch, gradient)
    np.testing.assert_allclose(out[0], np.repeat(a.sum(axis=(0, 1))[:, None], 16, axis=1), rtol=0, atol=1e-3)
    table, places, seen = on(numbers(40, 32)), on(ids.astype(np.int32)), []

    def scatter():
        seen.append((table[places] * on(numbers(50, 32) * 0 + 2)).sum().gradient(table)[0].numpy())

    assert [("UPCAST", 1, 16), ("UPCAST", 0, 4)] in chosen(monkeypatch, scatter)
    np.testing.assert_allclose(seen[0], np.repeat(2.0 * np.bincount(ids, minlength=40)[:, None], 32, axis=1), atol=1e-5)
    assert chosen(monkeypatch, lambda: on(numbers(8, 64)).exp().realize())[-1] == []
    assert chosen(monkeypatch, lambda: on(numbers(3, 5)).exp().realize())[-1] is None
    assert chosen(monkeypatch, lambda: on(numbers(8, 64)).max(axis=1).realize())[-1] is None


def test_other_devices_keep_their_own_choice(tmp_path):
    """Rendered for a device that runs nothing: the kernels are those of a process without tiles."""
    code = (
        "import sys\n"
        "from tinygrad import Tensor, GlobalCounters\n"
        "from tinygrad.codegen.opt import heuristic\n"
        "if sys.argv[1] == 'tiles':\n"
        "    from mist_bench.engine import compiler; compiler.prepare()\n"
        "of, own = [], heuristic.hand_coded_optimizations\n"
        "def watch(k):\n"
        "    made = own(k); of.append([str(o) for o in made.applied_opts]); return made\n"
        "heuristic.hand_coded_optimizations = watch\n"
        "(Tensor.empty(64, 64) @ Tensor.empty(64, 64)).exp().realize(); print(of)"
    )
    env = {**__import__("os").environ, "DEV": "NULL", "PARALLEL": "0", "XDG_CACHE_HOME": str(tmp_path)}
    texts = [subprocess.run([sys.executable, "-c", code, mode], env=env, capture_output=True, text=True, check=True).stdout
             for mode in ("tiles", "plain")]  # fmt: skip
    assert texts[0] == texts[1] and "UPCAST" in texts[0]


def test_rows_of_a_gpu_are_shared_by_a_warp():
    """On tinygrad's device that runs GPU kernels in Python: which reductions are cut this way, and their sums."""
    code = (
        "import numpy as np\n"
        "from mist_bench.engine import compiler, heuristic as ours; compiler.prepare(); ours.FEW = 8\n"
        "from tinygrad import Tensor\n"
        "from tinygrad.codegen.opt import heuristic\n"
        "shared, own = [], heuristic.hand_coded_optimizations\n"
        "def watch(k):\n"
        "    made = own(k); shared.append(['GROUP' in str(o) and '32' in str(o) for o in made.applied_opts] == [True])\n"
        "    return made\n"
        "heuristic.hand_coded_optimizations = watch\n"
        "x = np.random.default_rng(0).standard_normal((16, 256)).astype(np.float32)\n"
        "t, w = Tensor(x).realize(), Tensor(x.T[:, :16].copy()).realize()\n"
        "np.testing.assert_allclose((t * t).sum(axis=1).numpy(), (x * x).sum(axis=1), rtol=1e-5)\n"
        "np.testing.assert_array_equal(t.max(axis=1).numpy(), x.max(axis=1))\n"
        "rows = [shared.pop() for _ in range(len(shared))]\n"
        "np.testing.assert_allclose(t[:, :64].sum(axis=1).numpy(), x[:, :64].sum(axis=1), rtol=1e-3, atol=1e-4)\n"
        "(t @ w).realize(); t[:8].sum(axis=1).realize(); t.sum(axis=0).realize()\n"
        "print(all(rows), any(shared))"
    )
    env = {**__import__("os").environ, "DEV": "PYTHON", "PARALLEL": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_compile_workers_begin_with_the_tiles():
    from tinygrad.engine import worker

    assert worker._init_worker is compiler.start_compile_worker
    code = (
        "from tinygrad.codegen.opt import heuristic\n"
        "from mist_bench.engine import compiler, tinygrad_private\n"
        "compiler.start_compile_worker()\n"
        "print(heuristic.hand_coded_optimizations is tinygrad_private.patches[0].replacement)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


# ---- replays


def test_a_replay_takes_its_inputs_and_keeps_its_state():
    total = Tensor.zeros(16).contiguous().realize()

    def work(x, y):
        total.assign(total + x.sum(axis=0))
        result = (x @ y).relu().contiguous()
        Tensor.realize(total, result)
        return result

    graph = Graph("test", work)
    assert Device["CPU"].graph is CpuGraph
    sums = np.zeros(16)
    for _ in range(4):
        a, b = numbers(8, 16), numbers(16, 32)
        out = graph(on(a), on(b)).numpy()
        sums += a.sum(axis=0)
        np.testing.assert_allclose(out, np.maximum(a @ b, 0), rtol=0, atol=1e-5)
        np.testing.assert_allclose(total.numpy(), sums, rtol=0, atol=1e-5)
    assert graph.kernels >= 2


def test_a_replay_follows_a_variable():
    place = UOp.variable("place", 0, 7)
    graph = Graph("place", lambda x, i: x[i : i + 1].contiguous().realize() + 0)
    values = numbers(8, 4)

    def run(x, i):
        return (x.shrink(((i, i + 1), (0, 4))) * 2).contiguous().realize()

    graph = Graph("place", run)
    for i in (0, 3, 7, 1):
        np.testing.assert_array_equal(graph(on(values), place.bind(i)).numpy(), 2 * values[i : i + 1])


def test_a_part_of_an_input_is_left_to_tinygrad():
    """A view has another address than its input: a replay that mistook one for the other would read elsewhere."""
    graph = Graph("part", lambda x: Tensor.cat(x[4:8] * 2, x[:4] + x[4:8], dim=0).contiguous().realize())
    for _ in range(3):
        values = numbers(8, 32)
        whole = np.concatenate([values[4:] * 2, values[:4] + values[4:]])
        np.testing.assert_array_equal(graph(on(values)).numpy(), whole)


def test_a_replay_gives_the_same_bits_as_tinygrads_own_way(monkeypatch):
    def work(x, y):
        h = (x @ y).contiguous()
        return (h.softmax(-1) @ y.T).contiguous().realize()

    a, b = on(numbers(24, 16)), on(numbers(16, 48))
    replayed = Graph("ours", work)
    ours = [replayed(a, b).numpy() for _ in range(3)][-1]
    monkeypatch.setattr(Device["CPU"], "graph", None)
    plain = Graph("theirs", work)
    np.testing.assert_array_equal(ours, [plain(a, b).numpy() for _ in range(3)][-1])


def loop(x, total, i):
    """Reads a part of an input, keeps its state in another, and follows a variable."""
    part = (total[2:6] + x.shrink(((i, i + 4), (0, 3)))).contiguous().realize()
    total.assign(total * 0.5 + Tensor.cat(part, x[:4] * 2)).realize()
    return part


def test_a_loop_over_the_same_buffers_gives_the_same_bits_without_a_look_at_them(monkeypatch):
    values, place, found = numbers(8, 3), UOp.variable("place", 0, 4), {}
    for how in ("replayed", "looked at"):
        x, total, seen = Inbox(8, 3, dtype="float32"), Inbox(8, 3, dtype="float32"), []
        if how == "looked at":
            monkeypatch.setattr("mist_bench.engine.replay.replay", lambda captured, inputs: None)
        graph = Graph(how, loop)
        for i in (0, 4, 1, 3, 2):
            seen.append(graph(x(values * np.float32(i + 1)), total.tensor, place.bind(i)).numpy().copy())
        [known] = graph._replays.values()
        assert (known is None) == (how == "looked at")
        found[how] = np.concatenate([*seen, total.tensor.numpy()])
    np.testing.assert_array_equal(found["replayed"], found["looked at"])
    assert len(np.unique(found["replayed"])) > 40


def test_a_loop_is_shown_kernel_by_kernel_when_that_is_asked_for(capsys):
    """tinygrad's own executor is bypassed unless DEBUG asks for kernels one by one."""
    graph, x = Graph("shown", lambda x: ((x * 2).contiguous() + 1).contiguous().realize()), on(numbers(64))
    for _ in range(3):
        graph(x)
    [known] = graph._replays.values()
    assert known.graphs and "batched" not in capsys.readouterr().out
    with Context(DEBUG=2):
        shown = graph(x).numpy()
    assert "CPU" in capsys.readouterr().out
    np.testing.assert_array_equal(shown, x.numpy() * 2 + 1)


def test_a_graph_holds_its_buffers_once_and_nobody_elses():
    """4 bytes a number: inputs, state, intermediate results, outputs."""
    total, x, other = on(np.zeros(1000)), on(numbers(1000)), on(numbers(5000))

    def function(x):
        between = (x * 2).contiguous()
        total.assign(total + between.sum())
        return (between.flip(0) + 1).contiguous().realize(total)

    graph = Graph("holds", function)
    for given in (x, x, x):
        graph(given)
    held = held_by([graph])
    assert 4 * 4000 <= held < 8 * 4000  # a sum and a copy or two lie between as well
    assert held_by([graph, graph]) == held
    second = Graph("beside it", lambda y: (y * x.sum()).contiguous().realize())
    second(other)
    assert held_by([graph]) == held
    assert held_by([graph, second]) - held == pytest.approx(4 * 10_000, abs=2000)


def test_each_set_of_buffers_is_its_own_and_the_oldest_make_room(monkeypatch):
    monkeypatch.setattr(graph_module, "MOST_REPLAYS", 8)
    graph = Graph("pairs", lambda x, y: (x[0] * 2 + y).contiguous().realize())
    pairs = [(on(numbers(8)), on(numbers(8))) for _ in range(10)]
    for a, b in [*pairs, pairs[0], pairs[0], *(pair for pair in pairs for _ in range(3))]:
        np.testing.assert_array_equal(graph([a], b).numpy(), 2 * a.numpy() + b.numpy())
    assert len(graph._replays) == 8 and (pairs[0][0].uop, pairs[0][1].uop) not in graph._replays


def test_what_a_graph_gave_is_copied_before_it_is_written_again():
    graph = Graph("again", lambda x: (x.flip(0) + 1).contiguous().realize())
    now, expected = on(np.arange(64, dtype=np.float32)), np.arange(64, dtype=np.float32)
    for _ in range(6):
        now, expected = graph(now), expected[::-1] + 1
        np.testing.assert_array_equal(now.numpy(), expected)
    assert list(graph._replays.values()) == [None]


def test_kernels_of_several_devices_are_left_to_tinygrad():
    """Neighbouring kernels of one device are replayed in the same capture, in order with the others."""
    weights = numbers(32, 32)
    copies = on(weights).shard(("CPU", "CPU:1")).realize()

    def work(x):
        doubled = (x * 2).contiguous()
        spread = (doubled.exp().contiguous() + 1).contiguous().shard(("CPU", "CPU:1"), axis=0)
        return (
            ((spread @ copies).contiguous().relu().sum(axis=0).to("CPU") + doubled.sum(axis=0)).contiguous().realize()
        )

    graph = Graph("several", work)
    for _ in range(3):
        values = numbers(8, 32)
        whole = np.maximum((np.exp(2.0 * values) + 1) @ weights, 0).sum(axis=0) + 2 * values.sum(axis=0)
        np.testing.assert_allclose(graph(on(values)).numpy(), whole, rtol=1e-3)
    assert any(
        isinstance(get_graph_runtime(call.src[0]), CpuGraph)
        for call in graph._jit.captured.linear.src
        if call.src[0].arg == "graph"
    )
    assert any(isinstance(call.src[1].device, tuple) for call in graph._jit.captured.linear.src)


def test_an_inbox_brings_what_it_is_given_and_nothing_else():
    inbox = Inbox(5)
    graph = Graph("inbox", lambda words: (words * 2).contiguous().realize())
    seen = [graph(inbox(np.arange(5, dtype=np.int32) + i)).numpy() for i in range(4)]
    np.testing.assert_array_equal(seen, [2 * (np.arange(5) + i) for i in range(4)])
    flags = Inbox(2, 3, dtype="bool")
    told = np.broadcast_to(np.array([True, False, True]), (2, 3))  # read-only
    np.testing.assert_array_equal(flags(told).numpy(), told)
    for wrong in (np.arange(4, dtype=np.int32), np.arange(5)):
        with pytest.raises(ValueError, match=r"does not fit int32 of \(5,\)"):
            inbox(wrong)


def test_a_variable_size_keeps_tinygrads_choice(monkeypatch):
    """The cached step reads a variable number of positions, so that no tile size is known to divide it."""
    place = UOp.variable("position", 1, 63)
    values = on(numbers(32, 64))
    assert chosen(monkeypatch, lambda: values[:, : place.bind(40)].exp().contiguous().realize()) == [None]


def test_the_operations_of_a_graph_are_those_of_its_kernels():
    """A product of (32, 48) and (48, 16) takes 2 x 32 x 48 x 16; nothing is counted before the capture."""
    a, b = Tensor.rand(32, 48).realize(), Tensor.rand(48, 16).realize()
    graph = Graph("product", lambda x, y: (x @ y).realize())
    assert graph.operations == 0
    graph(a, b)
    assert graph.operations == 2 * 32 * 48 * 16


# ---- objects of captures


def test_what_a_dropped_capture_held_is_freed_by_the_next_capture_and_not_visited_before():
    def capture(factor):
        made = Graph("freed", lambda x: (x * factor).contiguous().realize())
        made(on(numbers(3)))
        return made

    dropped, kept = capture(2), capture(3)
    gone, stays = (weakref.ref(each._jit.captured) for each in (dropped, kept))
    dropped.drop()
    capture(4)
    assert gone() is None and stays() is not None
    frozen = gc.get_freeze_count()
    capture(5)
    assert gc.get_freeze_count() > frozen, "nothing was unfrozen: no capture was dropped in between"


def test_a_capture_visits_all_objects_only_after_a_drop(monkeypatch):
    calls = []
    monkeypatch.setattr(graph_module.gc, "unfreeze", lambda: calls.append(1))
    graphs = [Graph("visited", lambda x, n=n: (x + n).contiguous().realize()) for n in range(3)]
    for each in graphs[:2]:
        each(on(numbers(3)))
    calls.clear()
    graphs[1].drop()
    graphs[2](on(numbers(3)))
    graphs[1](on(numbers(3)))
    assert calls == [1]
