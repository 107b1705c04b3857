"""The device that tinygrad computes on: its name, precision, memory and published speed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..api.component import UserError
from . import machine

if TYPE_CHECKING:
    from tinygrad.dtype import DType

HALF_PRECISION_DEVICES = ("CUDA", "NV", "AMD", "HIP", "METAL")
PEAK_BFLOAT16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12, "L40S": 362e12}
"""Published dense bfloat16 peaks, FLOP/s; the tables show no utilization for other devices."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The device of this process, and why it is that one."""

    name: str
    """As tinygrad names it, e.g. `CPU` or `CUDA`."""
    reason: str


def name() -> str:
    """tinygrad's default device, e.g. `CPU` or `CUDA`; raises `UserError` if no device works."""
    return choice().name


def said() -> str:
    """Which device it is, why, and how to take another, in one line."""
    return f"device {choice().name} ({choice().reason})"


def choice() -> Choice:
    """The device that `DEV` names, or the first that works. A CPU behind OpenCL is taken as the CPU that it is."""
    from . import tinygrad_private

    asked = os.environ.get("DEV", "")
    try:
        found = tinygrad_private.default_device()
    except AssertionError as error:  # tinygrad's old way to choose one: CPU=1
        raise UserError(f"tinygrad: {error}") from error
    except RuntimeError as error:
        raise UserError(
            f"tinygrad finds no device (CPU: {_why_not('CPU')}); on a machine without a GPU it needs a "
            "compiler (pip install 'mist-bench[cpu]')"
        ) from error
    if found in _chosen:
        return _chosen[found]
    known = tinygrad_private.device_names()
    if found not in known:
        raise UserError(f"DEV={asked} names no device of tinygrad's; known: {', '.join(known)}")
    if found == "CL" and asked != "CL" and (processor := tinygrad_private.opencl_processor()):
        tinygrad_private.use_device("CPU")
        made = Choice(name="CPU", reason=f"OpenCL offers no GPU, only {processor}; DEV=CL takes it all the same")
    elif asked:
        made = Choice(name=found, reason="DEV says so")
    else:
        what = "no GPU was found" if found == "CPU" else "the first that works"
        made = Choice(name=found, reason=f"{what}; DEV=NAME takes another")
    _chosen[made.name] = made
    return made


_chosen: dict[str, Choice] = {}
"""Choices by device: tinygrad names its own in the environment, where it would look like the user's."""


def _why_not(name: str) -> str:
    """What tinygrad says when it opens a device; empty if that works."""
    from . import tinygrad_private

    try:
        _ = tinygrad_private.Device[name]
    except Exception as error:  # each kind raises its own
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def several(count: int) -> tuple[str, ...]:
    """The first devices of the default kind, e.g. `CUDA` and `CUDA:1`; raises `UserError` if there are fewer.

    A CPU counts as any number of devices, all on the same cores.
    """
    from tinygrad import Device

    kind = name()
    names = [kind, *(f"{kind}:{i}" for i in range(1, count))]
    for number, one in enumerate(names[1:], start=1):
        try:
            _ = Device[one]
        except Exception as error:  # each kind raises its own
            raise UserError(f"--devices {count} is more than there are of {kind}; give at most {number}") from error
    return tuple(names)


def synchronize() -> None:
    """Wait until the device has done all queued work."""
    from tinygrad import Device

    Device[Device.DEFAULT].synchronize()  # type: ignore[no-untyped-call]


def precision_name(precision: str) -> str:
    """The precision that a setting stands for: `auto` is bfloat16 on devices that are fast at it, else float32."""
    if precision == "auto":
        return "bfloat16" if name() in HALF_PRECISION_DEVICES else "float32"
    return precision


def compute_type(precision: str) -> DType:
    """Number type of matrix products in this precision."""
    from tinygrad import dtypes

    return {"float32": dtypes.float, "bfloat16": dtypes.bfloat16}[precision_name(precision)]


def published_peak() -> float | None:
    """Published FLOP/s of the device for dense bfloat16 products; None if it is not in `PEAK_BFLOAT16`."""
    names = " ".join(gpu.get("name", "") for gpu in machine.gpus()) if name() in ("CUDA", "NV") else ""
    return next((peak for part, peak in PEAK_BFLOAT16.items() if part in names), None)


def out_of_memory(error: BaseException) -> bool:
    """Whether the device ran out of memory: tinygrad's allocators raise MemoryError, a driver's launch RuntimeError."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def memory_used() -> int:
    """Bytes of the device that tinygrad has allocated."""
    from tinygrad import GlobalCounters

    return int(GlobalCounters.mem_used)


def free_cached_memory() -> None:
    """Return to the device the freed buffers that tinygrad caches."""
    from .tinygrad_private import free_cached_buffers

    free_cached_buffers()


def on_cpu() -> bool:
    """Whether the device is a CPU, where an exponential is slow and an additional store is cheap."""
    from tinygrad import Device

    return str(Device.DEFAULT).startswith("CPU")
