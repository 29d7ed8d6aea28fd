"""The auditor's pack: a log as a folder that can be checked without us, and the check itself.

Implements docs/protocol.md section 9.4. The folder holds, in C2SP layout, ``checkpoint`` and ``tile/``; beside them
``log.vkey`` (the log's two keys), ``witness-policy`` and ``index.json``.

Rules:
1. ``verify_pack`` needs the folder alone and reads the log from the signed root downwards, in constant memory.
2. ``index.json`` is a convenience and says nothing of its own: all of it follows from the rest of the folder,
   and it must be, byte for byte, what the log gives.
3. Keys taken from the folder prove that it is whole and consistent, not whose it is: the report says so, and
   ``card_keys``, the keys of the node's card, close that gap.
4. What is wrong is listed with its code and place. An entry that was altered ends the reading; one that was
   logged so, but is malformed, out of place or back-dated, is reported and the reading goes on.
5. Every file and link of the folder is one of the pack's, or a finding: what nobody signed must not pass beside it.
6. A checkpoint speaks of its entries, by keys that were valid, at a time that has come: its date is held against
   the newest entry, the card and the reader's clock.

What it does not do: read or write files (``adapters.audit_folder``), or count witnesses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from exchange.core.audit import Event, advance, is_back_dated, needs_clock_step, parse_leaf
from exchange.core.checkpoint import (
    MAX_NOTE_BYTES,
    LogKeys,
    VerifiedCheckpoint,
    encode_log_keys,
    parse_checkpoint,
    parse_log_keys,
)
from exchange.core.errors import CODES, IntegrityError, PeerError
from exchange.core.tiles import Reader, TileBuilder, is_tile_of, verify_tiles
from exchange.core.wire import JsonObject, JsonValue, encode_json, encode_time, sha256_hex

if TYPE_CHECKING:
    from datetime import datetime

CHECKPOINT: Final = "checkpoint"
LOG_KEYS: Final = "log.vkey"
WITNESS_POLICY: Final = "witness-policy"
INDEX: Final = "index.json"
NO_WITNESSES: Final = b"quorum none\n"  # tlog-policy: no cosignature is asked for; the one policy of this version

MAX_KEYS_BYTES: Final = 4_096
MAX_INDEX_BYTES: Final = 16_384
MAX_FINDINGS: Final = 100  # a log that is wrong throughout must not fill memory or the screen
MAX_NAME: Final = 80  # characters shown of the name of a file that has no business in the folder
MAX_AHEAD: Final = timedelta(minutes=15)  # of the reader's clock; as far as two nodes' clocks may differ (protocol 7.8)

Progress: TypeAlias = Callable[[int, int], None]
"""``progress(done, total)`` in entries."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: its stable code, and the file or entry."""

    code: str
    where: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found. ``checkpoint`` is None where no signed one could be read; then nothing else is known.

    ``entries`` were read and led back to the signed root; ``events`` counts them by name; ``first`` and ``latest``
    are their times; ``total`` counts the findings, of which at most 100 are listed.
    """

    checkpoint: VerifiedCheckpoint | None
    keys_from_card: bool
    entries: int
    events: Mapping[str, int]
    first: datetime | None
    latest: datetime | None
    findings: tuple[Finding, ...]
    total: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def clock_steps(self) -> int:
        """How often the node declared that its clock was set back."""
        return self.events.get(Event.CLOCK_STEP, 0)

    @property
    def log_restarts(self) -> int:
        """How often the log declares that it follows another one."""
        return self.events.get(Event.LOG_RESTART, 0)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know even where nothing is wrong."""
        notes = []
        if not self.keys_from_card:
            notes.append("key taken from the folder: compare log.vkey with the node's card")
        notes.append("not long-term: no cosignature of another node was checked")
        if self.checkpoint and self.checkpoint.head.origin.is_training:
            notes.append("training network: nothing in this log is real")
        if self.clock_steps:
            notes.append("the node's clock was set back: times before and after a clock_step do not compare")
        return tuple(notes)

    def to_json(self) -> JsonObject:
        """The report as one JSON object, for ``--json``."""
        head = self.checkpoint.head if self.checkpoint else None
        findings: list[JsonValue] = [
            {"code": f.code, "where": f.where, "what": CODES[f.code].what, "remedy": CODES[f.code].remedy}
            for f in self.findings
        ]
        return {
            "ok": self.ok,
            "network": head.origin.network if head else None,
            "training": head.origin.is_training if head else None,
            "node": head.origin.node if head else None,
            "origin": str(head.origin) if head else None,
            "size": head.size if head else None,
            "root": head.root.hex() if head else None,
            "signed": encode_time(self.checkpoint.signed) if self.checkpoint else None,
            "key_from": "card" if self.keys_from_card else "folder",
            "entries": self.entries,
            "events": dict(self.events),
            "clock_steps": self.clock_steps,
            "log_restarts": self.log_restarts,
            "first": encode_time(self.first) if self.first else None,
            "latest": encode_time(self.latest) if self.latest else None,
            "findings": findings,
            "findings_total": self.total,
            "notes": list(self.notes),
        }


class _Review:
    """Looks at entries as they pass: form, number, time; counts events; collects findings."""

    def __init__(self) -> None:
        self.entries = 0
        self.events: Counter[Event] = Counter()
        self.first: datetime | None = None
        self.latest: datetime | None = None
        self.findings: list[Finding] = []
        self.total = 0

    def note(self, code: str, where: str) -> None:
        self.total += 1
        if self.total <= MAX_FINDINGS:
            self.findings.append(Finding(code, where))

    def look(self, entry: bytes) -> bytes:
        place = f"entry {self.entries}"
        try:
            leaf = parse_leaf(entry)
        except PeerError as error:
            self.note(error.code, place)
        else:
            if leaf.seq != self.entries:
                self.note("audit.order", place)
            if is_back_dated(self.latest, leaf):
                self.note("audit.back_dated", place)
            self.first = self.first or leaf.time
            self.latest = advance(self.latest, leaf)
            self.events[leaf.event] += 1
        self.entries += 1
        return entry


def encode_index(checkpoint: VerifiedCheckpoint, events: Mapping[Event, int]) -> bytes:
    """``index.json``: one line that tells a person or a program what the folder holds (rule 2)."""
    head = checkpoint.head
    index: JsonObject = {
        "v": 1,
        "network": head.origin.network,
        "training": head.origin.is_training,
        "node": head.origin.node,
        "origin": str(head.origin),
        "size": head.size,
        "root": head.root.hex(),
        "signed": encode_time(checkpoint.signed),
        "events": {event.value: count for event, count in sorted(events.items())},
        "witness_policy": sha256_hex(NO_WITNESSES),
    }
    return encode_json(index) + b"\n"


def export_files(checkpoint: bytes, keys: LogKeys, entries: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yields (path, content) of every file of the pack, the checkpoint last.

    ``entries`` are the log's from the first on; as many as the checkpoint covers are taken. A log with entries that
    a check will report is exported all the same: hiding them would help nobody. Raises ``IntegrityError``
    store.log_mismatch where entries and checkpoint disagree; what was yielded is then worthless.
    """
    try:
        verified = parse_checkpoint(checkpoint, keys)
    except PeerError as error:
        raise IntegrityError("store.log_mismatch", f"checkpoint, {error.code}") from None
    head, review, builder = verified.head, _Review(), TileBuilder()
    yield from builder.feed(map(review.look, islice(entries, head.size)))
    yield from builder.finish()
    if (builder.size, builder.root()) != (head.size, head.root):
        raise IntegrityError("store.log_mismatch", f"{builder.size} entries of {head.size}")
    yield WITNESS_POLICY, NO_WITNESSES
    yield LOG_KEYS, encode_log_keys(keys)
    yield INDEX, encode_index(verified, review.events)
    yield CHECKPOINT, checkpoint


def verify_pack(
    read: Reader,
    paths: Iterable[str],
    *,
    now: datetime,
    card_keys: LogKeys | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check a pack. ``read`` reads a file of it, ``paths`` are all files and links it holds, relative, with slashes.

    ``now`` is the reader's clock, an aware time; ``card_keys`` carry the dates of the card.

    Raises nothing of its own: what is wrong is in the report.
    """
    review = _Review()
    checkpoint: VerifiedCheckpoint | None = None
    try:
        keys = _choose_keys(read, card_keys, review)
        checkpoint = parse_checkpoint(read(CHECKPOINT, MAX_NOTE_BYTES), keys)
        for bundle in verify_tiles(read, checkpoint.head.size, checkpoint.head.root):
            for entry in bundle:
                review.look(entry)
            if progress is not None:
                progress(review.entries, checkpoint.head.size)
        _check_date(checkpoint, review, card_keys, now)
        # Whatever else stood there would be taken for a policy that was met.
        if read(WITNESS_POLICY, len(NO_WITNESSES)) != NO_WITNESSES:
            review.note("audit.bad_policy", WITNESS_POLICY)
        # Only now is it known what the index has to say.
        if read(INDEX, MAX_INDEX_BYTES) != encode_index(checkpoint, review.events):
            review.note("audit.index", INDEX)
    except PeerError as error:
        review.note(error.code, error.where)
    if checkpoint is not None:  # else it is not known to be an export at all, and all of it would be named
        _look_for_unlisted(paths, checkpoint.head.size, review)
    return Report(
        checkpoint,
        card_keys is not None,
        review.entries,
        {event.value: count for event, count in sorted(review.events.items())},
        review.first,
        review.latest,
        tuple(review.findings),
        review.total,
    )


def _choose_keys(read: Reader, card_keys: LogKeys | None, review: _Review) -> LogKeys:
    found = read(LOG_KEYS, MAX_KEYS_BYTES)
    if card_keys is None:
        return parse_log_keys(found)
    if found != encode_log_keys(card_keys):
        review.note("audit.wrong_key", LOG_KEYS)
    return card_keys


def _check_date(checkpoint: VerifiedCheckpoint, review: _Review, card_keys: LogKeys | None, now: datetime) -> None:
    """Hold the date of a checkpoint against what it covers (9.3)."""
    # A node whose clock goes back further than this declares it, and the checkpoint that follows covers that entry.
    if needs_clock_step(review.latest, checkpoint.signed):
        review.note("audit.signed_early", CHECKPOINT)
    if checkpoint.signed > now + MAX_AHEAD:
        review.note("audit.signed_ahead", CHECKPOINT)
    if card_keys is not None and not card_keys.are_valid(checkpoint.signed):
        review.note("audit.key_expired", CHECKPOINT)


def _look_for_unlisted(paths: Iterable[str], size: int, review: _Review) -> None:
    """Report by name what is no part of the pack."""
    for path in paths:
        if not is_tile_of(path, size) and path not in {CHECKPOINT, LOG_KEYS, WITNESS_POLICY, INDEX}:
            review.note("audit.unlisted", _shown(path))


def _shown(path: str) -> str:
    """A name from elsewhere as plain ASCII: what a terminal obeys, or a reader cannot tell apart, is escaped."""
    name = ascii(path)[1:-1]
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."
