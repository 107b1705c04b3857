"""Small schedules that each break one promise, with the check that must fail."""

from __future__ import annotations

import numpy as np

from mist_bench import Schedule

KIND = "schedule"


class Linear(Schedule):
    name = "bad"

    def alpha(self, t):
        return 1.0 - t

    def dalpha(self, t):
        return -np.ones_like(t)

    def mask_probability(self, t):
        return 1.0 * t


class OfSinglePrecision(Linear):
    def alpha(self, t):
        return (1.0 - t).astype(np.float32)


class OneNumberForAll(Linear):
    def dalpha(self, t):
        return -1.0


class NotFinite(Linear):
    def weight(self, t):
        return np.full_like(t, np.inf)


class StopsHalfWay(Linear):
    def alpha(self, t):
        return 1.0 - t / 2


class ReachesAllAndDeniesIt(Linear):
    reaches_all = False


class Rises(Linear):
    def alpha(self, t):
        return t


class FallsAndRises(Linear):
    def alpha(self, t):
        return 1.0 - t + 0.3 * np.sin(2 * np.pi * t)


class WrongSlope(Linear):
    def dalpha(self, t):
        return -1.0001 * np.ones_like(t)


class TwoFunctions(Linear):
    def mask_probability(self, t):
        return t + 1e-14


class Cancels(Schedule):
    """The cosine in its textbook form: its mask probability loses half its digits near 0."""

    name = "bad"

    def alpha(self, t):
        return np.cos(np.pi * t / 2)

    def dalpha(self, t):
        return -np.pi / 2 * np.sin(np.pi * t / 2)


class Quadratic(Schedule):
    """A polynomial that cancels as well."""

    name = "bad"

    def alpha(self, t):
        return (1.0 - t) ** 2

    def dalpha(self, t):
        return -2.0 * (1.0 - t)


class WeightOfAnother(Linear):
    def weight(self, t):
        return 2.0 / t


class WeightBelowZero(Linear):
    def weight(self, t):
        return -1.0 / t


class InverseOfAnother(Linear):
    def inverse(self, mask_probability):
        return np.sqrt(mask_probability)


class InverseBeyond(Linear):
    def inverse(self, mask_probability):
        return mask_probability + 1e-14


BAD = [
    (OfSinglePrecision, "arrays", r"alpha\(t\) gives float32 \(2, 3\) for float64 \(2, 3\); compute with numpy on t"),
    (OneNumberForAll, "arrays", r"dalpha\(t\) gives float for float64 .* constants by np.full_like"),
    (NotFinite, "arrays", r"weight\(t\) is not finite inside \(0, 1\); look for a division by 0"),
    (StopsHalfWay, "boundaries", r"alpha\(0\) = 1 and alpha\(1\) = 0.5, not 1 and 0; .*or set reaches_all = False"),
    (ReachesAllAndDeniesIt, "boundaries", "reaches_all is False; leave it out"),
    (Rises, "boundaries", r"alpha\(0\) = 0 and alpha\(1\) = 1; alpha falls"),
    (FallsAndRises, "falls", r"alpha does not fall at t = 0; .*alpha must fall"),
    (WrongSlope, "derivative", r"dalpha\(0\.\d+\) = -1.0001, but alpha's slope there is -1; differentiate alpha again"),
    (TwoFunctions, "complement", r"is off 1 - alpha by 1\S*e-14; the two must be one function"),
    (Cancels, "no-cancellation", r"loses its digits near t = 0 .*1 - cos\(x\) = 2 sin\(x/2\)\^2"),
    (Quadratic, "no-cancellation", r"loses its digits near t = 0 .*t \(2 - t\)"),
    (WeightOfAnother, "bound-weight", r"weight\(\S+\) is 2 times -dalpha/mask_probability; derive it again"),
    (WeightBelowZero, "bound-weight", r"w\(t\) is finite and above 0 inside \(0, 1\)"),
    (InverseOfAnother, "inverse", r"inverse\(mask_probability\(0.25\)\) is not 0.25; fix inverse, or leave it out"),
    (InverseBeyond, "inverse", "clip it to 0..1"),
]
FINE = [(Linear, "no-cancellation", "ok", "^$")]
