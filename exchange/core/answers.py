"""Answers, voids and requests: the small signed documents that two nodes exchange about envelopes.

Implements docs/protocol.md sections 7.4 (answers), 7.5 (voids) and 11.1 (signed requests).

Rules:
1. One signed document answers many envelopes: one signature to make and one to check for a batch.
2. An answer names the envelope by its digest, so that it proves what was received, byte for byte.
3. ``through`` and ``missing`` tell the sender which numbers arrived; a sender fills each gap with the envelope
   or a signed void.
4. A transient answer is bare: it is no evidence, ends nothing, and is not built here.

What it does not do: decide what to answer (core.relay) or keep answers (the store).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.keys import Use, verify_single
from exchange.core.wire import Digest, DocumentType, Fields, KeyId, MessageId, NetworkId, NodeId, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from exchange.core.keys import Card

MAX_ANSWER_ITEMS: Final = 256
MAX_MISSING: Final = 64
_CODE_CHARS: Final = 48
_CODE: Final = re.compile(
    r"[a-z]{1,16}\.[a-z][a-z0-9_]{0,30}"
)  # as core.audit; shown to people and written to logs: never free text


class Outcome(StrEnum):
    """What a final answer says of an envelope."""

    ACCEPTED = "accepted"  # committed and readable
    COMPLETE = "complete"  # and every evidence file is whole
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AnswerItem:
    """The final answer to one envelope or void, named by its digest; ``log_index`` is its leaf at the receiver."""

    digest: Digest
    outcome: Outcome
    log_index: int
    code: str | None = None
    clause: str | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """A verified answers document."""

    sender: NodeId
    recipient: NodeId
    time: datetime
    items: tuple[AnswerItem, ...]
    through: int
    missing: tuple[int, ...]
    digest: Digest


def encode_answers(
    *,
    network: str,
    sender: str,
    recipient: str,
    key: str,
    time: datetime,
    items: Iterable[AnswerItem],
    through: int,
    missing: Iterable[int],
) -> bytes:
    """The payload of an answers document, ready to be signed by the envelope key."""
    return wire.encode_json(
        {
            "network": network,
            "from": sender,
            "to": recipient,
            "key": key,
            "time": wire.encode_time(time),
            "items": [
                {
                    "digest": item.digest,
                    "status": item.outcome.value,
                    "log_index": item.log_index,
                    "code": item.code,
                    "clause": item.clause,
                }
                for item in items
            ],
            "through": through,
            "missing": list(missing),
        }
    )


def _parse_item(fields: Fields) -> AnswerItem:
    item = AnswerItem(
        digest=fields.digest("digest"),
        outcome=Outcome(fields.choice("status", tuple(Outcome))),
        log_index=fields.integer("log_index"),
        code=fields.optional_text("code", max_chars=_CODE_CHARS, pattern=_CODE),
        clause=fields.optional_text("clause", max_chars=32, pattern=wire.CLAUSE_ID),
    )
    fields.done()
    if (item.code is None) is (item.outcome is Outcome.REFUSED):
        raise PeerError("relay.bad_answer", fields.where)
    return item


def _common(document: UnverifiedDocument, kind: str, where: str, card: Card, me: str) -> Fields:
    """What the three documents share: type, network, parties, and one signature by the sender's envelope key."""
    if document.payload_type != kind:
        raise PeerError("wire.wrong_type", "document.payloadType")
    fields = document.fields(where)
    if NetworkId(fields.text("network", pattern=wire.NETWORK_ID)) != card.network:
        raise PeerError("key.wrong_network", f"{where}.network")
    if fields.text("from", pattern=wire.NODE_ID) != card.node or fields.text("to", pattern=wire.NODE_ID) != me:
        raise PeerError("envelope.not_for_us", where)
    return fields


def verify_answers(document: UnverifiedDocument, card: Card, me: str) -> Answers:
    """Read an answers document by ``card``'s node for ``me``.

    Raises ``PeerError``: wire.*, key.*, envelope.not_for_us, relay.bad_answer.
    """
    fields = _common(document, DocumentType.ANSWERS, "answers", card, me)
    key_id, time = KeyId(fields.digest("key")), fields.time("time")
    answers = Answers(
        sender=card.node,
        recipient=NodeId(me),
        time=time,
        items=tuple(_parse_item(item) for item in fields.each("items", high=MAX_ANSWER_ITEMS)),
        through=fields.integer("through"),
        missing=_parse_missing(fields),
        digest=document.digest(),
    )
    fields.done()
    verify_single(document, card.signing_key(key_id, Use.ENVELOPE, time))
    return answers


def _parse_missing(fields: Fields) -> tuple[int, ...]:
    missing: list[int] = []
    for value in fields.items("missing", high=MAX_MISSING):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise PeerError("relay.bad_answer", "answers.missing")
        missing.append(value)
    return tuple(missing)


# -- voids -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Void:
    """A verified void: the sender declares that number ``seq`` will never arrive, and why."""

    sender: NodeId
    seq: int
    id: MessageId
    reason: str
    digest: Digest


def encode_void(
    *, network: str, sender: str, recipient: str, key: str, time: datetime, seq: int, message: str, reason: str
) -> bytes:
    """The payload of a void, ready to be signed by the envelope key; ``reason`` is an error code."""
    return wire.encode_json(
        {
            "network": network,
            "from": sender,
            "to": recipient,
            "key": key,
            "time": wire.encode_time(time),
            "seq": seq,
            "id": message,
            "reason": reason,
        }
    )


def verify_void(document: UnverifiedDocument, card: Card, me: str) -> Void:
    """Read a void by ``card``'s node for ``me``. Raises ``PeerError``: wire.*, key.*, envelope.not_for_us."""
    fields = _common(document, DocumentType.VOID, "void", card, me)
    key_id, time = KeyId(fields.digest("key")), fields.time("time")
    void = Void(
        sender=card.node,
        seq=fields.integer("seq", low=1),
        id=MessageId(fields.text("id", pattern=wire.MESSAGE_ID)),
        reason=fields.text("reason", max_chars=_CODE_CHARS, pattern=_CODE),
        digest=document.digest(),
    )
    fields.done()
    verify_single(document, card.signing_key(key_id, Use.ENVELOPE, time))
    return void


# -- requests --------------------------------------------------------------------------------------


def encode_request(  # noqa: PLR0913 - each argument is one thing the signature must cover
    *,
    network: str,
    sender: str,
    recipient: str,
    key: str,
    time: datetime,
    nonce: str,
    method: str,
    path: str,
    body: str,
) -> bytes:
    """The payload of a signed request; ``body`` is the SHA-256 of what follows, ``nonce`` 32 hex digits."""
    return wire.encode_json(
        {
            "network": network,
            "from": sender,
            "to": recipient,
            "key": key,
            "time": wire.encode_time(time),
            "nonce": nonce,
            "method": method,
            "path": path,
            "body": body,
        }
    )


@dataclass(frozen=True, slots=True)
class Request:
    """A verified request: who asked, and the nonce that must be new within the window."""

    sender: NodeId
    nonce: str
    time: datetime


def verify_request(
    document: UnverifiedDocument,
    card: Card,
    me: str,
    *,
    method: str,
    path: str,
    body: str,
    now: datetime,
    window: timedelta,
) -> Request:
    """Check that ``card``'s node signed exactly this request for ``me``, within ``window`` of ``now``.

    Raises ``PeerError``: wire.*, key.*, request.unsigned, request.stale. The caller refuses repeated nonces.
    """
    fields = _common(document, DocumentType.REQUEST, "request", card, me)
    key_id, time = KeyId(fields.digest("key")), fields.time("time")
    nonce = fields.text("nonce", pattern=wire.MESSAGE_ID)
    signed = (fields.text("method", max_chars=8), fields.text("path", max_chars=256), fields.digest("body"))
    fields.done()
    verify_single(document, card.signing_key(key_id, Use.ENVELOPE, time))
    if signed != (method, path, body):
        raise PeerError("request.unsigned", "request")
    if abs(now - time) > window:
        raise PeerError("request.stale", "request.time")
    return Request(card.node, nonce, time)


def claimed_sender(document: UnverifiedDocument) -> NodeId:
    """Who a document says it is from: only to look up the card it must then verify against."""
    value = wire.parse_json(document.payload, max_bytes=wire.MAX_DOCUMENT_BYTES)
    sender = value.get("from") if isinstance(value, dict) else None
    if not isinstance(sender, str) or not wire.NODE_ID.fullmatch(sender):
        raise PeerError("wire.bad_value", "document.from")
    return NodeId(sender)
