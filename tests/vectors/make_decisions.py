"""Make the conformance table of decisions: ``python -m tests.vectors.make_decisions`` writes tests/vectors/agreements/.

Rules:
1. What must come of a case is written here by hand, from protocol 8.3 and 8.4; the program under test is not asked.
2. One message satisfies every condition of one strict clause. A refusal spoils it in one way, or in two; a case is the
   base message with a merge patch (RFC 7396), so that what differs is what is seen.
3. At the sender the whole message is given; at the receiver what arrived, without what was withheld.

Length: one table, read from top to bottom, and the few agreements that its cases name.
"""

from __future__ import annotations

import copy
import json
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from exchange.adapters.files import schema_files
from exchange.core import wire
from exchange.core.wire import DocumentType, UnverifiedDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE: Final = Path(__file__).parent / "agreements"
NETWORK: Final = "training-mekong"
TH, KH, LA, VN = "th-fp1", "kh-fp1", "la-fp1", "vn-fp1"
AT: Final = "2026-11-23T08:00:00Z"
BLOB: Final = 65_577
Case = dict[str, Any]

# -- agreements ------------------------------------------------------------------------------------


def clause(ident: str, **changes: Any) -> Case:  # noqa: ANN401 - members of a clause, those of permit and requires too
    """The strict clause, with members changed wherever they stand."""
    made: Case = {
        "id": ident,
        "text": {"en": f"Article {ident}."},
        "permit": {
            "kinds": ["case-referral"],
            "from": [TH],
            "to": [KH],
            "purposes": ["investigation", "victim_protection"],
            "handling": ["H0", "H1"],
            "tlp": "AMBER",
            "urgency": ["urgent_3d", "normal_7d"],
        },
        "requires": {
            "approvals": {"count": 2, "supervisors": 1},
            "consent": True,
            "checks": ["informed", "not_detained"],
            "dual_criminality": True,
            "child_safeguards": True,
        },
        "respond_within": {"urgent_3d": 72},
        "blobs": {"max_count": 2, "max_bytes": 2 * BLOB},
        "retention_days": 365,
        "withhold": ["identity"],
        "onward": {"use": "with_consent"},
        "quota_per_day": 5,
        "content": {"properties": {"acts": {"contains": {"const": "transportation"}}}},
    }
    for name, value in changes.items():
        inner = next((made[part] for part in ("permit", "requires") if name.rstrip("_") in made[part]), made)
        inner[name.rstrip("_")] = value
    return {name: value for name, value in made.items() if value is not None}


def loose(ident: str, **changes: Any) -> Case:  # noqa: ANN401
    """A clause that asks for nothing."""
    free = {
        "handling": ["H0", "H1", "H2", "H3"],
        "tlp": "RED",
        "urgency": ["urgent_8h", "urgent_3d", "normal_7d"],
        "approvals": {"count": 0, "supervisors": 0},
        "consent": False,
        "checks": [],
        "dual_criminality": False,
        "child_safeguards": False,
        "respond_within": None,
        "blobs": {"max_count": 64, "max_bytes": 64 * BLOB},
        "retention_days": 36_500,
        "withhold": [],
        "quota_per_day": None,
        "content": None,
    }
    return clause(ident, **{**free, **changes})


def forbid(ident: str, **when: Any) -> Case:  # noqa: ANN401
    return {"id": ident, "text": {"en": f"Prohibition {ident}."}, "when": when}


def agreement(ident: str, clauses: list[Case], *rules: Case, parties: tuple[str, ...] = (KH, TH), **more: Any) -> Case:  # noqa: ANN401
    return {
        "network": NETWORK,
        "id": ident,
        "version": 1,
        "title": {"en": "Conformance"},
        "legal_basis": [{"title": {"en": "Invented for conformance"}, "article": "1", "date": "2026-01-01"}],
        "parties": [{"node": node, "authority": f"{index}" * 64} for index, node in enumerate(parties)],
        "valid_from": "2026-11-01T00:00:00Z",
        "valid_until": "2026-12-01T00:00:00Z",
        "clauses": clauses,
        "prohibitions": list(rules),
        **more,
    }


def digest(payload: Case) -> str:
    return UnverifiedDocument(DocumentType.AGREEMENT, wire.encode_json(payload), ()).digest()


def agreements() -> dict[str, Case]:
    """Every agreement by id and version."""
    everyone = {"from_": [TH, LA, VN], "to": [TH, LA, VN]}
    first = agreement("renewed", [loose("one")])
    second: Case = {"version": 2, "supersedes": digest(first), "valid_from": "2026-11-20T00:00:00Z"}
    entity = {"required": ["entities"], "properties": {"entities": {"contains": {"required": ["identity"]}}}}
    made = [
        agreement("strict", [clause("art-1")]),
        agreement("two", [clause("far", purposes=["repatriation"]), clause("near", tlp="GREEN"), clause("other")]),
        agreement("refusing", [clause("far", purposes=["repatriation"]), clause("near", tlp="GREEN")]),
        agreement("equal", [clause("first", tlp="GREEN"), clause("second", tlp="CLEAR")]),
        agreement("wild", [loose("all", kinds=["*"], purposes=["*"])]),
        agreement("mixed", [clause("narrow"), loose("wide", kinds=["*"], purposes=["*"])]),
        agreement("evidence", [loose("ev", kinds=["evidence"])]),
        agreement("back", [loose("home", from_=[KH], to=[TH])]),
        agreement("over", [loose("past")], valid_until="2026-11-23T08:00:00Z"),
        agreement("begun", [loose("now")], valid_from="2026-11-23T08:00:00Z"),
        agreement("others", [loose("la", from_=[TH], to=[LA])], parties=(LA, TH)),
        agreement("three", [loose("any", **everyone)], parties=(LA, TH, VN)),
        first,
        agreement("renewed", [loose("two")], **second),
        agreement("redacting", [loose("hide", withhold=["identity"]), loose("show")]),
        agreement(
            "hiding",
            [loose("show"), loose("hide", withhold=["identity"])],
            forbid("named", content=entity),
        ),
        agreement("banned", [clause("art-1")], forbid("all")),
        agreement("banned-kind", [clause("art-1")], forbid("k", kinds=["case-referral"])),
        agreement("banned-other-kind", [clause("art-1")], forbid("k", kinds=["evidence", "victim"])),
        agreement("banned-purpose", [clause("art-1")], forbid("p", purposes=["victim_protection"])),
        agreement("banned-other-purpose", [clause("art-1")], forbid("p", purposes=["prosecution"])),
        agreement("banned-both", [clause("art-1")], forbid("b", kinds=["case-referral"], purposes=["prosecution"])),
        agreement(
            "banned-content",
            [clause("art-1")],
            forbid("c", content={"properties": {"acts": {"contains": {"const": "receipt"}}}}),
        ),
        agreement("banned-other-content", [clause("art-1")], forbid("c", content={"required": ["political"]})),
        agreement("banned-twice", [clause("art-1")], forbid("x", kinds=["evidence"]), forbid("y"), forbid("z")),
        agreement("banned-wild", [loose("all", kinds=["*"], purposes=["*"])], forbid("v", kinds=["victim"])),
        agreement("strings", [loose("bare", content={"not": {"required": ["means"]}})]),
    ]
    return {f"{item['id']}/{item['version']}": item for item in made}


# -- messages --------------------------------------------------------------------------------------


def bases() -> dict[str, Case]:
    """The message that the strict clause permits, as its sender has it and as it arrives."""
    example = json.loads(schema_files()["case-referral/examples/children-forced-begging.json"])
    sender: Case = {
        "end": "sender",
        "at": AT,
        "to": KH,
        "header": {
            "network": NETWORK,
            "kind": "case-referral",
            "schema": "case-referral/v1",
            "schema_digest": "0" * 64,
            "id": "0" * 32,
            "from": TH,
            "to": [KH],
            "written": AT,
            "case": "TH-EXAMPLE-2026/0002",
            "in_reply_to": None,
            "refers_to": [],
            "purpose": "victim_protection",
            "handling": ["H0", "H1"],
            "tlp": "AMBER",
            "assurances": {
                "checks": ["informed", "not_detained"],
                "dual_criminality": {"text": "Invented: an offence in both countries.", "lang": "en"},
                "child_safeguards": {"text": "Invented: a guardian is appointed.", "lang": "en"},
            },
            "retention": 365,
            "onward": "with_consent",
            "urgency": "urgent_3d",
            "language": "en",
            "parts": ["main", "identity", "narrative", "attachments"],
            "attachments": 2,
        },
        "content": example["content"],
        "blobs": [BLOB, BLOB],
        "approvals": {"count": 2, "supervisors": 1},
        "used": {"strict/1": {"art-1": 4}},
        "agreements": ["strict/1"],
    }
    receiver = copy.deepcopy(sender) | {
        "end": "receiver",
        "content": without_identity(example["content"]),
        "withheld": {"identity": "art-1"},
        "agreement": "strict/1",
        "clause": "art-1",
    }
    return {"sender": sender, "receiver": receiver}


def entities(content: Case, **changes: Any) -> list[Case]:  # noqa: ANN401
    """The persons of a content, the victim with members changed; None takes one out."""
    victim = {name: value for name, value in (content["entities"][0] | changes).items() if value is not None}
    return [victim, *content["entities"][1:]]


def without_identity(content: Case) -> Case:
    return content | {"entities": entities(content, identity=None)}


BASES: Final = bases()
WHOLE: Final[Case] = BASES["sender"]["content"]
MEANS: Final[Case] = {"content": {"means": ["deception"]}}  # what a referral names unless all its victims are children

# How each condition of 8.3 is broken: number, name, code, and what is patched. ``entities`` changes the victim;
# ``shown`` leaves the identity in what arrives.
SPOILS: Final[list[tuple[int, str, str, Case]]] = [
    (0, "kind", "agreement.no_clause", {"header": {"kind": "evidence", "schema": "evidence/v1"}}),
    (1, "direction", "agreement.no_clause", {"header": {"from": KH, "to": [TH]}, "to": TH}),
    (2, "purpose", "agreement.purpose", {"header": {"purpose": "repatriation"}}),
    (3, "handling", "agreement.handling", {"header": {"handling": ["H1", "H2"]}}),
    (4, "tlp", "agreement.tlp", {"header": {"tlp": "AMBER+STRICT"}}),
    (5, "urgency", "agreement.urgency", {"header": {"urgency": "urgent_8h"}}),
    (6, "onward", "agreement.onward", {"header": {"onward": "parties"}}),
    (7, "retention", "agreement.retention", {"header": {"retention": 366}}),
    (8, "blobs", "agreement.blobs", {"header": {"attachments": 3}, "blobs": [BLOB, BLOB, BLOB]}),
    (9, "consent", "agreement.consent", {"entities": {"consent_exception": None}}),
    (10, "checks", "agreement.checks", {"header": {"assurances": {"checks": ["informed"]}}}),
    (11, "dual", "agreement.dual_criminality", {"header": {"assurances": {"dual_criminality": None}}}),
    (12, "child", "agreement.child_safeguards", {"header": {"assurances": {"child_safeguards": None}}}),
    (13, "withheld", "agreement.withheld", {"shown": True}),
    (14, "approvals", "envelope.approval", {"approvals": {"count": 1}}),
    (15, "content", "agreement.content", {"content": {"acts": ["receipt"]}}),
    (16, "quota", "agreement.quota", {"used": {"strict/1": {"art-1": 5}}}),
]


def merge(value: Any, patch: Any) -> Any:  # noqa: ANN401 - RFC 7396
    """A JSON value with a merge patch applied."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, inner in patch.items():
        if inner is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), inner)
    return merged


def patch_for(end: str, *spoils: Case) -> Case:
    """One merge patch for several ways to spoil the message; a list is replaced whole, so persons are written out."""
    patch: Case = {}
    persons: Case = {}
    shown = end == "sender"
    for spoil in spoils:
        persons |= spoil.get("entities", {})
        shown = shown or spoil.get("shown", False)
        patch = combine(patch, {name: value for name, value in spoil.items() if name not in {"entities", "shown"}})
    if shown and end == "receiver":
        patch["withheld"] = {"identity": None}
    if persons or (shown and end == "receiver"):
        hidden = {} if shown else {"identity": None}
        patch["content"] = {**patch.get("content", {}), "entities": entities(WHOLE, **persons, **hidden)}
    return patch


def combine(left: Case, right: Case) -> Case:
    """Two merge patches as one; here None stays, because it takes a member out."""
    made = dict(left)
    for name, value in right.items():
        both = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = combine(made[name], value) if both else value
    return made


# -- cases -----------------------------------------------------------------------------------------


def case(name: str, end: str, expect: Case, **patch: Any) -> Case:  # noqa: ANN401
    return {"name": name, "base": end, "patch": patch, "expect": expect}


def yes(agreement_: str, clause_: str, withheld: list[str] | None = None) -> Case:
    return {"allowed": True, "agreement": agreement_, "clause": clause_, "withheld": withheld or []}


def no(agreement_: str | None, clause_: str | None, *needs: str) -> Case:
    return {"allowed": False, "agreement": agreement_, "clause": clause_, "code": needs[0], "needs": list(needs)}


def singles() -> Iterator[Case]:
    """The message as it is, and with each condition broken alone, at both ends."""
    yield case("as-it-is", "sender", yes("strict/1", "art-1", ["identity"]))
    yield case("as-it-is", "receiver", yes("strict/1", "art-1", ["identity"]))
    for number, name, code, spoil in SPOILS:
        for end in ("sender", "receiver"):
            if end == "sender" and number in {9, 13}:
                continue  # no draft passes without a consent or exception, and a sender withholds what its clause says
            named = None if (end, number) == ("sender", 0) else "art-1"
            yield case(name, end, no("strict/1", named, code), **patch_for(end, spoil))


def pairs() -> Iterator[Case]:
    """Two conditions broken at once: the first tells the code, both are told."""
    for (low, one, code, spoil), (_, other, code2, spoil2) in combinations(SPOILS, 2):
        # Of a clause for another kind nothing more is to be said.
        needs = (code,) if low == 0 else (code, code2)
        yield case(
            f"{one}-{other}", "receiver", no("strict/1", "art-1", *needs), **patch_for("receiver", spoil, spoil2)
        )


def _bounds() -> Iterator[tuple[str, Case]]:
    header: Mapping[str, Case] = {
        "tlp-lower": {"tlp": "GREEN"},
        "tlp-lowest": {"tlp": "CLEAR"},
        "handling-one": {"handling": ["H1"]},
        "urgency-other": {"urgency": "normal_7d"},
        "onward-narrower": {"onward": "never"},
        "retention-shorter": {"retention": 1},
        "purpose-other": {"purpose": "investigation"},
        "more-checks": {"assurances": {"checks": ["informed", "not_detained", "minimum_data"]}},
    }
    yield from ((name, {"header": change}) for name, change in header.items())
    yield "one-file", {"header": {"attachments": 1}, "blobs": [2 * BLOB]}
    yield "no-file", {"header": {"attachments": 0, "parts": ["main", "identity", "narrative"]}, "blobs": []}
    yield "more-approvals", {"approvals": {"count": 8, "supervisors": 8}}
    yield "fewer-used", {"used": {"strict/1": {"art-1": 0}}}
    yield "used-by-another-clause", {"used": {"strict/1": {"art-1": 4, "art-2": 99}}}
    consent = {"given_on": "2026-10-02", "by": "self", "language": "lo", "scope": ["share_case_facts"]}
    yield "consent-instead", {"entities": {"consent_exception": None, "consent": consent}}
    adult = {"header": {"assurances": {"child_safeguards": None}}, "entities": {"age_group": "adult"}}
    yield "adult-without-safeguards", combine(adult, MEANS)
    witness = {"roles": ["witness"], "consent_exception": None}
    yield "no-victim-no-consent", combine({"entities": witness}, MEANS)


def boundaries() -> Iterator[Case]:
    """What is just permitted, and what is just not."""
    for name, spoil in _bounds():
        for end in ("sender", "receiver"):
            yield case(name, end, yes("strict/1", "art-1", ["identity"]), **patch_for(end, spoil))
    child = "agreement.child_safeguards"
    unsafe: Case = {"header": {"assurances": {"child_safeguards": None}}}
    for name, code, spoil in (
        ("tlp-highest", "agreement.tlp", {"header": {"tlp": "RED"}}),
        ("handling-alone", "agreement.handling", {"header": {"handling": ["H3"]}}),
        ("one-large-file", "agreement.blobs", {"header": {"attachments": 1}, "blobs": [2 * BLOB + 1]}),
        ("no-assurances", "agreement.checks", {"header": {"assurances": None}}),
        ("no-supervisor", "envelope.approval", {"approvals": {"count": 8, "supervisors": 0}}),
        ("no-approval", "envelope.approval", {"approvals": {"count": 0, "supervisors": 0}}),
        ("quota-long-over", "agreement.quota", {"used": {"strict/1": {"art-1": 99}}}),
        ("age-unknown", child, combine(unsafe, {"entities": {"age_group": "unknown"}, **MEANS})),
        ("victim-without-age", child, combine(unsafe, {"entities": {"age_group": None, "age_band": None}, **MEANS})),
    ):
        needs = (code, "agreement.dual_criminality", child) if name == "no-assurances" else (code,)
        for end in ("sender", "receiver"):
            yield case(name, end, no("strict/1", "art-1", *needs), **patch_for(end, spoil))


def prohibitions() -> Iterator[Case]:
    """Prohibitions win over clauses, and what they do not match they do not touch."""
    hit = {
        "banned/1": ("all",),
        "banned-kind/1": ("k",),
        "banned-purpose/1": ("p",),
        "banned-content/1": ("c",),
        "banned-twice/1": ("y", "z"),
    }
    miss = ("banned-other-kind/1", "banned-other-purpose/1", "banned-both/1", "banned-other-content/1")
    banned = "agreement.prohibited"
    for end in ("sender", "receiver"):
        named: Case = {} if end == "sender" else {"clause": "art-1"}
        for name, rules in hit.items():
            at = {"agreements": [name], **({} if end == "sender" else {"agreement": name}), **named}
            yield case(name, end, no(name, rules[0], *[banned] * len(rules)), **at)
            spoiled = combine(at, {"header": {"tlp": "RED"}})
            yield case(f"{name}-and-tlp", end, no(name, rules[0], *[banned] * len(rules), "agreement.tlp"), **spoiled)
        for name in miss:
            at = {"agreements": [name], **({} if end == "sender" else {"agreement": name}), **named}
            yield case(name, end, yes(name, "art-1", ["identity"]), **at)
    wild = {"agreements": ["banned-wild/1"]}
    yield case("wild-other-kind", "sender", yes("banned-wild/1", "all"), **wild)
    victim = {**wild, "header": {"kind": "victim", "schema": "victim/v1"}}
    yield case("wild-banned-kind", "sender", no("banned-wild/1", "v", banned), **victim)
    yield case("named-is-hidden", "sender", yes("hiding/1", "hide", ["identity"]), agreements=["hiding/1"])
    shown = patch_for("receiver", {"shown": True}) | {"agreements": ["hiding/1"], "agreement": "hiding/1"}
    yield case("named-is-shown", "receiver", no("hiding/1", "named", banned), **shown, clause="show")
    hidden = {"agreements": ["hiding/1"], "agreement": "hiding/1", "clause": "hide", "withheld": {"identity": "hide"}}
    yield case("named-is-hidden", "receiver", yes("hiding/1", "hide", ["identity"]), **hidden)


def times() -> Iterator[Case]:
    """``created`` decides, to the second; a successor ends the version before it."""
    out = "agreement.not_in_force"
    for at, name, expect in (
        ("2026-10-31T23:59:59Z", "before", no("strict/1", None, out)),
        ("2026-11-01T00:00:00Z", "first-second", yes("strict/1", "art-1", ["identity"])),
        ("2026-11-30T23:59:59Z", "last-second", yes("strict/1", "art-1", ["identity"])),
        ("2026-12-01T00:00:00Z", "over", no("strict/1", None, out)),
        ("2027-12-01T00:00:00Z", "long-over", no("strict/1", None, out)),
    ):
        for end in ("sender", "receiver"):
            yield case(name, end, expect, at=at)
    yield case("ends-this-second", "sender", no("over/1", None, out), agreements=["over/1"])
    yield case("begins-this-second", "sender", yes("begun/1", "now"), agreements=["begun/1"])
    yield case("ended-and-begun", "sender", yes("begun/1", "now"), agreements=["over/1", "begun/1"])
    both = {"agreements": ["renewed/1", "renewed/2"]}
    yield case("successor-serves", "sender", yes("renewed/2", "two"), **both)
    yield case("predecessor-served", "sender", yes("renewed/1", "one"), **both, at="2026-11-19T23:59:59Z")
    shown = patch_for("receiver", {"shown": True}) | both
    for version, one, at, expect in (
        ("renewed/1", "one", AT, no("renewed/1", None, out)),
        ("renewed/1", "one", "2026-11-19T23:59:59Z", yes("renewed/1", "one")),
        ("renewed/2", "two", "2026-11-19T23:59:59Z", no("renewed/2", None, out)),
        ("renewed/2", "two", AT, yes("renewed/2", "two")),
    ):
        named = {"agreement": version, "clause": one, "at": at}
        yield case(f"{version}-at-{at[:10]}", "receiver", expect, **shown, **named)


def at(*names: str) -> Case:
    """The agreements that a node holds."""
    return {"agreements": list(names)}


def choices() -> Iterator[Case]:
    """Several clauses, several agreements, several parties."""
    only = patch_for("receiver", {"shown": True})
    quiet = "agreement.no_clause"
    yield case("third-clause-permits", "sender", yes("two/1", "other", ["identity"]), **at("two/1"))
    yield case("nearest-clause-tells", "sender", no("refusing/1", "near", "agreement.tlp"), **at("refusing/1"))
    yield case("first-of-equals-tells", "sender", no("equal/1", "first", "agreement.tlp"), **at("equal/1"))
    yield case("star-covers", "sender", yes("wild/1", "all"), **at("wild/1"))
    other = {"header": {"purpose": "prevention"}}
    yield case("star-covers-every-purpose", "sender", yes("wild/1", "all"), **at("wild/1"), **other)
    yield case("narrow-clause-first", "sender", yes("mixed/1", "narrow", ["identity"]), **at("mixed/1"))
    yield case("wide-clause-after-it", "sender", yes("mixed/1", "wide"), **at("mixed/1"), header={"tlp": "RED"})
    yield case("clause-for-another-kind", "sender", no("evidence/1", None, quiet), **at("evidence/1"))
    yield case("clause-the-other-way", "sender", no("back/1", "home", quiet), **at("back/1"))
    yield case("agreement-of-others", "sender", no(None, None, "agreement.unknown"), **at("others/1"))
    yield case("no-agreement", "sender", no(None, None, "agreement.unknown"), agreements=[])
    joint = {"to": VN, "header": {"to": [VN]}}
    yield case("three-parties", "sender", yes("three/1", "any"), **at("three/1"), **joint)
    yield case("not-one-of-three", "sender", no(None, None, "agreement.unknown"), **at("three/1"))
    yield case("by-id", "sender", yes("mixed/1", "narrow", ["identity"]), **at("wild/1", "mixed/1"))
    yield case("first-refuses", "sender", yes("wild/1", "all"), **at("strict/1", "wild/1"), header={"tlp": "RED"})
    told = no("strict/1", "art-1", "agreement.tlp")
    yield case(
        "nearest-agreement-tells", "sender", told, **at("back/1", "evidence/1", "strict/1"), header={"tlp": "RED"}
    )
    yield case("redacts-as-its-clause-says", "sender", yes("redacting/1", "hide", ["identity"]), **at("redacting/1"))
    bare = {"entities": {"identity": None}}
    nothing = patch_for("sender", bare) | {"header": {"parts": ["main", "narrative", "attachments"]}}
    yield case("nothing-to-withhold", "sender", yes("redacting/1", "hide"), **at("redacting/1"), **nothing)
    yield case("what-is-forbidden-is-absent", "sender", yes("strings/1", "bare"), **at("strings/1"))
    refused = no("strings/1", "bare", "agreement.content")
    yield case("what-is-forbidden-is-there", "sender", refused, **at("strings/1"), **MEANS)

    def relied(agreement_: str, clause_: str, **more: Any) -> Case:  # noqa: ANN401
        return combine(only, {"agreements": [agreement_], "agreement": agreement_, "clause": clause_, **more})

    for name, expect, patch in (
        ("clause-relied-on", yes("mixed/1", "wide"), relied("mixed/1", "wide")),
        ("unknown-clause", no("mixed/1", "none", quiet), relied("mixed/1", "none")),
        ("clause-of-another-kind", no("evidence/1", "ev", quiet), relied("evidence/1", "ev")),
        ("clause-the-other-way", no("back/1", "home", quiet), relied("back/1", "home")),
        ("not-a-party", no("others/1", None, "agreement.not_party"), relied("others/1", "la")),
        ("other-clause-would-do", no("two/1", "near", "agreement.tlp", "agreement.withheld"), relied("two/1", "near")),
        ("star", yes("wild/1", "all"), relied("wild/1", "all")),
        ("hides-nothing", no("redacting/1", "hide", "agreement.withheld"), relied("redacting/1", "hide")),
        ("shows-all", yes("redacting/1", "show"), relied("redacting/1", "show")),
    ):
        yield case(name, "receiver", expect, **patch)
    by_other = {"withheld": {"identity": "other"}}
    yield case("withheld-by-another-clause", "receiver", no("strict/1", "art-1", "agreement.withheld"), **by_other)
    more = {"withheld": {"narrative": "art-1"}, "content": {"summary": None}}
    yield case("withheld-too-much", "receiver", no("strict/1", "art-1", "agreement.withheld"), **more)


GROUPS: Final = {
    "singles": singles,
    "pairs": pairs,
    "boundaries": boundaries,
    "prohibitions": prohibitions,
    "times": times,
    "choices": choices,
}


def table() -> dict[str, Any]:
    """Every file of the table by name."""
    return {"agreements": agreements(), "bases": BASES, **{name: list(make()) for name, make in GROUPS.items()}}


def main() -> None:
    """Write all of them; one case a line."""
    HERE.mkdir(exist_ok=True)
    for name, value in table().items():
        if isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        else:
            text = json.dumps(value, ensure_ascii=False, indent=1)
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
