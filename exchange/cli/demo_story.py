"""The story that ``exchange demo`` plays: what officers write, and a file. All of it is invented.

Rule: a draft here is what an officer would write for ``exchange send``; it passes the same schemas.

What it does not do: decide who sends what to whom (``demo_scenes``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exchange.cli.demo_agreements import YEAR
from exchange.cli.demo_people import COUNTRIES, EVIDENCE_NAME

if TYPE_CHECKING:
    from exchange.core.wire import JsonObject, JsonValue

CASE_YEAR: Final = YEAR
EVIDENCE_BYTES: Final = 300_000
_GRADING: Final[JsonObject] = {"source": "B", "information": "2"}


def node_of(country: str) -> str:
    """The node id of a country's focal point."""
    return f"{country.lower()}-fp1"


def case_of(country: str, number: int) -> str:
    """The reference under which a country keeps an invented case."""
    return f"{country}-TRAINING-{CASE_YEAR}/{number:04d}"


# -- what officers write ---------------------------------------------------------------------------


def _draft(kind: str, case: str, purpose: str, content: JsonObject, **more: JsonValue) -> JsonObject:
    body: JsonObject = {"kind": kind, **content}
    return {
        "kind": kind,
        "purpose": purpose,
        "handling": ["H1"],
        "tlp": "AMBER",
        "case": case,
        "grading": dict(_GRADING),
        "retention_days": 730,
        "content": body,
        **more,
    }


def _entity(ident: str, kind: str, **more: Any) -> JsonObject:  # noqa: ANN401 - the members of an entity
    return {"id": ident, "type": kind, "handling": ["H1"], "grading": dict(_GRADING), **more}


def _victim(ident: str, country: str) -> JsonObject:
    consent: JsonObject = {
        "given_on": f"{CASE_YEAR}-11-02",
        "by": "self",
        "language": COUNTRIES[country].language,
        "scope": ["share_identity", "share_case_facts", "contact"],
        "explained": ["purpose", "use", "access", "withdrawal"],
        "recorded_by": "Invented Shelter No. 0",
    }
    return _entity(
        ident,
        "person",
        roles=["victim"],
        age_group="adult",
        status=["identified_victim"],
        consent=consent,
        identity=COUNTRIES[country].victim.identity(country),
    )


def _suspect(ident: str, country: str) -> JsonObject:
    return _entity(
        ident,
        "person",
        roles=["suspect"],
        age_group="adult",
        status=["under_investigation"],
        perpetrator_roles=["recruiter"],
        identity=COUNTRIES[country].suspect.identity(country),
    )


def _text(text: str, lang: str = "en") -> JsonObject:
    return {"text": text, "lang": lang}


def case_referral(sender: str, to: str, case: str) -> JsonObject:
    """A case with suspect, victim and one exhibit, whose file is the first attachment."""
    victim, suspect = COUNTRIES[to].victim, COUNTRIES[sender].suspect
    exhibit = _entity(
        "x1",
        "exhibit",
        exhibit_number="EX/1",
        exhibit_type="financial_record",
        description=_text("Payments of the invented office, taken from its computer."),
        attachment=0,
    )
    place = _entity("pl1", "place", place_type="compound", name="Invented Building 0", address={"country": sender})
    content: JsonObject = {
        "entities": [_victim("p1", to), _suspect("p2", sender), place, exhibit],
        "links": [
            {"from": "p2", "to": "p1", "relation": "recruited"},
            {"from": "p1", "to": "pl1", "relation": "found_at"},
            {"from": "x1", "to": "pl1", "relation": "seized_from"},
        ],
        "acts": ["recruitment", "transportation", "harbouring"],
        "means": ["deception", "other_coercion"],
        "purposes": ["forced_labour_or_services"],
        "exploitation": ["forced_criminality", "online_scam"],
        "forms": ["transnational"],
        "victim_count": {"at_least": 1},
        "requested_actions": ["open_investigation", "protect_victim", "preserve_evidence"],
        "summary": _text(
            f"Invented case. {victim.romanised} answered an advertisement for office work by {suspect.romanised}, was "
            "taken over the border at night, and was made to write to strangers until the building was searched."
        ),
    }
    return _draft("case-referral", case, "investigation", content, urgency="urgent_3d")


def evidence_file(sender: str, to: str) -> bytes:
    """About 300 KB of invented payments that name everybody: what must never be found in clear."""
    victim, suspect = COUNTRIES[to].victim, COUNTRIES[sender].suspect
    lines = ["number;date;from;to;amount;remark"]
    size = 0
    while size < EVIDENCE_BYTES:
        number = len(lines)
        day = f"{CASE_YEAR}-{number % 12 + 1:02d}-{number % 28 + 1:02d}"
        names = f"{suspect.full};{victim.full} / {victim.romanised}"
        lines.append(f"{number};{day};{names};{number * 37 % 9973}.00;invented, by {suspect.romanised}")
        size += len(lines[-1].encode()) + 1
    return "\n".join(lines).encode()


def attachment(sender: str, staged: JsonObject) -> JsonObject:
    """The staged evidence as ``send`` takes it, with its custody."""
    custody: JsonObject = {
        "exhibit_number": "EX/1",
        "collected_by": f"Invented Unit of {COUNTRIES[sender].name}",
        "collected_at": f"{CASE_YEAR}-11-18T03:10:00Z",
        "method": "Copied on the spot",
    }
    return {"h": staged["h"], "name": EVIDENCE_NAME, "media_type": "text/csv", "custody": custody}


def acknowledgement(sender: str, case: str, own_case: str, reply_to: str) -> JsonObject:
    """An officer has read it."""
    country = COUNTRIES[sender]
    content: JsonObject = {
        "entities": [],
        "links": [],
        "own_case": own_case,
        "handled_by": f"Invented Department of {country.name}",
        "note": _text(country.received, country.language),
    }
    return _draft("acknowledgement", case, "coordination", content, in_reply_to=reply_to, language=country.language)


def information_request(case: str, facts: str, reply_to: str | None = None) -> JsonObject:
    """A question: whose number is it."""
    content: JsonObject = {
        "entities": [_entity("ph1", "phone", number="+999000000001")],
        "links": [],
        "questions": [
            {
                "number": 1,
                "sought": "subscriber",
                "text": _text("Who was the subscriber of this number in August?"),
                "about": ["ph1"],
            }
        ],
        "facts": _text(facts),
        "reasons": _text("The number is in the advertisement."),
        "due": f"{CASE_YEAR}-12-15",
    }
    return _draft("information-request", case, "investigation", content, in_reply_to=reply_to)


def information_response(sender: str, case: str, reply_to: str) -> JsonObject:
    """The subscriber is the suspect."""
    content: JsonObject = {
        "entities": [_suspect("p1", sender)],
        "links": [],
        "outcome": "answered",
        "answers": [
            {
                "number": 1,
                "outcome": "answered",
                "text": _text(f"{COUNTRIES[sender].suspect.romanised}, since 2024. Invented."),
                "about": ["p1"],
            }
        ],
        "use_conditions": _text("Not in proceedings without our permission."),
    }
    return _draft("information-response", case, "investigation", content, in_reply_to=reply_to)


def victim_notice(country: str, case: str, purpose: str) -> JsonObject:
    """A victim from ``country``, with consent and the safety check-list."""
    safety: JsonObject = {
        "assessed_on": f"{CASE_YEAR}-11-03",
        "assessed_by": "Invented Shelter No. 0",
        "checks": [
            {"check": "risk_to_person", "answer": "no"},
            {"check": "informed", "answer": "yes"},
            {"check": "not_detained", "answer": "yes"},
        ],
    }
    content: JsonObject = {
        "entities": [_victim("p1", country)],
        "links": [],
        "needs": ["shelter", "family_tracing"],
        "safety": safety,
        "summary": _text(f"Invented. {COUNTRIES[country].victim.romanised} wishes to go home."),
    }
    return _draft("victim", case, purpose, content, tlp="AMBER+STRICT", handling=["H2"])


def suspect_notice(country: str, case: str) -> JsonObject:
    """A suspect from ``country``, who is looked for."""
    content: JsonObject = {
        "entities": [_suspect("p1", country)],
        "links": [],
        "requested_actions": ["locate_person"],
        "summary": _text(f"Invented. {COUNTRIES[country].suspect.romanised} is said to have crossed the border."),
    }
    return _draft("suspect", case, "investigation", content)
