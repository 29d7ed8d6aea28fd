"""One transaction at a time: state, audit leaf and outbox together; commit; only then send.

Implements docs/protocol.md section 7.1 step R20 and architecture rule "durable first, visible second".

Rules:
1. Jobs are run one after another by one task, in groups: one commit for all jobs that waited.
2. A job changes nothing but its ``Transaction``. What must happen in the world (answers, sends, notices) it leaves
   as ``after`` calls, which run when the commit has returned, in order.
3. A job that raises ``PeerError`` was refused before it changed anything: only its caller learns of it.
4. Any other error, above all a failed commit, stops the node. The next start recovers by the normal path.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exchange.core import answers as answer_documents
from exchange.core.answers import MAX_ANSWER_ITEMS
from exchange.core.audit import Event, Leaf, LogBatch, needs_clock_step
from exchange.core.delivery import Window
from exchange.core.errors import LocalError, PeerError
from exchange.core.merkle import Frontier, restore_frontier
from exchange.core.wire import DocumentType, NodeId, encode_signed_document, encode_time, parse_time
from exchange.node.clockwork import ClockChanges
from exchange.node.copies import Copies
from exchange.node.records import (
    IncomingRow,
    OutgoingRow,
    id_list,
    incoming_from_row,
    incoming_to_row,
    outgoing_from_row,
    outgoing_to_row,
    window_from_row,
    window_to_row,
)
from exchange.ports import Changes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from datetime import datetime

    from exchange.core.answers import AnswerItem
    from exchange.core.audit import ClosedBatch, ReservedLeaf
    from exchange.core.delivery import Incoming
    from exchange.core.suspensions import Suspension
    from exchange.core.wire import Digest
    from exchange.node.registry import Registry
    from exchange.ports import Clock, Secrets, Store

Job: TypeAlias = "Callable[[Transaction], Awaitable[Any]]"
MAX_GROUP: Final = 24  # one commit for many; few enough that these travel while the next are sealed
MAX_KNOWN_CASES: Final = 4096


@dataclass(frozen=True, slots=True)
class PendingAnswer:
    """An answer that the end of the transaction signs: to an incoming row (id, attempt), else to a void or a rival."""

    item: AnswerItem
    message: tuple[str, int] | None = None


@dataclass(slots=True)
class Transaction:
    """What one commit will write, and the records as they will be after it."""

    store: Store
    secrets: Secrets
    registry: Registry
    now: datetime
    log: LogBatch
    known_windows: dict[NodeId, Window]
    known_cases: set[str]
    known_held: dict[NodeId, tuple[Incoming, ...]]
    changes: Changes = field(default_factory=Changes)
    after: list[Callable[[], None]] = field(default_factory=list)
    windows: dict[NodeId, Window] = field(default_factory=dict)
    held: dict[NodeId, tuple[Incoming, ...]] = field(default_factory=dict)
    outgoing: dict[tuple[str, str], OutgoingRow] = field(default_factory=dict)
    incoming: dict[tuple[str, str], dict[int, IncomingRow]] = field(default_factory=dict)
    answers: dict[NodeId, list[PendingAnswer]] = field(default_factory=dict)
    signed: dict[NodeId, list[bytes]] = field(default_factory=dict)
    closed: ClosedBatch | None = None
    quotas: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)
    clocks: ClockChanges = field(default_factory=ClockChanges)
    copies: Copies = field(default_factory=Copies)
    new_cases: set[str] = field(default_factory=set)
    notices: list[Suspension] = field(default_factory=list)  # about agreements; they count from here on
    _answered: set[tuple[NodeId, Digest]] = field(default_factory=set)
    # Ordered: rows are written in the order in which officers and peers caused them.
    _dirty_out: dict[tuple[str, str], None] = field(default_factory=dict)
    _dirty_in: dict[tuple[str, str, int], None] = field(default_factory=dict)

    # -- records

    def window(self, peer: NodeId) -> Window:
        """The numbers of a pair, as this transaction has them."""
        return self.windows.get(peer) or self.known_windows.get(peer) or Window(peer)

    def held_of(self, peer: NodeId) -> tuple[Incoming, ...]:
        """The messages of a peer that wait for others, as this transaction has them."""
        return self.held[peer] if peer in self.held else self.known_held.get(peer, ())

    async def load_outgoing(self, peer: str, ids: Iterable[str]) -> None:
        """Bring outgoing rows of a peer into the transaction, with one query."""
        wanted = [ident for ident in ids if (peer, ident) not in self.outgoing]
        if wanted:
            for raw in await self.store.read("outgoing", peer, id_list(wanted)):
                row = outgoing_from_row(raw)
                self.outgoing[row.record.peer, row.record.id] = row

    async def load_incoming(self, peer: str, ids: Iterable[str]) -> None:
        """Bring all attempts of incoming messages of a peer into the transaction, with one query."""
        wanted = [ident for ident in ids if (peer, ident) not in self.incoming]
        if wanted:
            for ident in wanted:
                self.incoming[peer, ident] = {}
            for raw in await self.store.read("incoming", peer, id_list(wanted)):
                row = incoming_from_row(raw)
                self.incoming[peer, row.record.id][row.record.attempt] = row

    def put_outgoing(self, row: OutgoingRow) -> None:
        """Write an outgoing row."""
        key = (row.record.peer, row.record.id)
        self.outgoing[key] = row
        self._dirty_out[key] = None

    def put_incoming(self, row: IncomingRow) -> None:
        """Write an incoming row."""
        record = row.record
        self.incoming.setdefault((record.peer, record.id), {})[record.attempt] = row
        self._dirty_in[record.peer, record.id, record.attempt] = None

    async def use_case(self, case_id: str) -> None:
        """Make sure that the case's key exists and is learned; a new one is written with this transaction."""
        if case_id in self.known_cases or case_id in self.new_cases:
            return
        rows = await self.store.read("case_key", case_id)
        if rows:
            self.secrets.learn_case_key(case_id, rows[0][0])
            if len(self.known_cases) < MAX_KNOWN_CASES:
                self.known_cases.add(case_id)
            return
        wrapped = self.secrets.new_case_key(case_id)
        self.secrets.learn_case_key(case_id, wrapped)
        self.new_cases.add(case_id)
        self.changes.add("put_case", case_id, wrapped, encode_time(self.now))

    async def used_today(self, agreement: str, sender: str, day: str) -> dict[str, int]:
        """Messages counted by clause."""
        key = (agreement, sender, day)
        if key not in self.quotas:
            self.quotas[key] = {str(c): int(n) for c, n in await self.store.read("quotas", agreement, sender, day)}
        return self.quotas[key]

    async def count(self, agreement: str, clause: str, sender: str, day: str) -> None:
        """Count one message against a clause."""
        used = await self.used_today(agreement, sender, day)
        used[clause] = used.get(clause, 0) + 1
        self.changes.add("add_quota", agreement, clause, sender, day, used[clause])

    def installs(self, digest: Digest) -> bool:
        """Whether this transaction installs a document already."""
        return any(row[0] == digest for row in self.changes.rows.get("put_document", ()))

    def installs_any(self) -> bool:
        """Whether this transaction installs a document."""
        return bool(self.changes.rows.get("put_document"))

    def forget_send(self, digest: Digest) -> None:
        """Do not put an envelope into the outbox that this transaction sealed.

        To take it out again would not do: of two statements the one that was used first runs first, for all its rows.
        """
        if rows := self.changes.rows.get("put_outbox"):
            rows[:] = [row for row in rows if row[0] != digest]

    def answer(self, peer: NodeId, pending: PendingAnswer) -> None:
        """Sign this with the other answers to a peer, at the end."""
        self.answers.setdefault(peer, []).append(pending)
        self._answered.add((peer, pending.item.digest))

    def answers_already(self, peer: NodeId, digest: Digest) -> bool:
        """Whether this transaction will sign an answer to an envelope or void that came twice within it."""
        return (peer, digest) in self._answered

    # -- the log

    def reserve(self, *outcomes: Event) -> ReservedLeaf:
        """Take the next log entry, for a key that is about to be used."""
        return self.log.reserve(*outcomes)

    def record(self, event: Event, reserved: ReservedLeaf | None = None, **fields: Any) -> int:  # noqa: ANN401 - the fields of Leaf
        """Write a log entry and return its index."""
        if reserved is None:
            reserved = self.log.reserve(event)
        self.log.settle(reserved, Leaf(reserved.seq, self.now, event, **fields))
        return reserved.seq

    # -- the end

    async def finish(self) -> None:
        """Sign the answers, close the log batch, and add every changed row."""
        for peer, pending in self.answers.items():
            for start in range(0, len(pending), MAX_ANSWER_ITEMS):
                await self._sign_answers(peer, pending[start : start + MAX_ANSWER_ITEMS])
        for window in self.windows.values():
            self.changes.add("put_window", *window_to_row(window))
        for key in self._dirty_out:
            self.changes.add("put_outgoing", *outgoing_to_row(self.outgoing[key]))
        for peer_id, ident, attempt in self._dirty_in:
            self.changes.add("put_incoming", *incoming_to_row(self.incoming[peer_id, ident][attempt]))
        self.clocks.add_to(self.changes)
        self.copies.add_to(self.changes)
        self.closed = closed = self.log.close()
        for offset, leaf in enumerate(closed.leaves):
            self.changes.add("put_leaf", closed.first + offset, leaf)
        if closed.leaves:
            last = None if closed.latest is None else encode_time(closed.latest)
            self.changes.add("put_log", closed.frontier.size, closed.frontier.encode(), last)

    async def _sign_answers(self, peer: NodeId, pending: list[PendingAnswer]) -> None:
        window = self.window(peer)
        leaf = self.reserve(Event.ANSWERED)
        payload = answer_documents.encode_answers(
            network=self.registry.network,
            sender=self.registry.me,
            recipient=peer,
            key=self.secrets.envelope_key.id,
            time=self.now,
            items=[answer.item for answer in pending],
            through=window.through,
            missing=window.missing(),
        )
        document = await self.secrets.sign(leaf, Event.ANSWERED, DocumentType.ANSWERS, payload)
        digest, data = document.digest(), encode_signed_document(document)
        self.record(Event.ANSWERED, leaf, peer=peer, subject=digest)
        self.changes.add("put_answer", digest, peer, data)
        self.signed.setdefault(peer, []).append(data)
        for answer in pending:
            if answer.message is not None:
                row = self.incoming[peer, answer.message[0]][answer.message[1]]
                self.put_incoming(row._replace(answer=digest))
            else:
                self.changes.add("put_other_answer", answer.item.digest, peer, digest)


class Ledger:
    """Runs jobs in groups, one transaction a group."""

    def __init__(self, store: Store, secrets: Secrets, registry: Registry, clock: Clock) -> None:
        self.store = store
        self._secrets = secrets
        self._registry = registry
        self._clock = clock
        self._waiting: asyncio.Queue[tuple[Job, asyncio.Future[Any]]] = asyncio.Queue()
        self._cases: set[str] = set()
        self.windows: dict[NodeId, Window] = {}
        self.held: dict[NodeId, tuple[Incoming, ...]] = {}
        self.frontier = Frontier()
        self.last: datetime | None = None
        self.stopped: BaseException | None = None

    async def load(self) -> None:
        """Read where the log and the pairs' numbers stand."""
        for row in await self.store.read("windows"):
            window = window_from_row(row)
            self.windows[window.peer] = window
        # Not by the windows: whose first message is held has none yet.
        for raw in await self.store.read("incoming_held"):
            record = incoming_from_row(raw).record
            self.held[record.peer] = (*self.held.get(record.peer, ()), record)
        for _, frontier, last in await self.store.read("log"):
            self.frontier = restore_frontier(frontier)
            self.last = None if last is None else parse_time(last)

    async def run(self) -> None:
        """Run jobs until cancelled; an error that is nobody's input ends it and every waiting job."""
        group: list[tuple[Job, asyncio.Future[Any]]] = []
        try:
            while True:
                group = [await self._waiting.get()]
                while len(group) < MAX_GROUP and not self._waiting.empty():
                    group.append(self._waiting.get_nowait())
                await self._run_group(group)
        except BaseException as error:
            self.stopped = error
            while not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            for _, future in group:
                if not future.done():
                    future.set_exception(LocalError("node.stopping"))
            raise

    async def do(self, job: Job) -> Any:  # noqa: ANN401 - the job's own result
        """Run a job in the next transaction; its result comes after the commit."""
        if self.stopped is not None:
            raise LocalError("node.stopping")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((job, future))
        return await future

    async def _run_group(self, group: list[tuple[Job, asyncio.Future[Any]]]) -> None:
        now = self._clock.now()
        tx = Transaction(
            store=self.store,
            secrets=self._secrets,
            registry=self._registry,
            now=now,
            log=LogBatch(self.frontier, self.last),
            known_windows=self.windows,
            known_cases=self._cases,
            known_held=self.held,
        )
        if needs_clock_step(self.last, now):
            tx.record(Event.CLOCK_STEP)
        results: list[Any] = []
        for job, _ in group:
            try:
                results.append(await job(tx))
            except PeerError as error:
                results.append(error)
        await tx.finish()
        if tx.changes.rows:
            await self.store.commit(tx.changes)
        self._settle(tx)
        for call in tx.after:
            call()
        for (_, future), result in zip(group, results, strict=True):
            if future.done():
                continue
            if isinstance(result, PeerError):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _settle(self, tx: Transaction) -> None:
        self.windows.update(tx.windows)
        self.held.update(tx.held)
        self._cases |= tx.new_cases
        if tx.closed is not None:
            self.frontier, self.last = tx.closed.frontier, tx.closed.latest
