"""The lint of agreements: clauses that can never serve are found before anybody signs them."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.core.agreement_lint import accepts_nothing, check_agreement, find_faults
from exchange.core.errors import PeerError
from tests.core.builders import KH
from tests.core.rules import TH, agreement, clause, permit, requires
from tests.schemas.samples import book

EVERY = ["investigation", "prosecution"]


def never(ident: str = "p-1", **when: Any) -> dict[str, Any]:  # noqa: ANN401 - members of ``when``
    return {"id": ident, "text": {"en": "Never."}, "when": when}


def test_a_sound_agreement_has_no_fault() -> None:
    """What serves passes, also with prohibitions beside it and with a schema that narrows it."""
    sound = clause(**permit(kinds=["*"], purposes=["*"]), withhold=["identity"], content={"required": ["entities"]})
    rules = [never(kinds=["victim"]), never("p-2", content={"required": ["entities"]})]
    assert find_faults(agreement(clauses=[sound], prohibitions=rules), book()) == ()
    check_agreement(agreement(), book())


@pytest.mark.parametrize(
    ("changes", "prohibitions", "rule", "what"),
    [
        (permit(kinds=["suspect", "gossip"]), [], "kind", "not known here: gossip"),
        (permit(purposes=["curiosity"]), [], "purpose", "not known here: curiosity"),
        (requires(checks=["informed", "horoscope"]), [], "check", "not known here: horoscope"),
        ({"withhold": ["safety"]}, [], "part", "no part of its kinds that can be withheld: safety"),
        ({"withhold": ["main"]}, [], "part", "no part of its kinds that can be withheld: main"),
        (permit(**{"from": [TH], "to": [TH]}), [], "direction", "it leads from a node to itself alone"),
        ({}, [never(kinds=["suspect"])], "shadowed", "forbidden whole by p-1"),
        ({}, [never()], "shadowed", "forbidden whole by p-1"),
        (
            permit(kinds=["suspect", "victim"], purposes=EVERY),
            [never(purposes=EVERY[:1]), never("p-2", purposes=EVERY[1:])],
            "shadowed",
            "forbidden whole by p-1, p-2",
        ),
        ({"content": {"type": "array"}}, [], "contradiction", "its content schema accepts nothing"),
        (
            {"content": {"required": ["entities"]}, "withhold": ["entities"]},
            [],
            "part",
            "no part of its kinds that can be withheld: entities",
        ),
        (
            {"content": {"required": ["entitles"]}},
            [],
            "contradiction",
            "its content schema asks for a member that no kind of it has",
        ),
        (
            {**permit(kinds=["case-referral"]), "content": {"required": ["summary"]}, "withhold": ["narrative"]},
            [],
            "contradiction",
            "asks for what it withholds: summary",
        ),
    ],
)
def test_a_clause_that_can_never_serve_is_found(
    changes: dict[str, Any], prohibitions: list[dict[str, Any]], rule: str, what: str
) -> None:
    """Each fault is told with its rule, its clause and what is wrong, and refuses with a code."""
    read = agreement(clauses=[clause(**changes)], prohibitions=prohibitions)
    assert [(fault.rule, fault.clause, fault.what) for fault in find_faults(read, book())] == [(rule, "art-1", what)]
    with pytest.raises(PeerError) as caught:
        check_agreement(read, book())
    expected = "unknown_code" if rule in {"kind", "purpose", "check", "part"} else "unusable"
    assert (caught.value.code, caught.value.clause) == (f"agreement.{expected}", "art-1")
    assert caught.value.where == f"{rule}: {what}"


def test_unknown_codes_of_a_prohibition_are_found() -> None:
    """A prohibition of something that nobody knows would forbid nothing, and is refused as well."""
    read = agreement(prohibitions=[never(kinds=["gossip"], purposes=["curiosity"])])
    assert [(fault.rule, fault.clause) for fault in find_faults(read, book())] == [("kind", "p-1"), ("purpose", "p-1")]


def test_a_clause_one_way_between_two_is_no_fault() -> None:
    """A clause may lead from one node to the other, or from both to one of them."""
    ways = permit(**{"from": [TH, KH], "to": [KH]})
    assert find_faults(agreement(clauses=[clause(**ways)]), book()) == ()


OBJECT = {"type": "object"}


@pytest.mark.parametrize(
    "schemas",
    [
        (False,),
        ({"not": {}},),
        ({"not": True},),
        ({"anyOf": [False, {"not": {}}]},),
        (OBJECT, {"type": ["array", "null"]}),
        (OBJECT, {"allOf": [{"type": "string"}]}),
        (OBJECT, {"enum": ["a", 1]}),
        (OBJECT, {"const": 1}),
        ({"enum": []},),
        (OBJECT, {"minProperties": 3, "maxProperties": 2}),
        (OBJECT, {"minProperties": 3}, {"maxProperties": 2}),
        ({"type": "array", "minItems": 2, "maxItems": 1},),
        ({"type": "string", "minLength": 2, "maxLength": 1},),
        ({"type": "number", "minimum": 2, "maximum": 1},),
        ({"type": "integer"}, {"type": "number", "minimum": 2, "maximum": 1}),
        (OBJECT, {"required": ["a"], "properties": {"a": False}}),
        (OBJECT, {"required": ["a"]}, {"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"const": 1}}}),
        (OBJECT, {"required": ["a", "b"], "not": {"required": ["a"]}}),
    ],
)
def test_a_schema_that_accepts_nothing_is_known(schemas: tuple[Any, ...]) -> None:
    """A plain contradiction is found, also between schemas that must hold together."""
    assert accepts_nothing(*schemas)


@pytest.mark.parametrize(
    "schemas",
    [
        (True,),
        ({},),
        (OBJECT,),
        ({"not": {"type": "string"}},),
        ({"anyOf": [False, {}]},),
        ({"const": "a"}, {"type": "string"}),
        ({"type": ["string", "null"], "minLength": 2, "maxLength": 1},),
        ({"type": "string", "minItems": 2, "maxItems": 1},),
        ({"type": "integer"}, {"type": "number"}),
        ({"required": ["a"], "properties": {"a": False}},),
        (OBJECT, {"properties": {"a": False}}),
        (OBJECT, {"required": ["a"], "not": {"required": ["a", "b"]}}),
        (OBJECT, {"required": ["a"], "not": {"required": ["a"], "minProperties": 2}}),
        (OBJECT, {"minProperties": 2}, {"maxProperties": 2}),
    ],
)
def test_a_schema_that_accepts_something_is_no_contradiction(schemas: tuple[Any, ...]) -> None:
    """What some value satisfies is never called a contradiction."""
    assert not accepts_nothing(*schemas)
