"""Reading the whole store again, to see whether it agrees with itself and with the audit log.

Implements the node's side of docs/protocol.md sections 7.1 (R20), 9 and 12.

Rules:
1. Nothing is written and no key is used; with the case keys, every stored message is opened as well.
2. What is wrong is listed with its code and place and the reading goes on: an operator must see all of it.
3. The log is the measure: a state without its entry is wrong, and so is an entry whose record is not there any more.

What is asked: every entry parses, stands at its place and is not back-dated; every checkpoint is signed and its root is
that of the entries; the stored edge of the tree is the one they give; every card, agreement and notice has its entry;
every envelope has its digest and its sender's signature; every message that was decided has its entry, its envelope and
its stored answer, signed by who had to sign; no number is used that the pair's record does not know; every evidence
file has its digest; and whatever an entry names is stored (node.verifying_log).
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from exchange.core.answers import Answers, Outcome, verify_answers, verify_void
from exchange.core.audit import Event, parse_leaf
from exchange.core.delivery import DELIVERED, OPEN, Status, Window
from exchange.core.envelope import SignedEnvelope, envelope_digest, open_body, parse_envelope
from exchange.core.errors import ExchangeError, IntegrityError, PeerError
from exchange.core.keys import Card, Use, read_card
from exchange.core.statement import parse_statement
from exchange.core.wire import NODE_ID, DocumentType, NodeId, parse_signed_document
from exchange.node.records import id_list, outgoing_from_row, window_from_row
from exchange.node.verifying_log import ENVELOPE, PAGE, ROW, LogIndex, LogReader, Review, read_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.checkpoint import LogKeys
    from exchange.core.envelope import Core
    from exchange.ports import Records

__all__ = ["Review", "Verifier"]

T = TypeVar("T")
_RECEIPTS: Final = frozenset({Event.DELIVERED, Event.COMPLETED})
_JUDGED: Final = (Event.RECEIVED, Event.REFUSED, Event.HELD)
_INSTALLED: Final[dict[str, tuple[Event, ...]]] = {
    DocumentType.CARD: (Event.CARD_INSTALLED,),
    DocumentType.AGREEMENT: (Event.AGREEMENT_INSTALLED,),
    DocumentType.SUSPENSION: (Event.AGREEMENT_SUSPENDED, Event.AGREEMENT_LEFT, Event.AGREEMENT_RESUMED),
    DocumentType.OFFICERS: (Event.OFFICERS_INSTALLED,),
    DocumentType.PREKEYS: (Event.PREKEYS_PUBLISHED, Event.PREKEYS_RECEIVED),
}


class CaseKeys(Protocol):
    """The part of ``ports.Secrets`` that reading needs."""

    def learn_case_key(self, case_id: str, wrapped: bytes) -> None:
        """Unwrap a case key for use."""

    def unwrap(self, case_id: str, wrapped: bytes, bound_to: str) -> bytes:
        """Open what is under a case key."""


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
        self._log = LogIndex()
        self._erased: set[str] = set()
        self._cards: dict[str, list[Card]] = defaultdict(list)
        self._lists: set[str] = set()
        self._known_cases: set[str] = set()
        self._stored_cases: set[str] = set()
        self._windows: dict[str, Window] = {}
        self._checked: dict[tuple[str, str, str], Answers | None] = {}
        self.review = Review(opened=secrets is not None)

    async def run(self) -> Review:
        """Read everything. Raises ``ExchangeError`` only where the database itself cannot be read."""
        self._log = await LogReader(self._records, self._log_keys, self.review).read()
        await self._read_documents()
        for row in await self._records.read("windows"):
            window = window_from_row(row)
            self._windows[window.peer] = window
        await self._read_cases()
        await self._read_outgoing()
        await self._read_incoming()
        await self._read_envelopes()
        for seq, event, what in self._log.missing():
            self.review.note("store.row_missing", f"entry {seq} ({event}), {what}")
        await self._read_blobs()
        return self.review

    # -- documents

    async def _read_documents(self) -> None:
        lacking = set(self._log.bundles_of)
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
                elif kind == DocumentType.OFFICERS:
                    self._lists.add(digest)
                elif kind == DocumentType.PREKEYS:
                    lacking.discard(document.fields(place).text("node", pattern=NODE_ID))
            except PeerError as error:
                self.review.note(error.code, place)
                continue
            if document.digest() != digest:
                self.review.note("store.corrupt", place)
            events = _INSTALLED.get(kind, ())
            self._log.mark(digest, ROW, *events)
            if events and not self._log.has(digest, *events):
                self.review.note("store.leaf_missing", place)
        for peer in sorted(lacking):
            self.review.note("store.row_missing", f"prekeys of {peer}")

    # -- messages

    async def _read_cases(self) -> None:
        for case_id, wrapped in await self._records.read("review_cases"):
            self.review.counts["cases"] += 1
            self._known_cases.add(case_id)
            self._stored_cases.add(case_id)
            if self._secrets is not None:
                try:
                    self._secrets.learn_case_key(case_id, wrapped)
                except IntegrityError as error:
                    self._known_cases.discard(case_id)
                    self.review.note(error.code, f"case {case_id[:16]}")

    async def _read_outgoing(self) -> None:
        async for _, peer, ident, state, seq, digest, case_id, answer in read_pages(
            self._records, "review_outgoing", 0
        ):
            self.review.counts["outgoing"] += 1
            place, status = f"outgoing {ident} to {peer}", Status(state)
            self._check_case(case_id, place)
            if digest is None:
                continue
            self._log.mark(digest, ROW, Event.SEALED)
            if not self._log.has(digest, Event.SEALED):
                self.review.note("store.leaf_missing", place)
            if seq >= self._window(peer).next_seq:
                self.review.note("store.corrupt", f"{place}, number")
            if (answer is None or status in OPEN) and self._log.has(digest, *_RECEIPTS, Event.REFUSED_BY_PEER):
                self.review.note("store.row_missing", f"{place}, answer")
            if answer is None:
                # Ended here without an answer, or overtaken by the peer's own message.
                if status not in OPEN | {Status.ANSWERED} and not self._log.has(digest, Event.RETURNED):
                    self.review.note("store.leaf_missing", place)
            elif status not in OPEN:
                await self._check_receipt(peer, status, digest, answer, place)

    async def _check_receipt(self, peer: str, status: Status, digest: str, answer: str, place: str) -> None:
        delivered = status in {*DELIVERED, Status.RECALLED}
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
        async for _, peer, ident, state, seq, digest, case_id, answer, erased in read_pages(
            self._records, "review_incoming", 0
        ):
            self.review.counts["incoming"] += 1
            place, status = f"incoming {ident} from {peer}", Status(state)
            if case_id is not None:
                self._check_case(case_id, place)
            if erased:
                self._check_erased(digest, status, place)
            self._log.mark(digest, ROW, Event.HELD)
            if status is Status.HELD:
                if not self._log.has(digest, Event.HELD):
                    self.review.note("store.leaf_missing", place)
                continue
            judged = Event.REFUSED if status is Status.REFUSED else Event.RECEIVED
            self._log.mark(digest, ROW, judged)
            if not self._log.has(digest, judged):
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

    def _check_erased(self, digest: str, status: Status, place: str) -> None:
        """What was erased has its entry; it has no body any more (``_check_remains``)."""
        self._erased.add(digest)
        if status in DELIVERED:
            self._log.mark(digest, ROW, Event.ERASED)
            if not self._log.has(digest, Event.ERASED):
                self.review.note("store.leaf_missing", place)

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
        async for digest, peer, document, body, wrapped in read_pages(self._records, "review_envelopes", ""):
            self.review.counts["envelopes"] += 1
            place = f"envelope {digest[:16]}"
            erased = digest in self._erased
            kinds = (Event.SEALED, *_JUDGED, Event.EQUIVOCATION) if body or erased else (Event.VOID_SENT,)
            self._log.mark(digest, ENVELOPE, *kinds)
            try:
                if erased:
                    self._check_remains(digest, document, body, wrapped)
                elif body:
                    envelope = self._check_envelope(digest, peer, document, body)
                    await self._check_message(envelope.core, digest, place)
                    if wrapped is not None:
                        await self._open(envelope, wrapped)
                else:
                    self._check_void(digest, peer, document)
            except ExchangeError as error:
                self.review.note(error.code, place)
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

    @staticmethod
    def _check_remains(digest: str, data: bytes, body: bytes, wrapped: bytes | None) -> None:
        """Of what was erased the signed document is left, and nothing that it could open."""
        document = parse_signed_document(data, DocumentType.ENVELOPE)
        if envelope_digest(document) != digest or body or wrapped is not None:
            raise IntegrityError("store.corrupt", "erased envelope")

    def _check_void(self, digest: str, peer: str, data: bytes) -> None:
        document = parse_signed_document(data, DocumentType.VOID)
        if document.digest() != digest:
            raise IntegrityError("store.corrupt", "void")
        self._by_any_card(self._me, lambda card: verify_void(document, card, peer))
        if not self._log.has(digest, Event.VOID_SENT):
            raise IntegrityError("store.leaf_missing", "void")

    async def _check_message(self, core: Core, digest: str, place: str) -> None:
        """A message that was sealed again has one row, of its last attempt; and the files it names are listed."""
        sent = core.sender == self._me
        if sent and self._log.lacks_row(digest, Event.SEALED):
            rows = [outgoing_from_row(row) for row in await self._records.read(*_row_of(core, sent=True))]
            if any(row.record.attempt >= core.attempt for row in rows):
                self._log.mark(digest, ROW, Event.SEALED)
        if not self._log.has(digest, Event.SEALED, Event.RECEIVED, Event.HELD):
            return
        if core.officers is not None and core.officers not in self._lists:
            self.review.note("store.row_missing", f"{place}, officers")
        key = (core.recipient, core.id, "out") if sent else (core.sender, core.id, "in")
        for blob in core.blobs:
            rows_of = await self._records.read("blobs_named", blob.h)
            if key not in {row[:3] for row in rows_of}:
                self.review.note("store.row_missing", f"{place}, evidence {blob.h[:16]}")

    async def _open(self, envelope: SignedEnvelope, wrapped: bytes) -> None:
        """With the case's key: what the log committed to is what is stored. An erased case has no key any more."""
        if self._secrets is None:
            return
        case_id = await self._case_of(envelope.core)
        if case_id is None or case_id not in self._known_cases:
            return
        statement = parse_statement(open_body(envelope, self._secrets.unwrap(case_id, wrapped, envelope.digest)))
        self.review.counts["opened"] += 1
        for seq, event in self._log.entries(envelope.digest):
            if event in {Event.SEALED, Event.RECEIVED}:
                for _, data in await self._records.read("leaves", seq, 1):
                    if parse_leaf(data).commitment not in {None, statement.parts[0].digest}:
                        raise IntegrityError("store.log_mismatch", "commitment")

    async def _case_of(self, core: Core) -> str | None:
        """The case of a stored message."""
        sent = core.sender == self._me
        rows = await self._records.read(*_row_of(core, sent=sent))
        cases = [row[12] for row in rows if row[12] is not None]
        return str(cases[0]) if cases else None

    def _check_case(self, case_id: str, place: str) -> None:
        """No command of this version erases a case's key; messages are erased one by one."""
        if case_id not in self._stored_cases:
            self.review.note("store.row_missing", f"{place}, case")

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


def _row_of(core: Core, *, sent: bool) -> tuple[str, str, str]:
    """The statement, and its values, that reads the rows of a message."""
    peer = core.recipient if sent else core.sender
    return "outgoing" if sent else "incoming", peer, id_list([core.id])
