"""The receiver's vectors: each envelope ends at exactly the step and with exactly the code that its file names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.exceptions import InvalidTag

from exchange.adapters.files import schema_files
from exchange.adapters.keyring import SUITE, xwing_secret
from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.delivery import Answer, Incoming, Received, State, Status, Window
from exchange.core.duties import Duty, Subject, check_duty, is_duty
from exchange.core.envelope import SignedEnvelope, encode_batch, parse_batch, parse_envelope, verify_envelope
from exchange.core.errors import CODES, PeerError
from exchange.core.gate import Opened, PrekeyState, Reception, check_route, permit, read_message
from exchange.core.keys import Card, read_card
from exchange.core.officers import OfficerList, read_officers
from exchange.core.relay import find_repeat, handle
from exchange.core.schemas import SchemaBook, parse_schema_book
from exchange.core.wire import Digest, MessageId, NodeId, parse_signed_document

if TYPE_CHECKING:
    from exchange.core.agreements import Agreement

FOLDER: Final = Path(__file__).parent / "vectors"
FILES: Final = sorted(path for path in FOLDER.glob("*.json") if path.name != "receiver.json")
STEPS: Final = [f"R{number}" for number in range(1, 21)]
#: Codes that no single envelope reaches: they need a history (tests/core/test_relay.py, tests/node/test_notices.py).
BY_HISTORY: Final = frozenset({"envelope.seq", "envelope.void", "agreement.suspended"})


@pytest.fixture(scope="module")
def book() -> SchemaBook:
    return parse_schema_book(schema_files())


class Run:
    """A receiver that takes one envelope through R1 to R20 and remembers where it stopped."""

    def __init__(self, vector: dict[str, Any], book: SchemaBook) -> None:
        defaults = json.loads((FOLDER / "receiver.json").read_text(encoding="utf-8"))
        self.held: dict[str, Any] = {**defaults, **vector["receiver"]}
        self.book = book
        self.now = wire.parse_time(self.held["now"])
        self.document = wire.parse_base64(vector["document"])
        self.body = wire.parse_base64(vector["body"])
        self.steps: list[str] = []
        self.error: PeerError | None = None

    def __call__(self) -> str:
        try:
            return self._run()
        except PeerError as error:
            self.error = error
            return error.code

    @property
    def step(self) -> str:
        """The step that refused, from the place that the refusal tells; of what did not refuse, the last one."""
        if self.error is None:
            return {"R6": "R6"}.get(self.steps[-1], "R20")
        told = re.match(r"R[0-9]+", self.error.where)
        if told is not None:
            return told[0]
        if self.steps[-1] != "R10-19":
            return {"R3-5": "R5", "R18": "R18"}.get(self.steps[-1], self.steps[-1])
        # Of the steps that open and read, these do not name themselves; their codes and places differ.
        area = self.error.code.partition(".")[0]
        if area == "duty" or self.error.code == "envelope.reference":
            return "R19" if self.error.code == "duty.binding" else "R18"
        if area == "schema":
            return "R14" if re.match(r"header/(?!parts)", self.error.where) else "R17"
        return "R19" if area == "agreement" or self.error.clause is not None else "R14"

    def _at(self, *steps: str) -> None:
        self.steps += steps

    def _run(self) -> str:
        self._at("R1")
        ((document, body),) = parse_batch(encode_batch([(self.document, self.body)]))
        self._at("R2")
        read = parse_envelope(document, body)
        self._at("R3-5")
        envelope = verify_envelope(
            read,
            network=self.held["network"],
            me=self.held["node"],
            card=self._card(),
            blocked=self.held["blocked"],
            now=self.now,
        )
        self._at("R6")
        if find_repeat([self._prior(item, envelope) for item in self.held["prior"]], read.core.attempt, read.digest):
            return "repeat"
        self._at("R7-9")
        reception = Reception(
            book=self.book,
            agreement=self._agreement(),
            rival=self.held["rival"],
            prekey=PrekeyState(self.held["prekey"]),
            used_today=self.held["used_today"],
            now=self.now,
            officers=self._officers(read.core.officers),
            superseded=self.held["superseded"],
        )
        agreement = check_route(envelope, reception)
        self._at("R10-19")
        opened = read_message(envelope, self._open(envelope), reception)
        message = permit(opened, agreement, reception, self._duty(opened, agreement))
        self._at("R18")
        absent = tuple(MessageId(i) for i in message.header.references if i not in self.held["known"])
        event = Received(read.core.id, 1, read.core.seq, read.digest, self.now, absent=absent)
        _, effects = handle(State(Window(read.core.sender)), event)
        answer = next(effect for effect in effects if isinstance(effect, Answer))
        if answer.code is not None:
            raise PeerError(answer.code, "R18")
        return answer.outcome.value

    def _card(self) -> Card | None:
        data = self.held["card"]
        return None if data is None else read_card(parse_signed_document(wire.parse_base64(data)))

    def _agreement(self) -> Agreement | None:
        data = self.held["agreement"]
        return None if data is None else read_agreement(parse_signed_document(wire.parse_base64(data)))

    def _officers(self, digest: Digest | None) -> OfficerList | None:
        """The list of that digest, if it is held here."""
        data = self.held["officers"]
        held = None if data is None else read_officers(parse_signed_document(wire.parse_base64(data)))
        return held if held is not None and held.digest == digest else None

    def _duty(self, opened: Opened, agreement: Agreement) -> Duty | None:
        if not is_duty(opened.header.kind):
            return None
        subject, request = (self._subject(self.held[name], agreement) for name in ("subject", "request"))
        return check_duty(opened.header.claim, subject, crossed=self.held["crossed"], request=request)

    @staticmethod
    def _subject(held: dict[str, Any] | None, agreement: Agreement) -> Subject | None:
        return None if held is None else Subject(agreement.digest, held["clause"], held["duty"], held["about"])

    def _open(self, envelope: SignedEnvelope) -> bytes | None:
        secret, _ = xwing_secret(bytes.fromhex(self.held["testonly_prekey_seed"]))
        try:
            return SUITE.decrypt(envelope.wrapped, secret, envelope.info)
        except InvalidTag:
            return None

    def _prior(self, item: dict[str, Any], envelope: SignedEnvelope) -> Incoming:
        core = envelope.core
        digest = envelope.digest if item["digest"] == "same" else Digest(item["digest"])
        sender, status = NodeId(core.sender), Status(item["status"])
        return Incoming(sender, core.id, item["attempt"], core.seq, digest, status, self.now)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_envelope_ends_where_its_vector_says(path: Path, book: SchemaBook) -> None:
    """The code and the step are those of the file."""
    vector = json.loads(path.read_text(encoding="utf-8"))
    run = Run(vector, book)
    assert (run(), run.step) == (vector["expect"], vector["step"])


def _expectations() -> list[tuple[str, str]]:
    return [(v["step"], v["expect"]) for v in (json.loads(path.read_text(encoding="utf-8")) for path in FILES)]


def test_every_step_of_the_receiver_has_a_vector() -> None:
    """No step of protocol 7.1 is without an envelope that fails there, and one is accepted."""
    assert len(FILES) >= 50
    assert {step for step, _ in _expectations()} == set(STEPS)


def test_every_code_of_the_gate_has_a_vector() -> None:
    """Each code that the receiver's modules can raise for an envelope is reached by a vector."""
    core = Path(__file__).parent.parent / "exchange" / "core"
    raised: set[str] = set()
    for name in ("envelope", "gate", "relay", "agreements", "decision", "approvals"):
        raised |= set(
            re.findall(
                r'"((?:envelope|agreement|officers|card|key)\.[a-z_]+)"', (core / f"{name}.py").read_text("utf-8")
            )
        )
    document_only = {
        "agreement.malformed",
        "agreement.authority",
        "card.chain",
        "key.threshold",
    }  # raised when a document is installed
    covered = {code for _, code in _expectations()}
    never = {"agreement.consent"}  # a victim without consent or exception has already broken a rule of R17
    assert (raised & set(CODES)) - document_only - BY_HISTORY - never <= covered
    assert {code for code in covered if "." in code} <= set(CODES)


def test_what_was_made_is_what_is_kept(book: SchemaBook) -> None:
    """The generator still makes every vector, by name, code and step, and its fresh bytes end alike."""
    from tests.vectors.make import vectors  # noqa: PLC0415 - it makes keys when it is imported

    made = dict(vectors())
    assert sorted(made) == [path.stem for path in FILES]
    for name, vector in made.items():
        run = Run(vector, book)
        assert (run(), run.step) == (vector["expect"], vector["step"]), name
