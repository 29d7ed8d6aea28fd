"""What a first agreement looks like: a template to be read, corrected and signed.

Implements docs/protocol.md section 8.1. The clauses here are a beginning, not advice: two authorities decide.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exchange.core import wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from exchange.core.keys import Card
    from exchange.core.wire import JsonObject, JsonValue

AGREEMENT_LIFE: Final = timedelta(days=365)


def new_agreement(
    ident: str,
    parties: Sequence[Card],
    *,
    valid_from: datetime,
    valid_until: datetime | None = None,
    clauses: Sequence[JsonObject] | None = None,
    prohibitions: Sequence[JsonObject] | None = None,
) -> JsonObject:
    """The payload of a first agreement between the nodes of these cards, to be read, corrected and signed.

    Without ``clauses`` it has those that most pairs begin with: cases and answers for police work, a victim's
    identity only with consent and for protection, and no more than the weakest handling code asks for.
    """
    nodes: list[JsonValue] = [card.node for card in parties]
    names = " and ".join(card.country for card in parties)
    listed: list[JsonValue] = list(default_clauses(nodes) if clauses is None else clauses)
    forbidden: list[JsonValue] = [] if prohibitions is None else list(prohibitions)
    return {
        "network": parties[0].network,
        "id": ident,
        "version": 1,
        "title": {"en": f"Exchange of trafficking cases between {names}"},
        "legal_basis": {"en": "Name the treaty, memorandum or law that this rests on."},
        "parties": [{"node": card.node, "authority": card.authority.fingerprint} for card in parties],
        "valid_from": wire.encode_time(valid_from),
        "valid_until": wire.encode_time(valid_until or valid_from + AGREEMENT_LIFE),
        "clauses": listed,
        "prohibitions": forbidden,
    }


def make_clause(  # noqa: PLR0913 - one argument a condition of protocol 8.3
    ident: str,
    text: str,
    *,
    kinds: Sequence[str],
    sender: Sequence[JsonValue],
    to: Sequence[JsonValue],
    purposes: Sequence[str],
    handling: Sequence[str] = ("H0", "H1", "H2"),
    tlp: str = "AMBER",
    consent: bool = False,
    max_blobs: int = 16,
    max_blob_bytes: int = 268_435_456,
    retention_days: int = 1825,
    withhold: Sequence[str] = (),
) -> JsonObject:
    """One clause with every condition in it."""
    return {
        "id": ident,
        "text": {"en": text},
        "permit": {
            "kinds": list(kinds),
            "from": list(sender),
            "to": list(to),
            "purposes": list(purposes),
            "handling": list(handling),
            "tlp": tlp,
        },
        "requires": {"approvals": 0, "consent": consent},
        "blobs": {"max_count": max_blobs, "max_bytes": max_blob_bytes},
        "retention_days": retention_days,
        "withhold": list(withhold),
        "onward": "never",
    }


def default_clauses(nodes: Sequence[JsonValue]) -> list[JsonObject]:
    """What most pairs begin with, in both directions."""
    police = ("investigation", "prosecution", "mutual_legal_assistance", "asset_recovery")
    people = ("victim_identification", "victim_protection", "repatriation", "reintegration")
    case_kinds = ("case-referral", "suspect", "evidence", "information-request", "information-response")
    return [
        make_clause(
            "art-1",
            "Cases, suspects, evidence, questions and answers may be sent to investigate and to prosecute.",
            kinds=case_kinds,
            sender=nodes,
            to=nodes,
            purposes=police,
        ),
        make_clause(
            "art-2",
            "Cases and victims may be sent to find, protect and bring home; every victim must have consented, or a "
            "lawful exception must be named.",
            kinds=("case-referral", "victim", "information-request", "information-response"),
            sender=nodes,
            to=nodes,
            purposes=people,
            handling=("H0", "H1", "H2", "H3"),
            tlp="AMBER+STRICT",
            consent=True,
        ),
        make_clause(
            "art-3",
            "Whatever is received is acknowledged.",
            kinds=("acknowledgement",),
            sender=nodes,
            to=nodes,
            purposes=("coordination", *police, *people),
            max_blobs=0,
            max_blob_bytes=0,
        ),
    ]
