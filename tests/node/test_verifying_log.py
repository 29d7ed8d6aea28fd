"""The log as ``exchange verify`` reads it: what it names must be stored, and it must have been signed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from exchange.core.audit import Event, Leaf, encode_leaf
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.wire import Digest
from exchange.node.verifying_log import ENVELOPE, ROW, LogIndex, LogReader, Review
from tests.core.log_samples import NOW, LogSigner

if TYPE_CHECKING:
    from exchange.ports import Row

LOG = LogSigner()
THING = Digest(sha256(b"thing").hexdigest())


class Tables:
    """``ports.Records`` with a log and nothing else in it."""

    def __init__(self, leaves: list[bytes], signed: list[int]) -> None:
        self._leaves = leaves
        self._notes = [(size, LOG.checkpoint(leaves[:size])) for size in signed]

    async def read(self, statement: str, *values: object) -> list[Row]:
        match statement, values:
            case "leaves", (int(start), int(limit)):
                return list(enumerate(self._leaves))[start : start + limit]
            case "review_checkpoints", (int(after), _):
                return [row for row in self._notes if row[0] > after]
            case "log", _:
                return [(len(self._leaves), Frontier().extend(map(hash_leaf, self._leaves)).encode(), None)]
            case _:
                return []


def review_of(*events: tuple[float, Event], signed: tuple[int, ...] = ()) -> list[tuple[str, str]]:
    """What is found in a log of events about one thing, each so many seconds after the start."""
    leaves = [
        encode_leaf(Leaf(seq, NOW + timedelta(seconds=after), event, subject=None if "node" in event else THING))
        for seq, (after, event) in enumerate(events)
    ]
    review = Review()
    asyncio.run(LogReader(Tables(leaves, list(signed)), LOG.keys, review).read())
    return review.findings


WORK = tuple((float(after), Event.SEARCHED) for after in range(5, 400, 5))


def test_a_node_that_ran_has_signed() -> None:
    """A log without any checkpoint is found once its node has run for some seconds, or has stopped in order."""
    lacking = [("store.unsigned", "checkpoints")]
    start, stop = (0.0, Event.NODE_START), (3.0, Event.NODE_STOP)
    assert review_of((0.0, Event.NODE_INIT), *WORK) == []
    assert review_of(start, (2.0, Event.SEARCHED)) == []
    assert review_of(start, stop) == lacking
    assert review_of(start, *WORK) == lacking
    assert review_of(start, stop, signed=(2,)) == []


def test_entries_of_minutes_are_signed() -> None:
    """Entries of minutes of work beyond the last checkpoint are found; a pause, and what a crash cut off, are not."""
    start, signed = (0.0, Event.NODE_START), (1,)
    assert review_of(start, *WORK, signed=signed) == [("store.unsigned", "checkpoints")]
    assert review_of(start, *WORK, signed=(1, len(WORK) - 1)) == []
    assert review_of(start, (1.0, Event.SEARCHED), (90_000.0, Event.SEARCHED), signed=signed) == []
    assert review_of(start, *WORK[:40], (90_000.0, Event.NODE_START), *[(90_000.0 + at, e) for at, e in WORK[:40]],
                     signed=signed) == []  # fmt: skip


def test_checkpoint_of_more_than_the_log() -> None:
    """A checkpoint of another size than its row says does not count as one of this log."""
    leaves = [encode_leaf(Leaf(0, NOW, Event.NODE_INIT))]
    tables, review = Tables(leaves, [1]), Review()
    tables._notes = [(1, LOG.checkpoint([])), (7, LOG.checkpoint(leaves))]  # noqa: SLF001 - the test's own
    asyncio.run(LogReader(tables, LOG.keys, review).read())
    assert review.findings == [
        ("store.log_mismatch", "checkpoint of 1 entries"),
        ("store.log_mismatch", "checkpoint of 7 entries"),
    ]


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (Event.ANSWERED, "answer"),
        (Event.VOID_RECEIVED, "answer"),
        (Event.VOID_REFUSED, "answer"),
        (Event.EQUIVOCATION, "answer"),
        (Event.PREKEY_DESTROYED, "key"),
    ],
)
def test_what_is_looked_up_by_its_digest(event: Event, what: str) -> None:
    """An answer that is not stored, and a destroyed key that is not marked so, are missed at their entry."""
    assert review_of((0.0, event)) == [("store.row_missing", f"entry 0 ({event}), {what}")]


def test_index() -> None:
    """The index gives the entries of a digest, and names those whose record or envelope nobody found."""
    other = Digest(sha256(b"other").hexdigest())
    index = LogIndex()
    index.add(Leaf(7, NOW, Event.RECEIVED, subject=THING))
    index.add(Leaf(3, NOW, Event.HELD, subject=THING))
    index.add(Leaf(5, NOW, Event.OPENED, subject=other))
    index.add(Leaf(9, NOW, Event.NODE_STOP))
    index.close()
    assert sorted(index.entries(THING)) == [(3, Event.HELD), (7, Event.RECEIVED)]
    assert index.entries("f" * 64) == index.entries("no digest") == []
    assert index.has(THING, Event.SEALED, Event.HELD)
    assert not index.has(other, Event.HELD)
    assert index.names(THING, 7)
    assert not index.names(THING, 5)
    assert index.kinds == {Event.RECEIVED, Event.HELD, Event.OPENED, Event.NODE_STOP}
    assert sorted(index.missing()) == [(3, Event.HELD, "record"), (7, Event.RECEIVED, "record")]
    assert index.lacks_row(THING, Event.HELD)
    index.mark(THING, ROW, Event.HELD)
    assert not index.lacks_row(THING, Event.HELD)
    assert sorted(index.missing()) == [(3, Event.HELD, "envelope"), (7, Event.RECEIVED, "record")]
    index.mark(THING, ROW | ENVELOPE, Event.HELD, Event.RECEIVED)
    assert list(index.missing()) == []
