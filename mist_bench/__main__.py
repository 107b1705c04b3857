"""The process of a command: `mist-bench`, and `python -m mist_bench`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command of this process; gives its exit status.

    An interrupt never ends in a traceback, not even while modules are loaded or when all is done.
    """
    try:
        from .cli import main as run

        return run()
    except KeyboardInterrupt:
        sys.stderr.write("mist-bench: interrupted\n")
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
