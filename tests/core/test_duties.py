"""Duties: what each kind needs of the message it is about, and what it then passes under."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.core.decision import decide
from exchange.core.duties import SENT_BY, Claim, Duty, Side, Subject, check_calendar, check_duty, check_form, is_duty
from exchange.core.errors import PeerError
from exchange.core.wire import Digest, MessageId, NodeId
from tests.core.builders import NOW
from tests.core.rules import EXCHANGE, agreement
from tests.schemas.samples import EXAMPLES, SCHEMAS, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

ABOUT: Final = MessageId("a" * 32)
OTHER: Final = MessageId("b" * 32)
DIGEST: Final = Digest("5" * 64)
SUBJECT: Final = Subject(DIGEST, "art-1")
RECALLED: Final = Subject(DIGEST, "art-1", "recall", ABOUT)
ASKED: Final = Subject(DIGEST, "art-1", "onward-request", ABOUT)


def claim(kind: str, *refers_to: MessageId, reply: MessageId | None = None, attachments: int = 0) -> Claim:
    return Claim(kind, refers_to or (ABOUT,), reply, attachments)


def code(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(PeerError) as caught:
        call()
    return caught.value.code, caught.value.where


def test_kinds_of_duties() -> None:
    """Seven kinds are duties, three of them the originator's; a message of any other kind is none."""
    assert {kind for kind, side in SENT_BY.items() if side is Side.ORIGINATOR} == {
        "recall",
        "correction",
        "onward-decision",
    }
    assert len(SENT_BY) == 7
    assert not is_duty("victim")
    assert all(is_duty(kind) for kind in SENT_BY)


@pytest.mark.parametrize("path", [path for path in EXAMPLES if is_duty(path.parent.parent.name)], ids=lambda p: p.stem)
def test_examples_have_the_form_of_their_duty(path: Any) -> None:  # noqa: ANN401 - a path
    """Each example of a duty is about one message and replies to one where its kind does."""
    draft = load(path)
    made = Claim(draft["kind"], tuple(draft["refers_to"]), draft.get("in_reply_to"), 0)
    assert check_form(made) == "0" * 31 + "1"


@pytest.mark.parametrize(
    ("made", "where"),
    [
        (Claim("recall", (), None, 0), "header/refers_to"),
        (claim("recall", ABOUT, OTHER), "header/refers_to"),
        (claim("recall", attachments=1), "header/attachments"),
        (claim("recall", reply=OTHER), "header/in_reply_to"),
        (claim("onward-decision"), "header/in_reply_to"),
    ],
)
def test_a_duty_without_its_form_is_refused(made: Claim, where: str) -> None:
    """A duty is about one message, has no evidence, and replies where and only where its kind replies."""
    assert code(lambda: check_form(made)) == ("duty.form", where)


@pytest.mark.parametrize(
    ("made", "subject", "crossed", "asked", "refused"),
    [
        (claim("recall"), None, False, None, ("envelope.reference", "header/refers_to")),
        (claim("recall"), None, True, None, ("duty.side", "header/refers_to")),
        (claim("recall"), RECALLED, False, None, ("duty.subject", "header/refers_to")),
        (claim("recall"), Subject(DIGEST, None), False, None, ("duty.subject", "header/refers_to")),
        (claim("hold-notice", reply=OTHER), SUBJECT, False, None, ("envelope.reference", "header/in_reply_to")),
        (claim("hold-notice", reply=OTHER), SUBJECT, False, SUBJECT, ("duty.request", "header/in_reply_to")),
        (claim("hold-notice", reply=OTHER), SUBJECT, False, ASKED, ("duty.request", "header/in_reply_to")),
        (
            claim("hold-notice", reply=OTHER),
            SUBJECT,
            False,
            replace(RECALLED, about=OTHER),
            ("duty.request", "header/in_reply_to"),
        ),
        (claim("onward-decision", reply=OTHER), SUBJECT, False, RECALLED, ("duty.request", "header/in_reply_to")),
    ],
)
def test_a_duty_that_does_not_fit_is_refused(
    made: Claim,
    subject: Subject | None,
    crossed: bool,  # noqa: FBT001
    asked: Subject | None,
    refused: tuple[str, str],
) -> None:
    """The message it is about was exchanged, is no duty, and what it replies to asked for this about the same."""
    assert code(lambda: check_duty(made, subject, crossed=crossed, request=asked)) == refused


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        (claim("recall"), None),
        (claim("deletion-receipt"), None),
        (claim("deletion-receipt", reply=OTHER), RECALLED),
        (claim("hold-notice", reply=OTHER), replace(RECALLED, duty="correction")),
        (claim("onward-decision", reply=OTHER), ASKED),
    ],
)
def test_a_duty_that_fits_passes_under_its_subject(made: Claim, asked: Subject | None) -> None:
    """It takes the agreement and the clause of the message it is about, also where a message crossed it."""
    duty = check_duty(made, SUBJECT, crossed=True, request=asked)
    assert duty == Duty(made.kind, ABOUT, DIGEST, "art-1")


NO_DAYS: Final = ("2027-02-29", "2100-02-29", "2027-02-30", "0000-01-01")


@pytest.mark.parametrize("day", NO_DAYS)
@pytest.mark.parametrize(
    ("kind", "member", "rest"),
    [
        ("hold-notice", "until", ""),
        ("onward-decision", "until", ""),
        ("deletion-receipt", "deleted_at", "T00:00:00Z"),
        ("onward-notice", "time", "T00:00:00Z"),
    ],
)
def test_a_duty_of_a_day_that_is_not_in_the_calendar_is_refused(kind: str, member: str, rest: str, day: str) -> None:
    """A day that the schema's pattern lets through and no calendar has is invalid; its neighbour passes."""
    where = f"main/{member} (calendar)"
    assert code(lambda: check_calendar(kind, {member: day + rest})) == ("schema.invalid", where)
    check_calendar(kind, {member: "2028-02-29" + rest})


@pytest.mark.parametrize("kind", ["onward-decision", "recall", "victim"])
def test_what_has_no_day_is_held_against_no_calendar(kind: str) -> None:
    """An optional day that is not there, a duty without one and what is no duty pass."""
    check_calendar(kind, {})


@pytest.mark.parametrize("kind", sorted(SENT_BY))
def test_every_day_and_time_of_every_duty_is_judged(kind: str) -> None:
    """Whatever member of a duty is a day or a time by its schema is held against the calendar."""
    properties: dict[str, dict[str, str]] = json.loads((SCHEMAS / kind / "v1.json").read_bytes())["properties"]
    for member, schema in properties.items():
        if schema.get("$ref") in {"../common/day.json", "../common/time.json"}:
            bad = "2027-02-29" + "T00:00:00Z" * ("time" in schema["$ref"])
            assert code(lambda: check_calendar(kind, {member: bad}))[0] == "schema.invalid"  # noqa: B023


NEVER: Final = [{"id": "p-1", "text": {"en": "Never."}, "when": {}}]


@pytest.mark.parametrize("later", [0, 400])
def test_a_duty_needs_no_permit(later: int) -> None:
    """No kind, purpose, quota, prohibition or end of the agreement stands in its way."""
    held = agreement(prohibitions=NEVER)
    day: timedelta = held.valid_until - held.valid_from
    duty = Duty("recall", ABOUT, held.digest, "art-1")
    exchange = replace(
        EXCHANGE, kind="recall", purpose="prevention", tlp="RED", duty=duty, created=NOW + later * day, blob_count=0
    )
    decision = decide(held, exchange, {"art-1": 10**6}, "art-1")
    assert (decision.allowed, decision.clause, decision.version) == (True, "art-1", 1)
    assert decide(held, exchange, {}).allowed


@pytest.mark.parametrize(
    ("changes", "clause", "refused"),
    [
        ({}, "art-2", "duty.binding"),
        ({"duty": Duty("recall", ABOUT, DIGEST, "art-1")}, "art-1", "duty.binding"),
        ({"withheld": (("main", "art-1"),)}, "art-1", "duty.form"),
        ({"blob_count": 1}, "art-1", "duty.form"),
        ({"recipient": NodeId("la-fp1")}, "art-1", "agreement.not_party"),
    ],
)
def test_a_duty_passes_under_nothing_else(changes: dict[str, Any], clause: str, refused: str) -> None:
    """Another clause, another agreement, another node, evidence or a withheld part is refused."""
    held = agreement()
    duty = Duty("recall", ABOUT, held.digest, "art-1")
    exchange = replace(EXCHANGE, **{"kind": "recall", "duty": duty, "blob_count": 0, **changes})
    assert decide(held, exchange, {}, clause).code == refused
