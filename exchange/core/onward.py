"""Onward use: whether a received message may be passed on, and what is passed on carries of its origin.

Implements docs/protocol.md section 8.8.

Rules:
1. The narrower of two words decides: that of the header, which the originator wrote, and that of the clause, which both
   governments signed. A handling code H2 narrows further: no onward use without consent.
2. A consent is a decision of the originator about exactly this message and this recipient, for a purpose, until a day.
   Of several the last that came counts: a consent can be taken back.
3. What was passed on once is not passed on again: whoever wants it asks the originator, whom it names.
4. The originator's parts travel as they are, salts included, and the digest of its header with them: so the recipient
   computes the originator's root, although it never sees that header.

What it does not do: know what the new recipient's agreement permits (core.decision), or look anything up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from exchange.core.agreements import ONWARD
from exchange.core.errors import PeerError
from exchange.core.statement import root_of
from exchange.core.wire import Digest, MessageId, NodeId

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from exchange.core.agreements import Clause
    from exchange.core.statement import Statement
    from exchange.core.wire import JsonObject

NEVER, WITH_CONSENT, PARTIES = ONWARD
NEEDS_CONSENT: Final = "H2"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a forwarded statement comes from: its originator's message, root and header, and what that withheld."""

    node: NodeId
    id: MessageId
    root: Digest
    header: Digest
    withheld: tuple[str, ...]


class Original(NamedTuple):
    """A received message as far as its onward use goes."""

    onward: str
    handling: frozenset[str]
    purpose: str
    retention_days: int
    accepted: datetime
    forwarded: bool


class Consent(NamedTuple):
    """One decision of the originator: about which nodes and which purpose it was asked, and what it said."""

    asked: tuple[NodeId, ...]
    purpose: str
    granted: tuple[NodeId, ...]  # empty: refused
    until: date | None


class Passage(NamedTuple):
    """How a message may be passed on."""

    purpose: str
    retention_days: int


def read_origin(header: JsonObject) -> Origin | None:
    """The origin in a header that its schema accepted."""
    value = cast("dict[str, Any] | None", header.get("origin"))
    if value is None:
        return None
    return Origin(
        NodeId(value["node"]),
        MessageId(value["id"]),
        Digest(value["root"]),
        Digest(value["header"]),
        tuple(value["withheld"]),
    )


def origin_to_json(origin: Origin) -> JsonObject:
    """As a header has it."""
    return {
        "node": origin.node,
        "id": origin.id,
        "root": origin.root,
        "header": origin.header,
        "withheld": list(origin.withheld),
    }


def check_origin(statement: Statement, names: Sequence[str], sender: NodeId, onward: str, origin: Origin) -> None:
    """Step R15: the parts are those of the origin that the header names (U6). Raises onward.origin."""
    absent = {name for name, part in zip(names, statement.parts[1:], strict=True) if part.text is None}
    digests = (origin.header, *(part.digest for part in statement.parts[1:]))
    is_whole = root_of(digests) == origin.root and absent.issuperset(origin.withheld)
    if origin.node == sender or onward != NEVER or not is_whole:
        raise PeerError("onward.origin", "R15")


def _refuse(clause: Clause, why: str) -> PeerError:
    return PeerError("onward.not_permitted", why, clause.id)


def onward_use(original: Original, clause: Clause) -> str:
    """The onward use that the originator and the clause allow together (U1). Raises onward.not_permitted for never."""
    if original.forwarded:
        raise _refuse(clause, "it was forwarded to this node: ask its originator")
    use = min(original.onward, clause.onward.use, key=ONWARD.index)
    if use == NEVER:
        raise _refuse(clause, f"onward use: the message says {original.onward}, the clause {clause.onward.use}")
    return WITH_CONSENT if NEEDS_CONSENT in original.handling else use


def check_onward(original: Original, clause: Clause, to: NodeId, consents: Sequence[Consent], now: datetime) -> Passage:
    """Whether a received message may be passed on to ``to`` (U2 to U4). ``consents`` in the order in which they came.

    Raises ``PeerError`` onward.not_permitted, naming the clause under which the message came.
    """
    use, purpose = onward_use(original, clause), original.purpose
    if use == PARTIES and to not in clause.onward.parties:
        raise _refuse(clause, f"onward use: only {', '.join(clause.onward.parties)}")
    if use == WITH_CONSENT:
        asked = [consent for consent in consents if to in consent.asked]
        if not asked:
            raise _refuse(clause, "the originator has not decided: exchange onward request")
        last = asked[-1]
        if to not in last.granted:
            raise _refuse(clause, "the originator refused")
        if last.until is None or now.date() > last.until:
            raise _refuse(clause, "the originator's consent is over")
        purpose = last.purpose
    left = original.retention_days + (original.accepted - now) // timedelta(days=1)  # a day begun is a day gone
    if left < 1:
        raise _refuse(clause, "its retention ends within a day")
    return Passage(purpose, min(left, original.retention_days))
