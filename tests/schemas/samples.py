"""The book of the checkout's schemas, the examples beside them, and faulty drafts that name their fault."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from exchange.adapters.files import schema_files
from exchange.core.schemas import SchemaBook, parse_schema_book
from exchange.core.wire import SchemaId
from tests.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCHEMAS: Final = ROOT / "schemas"
AGREEMENTS: Final = sorted((SCHEMAS / "agreement" / "examples").glob("*.json"))
EXAMPLES: Final = sorted({*SCHEMAS.glob("*/examples/*.json")} - {*AGREEMENTS})
INVALID: Final = sorted((ROOT / "tests" / "schemas" / "invalid").glob("*/*.json"))

REFERRAL: Final = SchemaId("case-referral/v1")
THIRTEEN: Final = SCHEMAS / "case-referral" / "examples" / "thirteen-persons.json"


@cache
def files() -> dict[str, bytes]:
    return schema_files()


@cache
def book() -> SchemaBook:
    return parse_schema_book(files())


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """Return the document of a file, new each time."""
    value: dict[str, Any] = json.loads(_text(path))
    return value


def content(kind: str, example: str) -> dict[str, Any]:
    """Return the content of one example."""
    value: dict[str, Any] = load(SCHEMAS / kind / "examples" / f"{example}.json")["content"]
    return value


def name_of(path: Path) -> str:
    """Return a file as a test id: kind and name."""
    return f"{path.parent.name if path.parent.name != 'examples' else path.parent.parent.name}/{path.stem}"


HEADER: Final[dict[str, Any]] = {
    "network": "training-mekong",
    "kind": "case-referral",
    "schema": "case-referral/v1",
    "schema_digest": "0" * 64,
    "id": "0" * 32,
    "from": "th-fp1",
    "to": ["kh-fp1", "la-fp1"],
    "written": "2026-11-23T00:27:37Z",
    "case": "TH-EXAMPLE-2026/0001",
    "in_reply_to": None,
    "refers_to": [],
    "legal_basis": {"text": "Invented agreement, clause 3", "lang": "en"},
    "purpose": "investigation",
    "handling": ["H1", "H2"],
    "tlp": "AMBER+STRICT",
    "grading": {"source": "B", "information": "2"},
    "assurances": {
        "checks": ["informed", "not_detained"],
        "dual_criminality": {"text": "Invented: the acts are punishable in both countries.", "lang": "en"},
        "child_safeguards": {"text": "Invented: a guardian is appointed.", "lang": "en"},
    },
    "retention": 1825,
    "onward": "with_consent",
    "urgency": "urgent_3d",
    "language": "en",
    "parts": ["main", "identity", "narrative", "attachments"],
    "attachments": 1,
}

ATTACHMENTS: Final[list[dict[str, Any]]] = [
    {
        "name": "photo 1.jpg",
        "media_type": "image/jpeg",
        "len": 4096,
        "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "blob": {"h": "0" * 64, "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "len": 65577},
        "custody": {
            "exhibit_number": "EX/1/1",
            "collected_by": "Invented Unit 1",
            "collected_at": "2026-11-18T03:10:00Z",
            "place": "Invented Building",
            "events": [{"action": "sealed", "performer": "Invented Unit 1", "start_time": "2026-11-18T03:25:00Z"}],
        },
    }
]


def header(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - a header with any member made wrong
    """Return a valid header, with changes."""
    return {**copy.deepcopy(HEADER), **changes}


def attachments() -> list[dict[str, Any]]:
    """Return a valid attachments part of one file."""
    return copy.deepcopy(ATTACHMENTS)


def changed(value: dict[str, Any], place: tuple[str | int, ...], to: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a copy with one member, however deep, replaced."""
    copied = copy.deepcopy(value)
    inner: Any = copied
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = to
    return copied
