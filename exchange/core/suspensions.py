"""Suspending, leaving and resuming an agreement: one party's signed notice, and what it does.

Implements docs/protocol.md section 8.5.

Rules:
1. One party alone stops an agreement, at once: its node's key is enough, for whoever is on duty at night has no other.
   Going on is a decision of its authority alone.
2. Of one party's notices about one agreement id the newest counts, and leaving is final: nothing but a leave is newer
   than a leave. ``is_newer`` orders any two of them, two leaves also, so that nodes which saw them in different orders
   come to the same standing.
3. Between two nodes an agreement stands still while a notice of one of them says so, or one of another party that
   wants nobody to go on.
4. What was signed stays as it was signed: a notice is verified with the card that is newest when it comes.

What it does not do: say which agreements are installed and who is party to them (node.registry), or judge a message:
permits are those of ``created`` (core.agreements), a standing is that of the commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.keys import Use, verify_single
from exchange.core.wire import AgreementId, Digest, DocumentType, NetworkId, NodeId, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from exchange.core.keys import Card

MAX_AHEAD: Final = timedelta(minutes=15)  # as far as a message's ``created`` (R7)


class Action(StrEnum):
    """What a notice says, from the least restrictive on."""

    RESUME = "resume"
    SUSPEND = "suspend"
    LEAVE = "leave"


_ORDER: Final = tuple(Action)


@dataclass(frozen=True, slots=True)
class Suspension:
    """A party's notice about an agreement; ``by_authority`` is set by ``verify_suspension``."""

    network: NetworkId
    agreement: AgreementId
    party: NodeId
    serial: int
    action: Action
    time: datetime
    reason: Mapping[str, str]
    others_continue: bool
    digest: Digest = Digest("")
    by_authority: bool = False

    def is_newer(self, held: Suspension | None) -> bool:
        """Whether this notice takes the place of the one held of the same party and agreement (L5).

        A leave is above everything else; then the higher serial; of one serial the more restrictive. This is one order
        of all notices, without an exception for what is held: that in which two of them come makes no difference.
        """
        return held is None or _rank(self) > _rank(held)


def _rank(notice: Suspension) -> tuple[bool, int, int, bool, str]:
    is_leave = notice.action is Action.LEAVE
    return is_leave, notice.serial, _ORDER.index(notice.action), not notice.others_continue, notice.digest


def encode_suspension(notice: Suspension) -> bytes:
    """The payload of a notice, ready to be signed."""
    return wire.encode_json(
        {
            "network": notice.network,
            "agreement": notice.agreement,
            "party": notice.party,
            "serial": notice.serial,
            "action": notice.action.value,
            "time": wire.encode_time(notice.time),
            "reason": dict(notice.reason),
            "others_continue": notice.others_continue,
        }
    )


def read_suspension(document: UnverifiedDocument) -> Suspension:
    """Read a notice without believing its signatures: for showing and signing drafts, never for trust.

    Raises ``PeerError``: wire.*.
    """
    if document.payload_type != DocumentType.SUSPENSION:
        raise PeerError("wire.wrong_type", "document.payloadType")
    fields = document.fields("suspension")
    notice = Suspension(
        network=NetworkId(fields.text("network", pattern=wire.NETWORK_ID)),
        agreement=AgreementId(fields.text("agreement", pattern=wire.AGREEMENT_ID)),
        party=NodeId(fields.text("party", pattern=wire.NODE_ID)),
        serial=fields.integer("serial", low=1),
        action=Action(fields.choice("action", _ORDER)),
        time=fields.time("time"),
        reason=fields.mapping("reason", high=8, max_chars=4096),
        others_continue=fields.flag("others_continue"),
        digest=document.digest(),
    )
    fields.done()
    return notice


def verify_suspension(document: UnverifiedDocument, card: Card) -> Suspension:
    """Turn a signed document into the notice of ``card``'s node (L1 and L3).

    Raises ``PeerError``: wire.*, key.wrong_network, agreement.not_party (of another node), key.expired,
    key.bad_signature, key.threshold.
    """
    notice = read_suspension(document)
    if notice.network != card.network:
        raise PeerError("key.wrong_network", "suspension.network")
    if notice.party != card.node:
        raise PeerError("agreement.not_party", "suspension.party")
    if card.authority.approves(document):
        return replace(notice, by_authority=True)
    named = {key.id for key in card.keys_for(Use.ENVELOPE)} & {item.keyid for item in document.signatures}
    if notice.action is Action.RESUME or not named:
        raise PeerError("key.threshold", f"authority of {card.node}")
    verify_single(document, card.signing_key(min(named), Use.ENVELOPE, notice.time))
    return notice


def check_date(notice: Suspension, now: datetime) -> None:
    """Refuse a notice from the future (L4). Raises agreement.notice_early."""
    if notice.time > now + MAX_AHEAD:
        raise PeerError("agreement.notice_early", "suspension.time")


# -- the standing ----------------------------------------------------------------------------------


class State(StrEnum):
    """Whether an agreement may be used between two nodes."""

    SERVES = "serves"
    SUSPENDED = "suspended"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an agreement stands between two nodes; by whose notice of which time, and why, it does not serve."""

    state: State
    by: NodeId | None = None
    since: datetime | None = None
    reason: Mapping[str, str] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        """Whether messages may pass."""
        return self.state is State.SERVES


SERVES: Final = Standing(State.SERVES)


def standing(newest: Iterable[Suspension], one: str, other: str) -> Standing:
    """How an agreement stands between two of its parties (L6), by the newest notice of each party.

    Of several notices that stop it a leave is named before a suspension, then the earliest.
    """
    stopping = [
        notice
        for notice in newest
        if notice.action is not Action.RESUME and (notice.party in {one, other} or not notice.others_continue)
    ]
    if not stopping:
        return SERVES
    named = min(stopping, key=lambda notice: (notice.action is not Action.LEAVE, notice.time, notice.party))
    state = State.LEFT if named.action is Action.LEAVE else State.SUSPENDED
    return Standing(state, named.party, named.time, named.reason)
