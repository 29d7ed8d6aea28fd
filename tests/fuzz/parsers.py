"""Every reader of bytes from outside in ``exchange.core``, with valid samples and its writer where it has one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.answers import (
    AnswerItem,
    Outcome,
    claimed_sender,
    encode_answers,
    encode_request,
    encode_void,
    verify_answers,
    verify_request,
    verify_void,
)
from exchange.core.approvals import read_approval
from exchange.core.audit import encode_leaf, parse_leaf
from exchange.core.checkpoint import (
    encode_log_keys,
    encode_vkey,
    parse_checkpoint,
    parse_log_keys,
    parse_note,
    parse_origin,
    parse_vkey,
)
from exchange.core.envelope import (
    encode_batch,
    encode_core,
    pad,
    parse_batch,
    parse_core,
    parse_envelope,
    parse_padded,
)
from exchange.core.keys import encode_card, read_card, verify_card, verify_prekeys
from exchange.core.merkle import parse_hash
from exchange.core.narrowing import parse_narrowing
from exchange.core.officers import encode_officers, read_officers
from exchange.core.statement import encode_statement, parse_statement
from exchange.core.suspensions import encode_suspension, verify_suspension
from exchange.core.tiles import parse_bundle
from exchange.core.wire import Digest, DocumentType, MessageId, UnverifiedDocument
from tests.core import builders, log_samples, rules, test_suspensions
from tests.core.builders import KH, NETWORK, NOW, TH

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.keys import Card


@dataclass(frozen=True)
class Parser:
    """One reader. ``encode`` writes what ``parse`` gave; ``one_form`` says that any value has exactly one text."""

    name: str
    parse: Callable[[bytes], Any]
    samples: tuple[bytes, ...]
    encode: Callable[[Any], bytes] | None = None
    one_form: bool = False


NODE: Final = builders.testonly_node(KH)
SEALED: Final = builders.testonly_seal(builders.sample_core(), encode_statement(builders.sample_statement()))
PARTIES: Final[dict[str, Any]] = {
    "network": NETWORK,
    "sender": KH,
    "recipient": TH,
    "key": NODE.envelope.public.id,
    "time": NOW,
}
ASKED: Final[dict[str, Any]] = {"method": "GET", "path": "/v1/prekeys", "body": "0" * 64}
ITEMS: Final = (
    AnswerItem(Digest("1" * 64), Outcome.ACCEPTED, 1, None, "4.2"),
    AnswerItem(Digest("2" * 64), Outcome.REFUSED, 2, "agreement.tlp", "4.2"),
)
REDACTED: Final = replace(builders.sample_statement({"a": 1}, "b").withhold(1, "7.1"), approvals=("one",))
LOG: Final = log_samples.LogSigner()
NARROWING: Final = {"required": ["a"], "properties": {"a": {"enum": ["x"], "anyOf": [{"const": "x"}]}}}


def signed(kind: str, payload: bytes) -> UnverifiedDocument:
    """The payload under its true signer, so that reading does not stop at a signature."""
    signer = NODE.bundle if kind == DocumentType.PREKEYS else NODE.envelope
    return builders.testonly_sign(kind, payload, signer)


def unsigned(kind: str, payload: bytes) -> UnverifiedDocument:
    return UnverifiedDocument(kind, payload, ())


def json_of(data: bytes) -> wire.JsonValue:
    return wire.parse_json(data, max_bytes=100_000)


def card_of(data: bytes) -> Card:
    read_card(unsigned(DocumentType.CARD, data))  # what cannot be read is not worth six signatures
    return verify_card(builders.testonly_sign(DocumentType.CARD, data, *NODE.authority), NETWORK, NOW, NODE.card)


def batch_of(*frames: tuple[bytes, bytes]) -> bytes:
    return encode_batch(frames)


JSON_PARSERS: Final = (
    Parser("json", json_of, (b'{"a":[1,2.5,"x",null,true]}', b'"\\ud83d\\ude00"'), wire.encode_json),
    Parser(
        "document",
        wire.parse_signed_document,
        (SEALED.document, wire.encode_signed_document(NODE.prekeys_document())),
        wire.encode_signed_document,
    ),
    Parser("core", parse_core, (encode_core(builders.sample_core()),), encode_core),
    Parser(
        "statement",
        parse_statement,
        (encode_statement(builders.sample_statement()), encode_statement(REDACTED)),
        encode_statement,
    ),
    Parser(
        "envelope",
        lambda data: (
            parse_envelope(
                wire.encode_signed_document(signed(DocumentType.ENVELOPE, data)), SEALED.body
            ).document.payload
        ),
        (wire.parse_signed_document(SEALED.document).payload,),
        bytes,
    ),
    Parser("card", lambda data: read_card(unsigned(DocumentType.CARD, data)), (encode_card(NODE.card),), encode_card),
    Parser(
        "signed card",
        card_of,
        (encode_card(NODE.card), encode_card(builders.successor_of(NODE.card))),
        encode_card,
    ),
    Parser(
        "prekeys",
        lambda data: verify_prekeys(signed(DocumentType.PREKEYS, data), NODE.card, NOW, 1),
        (NODE.prekeys_document().payload,),
    ),
    Parser(
        "officers",
        lambda data: read_officers(unsigned(DocumentType.OFFICERS, data)),
        (builders.officers_document(NODE).payload,),
        encode_officers,
    ),
    Parser(
        "approval",
        lambda data: read_approval(data.decode("utf-8", "replace"))[1],
        (builders.approval("sok", builders.sample_statement().root).encode(),),
    ),
    Parser(
        "answers",
        lambda data: verify_answers(signed(DocumentType.ANSWERS, data), NODE.card, TH),
        (encode_answers(**PARTIES, items=ITEMS, through=3, missing=(5, 6)),),
    ),
    Parser(
        "void",
        lambda data: verify_void(signed(DocumentType.VOID, data), NODE.card, TH),
        (encode_void(**PARTIES, seq=1, message=MessageId("a" * 32), reason="relay.cancelled"),),
    ),
    Parser(
        "request",
        lambda data: verify_request(
            signed(DocumentType.REQUEST, data), NODE.card, TH, **ASKED, now=NOW, window=builders.DAY
        ),
        (encode_request(**PARTIES, nonce="b" * 32, **ASKED),),
    ),
    Parser(
        "sender",
        lambda data: claimed_sender(unsigned(DocumentType.VOID, data)),
        (b'{"from":"kh-fp1","more":{}}',),
    ),
    Parser(
        "agreement",
        lambda data: read_agreement(unsigned(DocumentType.AGREEMENT, data)),
        (wire.encode_json(rules.payload(clauses=[rules.clause(content=NARROWING)])),),
    ),
    Parser(
        "notice",
        lambda data: verify_suspension(
            builders.testonly_sign(DocumentType.SUSPENSION, data, *NODE.authority), NODE.card
        ),
        (encode_suspension(test_suspensions.notice()),),
        encode_suspension,
    ),
    Parser("narrowing", lambda data: parse_narrowing(json_of(data), "clause"), (wire.encode_json(NARROWING),)),
)

BYTE_PARSERS: Final = (
    Parser(
        "base64",
        lambda data: wire.parse_base64(data.decode("latin-1")),
        (b"AAEC", b"AAE=", b"AA=="),
        lambda value: wire.encode_base64(value).encode(),
        one_form=True,
    ),
    Parser(
        "time",
        lambda data: wire.parse_time(data.decode("latin-1")),
        (b"2026-11-23T00:27:37Z", b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59Z"),
        lambda value: wire.encode_time(value).encode(),
        one_form=True,
    ),
    Parser("padding", parse_padded, (pad(b""), pad(b"text"), pad(bytes(1023))), pad, one_form=True),
    Parser(
        "batch",
        parse_batch,
        (batch_of((b"document", b"body"), (b"void", b"")), batch_of((SEALED.document, SEALED.body))),
        encode_batch,
        one_form=True,
    ),
    Parser("body", lambda data: parse_envelope(SEALED.document, data).body, (SEALED.body,), bytes, one_form=True),
    Parser(
        "leaf",
        parse_leaf,
        tuple(encode_leaf(log_samples.sample_leaf(seq)) for seq in range(3)),
        encode_leaf,
        one_form=True,
    ),
    Parser(
        "origin",
        lambda data: parse_origin(data.decode("latin-1")),
        (str(log_samples.ORIGIN).encode(),),
        lambda value: str(value).encode(),
        one_form=True,
    ),
    Parser(
        "verifier key",
        lambda data: parse_vkey(data.decode("latin-1")),
        (encode_vkey(LOG.keys.ed25519).encode(), encode_vkey(LOG.keys.mldsa44).encode()),
        lambda value: encode_vkey(value).encode(),
        one_form=True,
    ),
    Parser("log keys", parse_log_keys, (encode_log_keys(LOG.keys),), encode_log_keys, one_form=True),
    Parser("note", parse_note, (LOG.checkpoint(log_samples.sample_entries(3)),)),
    Parser(
        "checkpoint",
        lambda data: parse_checkpoint(data, LOG.keys),
        (LOG.checkpoint([]), LOG.checkpoint(log_samples.sample_entries(3))),
    ),
    Parser("hash", lambda data: parse_hash(data, "proof"), (bytes(32),), bytes, one_form=True),
    Parser(
        "bundle",
        lambda data: parse_bundle(data, 2, "tile"),
        (b"\0\x05entry\0\0",),
        lambda entries: b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries),
        one_form=True,
    ),
)
