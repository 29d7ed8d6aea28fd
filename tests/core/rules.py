"""Agreements for tests: one clause of a pair, a message that it permits, and ways to change either.

Rule: what is not named in a change stays permitted, so that a test sees the one condition it is about.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from exchange.core import wire
from exchange.core.agreements import Agreement, read_agreement
from exchange.core.decision import Exchange
from exchange.core.wire import DocumentType, NodeId
from tests.core.builders import KH, NOW

TH: Final = NodeId("th-fp1")
REQUIRES: Final[dict[str, Any]] = {
    "approvals": {"count": 0, "supervisors": 0},
    "consent": False,
    "checks": [],
    "dual_criminality": False,
    "child_safeguards": False,
}
PERMIT: Final[dict[str, Any]] = {
    "kinds": ["suspect"],
    "from": [TH],
    "to": [KH],
    "purposes": ["investigation"],
    "handling": ["H0", "H1"],
    "tlp": "AMBER",
    "urgency": ["urgent_3d", "normal_7d"],
}


def requires(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of ``requires``
    """A change of a clause: what must be present."""
    return {"requires": REQUIRES | changes}


def permit(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of ``permit``
    """A change of a clause: what it permits."""
    return {"permit": PERMIT | changes}


def clause(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of a clause
    """A clause that permits ``EXCHANGE``."""
    return {
        "id": "art-1",
        "text": {"en": "Suspects may be sent.", "km": "អាចផ្ញើជនសង្ស័យបាន។"},
        "permit": PERMIT,
        "requires": REQUIRES,
        "blobs": {"max_count": 2, "max_bytes": 1000},
        "retention_days": 365,
        "withhold": [],
        "onward": {"use": "with_consent"},
        **changes,
    }


def payload(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - members of an agreement
    """An agreement of TH and KH with that clause."""
    return {
        "network": "training-test",
        "id": "kh-th",
        "version": 1,
        "title": {"en": "Exchange"},
        "legal_basis": [{"title": {"en": "Memorandum"}, "article": "1", "date": "2026-01-31"}],
        "parties": [{"node": TH, "authority": "1" * 64}, {"node": KH, "authority": "2" * 64}],
        "valid_from": wire.encode_time(NOW - timedelta(days=1)),
        "valid_until": wire.encode_time(NOW + timedelta(days=1)),
        "clauses": [clause()],
        "prohibitions": [],
        **changes,
    }


def agreement(**changes: Any) -> Agreement:  # noqa: ANN401
    """That agreement, read."""
    return read_agreement(wire.UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload(**changes)), ()))


EXCHANGE: Final = Exchange(
    sender=TH,
    recipient=KH,
    kind="suspect",
    purpose="investigation",
    handling=frozenset({"H1"}),
    tlp="AMBER",
    urgency="normal_7d",
    onward="never",
    retention_days=365,
    created=NOW,
    content={"acts": ["transfer"]},
    blob_count=2,
    blob_bytes=1000,
)
