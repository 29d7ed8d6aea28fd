"""Records of the core as rows of the store, and back.

Implements the naming of sql/schema.sql. Rule: one function each way, next to each other; nothing else knows the
order of columns.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from exchange.core import wire
from exchange.core.delivery import Incoming, Outgoing, Status, Window
from exchange.core.wire import Digest, KeyId, MessageId, NodeId

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from exchange.ports import Row


class OutgoingRow(NamedTuple):
    """An outgoing record with what the store keeps beside it."""

    record: Outgoing
    case_id: str
    agreement: Digest
    relied: str
    draft: bytes | None = None
    answer: Digest | None = None
    duty: str | None = None
    about: MessageId | None = None
    proposer: KeyId | None = None
    waits: bool = False


class IncomingRow(NamedTuple):
    """An incoming record with what the store keeps beside it."""

    record: Incoming
    case_id: str | None = None
    answer: Digest | None = None
    agreement: str | None = None
    commitment: Digest | None = None
    in_reply_to: MessageId | None = None
    duty: str | None = None
    about: MessageId | None = None
    retention: int | None = None
    keep_until: datetime | None = None
    gone: bool = False


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else wire.encode_time(moment)


def window_to_row(window: Window) -> Row:
    """For put_window."""
    above = " ".join(f"{low}-{high}" for low, high in window.above)
    return (window.peer, window.next_seq, window.through, above)


def window_from_row(row: Row) -> Window:
    """From windows."""
    peer, next_seq, through, above = row
    pairs = (item.split("-") for item in above.split())
    return Window(NodeId(peer), next_seq, through, tuple((int(low), int(high)) for low, high in pairs))


def outgoing_to_row(row: OutgoingRow) -> Row:
    """For put_outgoing."""
    r = row.record
    return (
        r.peer, r.id, r.status.value, _time(r.created), _time(r.updated), r.attempt, r.seq, r.digest, _time(r.expires),
        r.code, r.clause, r.log_index, row.case_id, row.agreement, row.draft, row.answer, row.relied,
        row.duty, row.about, row.proposer, int(row.waits),
    )  # fmt: skip


def outgoing_from_row(row: Row) -> OutgoingRow:
    """From outgoing and its listings."""
    (peer, ident, status, created, updated, attempt, seq, digest, expires, code, clause, log_index, case_id, agreement,
     draft, answer, relied, duty, about, proposer, waits) = row  # fmt: skip
    record = Outgoing(
        peer=NodeId(peer),
        id=MessageId(ident),
        status=Status(status),
        created=wire.parse_time(created),
        updated=wire.parse_time(updated),
        attempt=attempt,
        seq=seq,
        digest=digest,
        expires=None if expires is None else wire.parse_time(expires),
        code=code,
        clause=clause,
        log_index=log_index,
    )
    return OutgoingRow(record, case_id, Digest(agreement), relied, draft, answer, duty, about, proposer, bool(waits))


def incoming_to_row(row: IncomingRow) -> Row:
    """For put_incoming."""
    r = row.record
    return (
        r.peer, r.id, r.attempt, r.seq, r.digest, r.status.value, _time(r.updated), r.code, r.clause, r.log_index,
        int(r.has_blobs), " ".join(r.waits_for), row.case_id, row.answer, row.agreement, row.commitment,
        row.in_reply_to, row.duty, row.about, row.retention, _time(row.keep_until), int(row.gone),
    )  # fmt: skip


def incoming_from_row(row: Row) -> IncomingRow:
    """From incoming and its listings."""
    (peer, ident, attempt, seq, digest, status, updated, code, clause, log_index, has_blobs, waits_for, case_id,
     answer, agreement, commitment, in_reply_to, duty, about, retention, keep_until, gone) = row  # fmt: skip
    record = Incoming(
        peer=NodeId(peer),
        id=MessageId(ident),
        attempt=attempt,
        seq=seq,
        digest=Digest(digest),
        status=Status(status),
        updated=wire.parse_time(updated),
        code=code,
        clause=clause,
        log_index=log_index,
        has_blobs=bool(has_blobs),
        waits_for=tuple(MessageId(item) for item in waits_for.split()),
    )
    kept = None if keep_until is None else wire.parse_time(keep_until)
    return IncomingRow(
        record, case_id, answer, agreement, commitment, in_reply_to, duty, about, retention, kept, bool(gone)
    )


def id_list(ids: Iterable[str]) -> str:
    """Ids for ``json_each``."""
    return json.dumps(list(ids))
