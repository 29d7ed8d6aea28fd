"""Rules between the members of a statement, which a JSON Schema cannot express.

Implements docs/protocol.md section 5.2 (schemas). They run on parts that already match their schemas, so they take
the shapes for granted; a part that is withheld is skipped, and with it what only it could show.

Rules, each named in the message of a breach:
1. ``ids-unique``: no two entities share an id.
2. ``ids-resolve``: links, provenance and the ``about`` of questions and answers name entities of the statement.
3. ``identity-owned``: the identity part speaks of persons of the statement, and of nobody else.
4. ``consent-or-exception``: a victim has a consent on record or a named lawful exception; ``not-identifiable``:
   whoever relies on the exception of that name sends no identity.
5. ``means-or-children``: a referral names the means, unless every victim in it is a child (Palermo Protocol,
   Article 3 (c)).
6. ``attachments-exist``: an index names an attachment; ``digests-match``: an exhibit and its file have one digest.

What it does not do: judge whether consent is needed for this recipient (``core.agreements``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exchange.core.wire import JsonValue

Part = dict[str, Any]

EXPECTED: Final[Mapping[str, str]] = {
    "ids-unique": "an id that no other entity of the statement has",
    "ids-resolve": "the id of an entity of the statement",
    "identity-owned": "the id of a person of the statement",
    "consent-or-exception": "consent, or consent_exception with a listed code",
    "not-identifiable": "no identity, or another consent_exception",
    "means-or-children": 'the means ("not_established" is one), unless every victim has age_group "child"',
    "attachments-exist": "the position of an attachment, counted from 0",
    "digests-match": "the SHA-256 of the attachment named",
}


class Breach(NamedTuple):
    """A rule that does not hold: the part, the place in it (JSON Pointer) and the rule's name."""

    part: str
    path: str
    rule: str


def find_breaches(kind: str, parts: Mapping[str, JsonValue | None], attachments: int | None = None) -> Iterator[Breach]:
    """Every breach, cheapest rules first; the caller that wants one stops at the first.

    ``parts`` are valid by their schemas; None or a missing name is a part withheld. ``attachments`` is their number by
    the header, None where it is not known yet (a draft without its files).
    """
    if parts.get("main") is None:
        return
    main = cast("Part", parts["main"])
    identity = cast("Part", parts.get("identity") or {})
    files = cast("list[Part] | None", parts.get("attachments"))
    entities: list[Part] = main.get("entities", [])  # a duty message (protocol 8.6) speaks of nobody
    types = {entity["id"]: entity["type"] for entity in entities}
    if len(types) != len(entities):
        yield from _ids_unique(entities)
    yield from _ids_resolve(main, types)
    answers = parts.get("narrative")
    if isinstance(answers, list):  # an information-response: its answers are the part
        yield from _abouts(cast("list[Part]", answers), types, "narrative", "")
    for name in identity:
        if types.get(name) != "person":
            yield Breach("identity", f"/{name}", "identity-owned")
    yield from _consents(entities, identity)
    if kind == "case-referral" and not main.get("means") and not _only_children(entities):
        yield Breach("main", "/means", "means-or-children")
    if attachments is not None:
        yield from _attachments(entities, identity, attachments, files)


def _ids_unique(entities: list[Part]) -> Iterator[Breach]:
    seen: set[str] = set()
    for index, entity in enumerate(entities):
        if entity["id"] in seen:
            yield Breach("main", f"/entities/{index}/id", "ids-unique")
        seen.add(entity["id"])


def _ids_resolve(main: Part, types: Part) -> Iterator[Breach]:
    for index, link in enumerate(main.get("links", [])):
        for end in ("from", "to"):
            if link[end] not in types:
                yield Breach("main", f"/links/{index}/{end}", "ids-resolve")
    for index, entity in enumerate(main.get("entities", [])):
        if entity.get("was_derived_from", entity["id"]) not in types:
            yield Breach("main", f"/entities/{index}/was_derived_from", "ids-resolve")
    yield from _abouts(main.get("questions", []), types, "main", "/questions")


def _abouts(items: list[Part], types: Part, part: str, place: str) -> Iterator[Breach]:
    for index, item in enumerate(items):
        for position, name in enumerate(item.get("about", ())):
            if name not in types:
                yield Breach(part, f"{place}/{index}/about/{position}", "ids-resolve")


def _consents(entities: list[Part], identity: Part) -> Iterator[Breach]:
    for index, entity in enumerate(entities):
        if "victim" not in entity.get("roles", ()):
            continue
        exception = entity.get("consent_exception")
        if exception is None and "consent" not in entity:
            yield Breach("main", f"/entities/{index}", "consent-or-exception")
        elif exception is not None and exception["code"] == "not_identifiable" and entity["id"] in identity:
            yield Breach("main", f"/entities/{index}/consent_exception", "not-identifiable")


def _only_children(entities: list[Part]) -> bool:
    groups = {entity.get("age_group") for entity in entities if "victim" in entity.get("roles", ())}
    return groups == {"child"}


def _indexes(entities: list[Part], identity: Part) -> Iterator[tuple[str, str, object]]:
    """Every attachment index with its part and place."""
    for index, entity in enumerate(entities):
        if "attachment" in entity:
            yield "main", f"/entities/{index}/attachment", entity["attachment"]
        if "scan" in entity:
            yield "main", f"/entities/{index}/scan", entity["scan"]
        if "consent" in entity and "record" in entity["consent"]:
            yield "main", f"/entities/{index}/consent/record", entity["consent"]["record"]
    for name, person in identity.items():
        if "photos" in person:
            for position, value in enumerate(person["photos"]):
                yield "identity", f"/{name}/photos/{position}", value
        if "documents" in person:
            for position, document in enumerate(person["documents"]):
                if "scan" in document:
                    yield "identity", f"/{name}/documents/{position}/scan", document["scan"]


def _attachments(entities: list[Part], identity: Part, count: int, files: list[Part] | None) -> Iterator[Breach]:
    for part, place, value in _indexes(entities, identity):
        # JSON Schema takes 1.0 for an integer; a list index does not.
        if not isinstance(value, int) or value >= count:
            yield Breach(part, place, "attachments-exist")
    if not files:
        return
    for index, entity in enumerate(entities):
        position = entity.get("attachment")
        if "sha256" not in entity or not isinstance(position, int) or position >= len(files):
            continue
        if files[position]["sha256"] != entity["sha256"]:
            yield Breach("main", f"/entities/{index}/sha256", "digests-match")
