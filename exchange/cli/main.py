"""The entry of the program ``exchange``: everything is loaded inside it, so that Ctrl-C at any moment shows no trace.

What it does not do: know commands, or tell errors (``exchange.cli.commands``).
"""

from __future__ import annotations

import gc
import sys

# What a command loads, and a message's hundreds of objects, have no cycles and are freed by their counts: to look for
# cycles at every seven hundredth object is a tenth of the start and a fifth of a message's path (decision 0028).
COLLECTOR = (50_000, 20, 100)
STOPPED = 130  # a person ended it: 128 and SIGINT, as shells count


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    gc.set_threshold(*COLLECTOR)
    try:
        from exchange.cli.commands import run

        return run(argv)
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("stopped; nothing more was done\n")
        return STOPPED
