"""Limits of the node, made small for some histories, so that a dozen messages fill what thousands would.

The names are constants of modules; a history runs with its own values, and whatever happens they are put back.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from exchange.core import relay
from exchange.node import delivering, ledger, queues

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from types import ModuleType

# What may be small, and how small: a queue's memory, one request, one commit, one answer, gaps and held messages.
_NARROW: Final[tuple[tuple[tuple[ModuleType, ...], str, tuple[int, ...]], ...]] = (
    ((queues, delivering), "MAX_READY", (2, 5)),
    ((delivering,), "MAX_ITEMS", (1, 3)),
    ((ledger,), "MAX_GROUP", (1, 2)),
    ((ledger,), "MAX_ANSWER_ITEMS", (1, 2)),
    ((ledger,), "MAX_KNOWN_CASES", (1,)),
    ((relay,), "MAX_RANGES", (1, 3)),
    ((relay,), "MAX_HELD", (1, 2)),
)


@contextmanager
def narrow_limits(rng: random.Random) -> Iterator[None]:
    """Make some limits small for one history in four."""
    narrow = rng.random() < 0.25
    drawn = [(modules, name, rng.choice(values), rng.random()) for modules, name, values in _NARROW]
    before = [(module, name, getattr(module, name)) for modules, name, _ in _NARROW for module in modules]
    try:
        for modules, name, value, chance in drawn if narrow else ():
            for module in modules if chance < 0.6 else ():
                setattr(module, name, value)
        yield
    finally:
        for module, name, kept in before:
            setattr(module, name, kept)
