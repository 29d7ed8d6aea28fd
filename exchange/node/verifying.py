"""Reading the whole store again, to see whether it agrees with itself and with the audit log.

Implements the node's side of docs/protocol.md sections 7.1 (R20), 9 and 12.

Rules:
1. Nothing is written and no key is used; with the case keys, every stored message is opened as well.
2. What is wrong is listed with its code and place and the reading goes on: an operator must see all of it.
3. The log is the measure: a state without its entry is wrong, whatever else says so.

What is asked: every entry parses, stands at its place and is not back-dated; every checkpoint is signed and its root is
that of the entries; the stored edge of the tree is the one they give; every card and agreement has its entry; every
envelope has its digest and its sender's signature; every message that was decided has its entry, its envelope and its
stored answer, signed by who had to sign; no number is used that the pair's record does not know; every evidence file
has its digest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from exchange.core.answers import Answers, Outcome, verify_answers, verify_void
from exchange.core.audit import Event, Leaf, advance, is_back_dated, parse_leaf
from exchange.core.checkpoint import LogKeys, parse_checkpoint
from exchange.core.delivery import DELIVERED, OPEN, Status, Window
from exchange.core.envelope import SignedEnvelope, open_body, parse_envelope
from exchange.core.errors import CODES, ExchangeError, IntegrityError, PeerError
from exchange.core.keys import Card, Use, read_card
from exchange.core.merkle import Frontier, hash_leaf
from exchange.core.statement import parse_statement
from exchange.core.wire import DocumentType, JsonObject, JsonValue, NodeId, parse_signed_document
from exchange.node.records import window_from_row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from exchange.ports import Records, Row

T = TypeVar("T")
PAGE: Final = 512
MAX_FINDINGS: Final = 200
_RECEIPTS: Final = frozenset({Event.DELIVERED, Event.COMPLETED})


class CaseKeys(Protocol):
    """The part of ``ports.Secrets`` that reading needs."""

    def learn_case_key(self, case_id: str, wrapped: bytes) -> None:
        """Unwrap a case key for use."""

    def unwrap(self, case_id: str, wrapped: bytes, bound_to: str) -> bytes:
        """Open what is under a case key."""


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


@dataclass(slots=True)
class _Log:
    """What later steps ask the log: by digest, the entries about it."""

    events: dict[str, list[tuple[int, Event]]] = field(default_factory=lambda: defaultdict(list))
    commitments: dict[str, str] = field(default_factory=dict)

    def add(self, leaf: Leaf) -> None:
        if leaf.subject is not None:
            self.events[leaf.subject].append((leaf.seq, leaf.event))
            if leaf.commitment is not None and leaf.event in {Event.SEALED, Event.RECEIVED}:
                self.commitments[leaf.subject] = leaf.commitment

    def has(self, subject: str, *events: Event) -> bool:
        return any(event in events for _, event in self.events.get(subject, ()))

    def names(self, subject: str, seq: int) -> bool:
        return any(number == seq for number, _ in self.events.get(subject, ()))


class Verifier:
    """One reading of one store. ``digest_of`` gives the SHA-256 of a stored evidence file, None where it is absent."""

    def __init__(
        self,
        records: Records,
        me: NodeId,
        log_keys: LogKeys,
        digest_of: Callable[[str], str | None],
        secrets: CaseKeys | None = None,
    ) -> None:
        self._records = records
        self._me = me
        self._log_keys = log_keys
        self._digest_of = digest_of
        self._secrets = secrets
        self._log = _Log()
        self._cards: dict[str, list[Card]] = defaultdict(list)
        self._cases: dict[tuple[str, str], str] = {}
        self._known_cases: set[str] = set()
        self._wanted: dict[str, str] = {}
        self._windows: dict[str, Window] = {}
        self._checked: dict[tuple[str, str, str], Answers | None] = {}
        self.review = Review(opened=secrets is not None)

    async def run(self) -> Review:
        """Read everything. Raises ``ExchangeError`` only where the database itself cannot be read."""
        await self._read_log()
        await self._read_documents()
        for row in await self._records.read("windows"):
            window = window_from_row(row)
            self._windows[window.peer] = window
        await self._read_cases()
        await self._read_outgoing()
        await self._read_incoming()
        await self._read_envelopes()
        await self._read_blobs()
        return self.review

    # -- the log

    async def _read_log(self) -> None:
        notes = {size: note for size, _, note in await self._records.read("all_checkpoints")}
        frontier, latest = Frontier(), None
        async for seq, data in self._pages("leaves", -1, by=1):
            place = f"entry {frontier.size}"
            if seq != frontier.size:
                self.review.note("audit.order", place)
            latest = self._read_leaf(data, place, frontier.size, latest)
            frontier = frontier.append(hash_leaf(data))
            if frontier.size in notes:
                self._check_note(notes.pop(frontier.size), frontier)
        for size in notes:
            self.review.note("store.log_mismatch", f"checkpoint of {size} entries")
        stored = await self._records.read("log")
        if [row[1] for row in stored] != [frontier.encode()]:
            self.review.note("store.log_mismatch", "the stored edge of the tree")
        self.review.counts["entries"] = frontier.size
        self.review.root = frontier.root().hex()

    def _read_leaf(self, data: bytes, place: str, seq: int, latest: datetime | None) -> datetime | None:
        try:
            leaf = parse_leaf(data)
        except PeerError as error:
            self.review.note(error.code, place)
            return latest
        if leaf.seq != seq:
            self.review.note("audit.order", place)
        if is_back_dated(latest, leaf):
            self.review.note("audit.back_dated", place)
        self._log.add(leaf)
        return advance(latest, leaf)

    def _check_note(self, note: bytes, frontier: Frontier) -> None:
        place = f"checkpoint of {frontier.size} entries"
        self.review.counts["checkpoints"] += 1
        try:
            head = parse_checkpoint(note, self._log_keys).head
        except PeerError as error:
            self.review.note(error.code, place)
            return
        if (head.size, head.root) != (frontier.size, frontier.root()):
            self.review.note("store.log_mismatch", place)

    # -- documents

    async def _read_documents(self) -> None:
        installed = {DocumentType.CARD: Event.CARD_INSTALLED, DocumentType.AGREEMENT: Event.AGREEMENT_INSTALLED}
        for digest, kind, data in await self._records.read("review_documents"):
            self.review.counts["documents"] += 1
            place = f"document {digest[:16]}"
            try:
                document = parse_signed_document(data, kind)
                if kind == DocumentType.CARD:
                    card = read_card(document)
                    if not card.authority.approves(document):
                        self.review.note("key.threshold", place)
                    self._cards[card.node].append(card)
            except PeerError as error:
                self.review.note(error.code, place)
                continue
            if document.digest() != digest:
                self.review.note("store.corrupt", place)
            if kind in installed and not self._log.has(digest, installed[kind]):
                self.review.note("store.leaf_missing", place)

    # -- messages

    async def _read_cases(self) -> None:
        for case_id, wrapped in await self._records.read("review_cases"):
            self.review.counts["cases"] += 1
            self._known_cases.add(case_id)
            if self._secrets is not None:
                try:
                    self._secrets.learn_case_key(case_id, wrapped)
                except IntegrityError as error:
                    self._known_cases.discard(case_id)
                    self.review.note(error.code, f"case {case_id[:16]}")

    async def _read_outgoing(self) -> None:
        async for _, peer, ident, state, seq, digest, case_id, answer in self._pages("review_outgoing", 0):
            self.review.counts["outgoing"] += 1
            place, status = f"outgoing {ident} to {peer}", Status(state)
            self._cases[peer, ident] = case_id
            if digest is None:
                continue
            self._wanted[digest] = place
            if not self._log.has(digest, Event.SEALED):
                self.review.note("store.leaf_missing", place)
            if seq >= self._window(peer).next_seq:
                self.review.note("store.corrupt", f"{place}, number")
            if answer is None:
                # Ended here without an answer, or overtaken by the peer's own message.
                if status not in OPEN | {Status.ANSWERED} and not self._log.has(digest, Event.RETURNED):
                    self.review.note("store.leaf_missing", place)
            elif status not in OPEN:
                await self._check_receipt(peer, status, digest, answer, place)

    async def _check_receipt(self, peer: str, status: Status, digest: str, answer: str, place: str) -> None:
        delivered = status in DELIVERED
        expected = _RECEIPTS if delivered else frozenset({Event.REFUSED_BY_PEER, Event.RETURNED})
        if not self._log.has(digest, *expected):
            self.review.note("store.leaf_missing", place)
        answers = await self._answers(answer, peer, self._me, place)
        if answers is None or self._log.has(digest, Event.RETURNED):
            return
        # A peer that contradicts itself in one document has said this too: in the log, and no fault of the store.
        said = {item.outcome is not Outcome.REFUSED for item in answers.items if item.digest == digest}
        if delivered not in said:
            self.review.note("store.corrupt", f"{place}, answer")

    async def _read_incoming(self) -> None:
        async for _, peer, ident, state, seq, digest, case_id, answer in self._pages("review_incoming", 0):
            self.review.counts["incoming"] += 1
            place, status = f"incoming {ident} from {peer}", Status(state)
            self._wanted[digest] = place
            if case_id is not None:
                self._cases[peer, ident] = case_id
            if status is Status.HELD:
                if not self._log.has(digest, Event.HELD):
                    self.review.note("store.leaf_missing", place)
                continue
            if not self._log.has(digest, Event.REFUSED if status is Status.REFUSED else Event.RECEIVED):
                self.review.note("store.leaf_missing", place)
            if not self._window(peer).has(seq):
                self.review.note("store.corrupt", f"{place}, number")
            answers = None if answer is None else await self._answers(answer, self._me, peer, place)
            if answers is None:
                if answer is None:
                    self.review.note("store.corrupt", f"{place}, answer")
                continue
            items = [item for item in answers.items if item.digest == digest]
            refused = any(item.outcome is Outcome.REFUSED for item in items)
            if not items or refused is not (status is Status.REFUSED):
                self.review.note("store.corrupt", f"{place}, answer")
            elif not all(self._log.names(digest, item.log_index) for item in items):
                self.review.note("store.leaf_missing", f"{place}, answer")

    async def _answers(self, digest: str, signer: str, reader: str, place: str) -> Answers | None:
        """A stored answers document that ``signer`` signed for ``reader``; None, and a finding, where it is not one."""
        # One document answers a whole batch, and its messages lie next to each other.
        key = (digest, signer, reader)
        if key not in self._checked:
            if len(self._checked) >= PAGE:
                self._checked.clear()
            self._checked[key] = await self._check_answers(digest, signer, reader, place)
        return self._checked[key]

    async def _check_answers(self, digest: str, signer: str, reader: str, place: str) -> Answers | None:
        rows = await self._records.read("answer", digest)
        if not rows:
            self.review.note("store.corrupt", f"{place}, answer")
            return None
        self.review.counts["answers"] += 1
        try:
            document = parse_signed_document(rows[0][0], DocumentType.ANSWERS)
            answers = self._by_any_card(signer, lambda card: verify_answers(document, card, reader))
        except PeerError as error:
            self.review.note(error.code, f"{place}, answer")
            return None
        if answers.digest != digest:
            self.review.note("store.corrupt", f"{place}, answer")
            return None
        return answers

    # -- envelopes

    async def _read_envelopes(self) -> None:
        async for digest, peer, document, body, wrapped in self._pages("review_envelopes", ""):
            self.review.counts["envelopes"] += 1
            self._wanted.pop(digest, None)
            place = f"envelope {digest[:16]}"
            try:
                if body:
                    envelope = self._check_envelope(digest, peer, document, body)
                    if wrapped is not None:
                        self._open(envelope, peer, wrapped)
                else:
                    self._check_void(digest, peer, document)
            except ExchangeError as error:
                self.review.note(error.code, place)
        for place in self._wanted.values():
            self.review.note("store.corrupt", f"{place}, envelope")
        for (digest,) in await self._records.read("review_outbox"):
            if not await self._records.read("envelope", digest):
                self.review.note("store.corrupt", f"outbox {digest[:16]}")

    def _check_envelope(self, digest: str, peer: str, document: bytes, body: bytes) -> SignedEnvelope:
        read = parse_envelope(document, body)
        core = read.core
        if read.digest != digest or {core.sender, core.recipient} != {peer, self._me}:
            raise IntegrityError("store.corrupt", "envelope")

        def verify(card: Card) -> None:
            key = card.signing_key(core.signing_key, Use.ENVELOPE, core.created)
            if not key.verify(read.document.signed_bytes(), read.document.signatures[0].sig):
                raise PeerError("envelope.signature", "envelope")

        self._by_any_card(core.sender, verify)
        return SignedEnvelope(core, read.core_digest, read.wrapped, read.body, read.received, read.digest)

    def _check_void(self, digest: str, peer: str, data: bytes) -> None:
        document = parse_signed_document(data, DocumentType.VOID)
        if document.digest() != digest:
            raise IntegrityError("store.corrupt", "void")
        self._by_any_card(self._me, lambda card: verify_void(document, card, peer))
        if not self._log.has(digest, Event.VOID_SENT):
            raise IntegrityError("store.leaf_missing", "void")

    def _open(self, envelope: SignedEnvelope, peer: str, wrapped: bytes) -> None:
        """With the case's key: what the log committed to is what is stored. An erased case has no key any more."""
        case_id = self._cases.get((peer, envelope.core.id))
        if self._secrets is None or case_id not in self._known_cases or case_id is None:
            return
        statement = parse_statement(open_body(envelope, self._secrets.unwrap(case_id, wrapped, envelope.digest)))
        self.review.counts["opened"] += 1
        committed = self._log.commitments.get(envelope.digest)
        if committed is not None and committed != statement.parts[0].digest:
            raise IntegrityError("store.log_mismatch", "commitment")

    # -- evidence

    async def _read_blobs(self) -> None:
        for (h,) in await self._records.read("review_blobs"):
            self.review.counts["evidence"] += 1
            if self._digest_of(h) != h:
                self.review.note("store.blob_missing", f"evidence {h[:16]}")

    # -- helpers

    def _window(self, peer: str) -> Window:
        return self._windows.get(peer) or Window(NodeId(peer))

    def _by_any_card(self, node: str, verify: Callable[[Card], T]) -> T:
        """What ``verify`` says with the card that knows the key: a node's earlier cards count for what was then."""
        refusal = PeerError("card.unknown", node)
        for card in reversed(self._cards.get(node, [])):
            try:
                return verify(card)
            except PeerError as error:
                refusal = error
                if error.code not in {"key.unknown", "key.expired"}:
                    break
        raise refusal

    async def _pages(self, statement: str, start: int | str, by: int = 0) -> AsyncIterator[Row]:
        """All rows of a paged statement, whose first column is where the next page begins (from there, or after it)."""
        position: int | str = start + by if isinstance(start, int) else start
        while rows := await self._records.read(statement, position, PAGE):
            for row in rows:
                yield row
            position = rows[-1][0] + by if by else rows[-1][0]
