"""What an authority has signed: the agreements that its home remembers, so that no two contradict each other.

Implements docs/protocol.md section 8.2 (G3, G6, G7), the side of whoever signs.

Rules:
1. An agreement is remembered before its signature is written anywhere: what left is known here.
2. The home of one key holder may not have seen a version that others signed: it is given with ``--before``, and counts
   once this authority's threshold signed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exchange.adapters.home import write_file
from exchange.core import wire
from exchange.core.agreements import Agreement, read_agreement
from exchange.core.errors import LocalError, PeerError
from exchange.core.succession import check_not_over, check_succession
from exchange.core.wire import DocumentType, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from exchange.core.keys import Authority

_FOLDER: Final = "signed"


def read_signed(home: Path) -> list[Agreement]:
    """Every agreement that this home signed. Raises ``LocalError`` node.key for a file that is none."""
    found: list[Agreement] = []
    for path in sorted((home / _FOLDER).glob("*.json")):
        try:
            found.append(read_agreement(wire.parse_signed_document(path.read_bytes(), DocumentType.AGREEMENT)))
        except (OSError, PeerError):
            raise LocalError("node.key", f"{_FOLDER}/{path.name}") from None
    return found


def check_signing(
    document: UnverifiedDocument, home: Path, authority: Authority, before: Sequence[UnverifiedDocument], now: datetime
) -> None:
    """Refuse to sign an agreement that contradicts what was signed, or that is over.

    Raises ``PeerError``: agreement.over, agreement.conflict, agreement.predecessor, agreement.overlap, key.threshold
    for a document of ``before`` that this authority did not sign.
    """
    agreement = read_agreement(document)
    check_not_over(agreement, now)
    held = read_signed(home)
    for item in before:
        if not authority.approves(item):
            raise PeerError("key.threshold", "--before")
        held.append(read_agreement(item))
    check_succession(agreement, held)


def remember(home: Path, document: UnverifiedDocument) -> None:
    """Keep what is about to leave. Raises ``LocalError`` node.disk."""
    agreement = read_agreement(document)
    folder = home / _FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        raise LocalError("node.disk", _FOLDER) from None
    write_file(folder / f"{agreement.id}.{agreement.version}.json", wire.encode_signed_document(document))
