"""A recall follows what was passed on: whoever forwarded a message takes it back when its originator does.

Implements docs/protocol.md section 8.8, Y8.

Rules:
1. What was passed on is written with its forwarding, in one transaction; what is to be recalled follows from that and
   from the rows of copies, each time it is looked at: a crash or a blocked peer delays a recall and loses none.
   What cannot be sent now is passed over, and asked for again when its turn comes.
2. The new recipient is told the originator's reason, and nothing else of it.

What it does not do: follow what the new recipient did with it, for a forwarded message is not forwarded again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exchange.core.delivery import DELIVERED
from exchange.core.duties import RECALL
from exchange.core.wire import Digest
from exchange.node.copies import Round
from exchange.node.records import id_list
from exchange.node.withdrawals import duty_draft, read_statement

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject
    from exchange.node.erasing import Eraser
    from exchange.node.ledger import Ledger, Transaction
    from exchange.node.sending import Sender


@dataclass(slots=True)
class Following:
    """Recalls what this node passed on."""

    ledger: Ledger
    sender: Sender
    eraser: Eraser
    _round: Round = field(default_factory=lambda: Round("forwards_recalled"))

    async def look(self) -> None:
        """Everything whose original was taken back and that is not taken back itself."""
        blocked = id_list(self.sender.registry.blocked)
        for _, peer, ident, reason in await self._round.next(self.ledger.store, blocked):
            if not await self.eraser.take_back(peer, ident, reason, "node"):
                await self._recall(peer, ident, reason)

    async def _recall(self, peer: str, ident: str, reason: str) -> None:
        async def job(tx: Transaction) -> None:
            await tx.load_outgoing(peer, [ident])
            row = tx.outgoing[peer, ident]
            if row.record.status not in DELIVERED:
                return  # refused or given up meanwhile: nobody has it
            statement = await read_statement(tx, row.record.digest or Digest(""), row.case_id)
            content: JsonObject = {"kind": RECALL, "reason": reason, "effect": "delete"}
            draft = duty_draft(str(statement.header()["case"]), ident, content, None)
            await self.sender.submit_within(tx, draft, row.record.peer)

        await self.ledger.do(job)
