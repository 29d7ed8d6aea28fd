"""Answers, voids and requests: what a signed word about an envelope must say, and for whom."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core import wire
from exchange.core.answers import (
    MAX_ANSWER_ITEMS,
    MAX_MISSING,
    AnswerItem,
    Answers,
    Outcome,
    Request,
    Void,
    claimed_sender,
    encode_answers,
    encode_request,
    encode_void,
    verify_answers,
    verify_request,
    verify_void,
)
from exchange.core.errors import CODES
from exchange.core.wire import Digest, DocumentType, MessageId, UnverifiedDocument
from tests.core import builders
from tests.core.builders import ABSENT, KH, NETWORK, NOW, TH, refused

if TYPE_CHECKING:
    from exchange.core.wire import JsonValue

SECOND = timedelta(seconds=1)
WINDOW = timedelta(minutes=5)
NODE = builders.testonly_node(TH)
CARD = NODE.card
ITEMS = (
    AnswerItem(Digest("1" * 64), Outcome.ACCEPTED, 0, None, "4.2"),
    AnswerItem(Digest("2" * 64), Outcome.COMPLETE, 7),
    AnswerItem(Digest("3" * 64), Outcome.REFUSED, 2**53 - 1, "agreement.purpose", "4.2"),
)
PARTIES: dict[str, Any] = {
    "network": NETWORK,
    "sender": TH,
    "recipient": KH,
    "key": NODE.envelope.public.id,
    "time": NOW,
}
VOID_ID = MessageId("a" * 32)
ASKED: dict[str, Any] = {"method": "PUT", "path": "/v1/blobs/" + "1" * 64, "body": "0" * 64}


def signed(kind: str, payload: bytes) -> UnverifiedDocument:
    return builders.testonly_sign(kind, payload, NODE.envelope)


def answers_of(*items: AnswerItem, through: int = 3, missing: tuple[int, ...] = ()) -> UnverifiedDocument:
    payload = encode_answers(**PARTIES, items=items, through=through, missing=missing)
    return signed(DocumentType.ANSWERS, payload)


def request_at(time: datetime = NOW) -> UnverifiedDocument:
    payload = encode_request(**{**PARTIES, "time": time}, nonce="b" * 32, **ASKED)
    return signed(DocumentType.REQUEST, payload)


ANSWERS = answers_of(*ITEMS, missing=(5, 7))
VOID = signed(DocumentType.VOID, encode_void(**PARTIES, seq=9, message=VOID_ID, reason="relay.cancelled"))
REQUEST = request_at()


def read(where: str, document: UnverifiedDocument, me: str = KH) -> Answers | Void | Request:
    """Read a document as its reader would."""
    match where:
        case "answers":
            return verify_answers(document, CARD, me)
        case "void":
            return verify_void(document, CARD, me)
        case _:
            return verify_request(document, CARD, me, **ASKED, now=NOW, window=WINDOW)


DOCUMENTS = pytest.mark.parametrize(
    ("document", "where"),
    [(ANSWERS, "answers"), (VOID, "void"), (REQUEST, "request")],
    ids=["answers", "void", "request"],
)


# -- what the three share --------------------------------------------------------------------------


@DOCUMENTS
def test_parties_and_network(document: UnverifiedDocument, where: str) -> None:
    """A document of another network, from another node than the card's, or for another node is not for us."""
    again = [
        ("network", "training-other", "key.wrong_network", f"{where}.network"),
        ("network", "", "wire.bad_value", f"{where}.network"),
        ("from", "la-fp1", "envelope.not_for_us", where),
        ("to", "la-fp1", "envelope.not_for_us", where),
        ("to", "LA", "wire.bad_value", f"{where}.to"),
    ]
    for member, to, code, place in again:
        with refused(code, place):
            read(where, signed(document.payload_type, builders.edited(document.payload, member, to=to)))
    with refused("envelope.not_for_us", where):
        read(where, document, me="la-fp1")


@DOCUMENTS
def test_one_purpose_one_type(document: UnverifiedDocument, where: str) -> None:
    """A signature made for one purpose serves no other, though the payload reads alike."""
    assert where in document.payload_type
    for other in wire.DocumentType.ALL - {document.payload_type}:
        with refused("wire.wrong_type", "document.payloadType"):
            read(where, signed(other, document.payload))
        with refused("key.bad_signature", "document.signatures"):
            read(where, replace(signed(other, document.payload), payload_type=document.payload_type))


@DOCUMENTS
def test_key_and_signature(document: UnverifiedDocument, where: str) -> None:
    """The key named inside is an envelope key of the card, valid at the time named, and made the only signature."""
    assert read(where, document) is not None
    for key, code in (
        (NODE.log[0].public.id, "key.unknown"),
        (builders.testonly_node(KH).envelope.public.id, "key.unknown"),
    ):
        with refused(code, "card of th-fp1"):
            read(where, signed(document.payload_type, builders.edited(document.payload, "key", to=key)))
    late = wire.encode_time(CARD.keys[0].valid_until)
    with refused("key.expired", "card of th-fp1"):
        read(where, signed(document.payload_type, builders.edited(document.payload, "time", to=late)))
    for wrong in (
        replace(document, signatures=document.signatures * 2),
        builders.testonly_sign(document.payload_type, document.payload, builders.testonly_node(KH).envelope),
        replace(document, payload=document.payload + b" "),
    ):
        with refused("key.bad_signature", "document.signatures"):
            read(where, wrong)
    with refused("wire.bad_value", f"{where}.key"):
        read(where, signed(document.payload_type, builders.edited(document.payload, "key", to="0")))


@DOCUMENTS
def test_unknown_member(document: UnverifiedDocument, where: str) -> None:
    """A document says nothing that was not asked for."""
    with refused("wire.unknown_member", where):
        read(where, signed(document.payload_type, builders.edited(document.payload, "more", to=1)))


# -- answers ---------------------------------------------------------------------------------------


def test_answers_round_trip() -> None:
    """Answers are read as they were written, with the parties, the numbers and the document's digest."""
    assert verify_answers(ANSWERS, CARD, KH) == Answers(TH, KH, NOW, ITEMS, 3, (5, 7), ANSWERS.digest())
    assert verify_answers(answers_of(through=0), CARD, KH) == Answers(
        TH, KH, NOW, (), 0, (), answers_of(through=0).digest()
    )


def test_answers_carry_every_code() -> None:
    """Every code of the table can be carried by a refusal."""
    codes = sorted(CODES)
    for start in range(0, len(codes), MAX_ANSWER_ITEMS):
        items = [
            AnswerItem(ITEMS[0].digest, Outcome.REFUSED, 1, code) for code in codes[start : start + MAX_ANSWER_ITEMS]
        ]
        assert verify_answers(answers_of(*items), CARD, KH).items == tuple(items)


@pytest.mark.parametrize(
    ("path", "to", "code", "where"),
    [
        (("time",), "now", "wire.bad_time", "answers.time"),
        (("items", 1, "digest"), "0", "wire.bad_value", "answers.items[1].digest"),
        (("items", 1, "status"), "held", "wire.bad_value", "answers.items[1].status"),
        (("items", 1, "log_index"), -1, "wire.bad_value", "answers.items[1].log_index"),
        (("items", 1, "log_index"), None, "wire.bad_type", "answers.items[1].log_index"),
        (("items", 1, "code"), "relay.busy", "relay.bad_answer", "answers.items[1]"),
        (("items", 2, "code"), None, "relay.bad_answer", "answers.items[2]"),
        (("items", 2, "code"), ABSENT, "relay.bad_answer", "answers.items[2]"),
        (("items", 2, "code"), "\x1b[31m.red", "wire.bad_value", "answers.items[2].code"),
        (("items", 2, "code"), "a." + "x" * 32, "wire.bad_value", "answers.items[2].code"),
        (("items", 2, "code"), "Sok Dara", "wire.bad_value", "answers.items[2].code"),
        (("items", 2, "clause"), "4 2", "wire.bad_value", "answers.items[2].clause"),
        (("items", 2, "more"), 1, "wire.unknown_member", "answers.items[2]"),
        (("items",), [{}] * (MAX_ANSWER_ITEMS + 1), "wire.bad_value", "answers.items"),
        (("through",), -1, "wire.bad_value", "answers.through"),
        (("missing",), list(range(1, MAX_MISSING + 2)), "wire.bad_value", "answers.missing"),
        (("missing",), [0], "relay.bad_answer", "answers.missing"),
        (("missing",), [1, True], "relay.bad_answer", "answers.missing"),
        (("missing",), ["1"], "relay.bad_answer", "answers.missing"),
        (("missing",), {}, "wire.bad_type", "answers.missing"),
    ],
)
def test_answers_refusals(path: tuple[str | int, ...], to: JsonValue, code: str, where: str) -> None:
    """Answers with a wrong, missing or unknown member, or a code where none belongs, are refused at their place."""
    with refused(code, where):
        verify_answers(signed(DocumentType.ANSWERS, builders.edited(ANSWERS.payload, *path, to=to)), CARD, KH)


# -- voids -----------------------------------------------------------------------------------------


def test_void_round_trip() -> None:
    """A void is read as it was written."""
    assert verify_void(VOID, CARD, KH) == Void(TH, 9, VOID_ID, "relay.cancelled", VOID.digest())


@pytest.mark.parametrize(
    ("member", "to", "code"),
    [
        ("seq", 0, "wire.bad_value"),
        ("seq", "9", "wire.bad_type"),
        ("id", "a", "wire.bad_value"),
        ("reason", "", "wire.bad_value"),
        ("reason", "because Sok Dara asked", "wire.bad_value"),
        ("time", ABSENT, "wire.missing"),
    ],
)
def test_void_refusals(member: str, to: JsonValue, code: str) -> None:
    """A void with a wrong or missing member is refused at its place."""
    with refused(code, f"void.{member}"):
        verify_void(signed(DocumentType.VOID, builders.edited(VOID.payload, member, to=to)), CARD, KH)


# -- requests --------------------------------------------------------------------------------------


def test_request_round_trip() -> None:
    """A request names its asker and its nonce."""
    assert verify_request(REQUEST, CARD, KH, **ASKED, now=NOW, window=WINDOW) == Request(TH, "b" * 32, NOW)


@pytest.mark.parametrize(
    ("member", "to", "code"),
    [
        ("nonce", "b" * 31, "wire.bad_value"),
        ("method", "PROPPATCH", "wire.bad_value"),
        ("path", "/" * 257, "wire.bad_value"),
        ("body", "0", "wire.bad_value"),
        ("method", ABSENT, "wire.missing"),
    ],
)
def test_request_refusals(member: str, to: JsonValue, code: str) -> None:
    """A request with a wrong or missing member is refused at its place."""
    document = signed(DocumentType.REQUEST, builders.edited(REQUEST.payload, member, to=to))
    with refused(code, f"request.{member}"):
        verify_request(document, CARD, KH, **ASKED, now=NOW, window=WINDOW)


@pytest.mark.parametrize(("name", "value"), [("method", "GET"), ("path", "/v1/card"), ("body", "1" * 64)])
def test_request_is_for_exactly_what_was_signed(name: str, value: str) -> None:
    """A request is refused where method, path or body differ from those signed."""
    with refused("request.unsigned", "request"):
        verify_request(REQUEST, CARD, KH, **{**ASKED, name: value}, now=NOW, window=WINDOW)


def test_request_time() -> None:
    """A request is accepted within the window of its time, before and after, and refused beyond."""
    for now in (NOW - WINDOW, NOW + WINDOW):
        verify_request(REQUEST, CARD, KH, **ASKED, now=now, window=WINDOW)
    for now in (NOW - WINDOW - SECOND, NOW + WINDOW + SECOND):
        with refused("request.stale", "request.time"):
            verify_request(REQUEST, CARD, KH, **ASKED, now=now, window=WINDOW)


# -- who says so -----------------------------------------------------------------------------------


def test_claimed_sender() -> None:
    """The node that a document says it is from is told before anything is verified."""
    assert claimed_sender(VOID) == TH
    payloads = [b"{}", b"[]", b'"th-fp1"', b'{"from":1}', b'{"from":"TH"}', b'{"from":"th-fp1\\n"}', b'{"from":null}']
    for payload in payloads:
        with refused("wire.bad_value", "document.from"):
            claimed_sender(replace(VOID, payload=payload))
    with refused("wire.not_json", "line 1, column 1"):
        claimed_sender(replace(VOID, payload=b"th-fp1"))
