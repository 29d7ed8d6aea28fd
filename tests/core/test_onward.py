"""Onward use: whether a message may be passed on, and that what is passed on is what its originator sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.agreements import ONWARD, Clause, Onward
from exchange.core.errors import PeerError
from exchange.core.onward import (
    Consent,
    Origin,
    Original,
    Passage,
    check_onward,
    check_origin,
    onward_use,
    origin_to_json,
    read_origin,
)
from exchange.core.statement import Statement, make_part
from exchange.core.wire import Digest, MessageId, NodeId
from tests.core.builders import DAY, KH, NOW, TH, TestOnlyEntropy, refused

VN: Final = NodeId("vn-fp1")
LA: Final = NodeId("la-fp1")
CODE: Final = "onward.not_permitted"
PLAIN: Final = Original("with_consent", frozenset({"H1"}), "investigation", 100, NOW, forwarded=False)
TODAY: Final = NOW.date()


def clause(use: str, *parties: NodeId) -> Clause:
    """A clause as far as onward use goes."""
    return replace(_CLAUSE, onward=Onward(use, parties))


_CLAUSE: Final = Clause(**(dict.fromkeys(Clause.__dataclass_fields__) | {"id": "art-1"}))  # type: ignore[arg-type] # nothing else is looked at


def consent(*granted: NodeId, until: date | None = TODAY, asked: tuple[NodeId, ...] = (VN,)) -> Consent:
    """A decision on a request to prosecute."""
    return Consent(asked, "prosecution", granted, until)


@pytest.mark.parametrize(
    ("onward", "use", "handling", "found"),
    [
        ("with_consent", "with_consent", "H1", "with_consent"),
        ("with_consent", "parties", "H1", "with_consent"),
        ("parties", "with_consent", "H1", "with_consent"),
        ("parties", "parties", "H1", "parties"),
        ("parties", "parties", "H2", "with_consent"),
    ],
)
def test_narrower_word_decides(onward: str, use: str, handling: str, found: str) -> None:
    """Of header and clause the narrower counts, and H2 asks for consent whatever they say."""
    original = PLAIN._replace(onward=onward, handling=frozenset({handling}))
    assert onward_use(original, clause(use, VN)) == found


@pytest.mark.parametrize(
    ("onward", "use"), [("never", "never"), ("never", "parties"), ("parties", "never"), ("with_consent", "never")]
)
def test_never_is_never(onward: str, use: str) -> None:
    """Where header or clause says never, no consent helps."""
    original = PLAIN._replace(onward=onward)
    with refused(CODE, f"onward use: the message says {onward}, the clause {use}"):
        check_onward(original, clause(use, VN), VN, [consent(VN)], NOW)


def test_refusal_names_the_clause() -> None:
    """The refusal names the clause under which the message came."""
    with pytest.raises(Exception, match="never") as caught:
        check_onward(PLAIN, clause("never"), VN, [], NOW)
    assert cast("Any", caught.value).clause == "art-1"


def test_what_was_forwarded_is_not_forwarded_again() -> None:
    """A message that was passed on to this node is passed on to nobody else."""
    with refused(CODE, "it was forwarded to this node: ask its originator"):
        check_onward(PLAIN._replace(forwarded=True), clause("with_consent"), VN, [consent(VN)], NOW)


def test_named_parties_need_no_consent() -> None:
    """A node that the clause names may receive it, for the purpose it was sent for; no other may."""
    original = PLAIN._replace(onward="parties")
    assert check_onward(original, clause("parties", VN), VN, [], NOW) == Passage("investigation", 100)
    with refused(CODE, "onward use: only vn-fp1"):
        check_onward(original, clause("parties", VN), LA, [consent(LA, asked=(LA,))], NOW)


@pytest.mark.parametrize(
    ("consents", "why"),
    [
        ([], "the originator has not decided: exchange onward request"),
        ([consent(LA, asked=(LA,))], "the originator has not decided: exchange onward request"),
        ([consent(until=None)], "the originator refused"),
        ([consent(LA, asked=(VN, LA))], "the originator refused"),
        ([consent(VN), consent()], "the originator refused"),
        ([consent(VN, until=TODAY - DAY)], "the originator's consent is over"),
        ([consent(VN, until=None)], "the originator's consent is over"),
        ([consent(VN), consent(VN, until=TODAY - DAY)], "the originator's consent is over"),
    ],
)
def test_without_a_living_consent_nothing_is_passed_on(consents: list[Consent], why: str) -> None:
    """No decision, one about others, a refusal, a consent that was taken back and one that is over all refuse."""
    with refused(CODE, why):
        check_onward(PLAIN, clause("with_consent"), VN, consents, NOW)


def test_last_decision_counts() -> None:
    """After a refusal a consent permits, for the purpose that was asked for, until the end of its day."""
    late = NOW.replace(hour=23, minute=59)
    consents = [consent(), consent(VN), consent(asked=(LA,))]
    assert check_onward(PLAIN, clause("with_consent"), VN, consents, late).purpose == "prosecution"


@pytest.mark.parametrize(
    ("passed", "left"), [(-DAY, 100), (0 * DAY, 100), (timedelta(seconds=1), 99), (DAY, 99), (99 * DAY, 1)]
)
def test_retention_is_what_is_left(passed: timedelta, left: int) -> None:
    """The new recipient keeps it no longer than this node may; a day begun is a day gone."""
    original = PLAIN._replace(onward="parties")
    assert check_onward(original, clause("parties", VN), VN, [], NOW + passed).retention_days == left


def test_what_is_almost_erased_is_not_passed_on() -> None:
    """On its last day a message is not passed on."""
    with refused(CODE, "its retention ends within a day"):
        check_onward(
            PLAIN._replace(onward="parties"), clause("parties", VN), VN, [], NOW + 99 * DAY + timedelta(seconds=1)
        )


@given(
    onward=st.sampled_from(ONWARD),
    use=st.sampled_from(ONWARD),
    handling=st.sets(st.sampled_from(["H0", "H1", "H2", "H3"])),
    forwarded=st.booleans(),
    days=st.integers(0, 200),
)
def test_without_word_of_the_originator_only_named_parties_get_it(
    onward: str, use: str, handling: set[str], *, forwarded: bool, days: int
) -> None:
    """Without a decision nothing passes, unless header and clause both name parties, this one among them."""
    original = Original(onward, frozenset(handling), "investigation", 100, NOW, forwarded)
    may = (onward, use, "H2" in handling, forwarded) == ("parties", "parties", False, False) and days < 100
    if may:
        assert check_onward(original, clause(use, VN), VN, [], NOW + days * DAY).retention_days == 100 - days
    else:
        with pytest.raises(PeerError, match=CODE):
            check_onward(original, clause(use, VN), VN, [], NOW + days * DAY)


# -- the origin ------------------------------------------------------------------------------------


def forwarded() -> tuple[Statement, Origin]:
    """A statement of three parts passed on, with one that the originator withheld."""
    entropy = TestOnlyEntropy("onward")
    parts = tuple(make_part({"part": number}, entropy.take(16)) for number in range(4))
    original = Statement(entropy.digest(), "art-1", parts).withhold(2, "art-1")
    origin = Origin(TH, MessageId("1" * 32), original.root, original.parts[0].digest, ("second",))
    header = make_part({"new": True}, entropy.take(16))
    return Statement(entropy.digest(), "art-9", (header, *original.parts[1:])), origin


NAMES: Final = ("main", "second", "third")


def test_parts_lead_to_the_root_of_the_originator() -> None:
    """The originator's root follows from the digest of its header and the parts; more may be withheld on the way."""
    statement, origin = forwarded()
    check_origin(statement, NAMES, KH, "never", origin)
    check_origin(statement.withhold(3, "art-9"), NAMES, KH, "never", origin)
    assert statement.root != origin.root


@pytest.mark.parametrize("case", ["part", "header", "root", "withheld", "own", "onward"])
def test_other_parts_than_the_originators_are_refused(case: str) -> None:
    """A changed part, header or root, a part said to be withheld that is there, and a chain are refused."""
    statement, origin = forwarded()
    sender, onward = KH, "never"
    if case == "part":
        statement = replace(statement, parts=(*statement.parts[:-1], make_part({"part": 9}, bytes(16))))
    elif case == "header":
        origin = replace(origin, header=Digest("0" * 64))
    elif case == "root":
        origin = replace(origin, root=Digest("0" * 64))
    elif case == "withheld":
        origin = replace(origin, withheld=("second", "third"))
    elif case == "own":
        sender = TH
    else:
        onward = "with_consent"
    with refused("onward.origin", "R15"):
        check_origin(statement, NAMES, sender, onward, origin)


def test_origin_is_read_as_written() -> None:
    """What a header says of the origin comes back; a header without it has none."""
    _, origin = forwarded()
    assert read_origin({"origin": origin_to_json(origin)}) == origin
    assert read_origin({}) is read_origin({"origin": None}) is None
