"""What an officer is told of a decision: the rule in words, all that would have to change, what is withheld, duties.

Implements docs/protocol.md section 8.4 (last paragraph) and the dry run of cli.md.

Rules:
1. What is told follows from the decision that counts, never from a second opinion.
2. Texts go out in every language that the agreement has; whoever shows them picks the reader's.
3. A place in the content is told by member and rule, never by value.

What it does not do: decide (core.decision), or run the clocks that it announces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exchange.core.clocks import asks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.core.agreements import Approvals, Clause
    from exchange.core.decision import Decision
    from exchange.core.gate import Header
    from exchange.core.schemas import SchemaBook
    from exchange.core.wire import JsonObject, JsonValue


@dataclass(frozen=True, slots=True)
class Duties:
    """What follows from sending under a clause, and what is missing before it may be sent."""

    approvals_missing: int
    supervisors_missing: int
    respond_within_hours: int | None
    delete_after_days: int
    onward: str
    onward_parties: tuple[str, ...]
    confirm_before_opening: bool


def find_duties(clause: Clause, header: Header, approved: Approvals) -> Duties:
    """What the clause and the header together oblige both sides to."""
    asked = asks(header.kind, header.in_reply_to)
    return Duties(
        approvals_missing=max(0, clause.approvals.count - approved.count),
        supervisors_missing=max(0, clause.approvals.supervisors - approved.supervisors),
        respond_within_hours=clause.respond_within.get(header.urgency) if asked else None,
        delete_after_days=header.retention_days,
        onward=header.onward,
        onward_parties=clause.onward.parties if header.onward == "parties" else (),
        confirm_before_opening="H3" in header.handling,
    )


def duties_to_json(duties: Duties) -> JsonObject:
    """As programs read them."""
    return {
        "approvals_missing": duties.approvals_missing,
        "supervisors_missing": duties.supervisors_missing,
        "respond_within_hours": duties.respond_within_hours,
        "delete_after_days": duties.delete_after_days,
        "onward": duties.onward,
        "onward_parties": list(duties.onward_parties),
        "confirm_before_opening": duties.confirm_before_opening,
    }


def explain_decision(decision: Decision) -> JsonObject:
    """The rule's wording by language, and everything that would have to change."""
    needs: list[JsonValue] = [{"code": need.code, "what": need.what} for need in decision.needs]
    return {"text": dict(decision.text) or None, "needs": needs}


def explain_withheld(withheld: Sequence[str], decision: Decision, header: Header, book: SchemaBook) -> list[JsonValue]:
    """Each part that the recipient does not get: its members in the content, and the clause that says so."""
    return [
        {"part": part, "fields": list(book.part_fields(header.schema, part)), "clause": decision.clause}
        for part in withheld
    ]
