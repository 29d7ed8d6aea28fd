"""Approvals: the people behind a statement, each with a signature of their own over its root.

Implements docs/protocol.md section 5.5.

Rules:
1. An approval covers the root of a statement. So it holds for every variant, every recipient and every attempt, and for
   nothing else.
2. Who proposes signs as the proposer and is nobody's approver: both ends see that another person agreed.
3. Approvals are all good or the statement is refused: none is passed over in silence.
4. The list of officers that they rest on is named by the envelope's core, so that both ends look at the same one.

What it does not do: know how many approvals a clause asks for (core.agreements), or who an officer is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.agreements import Approvals
from exchange.core.envelope import MAX_CLOCK_SKEW
from exchange.core.errors import PeerError
from exchange.core.keys import verify_single
from exchange.core.officers import OfficerList, Role
from exchange.core.wire import Digest, DocumentType, KeyId, NetworkId, parse_signed_document

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.core.wire import UnverifiedDocument

MAX_APPROVAL_BYTES: Final = 16_384
PROPOSER: Final = "proposer"
APPROVERS: Final = (Role.OFFICER.value, Role.SUPERVISOR.value)


@dataclass(frozen=True, slots=True)
class Approval:
    """What one officer signed; ``role`` is that in which they signed, or ``PROPOSER``."""

    network: NetworkId
    root: Digest
    officer: KeyId
    role: str
    time: datetime
    until: datetime
    digest: Digest = Digest("")


def encode_approval(approval: Approval) -> bytes:
    """The payload of an approval, ready to be signed."""
    return wire.encode_json(
        {
            "network": approval.network,
            "root": approval.root,
            "officer": approval.officer,
            "role": approval.role,
            "time": wire.encode_time(approval.time),
            "until": wire.encode_time(approval.until),
        }
    )


def read_approval(text: str) -> tuple[UnverifiedDocument, Approval]:
    """Read an approval without believing it. Raises ``PeerError``: wire.*."""
    document = parse_signed_document(text.encode("utf-8"), DocumentType.APPROVAL, max_bytes=MAX_APPROVAL_BYTES)
    fields = document.fields("approval")
    approval = Approval(
        network=NetworkId(fields.text("network", pattern=wire.NETWORK_ID)),
        root=fields.digest("root"),
        officer=KeyId(fields.text("officer", max_chars=64, pattern=wire.HEX_256)),
        role=fields.choice("role", (*APPROVERS, PROPOSER)),
        time=fields.time("time"),
        until=fields.time("until"),
        digest=document.digest(),
    )
    fields.done()
    return document, approval


def verify_approval(text: str, listed: OfficerList, root: Digest, created: datetime) -> Approval:
    """One approval of the statement ``root``, as it counts for an envelope made at ``created`` (V1 to V4).

    Raises ``PeerError`` envelope.approval, whatever is wrong with it; ``where`` says what.
    """
    try:
        document, approval = read_approval(text)
        officer = listed.find(approval.officer)
        if officer is not None:
            verify_single(document, officer.key)
    except PeerError as error:
        raise PeerError("envelope.approval", f"R16 {error.code}") from None
    # At both: whoever is an officer no more cannot become one again by writing an earlier time.
    if officer is None or not (officer.is_valid(approval.time) and officer.is_valid(created)):
        raise PeerError("envelope.approval", "R16 approval.officer")
    if approval.network != listed.network:
        raise PeerError("envelope.approval", "R16 approval.network")
    if approval.root != root:
        raise PeerError("envelope.approval", "R16 approval.root")
    # Who may approve may propose; nobody signs in a role that the list does not give.
    roles = APPROVERS if approval.role == PROPOSER else (approval.role,)
    if officer.roles.isdisjoint(map(Role, roles)):
        raise PeerError("envelope.approval", "R16 approval.role")
    if approval.time > created + MAX_CLOCK_SKEW or not created < approval.until:
        raise PeerError("envelope.approval", "R16 approval.time")
    return approval


def count_approvals(approvals: Iterable[Approval]) -> Approvals:
    """What approvals that were verified one by one amount to together (V5).

    Raises ``PeerError`` envelope.approval where an officer signed twice, or not exactly one signed as the proposer.
    """
    given = list(approvals)
    if len({approval.officer for approval in given}) != len(given):
        raise PeerError("envelope.approval", "R16 an officer signed twice")
    roles = [approval.role for approval in given]
    if roles.count(PROPOSER) != 1:
        raise PeerError("envelope.approval", "R16 approval.proposer")
    return Approvals(len(given) - 1, roles.count(Role.SUPERVISOR.value))


def verify_approvals(texts: tuple[str, ...], listed: OfficerList | None, root: Digest, created: datetime) -> Approvals:
    """Step R16. ``listed`` is the list that the core names, None where it names none.

    Raises ``PeerError`` envelope.approval, also where there are approvals and no list, or a list and no approvals.
    """
    if listed is None:
        if texts:
            raise PeerError("envelope.approval", "R16 core.officers")
        return Approvals(0, 0)
    return count_approvals(verify_approval(text, listed, root, created) for text in texts)
