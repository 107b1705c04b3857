"""Search the kernels of a size and write the results as a file for `mist_bench/engine/searched/`.

    python -m benchmarks.beam --size tinystories --beam 4 --out FILE

It searches training, generation and likelihood of both families. FILE is written after each and names its device and
its release of tinygrad; its name in the package is printed. One training step takes over ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mist_bench.engine import compiler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tinystories")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--only", default="", help="names of work, separated by commas; default: all")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    os.environ["CCACHE"] = "0"  # a kernel from the cache would be neither searched nor written
    from mist_bench.engine import beam

    beam.use(given.beam)
    compiler.prepare()
    from tinygrad import Device

    from . import ours
    from .sizes import sizes

    size, target = sizes()[given.size], Device[Device.DEFAULT].renderer.target
    work: dict[str, Callable[[], Any]] = {
        "training": lambda: ours.training(size, "mdlm"),
        "generation": lambda: ours.generation(size, "confidence"),
        "likelihood": lambda: ours.likelihood(size, "mdlm"),
        "training-autoregressive": lambda: ours.training(size, "autoregressive"),
        "generation-autoregressive": lambda: ours.autoregressive(size),
        "likelihood-autoregressive": lambda: ours.likelihood(size, "autoregressive"),
    }
    for name, make in work.items():
        if name in (given.only or name).split(","):
            make().run()
            beam.write(given.out, target.device, target.arch, beam.results)
            print(f"{name}: {beam.said()}; {len(beam.results)} of them differ", flush=True)
    print(f"in the package: mist_bench/engine/searched/{beam.path_of(target.device, target.arch).name}")


if __name__ == "__main__":
    main()
