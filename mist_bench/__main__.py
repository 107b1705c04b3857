"""`python -m mist_bench`: the same as `mist-bench`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
