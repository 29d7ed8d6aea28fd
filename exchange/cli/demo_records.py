"""What the demo believes: nothing that a node says of itself, only signatures and logs.

Rules:
1. A receipt counts when its document verifies under the recipient's card and names, by digest, the envelope that the
   sender stored.
2. A log counts when its export verifies under the keys of the node's card.
3. Two logs agree when each message of a pair left the same commitment in both.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exchange.adapters.audit_folder import verify_export, write_export
from exchange.adapters.sqlite import SqliteStore, load_queries
from exchange.core.answers import Outcome, verify_answers
from exchange.core.audit import Event, Leaf, parse_leaf
from exchange.core.checkpoint import log_keys, parse_origin
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.keys import Alg, Use
from exchange.core.wire import DocumentType, parse_signed_document
from exchange.node.records import id_list, outgoing_from_row

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.core.auditpack import Report
    from exchange.core.checkpoint import LogKeys
    from exchange.core.wire import NodeId
    from exchange.ports import Row

ALL: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """A verified receipt: what became of the message at its sender, and its entry in the recipient's log."""

    status: str
    log_index: int


def _read(node: TrainingNode, statement: str, *values: object) -> list[Row]:
    """A named query beside the running node, which alone writes."""
    with closing(sqlite3.connect(f"{node.new.home.database.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(load_queries()[statement], values).fetchall()


def verify_receipt(sender: TrainingNode, recipient: TrainingNode, message: str) -> Receipt | None:
    """The receipt that ``sender`` holds for a message, or None where there is none that verifies."""
    rows = _read(sender, "outgoing", recipient.id, id_list([message]))
    if not rows:
        return None
    row = outgoing_from_row(rows[0])
    if row.answer is None or row.record.digest is None:
        return None
    for (data,) in _read(sender, "answer", row.answer):
        try:
            answers = verify_answers(parse_signed_document(data, DocumentType.ANSWERS), recipient.card, sender.id)
        except PeerError:
            return None
        for item in answers.items:
            if item.digest == row.record.digest and item.outcome is not Outcome.REFUSED:
                return Receipt(row.record.status.value, item.log_index)
    return None


def status_of(sender: TrainingNode, recipient: TrainingNode, message: str) -> str:
    """Where a message is, by its sender's records."""
    rows = _read(sender, "outgoing", recipient.id, id_list([message]))
    return outgoing_from_row(rows[0]).record.status.value if rows else "unknown"


def card_log_keys(node: TrainingNode) -> LogKeys:
    """The keys of a node's log, from its signed card."""
    card = node.card
    raw = {key.alg: key.raw for key in card.keys_for(Use.LOG)}
    return log_keys(parse_origin(card.log_origin), raw[Alg.ED25519], raw[Alg.MLDSA44])


@dataclass(frozen=True, slots=True)
class Log:
    """The audit log of a node that has stopped: what the export's verification said, and the entries."""

    report: Report
    entries: tuple[Leaf, ...]

    @property
    def size(self) -> int:
        """Entries under the signed root."""
        return self.report.entries

    @property
    def root(self) -> str:
        """The signed root."""
        return self.report.checkpoint.head.root.hex() if self.report.checkpoint else ""


async def export_log(node: TrainingNode, folder: Path) -> Log:
    """Export the log of a stopped node into ``folder`` and verify what was written, by the keys of the node's card.

    Raises ``LocalError`` node.locked, input.exists, node.disk; ``IntegrityError`` store.log_mismatch.
    """
    with node.new.home.lock():
        store = await SqliteStore.open(node.new.home.database)
        try:
            checkpoints = await store.read("checkpoint")
            entries = [leaf for _, leaf in await store.read("leaves", 0, ALL)]
        finally:
            await store.close()
    if not checkpoints:
        raise IntegrityError("store.log_mismatch", f"{node.id}: no checkpoint")
    keys = card_log_keys(node)
    note = checkpoints[0][2]
    await asyncio.to_thread(write_export, folder, checkpoint=note, entries=entries, keys=keys)
    report = await asyncio.to_thread(verify_export, folder, card_keys=keys)
    return Log(report, tuple(parse_leaf(entry) for entry in entries))


def _commitments(log: Log, event: Event, peer: NodeId) -> Counter[str]:
    return Counter(leaf.commitment or "" for leaf in log.entries if leaf.event is event and leaf.peer == peer)


def logs_agree(sender: TrainingNode, recipient: TrainingNode, logs: dict[str, Log]) -> bool:
    """Whether what one log says was sealed for the other is what the other says it received; by country."""
    sealed = _commitments(logs[sender.country], Event.SEALED, recipient.id)
    return sealed == _commitments(logs[recipient.country], Event.RECEIVED, sender.id)


def pairs(nodes: Iterable[TrainingNode]) -> list[tuple[TrainingNode, TrainingNode]]:
    """Every ordered pair."""
    nodes = list(nodes)
    return [(one, other) for one in nodes for other in nodes if one is not other]
