"""Mutations of the samplers' rules, made by hand: is each seen by a one-step law test? Not collected by pytest.

    python tests/harness/mutations.py > docs/mutations.md        # all of them, about ten minutes
    python tests/harness/mutations.py pc first-hitting           # those of some samplers

Each entry changes one line of a rule, runs the tests that hold that rule (one function, the cases of that sampler), and
puts the line back. A mutation that survives is an error of the tests: strengthen them. What cannot be told from the
right rule by anybody is not listed (`first-hitting` in falling instead of rising order of its noise, `pc` with places
counted from 1: the same laws). `tests/samplers/test_mutations.py` holds that every line still is where it is said to be.
"""

from __future__ import annotations

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
    """`old`, found once in `file`, becomes `new`; then some of `cases` (pytest -k) of `test` must fail."""

    sampler: str
    what: str
    old: str
    new: str
    test: str = f"samplers/test_one_step_laws.py::{LAW}"
    cases: str = ""
    shared: str = ""
    """The module of the host that holds the line, if it is not in the sampler's own file."""

    @property
    def file(self) -> Path:
        name = HOST.format(self.shared) if self.shared else PLUGINS.format(self.sampler.replace("-", "_"))
        return ROOT / name


def of(sampler: str, *rows: tuple[str, str, str], **more: str) -> list[Mutation]:
    return [Mutation(sampler, *row, **more) for row in rows]


COIN = "view.reveal_probability.unsqueeze(-1)"
BEST = "(left - view.target_masked).maximum(1)"
NOISE = "samplers/test_one_step_laws.py::test_annealed_choice_noise_follows_maskgit"
TIES = "(order.reshape(1, 1, length) < order.reshape(1, length, 1))"
ADAPTIVE = f"samplers/test_adaptive.py::{LAW}"
TIMES = "samplers/test_one_step_laws.py::test_{}_times"
GRID = "inference/test_generate.py::test_grid_{}"
GRID_COUNTS = "np.floor((1 - alpha_s) * many + 0.5 + 1e-9)"

MUTATIONS = [
    *of("random",
        ("revealed 5 % too often", COIN, f"1.05 * {COIN}"),
        ("revealed 5 % too rarely", COIN, f"0.95 * {COIN}"),
        ("the other side of the coin", "view.uniform < view", "view.uniform > view"),
        ("one coin for the whole text", "(view.uniform <", "(view.uniform[:, :1] <"),
        ("masks of a later block too", "view.masked & (view.uniform", "(view.uniform"),
        ("a last step that may leave some", COIN, f"{COIN}.minimum(0.98)"),
        cases="rule_random"),
    *of("confidence",
        ("the other score", 'if self.score == "max"', 'if self.score != "max"'),
        ("the least sure first", "return order", "return -order"),
        cases="rule_confidence"),
    *of("confidence",
        ("the count of another step", "return scheduled_count(view)", "return scheduled_count(view) + 1"),
        ("later masks are counted", "left = view.masked.sum(axis=-1).int()\n    return",
         "left = (view.tokens == view.mask).sum(axis=-1).int()\n    return"),
        shared="api/counts", cases="rule_confidence"),
    *of("confidence",
        ("noise falls a step late", "(view.step + 1)", "view.step"),
        ("noise does not fall", "(1.0 - (view.step + 1) / view.steps)", "1.0"),
        ("noise 5 % too strong", "self.noise * (1.0", "1.05 * self.noise * (1.0"),
        ("noise on the wrong side", "order + self.noise", "order - self.noise"),
        ("noise of the other tail", "-(-view.uniform.log()).log()", "(-view.uniform.log()).log()"),
        ("noise on p and not on log p", "order = order + self", "order = order.exp() + self"),
        test=NOISE),
    *of("confidence",
        ("one more than the schedule says", BEST, "(left - view.target_masked + 1).maximum(1)"),
        ("one less than the schedule says", BEST, "(left - view.target_masked - 1).maximum(1)"),
        ("a step may reveal none", BEST, "(left - view.target_masked)"),
        ("no last step", f"view.last.where(left, {BEST})", BEST),
        ("a rank too many", "< count.unsqueeze(-1))", "<= count.unsqueeze(-1))"),
        ("ties go to the right", TIES, TIES.replace(" < ", " > ")),
        ("among equals all come first", f" | ((other == mine) & {TIES})", ""),
        ("masks and what is seen share the ranks", "return before & masked.unsqueeze(-2)", "return before"),
        shared="api/samplers", cases="rule_confidence"),
    *of("confidence",
        ("the schedule is rounded down", GRID_COUNTS, "np.floor((1 - alpha_s) * many + 1e-9)"),
        ("the schedule is rounded up", GRID_COUNTS, "np.ceil((1 - alpha_s) * many - 1e-9)"),
        ("a half is rounded down", GRID_COUNTS, "np.ceil((1 - alpha_s) * many - 0.5 - 1e-9)"),
        ("the schedule of the time before", GRID_COUNTS, "np.floor((1 - alpha_t) * many + 0.5 + 1e-9)"),
        shared="inference/generate", test=GRID.format("counts_are_rounded_half_up")),
    *of("random",
        ("the last step leaves what the schedule leaves", "np.where(times <= 0, 1.0, ", "np.where(times < 0, 1.0, "),
        ("what is masked already is not divided by", "(alpha_s - alpha_t) / np.maximum(1 - alpha_t, 1e-300)",
         "alpha_s - alpha_t"),
        ("divided by what is clean after the step", "np.maximum(1 - alpha_t, 1e-300)", "np.maximum(1 - alpha_s, 1e-300)"),
        shared="inference/generate", test=GRID.format("reveals_all_at_the_last_step")),
    *of("top-k",
        ("the remainder reaches one step too far", "view.step < view.to_fill", "view.step <= view.to_fill"),
        ("the remainder goes to the last steps", "view.step < view.to_fill % view.steps",
         "view.step >= view.steps - view.to_fill % view.steps"),
        ("no remainder", " + (view.step < view.to_fill % view.steps).int()", ""),
        ("a share of what is left", "share = view.to_fill // view.steps", "share = left // view.steps"),
        ("one too few", "share = view.to_fill", "share = -1 + view.to_fill"),
        ("no last step", "view.last.where(left, share)", "share"),
        shared="api/counts", cases="rule_top_k"),
    *of("top-k",
        ("the least sure first", "return view.log_probability", "return -view.log_probability"),
        ("ordered by the largest p", "return view.log_probability", "return view.max_log_probability"),
        cases="rule_top_k"),
    *of("margin",
        ("the smallest first", "return view.margin", "return -view.margin"),
        ("the largest p instead", "return view.margin", "return view.max_log_probability"),
        ("the drawn token instead of the first", "return view.margin",
         "return view.margin - view.max_log_probability.exp() + view.log_probability.exp()"),
        cases="rule_margin"),
    *of("margin", ("ties go to the right", TIES, TIES.replace(" < ", " > ")), shared="api/counts", cases="rule_margin"),
    *of("entropy",
        ("the least certain first (KLASS's code)", "return -view.entropy", "return view.entropy"),
        ("the largest p instead", "return -view.entropy", "return view.max_log_probability"),
        ("the drawn token's share counts", "return -view.entropy", "return -view.entropy + 0.05 * view.log_probability"),
        cases="rule_entropy"),
    *of("entropy", ("ties go to the right", TIES, TIES.replace(" < ", " > ")), shared="api/counts", cases="rule_entropy"),
    *of("entropy-bound",
        ("the sum without the maximum taken off", ".sum(axis=-1) <= self.gamma", ".sum(axis=-1) + entropy <= self.gamma"),
        ("a bar 5 % too high", "<= self.gamma", "<= 1.05 * self.gamma"),
        ("a bar 5 % too low", "<= self.gamma", "<= 0.95 * self.gamma"),
        ("below the bar, not up to it", ".sum(axis=-1) <= self.gamma", ".sum(axis=-1) < self.gamma"),
        ("certain ones that round below 0 pay back", "view.entropy.maximum(0.0)", "(view.entropy - 0.01)"),
        ("the maximum instead of the sum", "0.0).sum(axis=-1)", "0.0).max(axis=-1)"),
        ("masks of a later block too", "(view.masked & self.enough", "((view.tokens == view.mask) & self.enough"),
        shared="api/counts", test=ADAPTIVE, cases="entropy-bound"),
    *of("entropy-bound",
        ("the least certain first", "return -view.entropy", "return view.entropy"),
        test=ADAPTIVE, cases="entropy-bound"),
    *of("threshold",
        ("a bar 5 % too high", "math.log(self.tau)", "math.log(min(1.0, 1.05 * self.tau))"),
        ("a bar 5 % too low", "math.log(self.tau)", "math.log(0.95 * self.tau)"),
        ("above the bar, not from it on", "score >= math.log", "score > math.log"),
        ("none where none is sure", ".sum(axis=-1).int().maximum(1)", ".sum(axis=-1).int()"),
        ("two at least", ".sum(axis=-1).int().maximum(1)", ".sum(axis=-1).int().maximum(2)"),
        ("masks of a later block too", "(view.masked & self.enough", "((view.tokens == view.mask) & self.enough"),
        shared="api/counts", test=ADAPTIVE, cases="threshold and not factor"),
    *of("threshold",
        ("the other p", 'if self.score == "max"', 'if self.score != "max"'),
        test=ADAPTIVE, cases="threshold and not factor"),
    *of("threshold",
        ("factor: the bar of the rank before", "view.masked) + 2)", "view.masked) + 1)"),
        ("factor: the bar of the rank after", "view.masked) + 2)", "view.masked) + 3)"),
        ("factor: 5 % too large", "1.0 - self.factor /", "1.0 - 1.05 * self.factor /"),
        ("factor: 5 % too small", "1.0 - self.factor /", "1.0 - 0.95 * self.factor /"),
        ("factor: none where none is sure", ".sum(axis=-1).int().maximum(1)", ".sum(axis=-1).int()"),
        ("factor: all if all but the last pass (Fast-dLLM's code)",
         "return (view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1)",
         "n = (view.masked & self.enough(view, score)).sum(axis=-1).int().maximum(1); left = view.masked.sum(axis=-1)"
         ".int(); return (n >= left - 1).where(left, n)"),
        shared="api/counts", test=ADAPTIVE, cases="threshold and factor"),
    *of("first-hitting",
        ("always the first", "return view.uniform", "return view.uniform.zeros_like()"),
        ("likelier where the draw is likely", "return view.uniform", "return view.uniform * view.log_probability.exp()"),
        ("the left is favoured by 5 %", "return view.uniform",
         "return view.uniform * (1 - 0.05 * view.masked.arange(view.masked.shape[1]))"),
        cases="rule_first_hitting"),
    *of("first-hitting",
        ("two at once", "view.to_fill.ones_like()", "view.to_fill.ones_like() * 2"),
        shared="api/counts", cases="rule_first_hitting"),
    *of("first-hitting",
        ("u^(1/(n+1))", "np.maximum(left, 1)", "np.maximum(left + 1, 1)"),
        ("u instead of u^(1/n)", "fall = np.log(uniform[:, :events]) / np.maximum(left, 1)",
         "fall = np.log(uniform[:, :events])"),
        ("the mask probability taken for the time", "schedule.inverse(np.exp(np.cumsum(fall, axis=1)))",
         "np.exp(np.cumsum(fall, axis=1))"),
        ("asked at the time of the reveal before", "np.concatenate([hit, np.zeros((len(to_fill), 1))], axis=1)",
         "np.concatenate([np.ones((len(to_fill), 1)), hit[:, :-1], np.zeros((len(to_fill), 1))], axis=1)"),
        test=TIMES.format("first_hitting")),
    *of("autoregressive",
        ("from right to left", "return view.uniform.zeros_like()",
         "return view.uniform.zeros_like() + view.masked.arange(view.masked.shape[1])"),
        cases="rule_autoregressive"),
    *of("autoregressive",
        ("two at once", "view.to_fill.ones_like()", "view.to_fill.ones_like() * 2"),
        ("none", "view.to_fill.ones_like()", "view.to_fill.zeros_like()"),
        cases="rule_autoregressive"),
    *of("autoregressive", ("ties go to the right", TIES, TIES.replace(" < ", " > ")), shared="api/counts",
        cases="rule_autoregressive"),
    *of("autoregressive",
        ("the time after the reveal", "many - np.arange(events + 1), 0)", "many - 1 - np.arange(events + 1), 0)"),
        ("the time of the longest text", "left / np.maximum(many, 1)", "left / events"),
        test=TIMES.format("autoregressive") + "_fall_evenly"),
    *of("pc",
        ("the right first", "informed - self.strength", "informed + self.strength"),
        ("places do not count", " - self.strength * view.masked.arange(view.masked.shape[1])", ""),
        ("a strength 5 % off", "- self.strength *", "- 1.05 * self.strength *"),
        ("frequent tokens first", "(view.log_probability + surprise)", "(view.log_probability - surprise)"),
        ("frequencies do not count", "(view.log_probability + surprise)", "view.log_probability"),
        ("p does not count", "(view.log_probability + surprise)", "surprise"),
        ("the largest p instead of the drawn token's", "(view.log_probability +", "(view.max_log_probability +"),
        ("no cut", ".minimum(math.log(self.alpha))", ""),
        ("cut from below", ".minimum(math.log(self.alpha))", ".maximum(math.log(self.alpha))"),
        ("a cut 5 % off", "math.log(self.alpha)", "math.log(1.05 * self.alpha)"),
        ("places count within the cut", "informed - self.strength * view.masked.arange(view.masked.shape[1])",
         "(view.log_probability + surprise - self.strength * view.masked.arange(view.masked.shape[1])).minimum("
         "math.log(self.alpha))"),
        test=f"samplers/test_pc.py::{LAW}"),
    *of("pc",
        ("the product in float32 (PC-Sampler's code)",
         "informed - self.strength * view.masked.arange(view.masked.shape[1])",
         "informed.exp() * (-self.strength * view.masked.arange(view.masked.shape[1])).exp()"),
        test="samplers/test_pc.py::test_far_positions_are_told_apart"),
    *of("confidence",
        ("cools a step early", "self.cool * step", "self.cool * (step + 1)"),
        ("cools to another share", "1.0 - self.cool * step", "1.0 - 0.95 * self.cool * step"),
        test="samplers/test_guided.py::test_cool_lowers_the_temperature_in_a_straight_line"),
    *of("remdm",
        ("sigma 5 % too large", "else largest.minimum(eta)", "else largest.minimum(1.05 * eta)"),
        ("rescaled 5 % too much", "sigma = eta * largest if", "sigma = 1.05 * eta * largest if"),
        ("no more than the schedule is revealed", "+ sigma * odds, sigma)", "+ 0.0 * odds, sigma)"),
        ("the surest are masked again", "(-state[\"drawn\"], -1e9)", "(state[\"drawn\"], -1e9)"),
        ("fixed tokens too", "again = view.free & (view.tokens", "again = (view.tokens"),
        ("the other side of the coin", "view.uniform < self.coin", "view.uniform > self.coin"),
        test=f"samplers/test_remdm.py::{LAW}"),
    *of("p2",
        ("one more is shown", "view.last.where(0, view.target_masked)", "view.last.where(0, view.target_masked - 1)"),
        ("one less is shown", "view.last.where(0, view.target_masked)", "view.last.where(0, view.target_masked + 1)"),
        ("no last step", "view.last.where(0, view.target_masked)", "view.target_masked"),
        ("the most likely are masked", "score = was_shown.where(own, view.log_probability)",
         "score = -was_shown.where(own, view.log_probability)"),
        ("eta 5 % too large", "own = self.eta *", "own = 1.05 * self.eta *"),
        ("ties go to what is masked", "show = reveal_best(Tensor.cat(score, score, dim=1), Tensor.cat(was_shown, view",
         "show = reveal_best(Tensor.cat(score - 1e-6, score, dim=1), Tensor.cat(was_shown, view"),
        test=f"samplers/test_p2.py::{LAW}"),
    *of("klass",
        ("a bar 5 % too low", "math.log(self.tau) if", "math.log(0.95 * self.tau) if"),
        ("the other KL", "(view.log_probabilities.exp() * moved)", "(view.previous_log_probabilities.exp() * moved)"),
        ("a step of history too few", "held >= self.history", "held >= self.history - 1"),
        ("one more where none is stable", "(view.to_fill // view.steps)", "(view.to_fill // view.steps + 1)"),
        ("no last step", "(view.step + 1 >= view.steps)", "(view.step + 1 > view.steps)"),
        ("no fallback", "ready.max(axis=-1, keepdim=True).where(ready, best)", "ready"),
        test=f"samplers/test_klass.py::{LAW}"),
    *of("wino",
        ("a bar 5 % too low", "math.log(self.tau) if", "math.log(0.95 * self.tau) if"),
        ("doubts 5 % too much", "math.log(self.tau_back) if", "math.log(1.05 * self.tau_back) if"),
        ("one more is taken back", "state[\"revealed\"] - 1", "state[\"revealed\"]"),
        ("one less is taken back", "state[\"revealed\"] - 1", "state[\"revealed\"] - 2"),
        ("takes back where one is revealed", "(count > 1).where", "(count > 0).where"),
        ("the surest are taken back", "reveal_best(-view.left_out", "reveal_best(view.left_out"),
        ("the least sure first", "reveal_best(view.log_probability, view.masked", "reveal_best(-view.log_probability, view.masked"),
        ("a step may reveal none", ".minimum(most).maximum(1)", ".minimum(most)"),
        ("fixed tokens too", "shown = view.free & (view", "shown = (view"),
        test=f"inference/test_left_out.py::{LAW}"),
    *of("wino",
        ("a limit of one more", "left * 7 // 10", "left * 7 // 10 + 1"),
        ("no least limit", ".maximum(FEWEST)", ".maximum(1)"),
        ("no limit", ".minimum(MOST)", ".minimum(99)"),
        test="inference/test_left_out.py::test_never_more_than_its_limits_are_revealed"),
    *of("guided",
        ("5 % too far away", "given + self.scale *", "given + 1.05 * self.scale *"),
        ("towards what is said without the prompt", "(given - without)", "(without - given)"),
        ("without everything", "free.where(tokens, mask)", "(tokens * 0 + mask)"),
        ("not normalised", "(given - without)).log_softmax(-1)", "(given - without))"),
        test="samplers/test_guided.py::test_the_answer_is_the_formula"),
    *of("semi-autoregressive",
        ("the rest goes to the latest", "(i < steps % count)", "(i >= count - steps % count)"),
        ("a block may have no step", "max(1, steps // count + ", "max(0, steps // count + "),
        ("the last block is whole", "min(size, to_fill - i * size)", "size"),
        shared="api/samplers", test="samplers/test_semi_autoregressive.py::test_steps_are_shared_out_and_the_rest_goes_to_the_earliest"),
    *of("semi-autoregressive",
        ("blocks by place, not by what is to fill", "free.cumsum(axis=1) - 1, -1", "np.arange(free.shape[1]), -1"),
        ("a block too wide", "-1) // size", "-1) // (size + 1)"),
        shared="inference/generate", test="samplers/test_semi_autoregressive.py::test_blocks_are_filled_from_left_to_right_and_then_left_alone"),
]  # fmt: skip


def changed(mutation: Mutation) -> str:
    """The text of its file with the mutation."""
    text = mutation.file.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.file.name}: found {text.count(mutation.old)} times, not once: {mutation.old}")
    return text.replace(mutation.old, mutation.new)


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
# What the tests of the samplers' rules were seen to catch

Every row is a mutation that was made in the code, run, and taken back: one line of a rule changed, then the test that
holds that rule. The last column is the first case that failed. Made by `python tests/harness/mutations.py > docs/mutations.md`,
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
