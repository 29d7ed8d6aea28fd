"""What officers write in the simulation: small valid drafts, each with a text that must never be seen outside."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

from exchange.core import wire
from exchange.core.evidence import HEADER_BYTES, EvidenceSealer

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.wire import JsonObject

CANARY: Final = "CANARY-7d41f0"  # in every free text, case number and file of the simulation
# Base64 of a text depends on where it begins: three forms, without the characters that its neighbours decide.
CANARY_FORMS: Final = (
    CANARY.encode(),
    *(base64.b64encode(b"x" * at + CANARY.encode())[4:-4] for at in range(3)),
)
GRADING: Final = {"source": "B", "information": "2"}


def _text(words: str) -> dict[str, str]:
    return {"text": f"{CANARY} {words}", "lang": "en"}


def case_name(number: int) -> str:
    """An invented case."""
    return f"{CANARY}/{number}"


def _content(kind: str) -> dict[str, Any]:
    content: dict[str, Any] = {"kind": kind, "entities": [], "links": []}
    if kind == "acknowledgement":
        content["note"] = _text("received")
    elif kind == "information-request":
        content["questions"] = [{"number": 1, "sought": "subscriber", "text": _text("who?")}]
        content |= {"facts": _text("facts"), "reasons": _text("reasons")}
    elif kind == "information-response":
        content["outcome"] = "answered"
    elif kind in {"suspect", "victim"}:
        names = [{"order": "single", "original": {"script": "Latn", "full": f"{CANARY} name"}}]
        person: dict[str, Any] = {"id": "p1", "type": "person", "handling": ["H1"], "grading": GRADING}
        person |= {"roles": [kind], "identity": {"names": names}}
        if kind == "suspect":
            content["summary"] = _text("summary")
        else:
            person |= {"consent_exception": {"code": "vital_interest"}}
            content["safety"] = {"checks": [{"check": "risk_to_person", "answer": "yes"}]}
        content["entities"] = [person]
    elif kind == "evidence":
        exhibit = {"id": "x1", "type": "exhibit", "handling": ["H1"], "grading": GRADING}
        exhibit |= {"exhibit_number": "EX/1", "exhibit_type": "phone", "description": _text("a phone")}
        content["entities"] = [exhibit]
    return content


def draft(kind: str, case: int, **members: object) -> JsonObject:
    """A draft as an officer writes it; ``members`` are added to its frame or replace what is there."""
    frame: dict[str, Any] = {
        "kind": kind,
        "purpose": "investigation",
        "handling": ["H1"],
        "tlp": "AMBER",
        "case": case_name(case),
        "content": _content(kind),
    }
    return frame | members


def evidence_file(random: Callable[[int], bytes], number: int) -> tuple[JsonObject, bytes]:
    """An attachment and its ciphertext."""
    plain = f"{CANARY} file {number}".encode() * 3
    key = random(32)
    sealer = EvidenceSealer(key, random(HEADER_BYTES))
    sealed = sealer.header + sealer.feed(plain) + sealer.finish()
    blob = {"h": hashlib.sha256(sealed).hexdigest(), "key": wire.encode_base64(key), "len": len(sealed)}
    attachment: JsonObject = {
        "name": f"{CANARY}.jpg",
        "media_type": "image/jpeg",
        "len": len(plain),
        "sha256": sealer.sha256,
        "blob": blob,  # type: ignore[dict-item] # a dict of texts is a JsonObject
    }
    return attachment, sealed
