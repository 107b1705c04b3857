"""Mutations of the samplers' rules: is each seen by a test of one-step laws? Not collected by pytest.

    python tests/harness/mutations.py > docs/mutations.md        # all of them, about ten minutes
    python tests/harness/mutations.py pc first-hitting           # those of some samplers

Each entry replaces one expression of a rule, runs the tests of that rule (one function, the cases of that sampler), and
restores the file. A mutation that survives is an error of the tests: strengthen them. Mutations that leave the law as
it is are not listed (`first-hitting` in falling instead of rising order of its noise, `pc` with positions counted from
1). `tests/samplers/test_mutations.py` checks that everything is still in its function, exactly once.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PLUGINS, HOST = "plugins/sampler_{}.py", "mist_bench/{}.py"
LAW = "test_one_step_law_is_the_rule"


@dataclass(frozen=True)
class Mutation:
    """The expression `old` in the function `where` becomes `new`; then some of `cases` (pytest -k) of `test` must fail.

    `old` may also be a statement (`return order`). Both are compared as syntax trees: how the code is formatted does
    not matter.
    """

    sampler: str
    what: str
    where: str
    old: str
    new: str
    test: str = f"samplers/test_one_step_laws.py::{LAW}"
    cases: str = ""
    shared: str = ""
    """The module of the package that holds the rule, if it is not in the sampler's own file."""

    @property
    def file(self) -> Path:
        name = HOST.format(self.shared) if self.shared else PLUGINS.format(self.sampler.replace("-", "_"))
        return ROOT / name


def of(sampler: str, *rows: tuple[str, str, str, str], **more: str) -> list[Mutation]:
    return [Mutation(sampler, *row, **more) for row in rows]


NOISE = "samplers/test_one_step_laws.py::test_annealed_choice_noise_follows_maskgit"
ADAPTIVE = f"samplers/test_adaptive.py::{LAW}"

MUTATIONS = [
    *of("random",
        ("revealed 5 % too often", "step", "view.reveal_probability.unsqueeze(-1)",
         "1.05 * view.reveal_probability.unsqueeze(-1)"),
        ("revealed 5 % too rarely", "step", "view.reveal_probability.unsqueeze(-1)",
         "0.95 * view.reveal_probability.unsqueeze(-1)"),
        ("the other side of the coin", "step", "view.uniform < view.reveal_probability.unsqueeze(-1)",
         "view.uniform > view.reveal_probability.unsqueeze(-1)"),
        ("one coin for the whole text", "step", "view.uniform", "view.uniform[:, :1]"),
        ("masks of a later block too", "step", "view.masked & (view.uniform < view.reveal_probability.unsqueeze(-1))",
         "view.uniform < view.reveal_probability.unsqueeze(-1)"),
        ("a last step that may leave some", "step", "view.reveal_probability.unsqueeze(-1)",
         "view.reveal_probability.unsqueeze(-1).minimum(0.98)"),
        cases="rule_random"),
    *of("confidence",
        ("the other score", "scores", "self.score == 'max'", "self.score != 'max'"),
        ("the least sure first", "scores", "return order", "return -order"),
        cases="rule_confidence"),
    *of("confidence",
        ("the count of another step", "of", "scheduled_count(view)", "scheduled_count(view) + 1"),
        ("later masks are counted", "scheduled_count", "view.masked", "view.tokens == view.mask"),
        shared="api/counts", cases="rule_confidence"),
    *of("confidence",
        ("noise falls a step late", "scores", "view.step + 1", "view.step"),
        ("noise does not fall", "scores", "1.0 - (view.step + 1) / view.steps", "1.0"),
        ("noise 5 % too strong", "scores", "self.noise * (1.0 - (view.step + 1) / view.steps)",
         "1.05 * self.noise * (1.0 - (view.step + 1) / view.steps)"),
        ("noise on the wrong side", "scores", "order + self.noise * (1.0 - (view.step + 1) / view.steps) * gumbel",
         "order - self.noise * (1.0 - (view.step + 1) / view.steps) * gumbel"),
        ("noise of the other tail", "scores", "-(-view.uniform.log()).log()", "(-view.uniform.log()).log()"),
        ("noise on p and not on log p", "scores", "order + self.noise * (1.0 - (view.step + 1) / view.steps) * gumbel",
         "order.exp() + self.noise * (1.0 - (view.step + 1) / view.steps) * gumbel"),
        test=NOISE),
    *of("confidence",
        ("one more than the schedule says", "scheduled_count", "left - view.target_masked",
         "left - view.target_masked + 1"),
        ("one less than the schedule says", "scheduled_count", "left - view.target_masked",
         "left - view.target_masked - 1"),
        ("a step may reveal none", "scheduled_count", "(left - view.target_masked).maximum(1)",
         "left - view.target_masked"),
        ("no last step", "scheduled_count", "view.last.where(left, (left - view.target_masked).maximum(1))",
         "(left - view.target_masked).maximum(1)"),
        ("a rank too many", "reveal_best", "ranks(score, masked) < count.unsqueeze(-1)",
         "ranks(score, masked) <= count.unsqueeze(-1)"),
        ("ties go to the right", "comes_before", "order.reshape(1, 1, length) < order.reshape(1, length, 1)",
         "order.reshape(1, 1, length) > order.reshape(1, length, 1)"),
        ("among equals all come first", "comes_before",
         "(other > mine) | (other == mine) & (order.reshape(1, 1, length) < order.reshape(1, length, 1))",
         "other > mine"),
        ("masks and what is seen share the ranks", "comes_before", "before & masked.unsqueeze(-2)", "before"),
        shared="api/counts", cases="rule_confidence"),
    *of("confidence",
        ("the schedule is rounded down", "timetable", "(1 - alpha_s) * many + 0.5", "(1 - alpha_s) * many"),
        ("the schedule is rounded up", "timetable", "np.floor((1 - alpha_s) * many + 0.5 + 1e-09)",
         "np.ceil((1 - alpha_s) * many - 1e-09)"),
        ("a half is rounded down", "timetable", "np.floor((1 - alpha_s) * many + 0.5 + 1e-09)",
         "np.ceil((1 - alpha_s) * many - 0.5 - 1e-09)"),
        ("the schedule of the time before", "timetable", "1 - alpha_s", "1 - alpha_t"),
        shared="inference/timetable", test="inference/test_generate.py::test_timetable_counts_are_rounded_half_up"),
    *of("random",
        ("the last step leaves what the schedule leaves", "timetable", "times <= 0", "times < 0"),
        ("what is masked already is not divided by", "timetable", "(alpha_s - alpha_t) / np.maximum(1 - alpha_t, 1e-300)",
         "alpha_s - alpha_t"),
        ("divided by what is clean after the step", "timetable", "1 - alpha_t", "1 - alpha_s"),
        shared="inference/timetable", test="inference/test_generate.py::test_timetable_reveals_all_at_the_last_step"),
    *of("top-k",
        ("the remainder reaches one step too far", "of", "view.step < view.to_fill % view.steps",
         "view.step <= view.to_fill % view.steps"),
        ("the remainder goes to the last steps", "of", "view.step < view.to_fill % view.steps",
         "view.step >= view.steps - view.to_fill % view.steps"),
        ("no remainder", "of", "view.to_fill // view.steps + (view.step < view.to_fill % view.steps).int()",
         "view.to_fill // view.steps"),
        ("a share of what is left", "of", "view.to_fill // view.steps", "left // view.steps"),
        ("one too few", "of", "view.to_fill // view.steps", "-1 + view.to_fill // view.steps"),
        ("no last step", "of", "view.last.where(left, share)", "share"),
        shared="api/counts", cases="rule_top_k"),
    *of("top-k",
        ("the least sure first", "scores", "view.log_probability", "-view.log_probability"),
        ("ordered by the largest p", "scores", "view.log_probability", "view.max_log_probability"),
        cases="rule_top_k"),
    *of("margin",
        ("the smallest first", "scores", "view.margin", "-view.margin"),
        ("the largest p instead", "scores", "view.margin", "view.max_log_probability"),
        ("the drawn token instead of the first", "scores", "view.margin",
         "view.margin - view.max_log_probability.exp() + view.log_probability.exp()"),
        cases="rule_margin"),
    *of("margin",
        ("ties go to the right", "comes_before", "order.reshape(1, 1, length) < order.reshape(1, length, 1)",
         "order.reshape(1, 1, length) > order.reshape(1, length, 1)"),
        shared="api/counts", cases="rule_margin"),
    *of("entropy",
        ("the least certain first (KLASS's code)", "scores", "-view.entropy", "view.entropy"),
        ("the largest p instead", "scores", "-view.entropy", "view.max_log_probability"),
        ("the drawn token's share counts", "scores", "-view.entropy", "-view.entropy + 0.05 * view.log_probability"),
        cases="rule_entropy"),
    *of("entropy",
        ("ties go to the right", "comes_before", "order.reshape(1, 1, length) < order.reshape(1, length, 1)",
         "order.reshape(1, 1, length) > order.reshape(1, length, 1)"),
        shared="api/counts", cases="rule_entropy"),
    *of("entropy-bound",
        ("the sum without the maximum taken off", "enough", "before.where(entropy.unsqueeze(-2), 0.0).sum(axis=-1)",
         "before.where(entropy.unsqueeze(-2), 0.0).sum(axis=-1) + entropy"),
        ("a bar 5 % too high", "enough", "self.gamma", "1.05 * self.gamma"),
        ("a bar 5 % too low", "enough", "self.gamma", "0.95 * self.gamma"),
        ("below the bar, not up to it", "enough", "before.where(entropy.unsqueeze(-2), 0.0).sum(axis=-1) <= self.gamma",
         "before.where(entropy.unsqueeze(-2), 0.0).sum(axis=-1) < self.gamma"),
        ("certain ones that round below 0 pay back", "enough", "view.entropy.maximum(0.0)", "view.entropy - 0.01"),
        ("the maximum instead of the sum", "enough", "before.where(entropy.unsqueeze(-2), 0.0).sum",
         "before.where(entropy.unsqueeze(-2), 0.0).max"),
        ("masks of a later block too", "of", "view.masked & self.enough(view, score)",
         "(view.tokens == view.mask) & self.enough(view, score)"),
        shared="api/counts", test=ADAPTIVE, cases="entropy-bound"),
    *of("entropy-bound",
        ("the least certain first", "scores", "-view.entropy.maximum(0.0)", "view.entropy.maximum(0.0)"),
        test=ADAPTIVE, cases="entropy-bound"),
    *of("threshold",
        ("a bar 5 % too high", "enough", "self.tau", "min(1.0, 1.05 * self.tau)"),
        ("a bar 5 % too low", "enough", "self.tau", "0.95 * self.tau"),
        ("above the bar, not from it on", "enough", "score >= math.log(self.tau)", "score > math.log(self.tau)"),
        ("none where none is sure", "of", "(view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1)",
         "(view.masked & self.enough(view, score)).sum(axis=-1).int()"),
        ("two at least", "of", "(view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1)",
         "(view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(2)"),
        ("masks of a later block too", "of", "view.masked & self.enough(view, score)",
         "(view.tokens == view.mask) & self.enough(view, score)"),
        shared="api/counts", test=ADAPTIVE, cases="threshold and not factor"),
    *of("threshold",
        ("the other p", "scores", "self.score == 'max'", "self.score != 'max'"),
        test=ADAPTIVE, cases="threshold and not factor"),
    *of("threshold",
        ("factor: the bar of the rank before", "enough", "ranks(score, view.masked) + 2",
         "ranks(score, view.masked) + 1"),
        ("factor: the bar of the rank after", "enough", "ranks(score, view.masked) + 2",
         "ranks(score, view.masked) + 3"),
        ("factor: 5 % too large", "enough", "self.factor", "1.05 * self.factor"),
        ("factor: 5 % too small", "enough", "self.factor", "0.95 * self.factor"),
        ("factor: none where none is sure", "of",
         "(view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1)",
         "(view.masked & self.enough(view, score)).sum(axis=-1).int()"),
        ("factor: all if all but the last pass (Fast-dLLM's code)", "of",
         "(view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1)",
         "(lambda n, left: (n >= left - 1).where(left, n))("
         "(view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1), view.masked.sum(axis=-1).int())"),
        shared="api/counts", test=ADAPTIVE, cases="threshold and factor"),
    *of("first-hitting",
        ("always the first", "scores", "view.uniform", "view.uniform.zeros_like()"),
        ("likelier where the draw is likely", "scores", "view.uniform", "view.uniform * view.log_probability.exp()"),
        ("the left is favoured by 5 %", "scores", "view.uniform",
         "view.uniform * (1 - 0.05 * view.masked.arange(view.masked.shape[1]))"),
        cases="rule_first_hitting"),
    *of("first-hitting",
        ("two at once", "of", "view.to_fill.ones_like()", "view.to_fill.ones_like() * 2"),
        shared="api/counts", cases="rule_first_hitting"),
    *of("first-hitting",
        ("u^(1/(n+1))", "times", "np.maximum(left, 1)", "np.maximum(left + 1, 1)"),
        ("u instead of u^(1/n)", "times", "np.log(uniform[:, :events]) / np.maximum(left, 1)",
         "np.log(uniform[:, :events])"),
        ("the mask probability taken for the time", "times", "schedule.inverse(np.exp(np.cumsum(fall, axis=1)))",
         "np.exp(np.cumsum(fall, axis=1))"),
        ("asked at the time of the reveal before", "times", "[hit, np.zeros((len(to_fill), 1))]",
         "[np.ones((len(to_fill), 1)), hit[:, :-1], np.zeros((len(to_fill), 1))]"),
        test="samplers/test_one_step_laws.py::test_first_hitting_times"),
    *of("autoregressive",
        ("from right to left", "scores", "view.uniform.zeros_like()",
         "view.uniform.zeros_like() + view.masked.arange(view.masked.shape[1])"),
        cases="rule_autoregressive"),
    *of("autoregressive",
        ("two at once", "of", "view.to_fill.ones_like()", "view.to_fill.ones_like() * 2"),
        ("none", "of", "view.to_fill.ones_like", "view.to_fill.zeros_like"),
        ("ties go to the right", "comes_before", "order.reshape(1, 1, length) < order.reshape(1, length, 1)",
         "order.reshape(1, 1, length) > order.reshape(1, length, 1)"),
        shared="api/counts", cases="rule_autoregressive"),
    *of("autoregressive",
        ("the time after the reveal", "times", "many - np.arange(events + 1)", "many - 1 - np.arange(events + 1)"),
        ("the time of the longest text", "times", "np.maximum(many, 1)", "events"),
        test="samplers/test_one_step_laws.py::test_autoregressive_times_fall_evenly"),
    *of("pc",
        ("the right first", "scores", "informed - self.strength * view.masked.arange(view.masked.shape[1])",
         "informed + self.strength * view.masked.arange(view.masked.shape[1])"),
        ("places do not count", "scores", "informed - self.strength * view.masked.arange(view.masked.shape[1])",
         "informed"),
        ("a strength 5 % off", "scores", "self.strength", "1.05 * self.strength"),
        ("frequent tokens first", "scores", "view.log_probability + surprise", "view.log_probability - surprise"),
        ("frequencies do not count", "scores", "view.log_probability + surprise", "view.log_probability"),
        ("p does not count", "scores", "view.log_probability + surprise", "surprise"),
        ("the largest p instead of the drawn token's", "scores", "view.log_probability", "view.max_log_probability"),
        ("no cut", "scores", "(view.log_probability + surprise).minimum(math.log(self.alpha))",
         "view.log_probability + surprise"),
        ("cut from below", "scores", "(view.log_probability + surprise).minimum",
         "(view.log_probability + surprise).maximum"),
        ("a cut 5 % off", "scores", "self.alpha", "1.05 * self.alpha"),
        ("places count within the cut", "scores",
         "informed - self.strength * view.masked.arange(view.masked.shape[1])",
         "(view.log_probability + surprise - self.strength * view.masked.arange(view.masked.shape[1]))"
         ".minimum(math.log(self.alpha))"),
        test="samplers/test_pc.py::test_one_step_law_is_the_rule"),
    *of("pc",
        ("the product in float32 (PC-Sampler's code)", "scores",
         "informed - self.strength * view.masked.arange(view.masked.shape[1])",
         "informed.exp() * (-self.strength * view.masked.arange(view.masked.shape[1])).exp()"),
        test="samplers/test_pc.py::test_far_positions_are_told_apart"),
    *of("confidence",
        ("cools a step early", "heat", "self.cool * step", "self.cool * (step + 1)"),
        ("cools to another share", "heat", "self.cool", "0.95 * self.cool"),
        test="samplers/test_guided.py::test_cool_lowers_the_temperature_in_a_straight_line"),
    *of("remdm",
        ("sigma 5 % too large", "sigma", "largest.minimum(eta)", "largest.minimum(1.05 * eta)"),
        ("rescaled 5 % too much", "sigma", "eta * largest if self.kind == 'rescale' else largest.minimum(eta)",
         "1.05 * eta * largest if self.kind == 'rescale' else largest.minimum(eta)"),
        ("no more than the schedule is revealed", "coin", "sigma * odds", "0.0 * odds"),
        ("the surest are masked again", "sigma", "-state['drawn']", "state['drawn']"),
        ("fixed tokens too", "step", "view.free & (view.tokens != view.mask)", "view.tokens != view.mask"),
        ("the other side of the coin", "step", "view.uniform < self.coin(view, state)",
         "view.uniform > self.coin(view, state)"),
        test="samplers/test_remdm.py::test_one_step_law_is_the_rule"),
    *of("p2",
        ("one more is shown", "step", "view.target_masked", "view.target_masked - 1"),
        ("one less is shown", "step", "view.target_masked", "view.target_masked + 1"),
        ("no last step", "step", "view.last.where(0, view.target_masked)", "view.target_masked"),
        ("the most likely are masked", "step", "was_shown.where(own, view.log_probability)",
         "-was_shown.where(own, view.log_probability)"),
        ("eta 5 % too large", "step", "self.eta * view.shown_log_probability",
         "1.05 * self.eta * view.shown_log_probability"),
        ("ties go to what is masked", "step", "Tensor.cat(score, score, dim=1)",
         "Tensor.cat(score - 1e-06, score, dim=1)"),
        test="samplers/test_p2.py::test_one_step_law_is_the_rule"),
    *of("klass",
        ("a bar 5 % too low", "step", "math.log(self.tau)", "math.log(0.95 * self.tau)"),
        ("the other KL", "step", "view.log_probabilities.exp", "view.previous_log_probabilities.exp"),
        ("a step of history too few", "step", "self.history", "self.history - 1"),
        ("one more where none is stable", "step", "view.to_fill // view.steps", "view.to_fill // view.steps + 1"),
        ("no last step", "step", "view.step + 1 >= view.steps", "view.step + 1 > view.steps"),
        ("no fallback", "step", "ready.max(axis=-1, keepdim=True).where(ready, best)", "ready"),
        test="samplers/test_klass.py::test_one_step_law_is_the_rule"),
    *of("wino",
        ("a bar 5 % too low", "step", "math.log(self.tau)", "math.log(0.95 * self.tau)"),
        ("doubts 5 % too much", "step", "math.log(self.tau_back)", "math.log(1.05 * self.tau_back)"),
        ("one more is taken back", "step", "state['revealed'] - 1", "state['revealed']"),
        ("one less is taken back", "step", "state['revealed'] - 1", "state['revealed'] - 2"),
        ("takes back where one is revealed", "step", "count > 1", "count > 0"),
        ("the surest are taken back", "step", "-view.left_out_log_probability", "view.left_out_log_probability"),
        ("the least sure first", "step", "reveal_best(view.log_probability, view.masked, count)",
         "reveal_best(-view.log_probability, view.masked, count)"),
        ("a step may reveal none", "step", "sure.sum(axis=-1).int().minimum(most).maximum(1)",
         "sure.sum(axis=-1).int().minimum(most)"),
        ("fixed tokens too", "step", "view.free & (view.tokens != view.mask)", "view.tokens != view.mask"),
        test="inference/test_left_out.py::test_one_step_law_is_the_rule"),
    *of("wino",
        ("a limit of one more", "step", "left * 7 // 10", "left * 7 // 10 + 1"),
        ("no least limit", "step", "(left * 7 // 10).maximum(FEWEST)", "(left * 7 // 10).maximum(1)"),
        ("no limit", "step", "(left * 7 // 10).maximum(FEWEST).minimum(MOST)",
         "(left * 7 // 10).maximum(FEWEST).minimum(99)"),
        test="inference/test_left_out.py::test_never_more_than_its_limits_are_revealed"),
    *of("guided",
        ("5 % too far away", "evaluate", "self.scale", "1.05 * self.scale"),
        ("towards what is said without the prompt", "evaluate", "given - without", "without - given"),
        ("without everything", "evaluate", "free.where(tokens, mask)", "tokens * 0 + mask"),
        ("not normalised", "evaluate",
         "(given < -100000000.0).where(given, given + self.scale * (given - without)).log_softmax(-1)",
         "(given < -100000000.0).where(given, given + self.scale * (given - without))"),
        test="samplers/test_guided.py::test_the_answer_is_the_formula"),
    *of("semi-autoregressive",
        ("the rest goes to the latest", "block_shares", "i < steps % count", "i >= count - steps % count"),
        ("a block may have no step", "block_shares", "max(1, steps // count + (i < steps % count))",
         "max(0, steps // count + (i < steps % count))"),
        ("the last block is whole", "block_shares", "min(size, to_fill - i * size)", "size"),
        shared="api/samplers",
        test="samplers/test_semi_autoregressive.py::test_steps_are_shared_out_and_the_rest_goes_to_the_earliest"),
    *of("semi-autoregressive",
        ("blocks by place, not by what is to fill", "blocks", "free.cumsum(axis=1) - 1",
         "np.arange(free.shape[1])"),
        ("a block too wide", "blocks", "np.where(free, free.cumsum(axis=1) - 1, -1) // size",
         "np.where(free, free.cumsum(axis=1) - 1, -1) // (size + 1)"),
        shared="inference/plan",
        test="samplers/test_semi_autoregressive.py::test_blocks_are_filled_from_left_to_right_and_then_left_alone"),
]  # fmt: skip


def place(mutation: Mutation) -> ast.expr | ast.stmt:
    """The one expression or statement of the function that is the mutation's `old`."""
    [wanted] = ast.parse(mutation.old).body
    wanted = wanted.value if isinstance(wanted, ast.Expr) else wanted
    tree = ast.parse(mutation.file.read_text(encoding="utf-8"))
    functions = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.name == mutation.where]
    nodes = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.expr | ast.stmt)]
    found = [node for node in nodes if ast.dump(node) == ast.dump(wanted)]
    if len(found) != 1:
        raise ValueError(f"{mutation.file.name}, {mutation.where}: {len(found)} times, not once: {mutation.old}")
    return found[0]


def changed(mutation: Mutation) -> str:
    """The text of its file with the mutation."""
    node = place(mutation)
    assert node.end_lineno is not None and node.end_col_offset is not None
    lines = mutation.file.read_bytes().splitlines(keepends=True)  # columns count bytes
    before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    new = f"({mutation.new})" if isinstance(node, ast.expr) else mutation.new
    return (before + new.encode() + after).decode()


def failed(mutation: Mutation) -> str:
    """The first case that fails under the mutation; empty if none does."""
    text = mutation.file.read_text(encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-rf", f"tests/{mutation.test}"]
    command += ["-k", mutation.cases] if mutation.cases else []
    # no bytecode: a file that is changed twice within a second must not be taken for the same
    environment = {"DEV": "CPU", **os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "400"}
    try:
        mutation.file.write_text(changed(mutation), encoding="utf-8")
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    finally:
        mutation.file.write_text(text, encoding="utf-8")
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutation.sampler}, {mutation.what}: pytest ends with {done.returncode}\n{done.stdout}")
    found = re.search(r"^FAILED tests/(.*?) - (.*)$", done.stdout, re.MULTILINE)
    if found and not re.match(r"assert|AssertionError|mist_bench.api.component.UserError", found[2]):
        raise SystemExit(f"{mutation.sampler}, {mutation.what}: breaks instead of changing the law: {found[2]}")
    return found[1] if found else ""


PAGE = """\
# Mutations of the samplers' rules that the tests catch

Every row is a mutation that was made in the code, run, and undone: one expression of a rule changed, then the test of
that rule. The last column is the first case that failed. Made by `python tests/harness/mutations.py > docs/mutations.md`,
which ends with status 1 if one survives.

| sampler | mutation | caught by |
| --- | --- | --- |"""


def main() -> int:
    names = sys.argv[1:]
    chosen = [m for m in MUTATIONS if not names or m.sampler in names]
    print(PAGE, flush=True)
    survived = 0
    for mutation in chosen:
        case = failed(mutation)
        survived += not case
        print(f"| `{mutation.sampler}` | {mutation.what} | {f'`{case}`' if case else '**survived**'} |", flush=True)
    print(f"\n{len(chosen)} mutations, {survived} survived.")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
