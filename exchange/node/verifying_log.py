"""The log as ``exchange verify`` holds it: what was read of it, and what it says that the store must have.

Implements the node's side of docs/protocol.md section 9, for node.verifying.

Rules:
1. One pass in order of number; memory is some sixty bytes an entry, whatever the entries hold.
2. What an entry names and the store never deletes is asked for: documents, messages with their envelopes, answers,
   voids, keys that were destroyed. What may go by design (staged evidence, the outbox, blocks) is not. Of the bundles
   of a peer one is asked for: a younger one may replace it.
3. A node that runs signs its log each second. Entries of minutes that no checkpoint covers were signed once.

What it does not do: judge rows against entries (node.verifying goes the other way).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from exchange.core.audit import Event, Leaf, advance, is_back_dated, parse_leaf
from exchange.core.checkpoint import LogKeys, parse_checkpoint
from exchange.core.errors import CODES, PeerError
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.wire import DocumentType, JsonObject, JsonValue, parse_signed_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from exchange.ports import Records, Row

PAGE: Final = 512
MAX_FINDINGS: Final = 200
MAX_UNSIGNED: Final = timedelta(minutes=5)  # of work; a checkpoint follows its entries within seconds
_SILENCE: Final = timedelta(seconds=10)  # the most that a pause counts: a machine may sleep between two entries
_RUN: Final = timedelta(seconds=10)  # a node that ran so long has signed

_DIGEST: Final = re.compile("[0-9a-f]{64}")
_NUMBER: Final = {event: number for number, event in enumerate(Event)}
_EVENT: Final = list(Event)
# 128 bits of the digest, then number and kind of the entry: in one number, because a million of them are kept.
_PREFIX_DIGITS, _SEQ_BITS, _EVENT_BITS = 32, 56, 8

ROW: Final = 1
ENVELOPE: Final = 2
_REQUIRED: Final = {
    Event.SEALED: ROW | ENVELOPE,
    Event.RECEIVED: ROW | ENVELOPE,
    Event.REFUSED: ROW | ENVELOPE,
    Event.HELD: ROW | ENVELOPE,
    Event.ERASED: ROW,
    Event.VOID_SENT: ENVELOPE,
    Event.EQUIVOCATION: ENVELOPE,
    Event.CARD_INSTALLED: ROW,
    Event.AGREEMENT_INSTALLED: ROW,
    Event.AGREEMENT_SUSPENDED: ROW,
    Event.AGREEMENT_LEFT: ROW,
    Event.AGREEMENT_RESUMED: ROW,
    Event.OFFICERS_INSTALLED: ROW,
    Event.PREKEYS_PUBLISHED: ROW,
}
_ANSWERED_APART: Final = frozenset({Event.VOID_RECEIVED, Event.VOID_REFUSED, Event.EQUIVOCATION})


@dataclass(slots=True)
class Review:
    """What was read, and what is wrong with it."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, str]] = field(default_factory=list)
    total: int = 0
    opened: bool = False
    root: str = ""

    def note(self, code: str, where: str) -> None:
        """Something is wrong."""
        self.total += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append((code, where))

    def to_json(self) -> JsonObject:
        """For ``--json``."""
        found: list[JsonValue] = [
            {"code": code, "where": where, "what": CODES[code].what, "remedy": CODES[code].remedy}
            for code, where in self.findings
        ]
        return {
            "ok": self.total == 0,
            "counts": dict(self.counts),
            "root": self.root,
            "opened": self.opened,
            "findings": found,
            "findings_total": self.total,
        }


async def read_pages(records: Records, statement: str, start: int | str, by: int = 0) -> AsyncIterator[Row]:
    """All rows of a paged statement, whose first column is where the next page begins (from there, or after it)."""
    position: int | str = start + by if isinstance(start, int) else start
    while rows := await records.read(statement, position, PAGE):
        for row in rows:
            yield row
        position = rows[-1][0] + by if by else rows[-1][0]


class LogIndex:
    """By digest, the entries about it: number and event; and which of them were found in the store.

    128 bits of a digest stand for it: who could make two of the same beginning gains a finding that is not shown, and
    the entries themselves stay under their signed root.
    """

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._found = bytearray()
        self.kinds: set[Event] = set()
        self.bundles_of: set[str] = set()  # peers whose prekeys came

    def add(self, leaf: Leaf) -> None:
        """Take an entry; in any order, before the first question."""
        self.kinds.add(leaf.event)
        if leaf.event is Event.PREKEYS_RECEIVED and leaf.peer is not None:
            self.bundles_of.add(leaf.peer)
        if leaf.subject is not None:
            key = int(leaf.subject[:_PREFIX_DIGITS], 16) << _SEQ_BITS | leaf.seq
            self._keys.append(key << _EVENT_BITS | _NUMBER[leaf.event])

    def close(self) -> None:
        """No entry comes any more."""
        self._keys.sort()
        self._found = bytearray(len(self._keys))

    def _places(self, subject: str) -> Iterator[int]:
        if not _DIGEST.fullmatch(subject):  # a damaged row names no entry
            return
        shift = _SEQ_BITS + _EVENT_BITS
        prefix = int(subject[:_PREFIX_DIGITS], 16)
        at = bisect_left(self._keys, prefix << shift)
        while at < len(self._keys) and self._keys[at] >> shift == prefix:
            yield at
            at += 1

    def _entry(self, at: int) -> tuple[int, Event]:
        key = self._keys[at]
        return key >> _EVENT_BITS & (1 << _SEQ_BITS) - 1, _EVENT[key & (1 << _EVENT_BITS) - 1]

    def entries(self, subject: str) -> list[tuple[int, Event]]:
        """Number and event of each entry about ``subject``."""
        return [self._entry(at) for at in self._places(subject)]

    def has(self, subject: str, *events: Event) -> bool:
        """Whether one of ``events`` was logged of ``subject``."""
        return any(event in events for _, event in self.entries(subject))

    def names(self, subject: str, seq: int) -> bool:
        """Whether entry ``seq`` is about ``subject``."""
        return any(number == seq for number, _ in self.entries(subject))

    def mark(self, subject: str, what: int, *events: Event) -> None:
        """The store has ``what`` (ROW, ENVELOPE) of the entries of ``events`` about ``subject``."""
        for at in self._places(subject):
            if self._entry(at)[1] in events:
                self._found[at] |= what

    def lacks_row(self, subject: str, event: Event) -> bool:
        """Whether an entry of ``event`` about ``subject`` has met no row so far."""
        return any(self._entry(at)[1] is event and not self._found[at] & ROW for at in self._places(subject))

    def missing(self) -> Iterator[tuple[int, Event, str]]:
        """Number and event of each entry whose record the store does not have, and what is missing."""
        for at, found in enumerate(self._found):
            seq, event = self._entry(at)
            lacking = _REQUIRED.get(event, 0) & ~found
            if lacking:
                yield seq, event, "envelope" if lacking == ENVELOPE else "record"


class _Coverage:
    """Whether the log is signed as a node that runs signs it (rule 3)."""

    def __init__(self) -> None:
        self._running = False
        self._since: datetime | None = None  # of the first start
        self._stopped = False
        self._previous: datetime | None = None
        self._unsigned = timedelta(0)
        self._signed = False

    def look(self, leaf: Leaf) -> None:
        if leaf.event is Event.NODE_START:
            # The one before may have died within the second in which its last entries were signed.
            self._running, self._unsigned = True, timedelta(0)
            self._since = self._since or leaf.time
        elif self._running and self._previous is not None:
            self._unsigned += min(max(leaf.time - self._previous, timedelta(0)), _SILENCE)
        if leaf.event is Event.NODE_STOP:
            self._running, self._stopped = False, True
        self._previous = leaf.time

    def sign(self) -> None:
        self._signed, self._unsigned = True, timedelta(0)

    @property
    def is_lacking(self) -> bool:
        if self._signed or self._since is None or self._previous is None:
            return self._unsigned > MAX_UNSIGNED
        return self._stopped or self._previous - self._since > _RUN


class LogReader:
    """Reads the log of one store once; what is wrong goes into ``review``."""

    def __init__(self, records: Records, log_keys: LogKeys, review: Review) -> None:
        self._records = records
        self._log_keys = log_keys
        self._review = review
        self._coverage = _Coverage()
        self._destroyed: set[str] = set()
        self.index = LogIndex()

    async def read(self) -> LogIndex:
        """Every entry and checkpoint, and the stored edge of the tree."""
        self._destroyed = {row[0] for row in await self._records.read("prekeys") if row[4]}
        notes = read_pages(self._records, "review_checkpoints", -1)
        note = await anext(notes, None)
        frontier, latest = Frontier(), None
        async for seq, data in read_pages(self._records, "leaves", -1, by=1):
            place = f"entry {frontier.size}"
            if seq != frontier.size:
                self._review.note("audit.order", place)
            latest = await self._read_leaf(data, place, frontier.size, latest)
            frontier = frontier.append(hash_leaf(data))
            while note is not None and note[0] <= frontier.size:
                self._check_note(note[0], note[1], frontier)
                note = await anext(notes, None)
        while note is not None:
            self._review.note("store.log_mismatch", f"checkpoint of {note[0]} entries")
            note = await anext(notes, None)
        stored = await self._records.read("log")
        if [row[1] for row in stored] != [frontier.encode()]:
            self._review.note("store.log_mismatch", "the stored edge of the tree")
        if self._coverage.is_lacking:
            self._review.note("store.unsigned", "checkpoints")
        self._review.counts["entries"] = frontier.size
        self._review.root = frontier.root().hex()
        self.index.close()
        return self.index

    async def _read_leaf(self, data: bytes, place: str, seq: int, latest: datetime | None) -> datetime | None:
        try:
            leaf = parse_leaf(data)
        except PeerError as error:
            self._review.note(error.code, place)
            return latest
        if leaf.seq != seq:
            self._review.note("audit.order", place)
        if is_back_dated(latest, leaf):
            self._review.note("audit.back_dated", place)
        self.index.add(leaf)
        self._coverage.look(leaf)
        await self._check_records(leaf, place)
        return advance(latest, leaf)

    async def _check_records(self, leaf: Leaf, place: str) -> None:
        """What the store finds by the digest that the entry names; what it finds otherwise is marked later."""
        if leaf.subject is None:
            return
        place = f"{place} ({leaf.event})"
        if leaf.event is Event.ANSWERED:
            rows = await self._records.read("answer", leaf.subject)
            if not rows:
                self._review.note("store.row_missing", f"{place}, answer")
            elif not _is_answer(rows[0][0], leaf.subject):
                self._review.note("store.corrupt", f"{place}, answer")
        elif leaf.event in _ANSWERED_APART and not await self._records.read("other_answer", leaf.subject):
            self._review.note("store.row_missing", f"{place}, answer")
        elif leaf.event is Event.PREKEY_DESTROYED and leaf.subject not in self._destroyed:
            self._review.note("store.row_missing", f"{place}, key")

    def _check_note(self, size: int, note: bytes, frontier: Frontier) -> None:
        place = f"checkpoint of {size} entries"
        self._review.counts["checkpoints"] += 1
        try:
            head = parse_checkpoint(note, self._log_keys).head
        except PeerError as error:
            self._review.note(error.code, place)
            return
        if size != frontier.size or (head.size, head.root) != (frontier.size, frontier.root()):
            self._review.note("store.log_mismatch", place)
            return
        self._coverage.sign()


def _is_answer(data: bytes, digest: str) -> bool:
    try:
        return parse_signed_document(data, DocumentType.ANSWERS).digest() == digest
    except PeerError:
        return False
