"""The device at hand: its compiler, its precision, its clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..api.component import UserError
from . import machine
from .compiler import prepare

if TYPE_CHECKING:
    from tinygrad.dtype import DType

HALF_PRECISION_DEVICES = ("CUDA", "NV", "AMD", "HIP", "METAL")
PEAK_BFLOAT16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "4090": 165e12, "L40S": 362e12}
"""Published dense bfloat16 peaks, FLOP/s; a device that is not named here has no utilisation in the tables."""

def name() -> str:
    """tinygrad's default device, e.g. `CPU` or `CUDA`; raises `UserError` if there is none that can work."""
    prepare()
    try:
        from tinygrad import Device

        return str(Device.DEFAULT).split(":")[0]
    except RuntimeError as error:
        raise UserError(
            "tinygrad finds no device: on a machine without a GPU it needs a compiler (pip install 'mist-bench[cpu]')"
        ) from error


def several(count: int) -> tuple[str, ...]:
    """The first devices of the default kind, e.g. `CUDA` and `CUDA:1`; of a CPU any number, all on the same cores.

    Raises `UserError` if there are fewer.
    """
    from tinygrad import Device

    kind = name()
    names = [kind, *(f"{kind}:{i}" for i in range(1, count))]
    for number, one in enumerate(names[1:], start=1):
        try:
            _ = Device[one]
        except Exception as error:  # each kind fails in its own way
            raise UserError(f"--devices {count} is more than there are of {kind}; give at most {number}") from error
    return tuple(names)


def synchronize() -> None:
    from tinygrad import Device

    Device[Device.DEFAULT].synchronize()  # type: ignore[no-untyped-call]


def precision_name(precision: str) -> str:
    """`auto` becomes bfloat16 where the device is fast at it, else float32."""
    if precision == "auto":
        return "bfloat16" if name() in HALF_PRECISION_DEVICES else "float32"
    return precision


def compute_type(precision: str) -> DType:
    """The type of matrix products."""
    from tinygrad import dtypes

    return {"float32": dtypes.float, "bfloat16": dtypes.bfloat16}[precision_name(precision)]


def published_peak() -> float | None:
    """FLOP/s of the device's dense bfloat16 products as its maker states them; None for what is not in the table."""
    names = " ".join(gpu.get("name", "") for gpu in machine.gpus()) if name() in ("CUDA", "NV") else ""
    return next((peak for part, peak in PEAK_BFLOAT16.items() if part in names), None)


def out_of_memory(error: BaseException) -> bool:
    """Whether the device had no room: tinygrad's allocators raise MemoryError, a driver's launch a RuntimeError."""
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()


def memory_used() -> int:
    """Bytes that tinygrad holds on the device now."""
    from tinygrad import GlobalCounters

    return int(GlobalCounters.mem_used)


def on_cpu() -> bool:
    """Whether the device is a CPU: an exponential is dear there, and a second store cheap."""
    from tinygrad import Device

    return str(Device.DEFAULT).startswith("CPU")
