"""What a first agreement looks like: a template to be read, corrected and signed.

Implements docs/protocol.md section 8.1. The clauses here are a beginning, not advice: two authorities decide.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.agreements import URGENCY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
    legal_basis: Sequence[JsonObject] | None = None,
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
        "legal_basis": list(legal_basis or ())
        or [
            {
                "title": {"en": "Name the treaty, memorandum or law that this rests on."},
                "article": "1",
                "date": wire.encode_time(valid_from)[:10],
            }
        ],
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
    urgency: Sequence[str] = URGENCY,
    approvals: int = 0,
    supervisors: int = 0,
    consent: bool = False,
    checks: Sequence[str] = (),
    dual_criminality: bool = False,
    child_safeguards: bool = False,
    respond_within: Mapping[str, int] | None = None,
    max_blobs: int = 16,
    max_blob_bytes: int = 268_435_456,
    retention_days: int = 1825,
    withhold: Sequence[str] = (),
    onward: str = "never",
    onward_parties: Sequence[JsonValue] = (),
    **optional: JsonValue,
) -> JsonObject:
    """One clause with every condition in it; ``optional`` are ``quota_per_day`` and ``content``."""
    parties: JsonObject = {"parties": list(onward_parties)} if onward_parties else {}
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
            "urgency": list(urgency),
        },
        "requires": {
            "approvals": {"count": approvals, "supervisors": supervisors},
            "consent": consent,
            "checks": list(checks),
            "dual_criminality": dual_criminality,
            "child_safeguards": child_safeguards,
        },
        **({"respond_within": dict(respond_within)} if respond_within else {}),
        "blobs": {"max_count": max_blobs, "max_bytes": max_blob_bytes},
        "retention_days": retention_days,
        "withhold": list(withhold),
        "onward": {"use": onward, **parties},
        **optional,
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
