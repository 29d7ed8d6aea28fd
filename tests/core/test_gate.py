"""The gate: what the vectors of tests/vectors leave open — evidence, consent, and what an admitted message offers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exchange.adapters.files import schema_files
from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.envelope import BlobRef, parse_envelope, verify_envelope
from exchange.core.errors import PeerError
from exchange.core.gate import (
    Message,
    PrekeyState,
    Reception,
    check_route,
    consent_recorded,
    may_name_child,
    permit,
    read_message,
)
from exchange.core.schemas import SchemaBook, parse_schema_book
from exchange.core.statement import Part, compose_statement, make_part, root_of
from exchange.core.wire import Digest, JsonValue
from tests.core import builders
from tests.core.builders import KH, NETWORK, NOW, TH, TestOnlyEntropy
from tests.vectors import make

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject


@pytest.fixture(scope="module")
def book() -> SchemaBook:
    return parse_schema_book(schema_files())


def attachment(h: Digest, length: int) -> dict[str, Any]:
    return {
        "name": "receipt.pdf",
        "media_type": "application/pdf",
        "len": 10,
        "sha256": "5" * 64,
        "blob": {"h": h, "key": wire.encode_base64(bytes(32)), "len": length},
    }


def with_evidence(book: SchemaBook, blobs: tuple[BlobRef, ...], described: tuple[BlobRef, ...]) -> make.Parts:
    """An envelope that carries ``blobs`` and a statement that describes ``described``."""
    made = make.parts(book)
    files: JsonValue = [attachment(blob.h, blob.length) for blob in described]
    header = {**made.header, "parts": [*made.header["parts"], "attachments"], "attachments": len(described)}
    salts = [TestOnlyEntropy("salts").take(16) for _ in range(len(header["parts"]) + 1)]
    values = [part.value("part") for part in made.statement.parts[1:]]
    statement = compose_statement(
        header, [*values, files], salts, agreement=made.statement.agreement, clause=made.statement.clause
    )
    return replace(made, header=header, statement=statement, core=replace(made.core, blobs=blobs))


def take(made: make.Parts, book: SchemaBook) -> Message:
    """The envelope through R2 to R19."""
    document, body = made.seal()
    card = builders.testonly_node(KH).card
    envelope = verify_envelope(
        parse_envelope(document, body), network=NETWORK, me=TH, card=card, blocked=False, now=NOW
    )
    reception = Reception(book, read_agreement(make.AGREEMENT), False, PrekeyState.LIVE, {}, NOW)  # noqa: FBT003
    agreement = check_route(envelope, reception)
    return permit(read_message(envelope, make.CEK, reception), agreement, reception, None)


BLOB = BlobRef(Digest("a" * 64), 65_577)
OTHER = BlobRef(Digest("b" * 64), 65_577)


def test_a_message_offers_what_was_checked(book: SchemaBook) -> None:
    """Content, evidence, clause and the commitment of both logs are those of the statement."""
    made = with_evidence(book, (BLOB,), (BLOB,))
    message = take(made, book)
    assert message.content == make.CONTENT
    assert message.attachments == (attachment(BLOB.h, BLOB.length),)
    assert message.decision.clause == "art-1"
    assert message.commitment == made.statement.parts[0].digest
    assert message.header.references == ()


def test_evidence_beside_must_be_the_evidence_within(book: SchemaBook) -> None:
    """An envelope that carries other files than its statement describes is refused."""
    with builders.refused("envelope.inner", "R15 blobs"):
        take(with_evidence(book, (OTHER,), (BLOB,)), book)
    with builders.refused("envelope.inner", "R15 blobs"):
        take(with_evidence(book, (), (BLOB,)), book)


def forwarded(book: SchemaBook, **changes: Any) -> make.Parts:  # noqa: ANN401 - members of the origin
    """A statement whose parts are those of a message of LA, which withheld the last of them from KH."""
    made = make.parts(book)
    parts = [*made.statement.parts]
    root = root_of([Digest("9" * 64), *(part.digest for part in parts[1:])])
    origin = {"node": "la-fp1", "id": "1" * 32, "root": root, "header": "9" * 64, "withheld": [], **changes}
    parts[0] = make_part({**made.header, "origin": origin}, bytes(16))
    if origin["withheld"]:
        parts[-1] = Part(parts[-1].digest, clause="art-77")
    return replace(made, statement=replace(made.statement, parts=tuple(parts)))


def test_a_forwarded_message_leads_to_its_origin(book: SchemaBook) -> None:
    """A message whose parts are those of the origin that its header names is taken, with that origin."""
    origin = take(forwarded(book), book).header.origin
    assert origin is not None
    assert (origin.node, origin.withheld) == ("la-fp1", ())


def test_what_an_originator_withheld_needs_no_clause_here(book: SchemaBook) -> None:
    """A part that the originator withheld may be absent, whatever the clause between these two withholds."""
    last = str(make.parts(book).header["parts"][-1])
    assert last != "main"
    message = take(forwarded(book, withheld=[last]), book)
    assert last not in message.content
    spoiled = forwarded(book, withheld=[last])
    header = {**make.parts(book).header}
    plain = replace(
        spoiled,
        statement=replace(spoiled.statement, parts=(make_part(header, bytes(16)), *spoiled.statement.parts[1:])),
    )
    with pytest.raises(PeerError, match=r"agreement\.withheld"):
        take(plain, book)


def test_another_origin_than_the_parts_have_is_refused(book: SchemaBook) -> None:
    """A root that the parts do not lead to, and a sender that names itself as the origin, are refused."""
    for changes in ({"root": "0" * 64}, {"node": KH}):
        with builders.refused("onward.origin", "R15"):
            take(forwarded(book, **changes), book)


def test_more_evidence_than_the_clause_carries_is_refused(book: SchemaBook) -> None:
    """The clause counts files and bytes of what travels."""
    with builders.refused("agreement.blobs", "at most 1 files, 1000000 bytes"):
        take(with_evidence(book, (BLOB, OTHER), (BLOB, OTHER)), book)


VICTIM: JsonObject = {"type": "person", "roles": ["victim"]}


@pytest.mark.parametrize("day", ["2027-02-29", "0000-01-01"])
def test_a_duty_of_no_day_of_the_calendar_is_refused(book: SchemaBook, day: str) -> None:
    """What its schema's pattern lets through is refused before anybody acts on it."""
    content = {"kind": "hold-notice", "state": "placed", "court": "invented", "reference": "1", "until": day}
    with builders.refused("schema.invalid", "main/until (calendar)"):
        take(make.parts(book, content), book)


@pytest.mark.parametrize(
    ("content", "recorded"),
    [
        ({"entities": []}, True),
        ({"entities": [{"type": "person", "roles": ["suspect"]}]}, True),
        ({"entities": [{"type": "phone"}]}, True),
        ({"entities": [VICTIM]}, False),
        ({"entities": [{**VICTIM, "consent": {"given": True}}]}, True),
        ({"entities": [{**VICTIM, "consent_exception": {"code": "child"}}]}, True),
        ({"entities": [{**VICTIM, "consent": {"given": True}}, VICTIM]}, False),
        ({"entities": ["p1"]}, False),
        ({"entities": {}}, False),
        ([], False),
    ],
)
def test_consent_is_recorded_for_every_victim(content: JsonValue, recorded: bool) -> None:  # noqa: FBT001
    """One victim without consent or a named exception is enough for a no, and so is content of no known shape."""
    assert consent_recorded(content) is recorded


@pytest.mark.parametrize(
    ("content", "child"),
    [
        (7, False),
        ({}, False),
        ({"entities": "p1"}, False),
        ({"entities": []}, False),
        ({"entities": ["p1"]}, False),
        ({"entities": [{"age_group": "adult", "roles": ["victim"]}]}, False),
        ({"entities": [{"roles": ["suspect"]}]}, False),
        ({"entities": [{"roles": "victim"}]}, False),
        ({"entities": [{"age_group": "adult"}, {"age_group": "child"}]}, True),
        ({"entities": [{"age_group": "unknown"}]}, True),
        ({"entities": [{"roles": ["witness", "victim"]}]}, True),
    ],
)
def test_whoever_may_be_a_child_is_taken_for_one(content: JsonValue, child: bool) -> None:  # noqa: FBT001
    """A child, an unknown age, and a victim of whose age nothing is said call for safeguards."""
    assert may_name_child(content) is child
