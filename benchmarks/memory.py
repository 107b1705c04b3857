"""Memory of one contestant's training step on a GPU, measured in a process of its own.

    python -m benchmarks.memory --size tinystories --who mist-bench

It prints one line of JSON: the bytes that the library has allocated (torch: the maximum so far; tinygrad: the amount
after three rounds, since it records no maximum), and by how much the memory in use on the card has grown according to
`nvidia-smi`, including the driver's share and unused memory of the allocator, which is the same measure for both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess

from mist_bench.engine import compiler, device


def on_card() -> int | None:
    """Bytes in use on the first GPU; None without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    output = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return int(output.splitlines()[0]) * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tinystories")
    parser.add_argument("--who", default="mist-bench")
    given = parser.parse_args()
    before = on_card()  # before any library uses the GPU
    compiler.prepare()
    from .offers import training
    from .sizes import sizes

    offer = next(o for o in training(sizes()[given.size]) if o.who == given.who)
    if offer.missing:
        raise SystemExit(offer.missing)
    entry = offer.make()
    for _ in range(3):
        entry.run()
    after = on_card()
    grown = None if before is None or after is None else after - before
    row = {"size": given.size, "who": given.who, "device": device.name(), "allocated_bytes": entry.memory()}
    means = "the most at any time" if given.who.startswith("torch") else "held now"
    print(json.dumps(row | {"allocated_bytes_means": means, "card_bytes": grown}))


if __name__ == "__main__":
    main()
