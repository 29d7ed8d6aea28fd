"""The entry of the program ``exchange``: everything is loaded inside it, so that Ctrl-C at any moment shows no trace.

What it does not do: know commands, or tell errors (``exchange.cli.commands``).
"""

from __future__ import annotations

import sys

STOPPED = 130  # a person ended it: 128 and SIGINT, as shells count


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        from exchange.cli.commands import run

        return run(argv)
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("stopped; nothing more was done\n")
        return STOPPED
