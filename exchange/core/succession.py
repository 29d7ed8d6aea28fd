"""Versions of one agreement, one after another: which may follow which, and when the last one ends.

Implements docs/protocol.md section 8.2, G3 and G6 to G8.

Rules:
1. One document for each id and version: who holds one takes no other.
2. A version follows the one that it supersedes, by digest and by number; none is skipped.
3. Each begins after the one before it, so that each served for a time and no two claim the same past.
4. What has ended is signed by nobody, and installed by no operator who does not say so.
5. The end of the last version is told 90, 30 and 7 days before it comes.

What it does not do: verify signatures (core.agreements), or keep what is held (node.registry, the authority's home).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exchange.core.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.core.agreements import Agreement

WARNING_DAYS: Final = (7, 30, 90)


def check_succession(agreement: Agreement, held: Iterable[Agreement]) -> None:
    """Refuse a version that does not fit those held, of whatever id; the one held already fits.

    Raises ``PeerError``: agreement.conflict, agreement.predecessor, agreement.overlap.
    """
    name = f"{agreement.id}/{agreement.version}"
    same = [item for item in held if item.id == agreement.id]
    if any(item.version == agreement.version and item.digest != agreement.digest for item in same):
        raise PeerError("agreement.conflict", name)
    if agreement.supersedes is None:
        return
    before = next((item for item in same if item.digest == agreement.supersedes), None)
    if before is None or before.version != agreement.version - 1:
        raise PeerError("agreement.predecessor", f"{agreement.id}/{agreement.version - 1}")
    if agreement.valid_from <= before.valid_from:
        raise PeerError("agreement.overlap", "agreement.valid_from")


def check_not_over(agreement: Agreement, now: datetime) -> None:
    """Refuse what has ended. Raises agreement.over."""
    if now >= agreement.valid_until:
        raise PeerError("agreement.over", "agreement.valid_until")


def days_left(agreement: Agreement, now: datetime) -> int:
    """Whole days until the end; negative once it is over."""
    return (agreement.valid_until - now) // timedelta(days=1)


def warning_of(agreement: Agreement, now: datetime) -> int | None:
    """Which warning its end deserves now: that of 7, 30 or 90 days; None where it is farther off, or over."""
    left = agreement.valid_until - now
    if left <= timedelta(0):
        return None
    return next((days for days in WARNING_DAYS if left <= timedelta(days=days)), None)
