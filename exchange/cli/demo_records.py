"""What the demo believes: nothing that a node says of itself, only signatures and logs.

Rules:
1. A receipt counts when its document verifies under the recipient's card and names, by digest, the envelope that the
   sender stored.
2. A log counts when its export verifies under the keys of the node's card; a store when all of it agrees with its log.
3. Two logs agree when each message of a pair left the same commitment in both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from exchange.adapters.audit_folder import verify_export, write_export
from exchange.adapters.blobs import hash_blob
from exchange.adapters.snapshot import Snapshot
from exchange.cli.audit import log_keys_of
from exchange.core.answers import Outcome, verify_answers
from exchange.core.audit import Event, Leaf, parse_leaf
from exchange.core.errors import IntegrityError, PeerError
from exchange.core.wire import DocumentType, parse_signed_document
from exchange.node.records import id_list, outgoing_from_row
from exchange.node.verifying import Review, Verifier

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exchange.cli.demo_nodes import TrainingNode
    from exchange.core.auditpack import Report
    from exchange.core.wire import NodeId


@dataclass(frozen=True, slots=True)
class Sent:
    """What a sender's records hold of a message: its status, and whether its receipt verifies."""

    status: str
    receipt: bool


def look_up(sender: TrainingNode, recipient: TrainingNode, message: str) -> Sent:
    """Read a message's status and verify its receipt, beside the running node or after its end."""
    with Snapshot(sender.new.home.database) as snapshot:
        rows = snapshot.rows("outgoing", recipient.id, id_list([message]))
        if not rows:
            return Sent("unknown", receipt=False)
        row = outgoing_from_row(rows[0])
        answers = snapshot.rows("answer", row.answer)
    receipt = any(_is_receipt(data, sender, recipient, row.record.digest) for (data,) in answers)
    return Sent(row.record.status.value, receipt)


def _is_receipt(data: bytes, sender: TrainingNode, recipient: TrainingNode, digest: str | None) -> bool:
    try:
        answers = verify_answers(parse_signed_document(data, DocumentType.ANSWERS), recipient.card, sender.id)
    except PeerError:
        return False
    return any(item.digest == digest and item.outcome is not Outcome.REFUSED for item in answers.items)


@dataclass(frozen=True, slots=True)
class Log:
    """The audit log of a node that has ended: what verifying its export and its store said, and its entries."""

    report: Report
    review: Review
    entries: tuple[Leaf, ...]

    @property
    def ok(self) -> bool:
        """Whether the log is whole and the store agrees with it."""
        return self.report.ok and self.review.total == 0

    @property
    def root(self) -> str:
        """The signed root."""
        return self.report.checkpoint.head.root.hex() if self.report.checkpoint else ""


async def export_log(node: TrainingNode, folder: Path) -> Log:
    """Export the log into ``folder``, verify what was written by the keys of the node's card, then the whole store.

    Raises ``LocalError`` input.exists, node.disk; ``IntegrityError`` store.*.
    """
    keys = log_keys_of(node.card)
    with Snapshot(node.new.home.database) as snapshot:
        checkpoints = snapshot.rows("checkpoint")
        if not checkpoints:
            raise IntegrityError("store.log_mismatch", f"{node.id}: no checkpoint")
        entries = list(snapshot.leaves())
        write = partial(write_export, folder, checkpoint=checkpoints[0][2], entries=entries, keys=keys)
        await asyncio.to_thread(write)
        report = await asyncio.to_thread(verify_export, folder, card_keys=keys)
        digest_of = partial(hash_blob, node.new.home.blobs)
        review = await Verifier(snapshot, node.id, keys, digest_of, node.new.keyring).run()
    return Log(report, review, tuple(parse_leaf(entry) for entry in entries))


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
