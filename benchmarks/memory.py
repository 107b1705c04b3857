"""What one contestant's training step holds on a GPU, alone in its process.

    python -m benchmarks.memory --size tinystories --who mist-bench

One line of JSON: what the library says it has allocated (torch: the most at any time; tinygrad: what it holds after
three rounds, since it keeps no record of more), and by how much the memory in use on the card has grown as `nvidia-smi`
sees it, with the driver's own share and all that an allocator keeps: the same measure for both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess

from mist_bench.engine import compiler, device


def on_card() -> int | None:
    """Bytes in use on the first card; None without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    return int(said.splitlines()[0]) * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tinystories")
    parser.add_argument("--who", default="mist-bench")
    given = parser.parse_args()
    before = on_card()  # before any library has touched it
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
    told = {"size": given.size, "who": given.who, "device": device.name(), "allocated_bytes": entry.memory()}
    means = "the most at any time" if given.who.startswith("torch") else "held now"
    print(json.dumps(told | {"allocated_bytes_means": means, "card_bytes": grown}))


if __name__ == "__main__":
    main()
