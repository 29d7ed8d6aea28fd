"""Make the receiver's vectors: ``python -m tests.vectors.make`` writes tests/vectors/*.json anew.

Rules:
1. Every vector is one valid envelope with one thing wrong, so that it fails at exactly the step it names.
2. Keys follow from fixed seeds; the KEM and ML-DSA draw randomness, so the bytes differ each time they are made. They
   are made when the format changes, and kept.
3. What a receiver must hold (cards, agreement, clock, prekey) is in the vector; nothing else is needed.

Length: every step R1-R20 has its own way to be wrong, and they are read in the order of the steps.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from exchange.adapters.files import schema_files
from exchange.adapters.keyring import xwing_secret
from exchange.core import wire
from exchange.core.agreements import read_agreement
from exchange.core.envelope import (
    AgreementRef,
    BlobRef,
    Core,
    body_key,
    encode_core,
    key_commitment,
    pad,
    wrap_info,
)
from exchange.core.keys import Alg, encode_card, public_key
from exchange.core.schemas import SchemaBook, parse_schema_book
from exchange.core.statement import Statement, compose_statement, encode_statement, make_part
from exchange.core.wire import Digest, DocumentType, SchemaId, UnverifiedDocument
from tests.core import builders
from tests.core.builders import DAY, KH, NETWORK, NOW, SUITE, TH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE: Final = Path(__file__).parent
SEED: Final = hashlib.sha256(b"testonly vector prekey").digest()
SECRET, RAW = xwing_secret(SEED)
PREKEY: Final = public_key(Alg.XWING, RAW)
CEK: Final = hashlib.sha256(b"testonly content key").digest()
NONCE: Final = hashlib.sha256(b"testonly nonce").digest()[:24]
CONTENT: Final[dict[str, Any]] = {
    "kind": "acknowledgement",
    "entities": [],
    "links": [],
    "note": {"text": "បានទទួល", "lang": "km"},
}


REQUIRES: Final[dict[str, Any]] = {
    "approvals": {"count": 0, "supervisors": 0},
    "consent": False,
    "checks": [],
    "dual_criminality": False,
    "child_safeguards": False,
}


def _agreement(**changes: Any) -> UnverifiedDocument:  # noqa: ANN401
    thai, khmer = builders.testonly_node(TH), builders.testonly_node(KH)
    payload: dict[str, Any] = {
        "network": NETWORK,
        "id": "kh-th",
        "version": 1,
        "title": {"en": "Vectors"},
        "legal_basis": [{"title": {"en": "None: a training network"}, "article": "1", "date": "2026-01-01"}],
        "parties": [{"node": node.id, "authority": node.card.authority.fingerprint} for node in (khmer, thai)],
        "valid_from": wire.encode_time(NOW - 30 * DAY),
        "valid_until": wire.encode_time(NOW + 30 * DAY),
        "clauses": [
            {
                "id": "art-1",
                "text": {"en": "Receipts."},
                "permit": {
                    "kinds": ["acknowledgement"],
                    "from": [KH],
                    "to": [TH],
                    "purposes": ["coordination"],
                    "handling": ["H0"],
                    "tlp": "GREEN",
                    "urgency": ["urgent_3d", "normal_7d"],
                },
                "requires": REQUIRES,
                "blobs": {"max_count": 1, "max_bytes": 1_000_000},
                "retention_days": 30,
                "withhold": [],
                "onward": {"use": "never"},
                "quota_per_day": 5,
            }
        ],
        "prohibitions": [],
        **changes,
    }
    document = wire.UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload), ())
    signers = (*thai.authority[:2], *khmer.authority[:2])
    return builders.testonly_sign(DocumentType.AGREEMENT, document.payload, *signers)


AGREEMENT: Final = _agreement()
OFFICERS: Final = builders.officers_document(builders.testonly_node(KH))


@dataclass
class Parts:
    """One envelope in the making; a vector changes one member."""

    book: SchemaBook
    header: dict[str, Any]
    statement: Statement
    core: Core
    plain: Callable[[bytes], bytes] = lambda data: data
    padding: Callable[[bytes], bytes] = pad
    wrap_to: Any = None
    cek_in_wrap: bytes = CEK
    body_ad: bytes | None = None
    payload: Callable[[dict[str, Any]], dict[str, Any]] = lambda payload: payload
    sign: Any = None
    body: Callable[[bytes], bytes] = lambda body: body
    document: Callable[[bytes], bytes] = lambda data: data

    def seal(self) -> tuple[bytes, bytes]:
        """The document and the body."""
        text = encode_core(self.core)
        digest = hashlib.sha256(text).digest()
        plain = self.padding(self.plain(encode_statement(self.statement)))
        ad = digest if self.body_ad is None else self.body_ad
        body = NONCE + crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, NONCE, body_key(CEK))
        to = self.wrap_to or SECRET.public_key()
        wrapped = SUITE.encrypt(self.cek_in_wrap, to, info=wrap_info(self.core, digest))
        payload = self.payload(
            {
                "core": text.decode(),
                "wrapped": wire.encode_base64(wrapped),
                "body": {"sha256": hashlib.sha256(body).hexdigest(), "len": len(body)},
            }
        )
        signer = builders.testonly_node(KH).envelope if self.sign is None else self.sign
        document = builders.testonly_sign(DocumentType.ENVELOPE, wire.encode_json(payload), signer)
        return self.document(wire.encode_signed_document(document)), self.body(body)


def header_for(book: SchemaBook, content: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Part 0 of a statement of this content."""
    schema = SchemaId(f"{content['kind']}/v1")
    return {
        "network": NETWORK,
        "kind": content["kind"],
        "schema": schema,
        "schema_digest": book.digest(schema),
        "id": "0123456789abcdef0123456789abcdef",
        "from": KH,
        "to": [TH],
        "written": wire.encode_time(NOW),
        "case": "TRAINING-1",
        "in_reply_to": None,
        "refers_to": [],
        "purpose": "coordination",
        "handling": ["H0"],
        "tlp": "GREEN",
        "retention": 30,
        "onward": "never",
        "urgency": "normal_7d",
        "language": "km",
        "parts": [name for name, _ in book.split(schema, content)],
        "attachments": 0,
        **changes,
    }


def parts(book: SchemaBook, content: dict[str, Any] | None = None, **header: Any) -> Parts:  # noqa: ANN401
    """A valid envelope from KH to TH, ready to be spoiled."""
    said = CONTENT if content is None else content
    head = header_for(book, said, **header)
    values = [value for _, value in book.split(SchemaId(f"{said['kind']}/v1"), said)]
    agreement = read_agreement(AGREEMENT)
    salts = [hashlib.sha256(b"salt %d" % number).digest()[:16] for number in range(len(values) + 1)]
    statement = compose_statement(head, values, salts, agreement=agreement.digest, clause="art-1")
    core = replace(
        builders.sample_core(builders.testonly_node(KH), builders.testonly_node(TH)),
        id=wire.MessageId(head["id"]),
        prekey=PREKEY.id,
        agreement=AgreementRef(agreement.id, agreement.version, agreement.digest),
        expires=NOW + 7 * DAY,
        kc=key_commitment(CEK),
    )
    return Parts(book, head, statement, core)


def _with(made: Parts, **changes: Any) -> Parts:  # noqa: ANN401
    return replace(made, **changes)


def _core(made: Parts, **changes: Any) -> Parts:  # noqa: ANN401
    return replace(made, core=replace(made.core, **changes))


def _statement(made: Parts, **changes: Any) -> Parts:  # noqa: ANN401
    return replace(made, statement=replace(made.statement, **changes))


def _raw_part(book: SchemaBook, value: Any) -> Parts:  # noqa: ANN401
    """A statement whose main part is ``value``, whatever its schema says of it."""
    made = parts(book)
    spoiled = compose_statement(
        made.header,
        [value, *[part.value("part") for part in made.statement.parts[2:]]],
        [part.salt for part in made.statement.parts],
        agreement=made.statement.agreement,
        clause="art-1",
    )
    return replace(made, statement=spoiled)


Vector = tuple[str, str, str, Parts, dict[str, Any]]


def _routing(book: SchemaBook) -> Iterator[Vector]:
    """R1 to R9."""
    ok = parts(book)
    thai = builders.testonly_node(TH)
    yield "accepted", "accepted", "R20", ok, {}
    yield "too-large", "wire.too_large", "R1", _with(ok, document=lambda data: data.ljust(40_000)), {}
    yield "not-json", "wire.not_json", "R2", _with(ok, document=lambda data: data[:-1]), {}
    yield "duplicate-key", "wire.duplicate_key", "R2", _with(ok, document=_twice), {}
    yield "two-signatures", "envelope.malformed", "R2", _with(ok, document=_two_signatures), {}
    yield "body-swapped", "envelope.malformed", "R2", _with(ok, body=lambda body: body[:-1] + b"\0"), {}
    yield "extra-member", "wire.unknown_member", "R2", _with(ok, payload=lambda p: {**p, "extra": 1}), {}
    yield "another-network", "key.wrong_network", "R3", _core(ok, network=wire.NetworkId("mekong")), {}
    yield "not-for-us", "envelope.not_for_us", "R3", _core(ok, recipient=wire.NodeId("la-fp1")), {}
    yield "from-ourselves", "envelope.not_for_us", "R3", _core(ok, sender=TH), {}
    yield "unknown-sender", "envelope.unknown_sender", "R4", ok, {"card": None}
    yield "card-expired", "card.expired", "R4", ok, {"now": wire.encode_time(NOW + 400 * DAY)}
    yield "blocked", "envelope.blocked", "R4", ok, {"blocked": True}
    yield "key-unknown", "key.unknown", "R5", _core(ok, signing_key=thai.envelope.public.id), {}
    yield "key-expired", "key.expired", "R5", _core(ok, created=NOW - 40 * DAY, expires=NOW + DAY), {}
    yield "another-signer", "envelope.signature", "R5", _with(ok, sign=thai.envelope), {}
    repeat = {"prior": [{"attempt": 1, "digest": "same", "status": "accepted"}]}
    yield "repeat", "repeat", "R6", ok, repeat
    rival = {"prior": [{"attempt": 1, "digest": "0" * 64, "status": "accepted"}]}
    yield "equivocation", "envelope.equivocation", "R6", ok, rival
    yield "no-lifetime", "envelope.lifetime", "R7", _core(ok, expires=NOW), {}
    yield "too-long-a-life", "envelope.lifetime", "R7", _core(ok, expires=NOW + 72 * DAY), {}
    yield "from-the-future", "envelope.not_yet_valid", "R7", ok, {"now": wire.encode_time(NOW - DAY)}
    yield "expired", "envelope.expired", "R7", ok, {"now": wire.encode_time(NOW + 7 * DAY)}
    yield "agreement-unknown", "agreement.unknown", "R8", ok, {"agreement": None}
    yield "agreement-rival", "agreement.digest", "R8", ok, {"agreement": None, "rival": True}
    other = replace(ok.core.agreement, version=2)
    yield "agreement-other-version", "agreement.digest", "R8", _core(ok, agreement=other), {}
    yield "agreement-of-others", "agreement.not_party", "R8", *_of_others(ok)
    yield "agreement-not-yet", "agreement.not_in_force", "R8", *_not_yet(ok)
    resting = _core(ok, officers=OFFICERS.digest())
    yield "officers-unknown", "officers.unknown", "R8", resting, {"officers": None}
    yield "officers-of-another", "officers.unknown", "R8", *_of_another(ok)
    yield "officers-superseded", "officers.superseded", "R8", resting, {"superseded": True}
    yield "prekey-unknown", "envelope.prekey_unknown", "R9", ok, {"prekey": "unknown"}
    yield "prekey-gone", "envelope.prekey_gone", "R9", ok, {"prekey": "gone"}


def _with_agreement(made: Parts, document: UnverifiedDocument) -> tuple[Parts, dict[str, Any]]:
    core = replace(made.core, agreement=replace(made.core.agreement, digest=document.digest()))
    return replace(made, core=core), {"agreement": wire.encode_base64(wire.encode_signed_document(document))}


def _of_others(made: Parts) -> tuple[Parts, dict[str, Any]]:
    lao = builders.testonly_node(wire.NodeId("la-fp1"))
    thai = builders.testonly_node(TH)
    nodes = [{"node": node.id, "authority": node.card.authority.fingerprint} for node in (lao, thai)]
    clause = json.loads(AGREEMENT.payload)["clauses"][0]
    clause["permit"] |= {"from": [lao.id]}
    payload = json.loads(AGREEMENT.payload) | {"parties": nodes, "clauses": [clause]}
    signers = (*thai.authority[:2], *lao.authority[:2])
    return _with_agreement(made, builders.testonly_sign(DocumentType.AGREEMENT, wire.encode_json(payload), *signers))


def _not_yet(made: Parts) -> tuple[Parts, dict[str, Any]]:
    return _with_agreement(made, _agreement(valid_from=wire.encode_time(NOW + DAY)))


def _twice(data: bytes) -> bytes:
    return data.replace(b'{"payloadType"', b'{"payload":"","payloadType"', 1)


def _two_signatures(data: bytes) -> bytes:
    document = wire.parse_signed_document(data)
    return wire.encode_signed_document(replace(document, signatures=document.signatures * 2))


def _opening(book: SchemaBook) -> Iterator[Vector]:
    """R10 to R19."""
    ok = parts(book)
    stranger = xwing_secret(hashlib.sha256(b"testonly stranger").digest())[0].public_key()
    yield "sealed-to-another", "envelope.open", "R10", _with(ok, wrap_to=stranger), {}
    other_key = hashlib.sha256(b"another key").digest()
    yield "key-not-committed", "envelope.commitment", "R11", _with(ok, cek_in_wrap=other_key), {}
    yield "body-of-another", "envelope.body", "R12", _with(ok, body_ad=b"\0" * 32), {}
    yield "short-padding", "envelope.padding", "R13", _with(ok, padding=lambda d: (d + b"\x80").ljust(4096, b"\0")), {}
    yield "statement-not-json", "wire.not_json", "R14", _with(ok, plain=lambda d: d + b","), {}
    withheld = _statement(
        ok, parts=(replace(ok.statement.parts[0], text=None, clause="art-1"), *ok.statement.parts[1:])
    )
    yield "header-withheld", "envelope.inner", "R14", withheld, {}
    listed = replace(ok.statement, parts=(_part([]), *ok.statement.parts[1:]))
    yield "header-a-list", "envelope.inner", "R14", _with(ok, statement=listed), {}
    yield "header-closed-code", "schema.code", "R14", parts(book, purpose="curiosity"), {}
    yield "inner-id", "envelope.inner", "R15", _core(ok, id=wire.MessageId("f" * 32)), {}
    yield "inner-recipient", "envelope.inner", "R15", parts(book, to=["la-fp1"]), {}
    yield "inner-agreement", "envelope.inner", "R15", _statement(ok, agreement=Digest("0" * 64)), {}
    yield "inner-lane", "envelope.inner", "R15", _core(ok, lane="bulk"), {}
    yield "inner-blobs", "envelope.inner", "R15", _core(ok, blobs=(BlobRef(Digest("0" * 64), 10),)), {}
    origin = {"node": "la-fp1", "id": "1" * 32, "root": "0" * 64, "header": "0" * 64, "withheld": []}
    yield "origin-other-root", "onward.origin", "R15", parts(book, origin=origin), {}
    yield from _approving(ok)
    unknown = parts(book, schema="acknowledgement/v9")
    yield "schema-unknown", "schema.unknown", "R17", unknown, {}
    yield "schema-digest", "schema.digest", "R17", parts(book, schema_digest="0" * 64), {}
    yield "schema-parts", "schema.parts", "R17", parts(book, parts=["narrative", "main"]), {}
    yield "schema-invalid", "schema.invalid", "R17", _raw_part(book, {"kind": "acknowledgement"}), {}
    link = {"from": "p1", "to": "p2", "relation": "associate_of"}
    broken = {**{k: v for k, v in CONTENT.items() if k != "note"}, "links": [link]}
    yield "schema-rule", "schema.rule", "R17", _raw_part(book, broken), {}
    yield "reference-unknown", "envelope.reference", "R18", parts(book, refers_to=["e" * 32]), {"known": []}
    known = {"known": ["e" * 32]}
    yield "reference-known", "accepted", "R20", parts(book, in_reply_to="e" * 32), known
    yield "purpose", "agreement.purpose", "R19", parts(book, purpose="investigation"), {}
    yield "handling", "agreement.handling", "R19", parts(book, handling=["H0", "H1"]), {}
    yield "tlp", "agreement.tlp", "R19", parts(book, tlp="RED"), {}
    urgent = _core(parts(book, urgency="urgent_8h"), lane="alert")
    yield "urgency", "agreement.urgency", "R19", urgent, {}
    yield "onward", "agreement.onward", "R19", parts(book, onward="parties"), {}
    yield "retention", "agreement.retention", "R19", parts(book, retention=31), {}
    yield "another-clause", "agreement.no_clause", "R19", _statement(ok, clause="art-9"), {}
    yield "quota", "agreement.quota", "R19", ok, {"used_today": {"art-1": 5}}
    last = len(ok.statement.parts) - 1
    yield "withheld", "agreement.withheld", "R19", _with(ok, statement=ok.statement.withhold(last, "art-1")), {}


def _approving(ok: Parts) -> Iterator[Vector]:
    """R16: every way in which approvals are not those of listed people over this statement."""
    root = ok.statement.root
    proposed = builders.approval("sok", root, "proposer")
    yield "approvals-without-list", "envelope.approval", "R16", _statement(ok, approvals=(proposed,)), {}
    yield "list-without-approvals", "envelope.approval", "R16", _core(ok, officers=OFFICERS.digest()), {}
    week = NOW + 7 * DAY
    bad = {
        "approval-no-document": "approval",
        "approval-unlisted": builders.approval("bopha", root),
        "approval-by-another-key": builders.approval(
            "vanna", root, officer=builders.testonly_officer("dara").public.id
        ),
        "approval-before-its-officer": builders.approval("dara", root, time=NOW - 40 * DAY),
        "approval-of-another-network": builders.approval("dara", root, network=wire.NetworkId("mekong")),
        "approval-of-another-root": builders.approval("dara", Digest("0" * 64)),
        "approval-role-not-held": builders.approval("dara", root, "supervisor"),
        "approval-by-operator": builders.approval("admin", root),
        "approval-over": builders.approval("dara", root, until=NOW),
        "approval-from-the-future": builders.approval("dara", root, time=NOW + DAY, until=week),
        "approval-by-the-proposer": builders.approval("sok", root),
        "approval-twice-proposed": builders.approval("dara", root, "proposer"),
    }
    for name, text in bad.items():
        yield name, "envelope.approval", "R16", _approved(ok, proposed, text), {}
    alone = builders.approval("dara", root)
    yield "approval-without-proposer", "envelope.approval", "R16", _approved(ok, alone), {}
    operator = builders.approval("admin", root, "proposer")
    yield "proposed-by-operator", "envelope.approval", "R16", _approved(ok, operator, alone), {}


def _approved(made: Parts, *approvals: str) -> Parts:
    """The same with approvals, under the list that they rest on."""
    return _core(_statement(made, approvals=approvals), officers=OFFICERS.digest())


def _of_another(made: Parts) -> tuple[Parts, dict[str, Any]]:
    """A list that is known here, and is not the sender's."""
    thai = builders.officers_document(builders.testonly_node(TH))
    held = {"officers": wire.encode_base64(wire.encode_signed_document(thai))}
    return _core(made, officers=thai.digest()), held


def _judging(book: SchemaBook) -> Iterator[Vector]:
    """R19, under agreements that say more."""
    never = [{"id": "never", "text": {"en": "No receipts."}, "when": {"kinds": ["acknowledgement"]}}]
    yield "prohibited", "agreement.prohibited", "R19", *_under(parts(book), prohibitions=never)
    two = {"approvals": {"count": 1, "supervisors": 0}}
    checks, dual = {"checks": ["not_detained"]}, {"dual_criminality": True}
    for name, code, asks in (
        ("approval-missing", "envelope.approval", two),
        ("check-missing", "agreement.checks", checks),
        ("dual-criminality-missing", "agreement.dual_criminality", dual),
    ):
        yield name, code, "R19", *_under(parts(book), clauses=[_clause(requires=REQUIRES | asks)])
    stated = {
        "checks": ["not_detained"],
        "dual_criminality": {"text": "Invented: the acts are punishable in both.", "lang": "en"},
    }
    both = _clause(requires=REQUIRES | checks | dual)
    child = {"id": "p1", "type": "person", "handling": ["H0"], "grading": {"source": "A", "information": "1"}}
    named = {**CONTENT, "entities": [child | {"roles": ["witness"], "age_group": "child"}]}
    safe = [_clause(requires=REQUIRES | {"child_safeguards": True})]
    yield "safeguards-missing", "agreement.child_safeguards", "R19", *_under(parts(book, named), clauses=safe)
    yield "assurances-given", "accepted", "R20", *_under(parts(book, assurances=stated), clauses=[both])
    two = {"approvals": {"count": 2, "supervisors": 1}}
    made, held = _under(parts(book), clauses=[_clause(requires=REQUIRES | two)])
    root = made.statement.root
    proposer, dara = builders.approval("sok", root, "proposer"), builders.approval("dara", root)
    vanna = {role: builders.approval("vanna", root, role) for role in ("officer", "supervisor")}
    yield "approved-by-nobody-else", "envelope.approval", "R19", _approved(made, proposer), held
    yield (
        "approved-without-supervisor",
        "envelope.approval",
        "R19",
        _approved(made, proposer, dara, vanna["officer"]),
        held,
    )
    yield "approved-too-seldom", "envelope.approval", "R19", _approved(made, proposer, vanna["supervisor"]), held
    yield "approved", "accepted", "R20", _approved(made, proposer, dara, vanna["supervisor"]), held
    narrow = {"content": {"required": ["own_case"]}}
    yield "content-narrowed", "agreement.content", "R19", *_under(parts(book), clauses=[_clause(**narrow)])
    small = {"blobs": {"max_count": 1, "max_bytes": 65_576}}
    yield "evidence-too-large", "agreement.blobs", "R19", *_under(_with_evidence(book), clauses=[_clause(**small)])
    yield "evidence", "accepted", "R20", _with_evidence(book), {}
    yield "agreement-over", "agreement.not_in_force", "R19", *_under(parts(book), valid_until=wire.encode_time(NOW))


ABOUT: Final = "e" * 32
_EXCHANGED: Final = {"clause": "art-1", "duty": None, "about": None}
_RECALL: Final = {"clause": "art-1", "duty": "recall", "about": ABOUT}


def _duties(book: SchemaBook) -> Iterator[Vector]:
    """R18 and R19 of duty messages, which the agreement of these vectors does not name."""
    recall = {"kind": "recall", "reason": "error", "effect": "delete"}
    receipt = {"kind": "deletion-receipt", "envelope": "5" * 64, "root": "6" * 64}
    receipt |= {"deleted_at": wire.encode_time(NOW), "why": "recall"}
    held: dict[str, Any] = {"known": [ABOUT, "d" * 32], "subject": _EXCHANGED}

    def taken_back(**header: Any) -> Parts:  # noqa: ANN401
        return parts(book, recall, **{"refers_to": [ABOUT], **header})

    answer = parts(book, receipt, refers_to=[ABOUT], in_reply_to="d" * 32)
    over = _under(taken_back(), valid_until=wire.encode_time(NOW))
    yield "duty-passes", "accepted", "R20", taken_back(), held
    yield "duty-when-the-agreement-is-over", "accepted", "R20", over[0], {**held, **over[1]}
    yield "duty-in-reply", "accepted", "R20", answer, {**held, "request": _RECALL}
    yield "duty-about-two", "duty.form", "R18", taken_back(refers_to=[ABOUT, "d" * 32]), held
    yield "duty-about-nothing-here", "envelope.reference", "R18", taken_back(), {**held, "subject": None}
    yield "duty-of-the-other-side", "duty.side", "R18", taken_back(), {**held, "subject": None, "crossed": True}
    yield "duty-about-a-duty", "duty.subject", "R18", taken_back(), {**held, "subject": _RECALL}
    yield "duty-nobody-asked-for", "duty.request", "R18", answer, {**held, "request": _EXCHANGED}
    yield (
        "duty-under-another-clause",
        "duty.binding",
        "R19",
        taken_back(),
        {**held, "subject": _EXCHANGED | {"clause": "art-9"}},
    )


def _clause(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    clause: dict[str, Any] = json.loads(AGREEMENT.payload)["clauses"][0]
    return clause | changes


def _under(made: Parts, **changes: Any) -> tuple[Parts, dict[str, Any]]:  # noqa: ANN401
    """The same under another agreement, inside and outside."""
    document = _agreement(**changes)
    return _with_agreement(_statement(made, agreement=document.digest()), document)


def _with_evidence(book: SchemaBook) -> Parts:
    """A message with one file of one frame."""
    blob = {"h": hashlib.sha256(b"blob").hexdigest(), "key": wire.encode_base64(bytes(32)), "len": 65_577}
    described = {"name": "receipt.pdf", "media_type": "application/pdf", "len": 9, "sha256": "5" * 64, "blob": blob}
    names = [name for name, _ in book.split(SchemaId("acknowledgement/v1"), CONTENT)]
    made = parts(book, attachments=1, parts=[*names, "attachments"])
    made = _statement(made, parts=(*made.statement.parts, _part([described])))
    return _core(made, blobs=(BlobRef(Digest(str(blob["h"])), 65_577),))


def _part(value: Any) -> Any:  # noqa: ANN401
    return make_part(value, b"\0" * 16)


def receiver() -> dict[str, Any]:
    """What the receiver holds, unless a vector says otherwise."""
    card = builders.testonly_node(KH)
    card_document = builders.testonly_sign(DocumentType.CARD, encode_card(card.card), *card.authority[:2])
    return {
        "network": NETWORK,
        "node": TH,
        "now": wire.encode_time(NOW),
        "card": wire.encode_base64(wire.encode_signed_document(card_document)),
        "agreement": wire.encode_base64(wire.encode_signed_document(AGREEMENT)),
        "officers": wire.encode_base64(wire.encode_signed_document(OFFICERS)),
        "superseded": False,
        "rival": False,
        "blocked": False,
        "testonly_prekey_seed": SEED.hex(),
        "prekey": "live",
        "used_today": {},
        "prior": [],
        "known": [],
        "subject": None,
        "request": None,
        "crossed": False,
    }


def vectors() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every vector by name."""
    book = parse_schema_book(schema_files())
    for name, expect, step, made, held in (*_routing(book), *_opening(book), *_judging(book), *_duties(book)):
        document, body = made.seal()
        yield (
            f"{step.lower()}-{name}",
            {
                "expect": expect,
                "step": step,
                "receiver": held,
                "document": wire.encode_base64(document),
                "body": wire.encode_base64(body),
            },
        )


def main() -> None:
    """Write all of them."""
    for old in HERE.glob("*.json"):
        old.unlink()
    for name, vector in (("receiver", receiver()), *vectors()):
        (HERE / f"{name}.json").write_text(json.dumps(vector, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
