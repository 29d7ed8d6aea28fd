"""Notices about agreements: who may sign which, which of two counts, and how an agreement stands by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core import wire
from exchange.core.errors import PeerError
from exchange.core.suspensions import (
    MAX_AHEAD,
    SERVES,
    Action,
    Standing,
    State,
    Suspension,
    check_date,
    encode_suspension,
    read_suspension,
    standing,
    verify_suspension,
)
from exchange.core.wire import AgreementId, Digest, DocumentType, NodeId, UnverifiedDocument
from tests.core import builders
from tests.core.builders import ABSENT, DAY, KH, NETWORK, NOW, TH, refused

if TYPE_CHECKING:
    from collections.abc import Sequence

LA = NodeId("la-fp1")
NODE = builders.testonly_node(KH)
SECOND = timedelta(seconds=1)
WHY = {"en": "Keys stolen"}


def notice(action: Action = Action.SUSPEND, serial: int = 1, **changes: Any) -> Suspension:  # noqa: ANN401 - members
    made = Suspension(NETWORK, AgreementId("kh-th"), KH, serial, action, NOW, WHY, others_continue=True)
    made = replace(made, **changes)
    return replace(made, digest=changes.get("digest", wire.sha256_hex(encode_suspension(made))))


def document(
    payload: bytes | Suspension, *signers: builders.TestOnlyKey, kind: str = DocumentType.SUSPENSION
) -> UnverifiedDocument:
    data = payload if isinstance(payload, bytes) else encode_suspension(payload)
    return builders.testonly_sign(kind, data, *(signers or (NODE.envelope,)))


# -- reading ---------------------------------------------------------------------------------------


def test_what_is_written_is_read() -> None:
    """Every member of a notice comes back, and the digest is that of its document."""
    for action in Action:
        written = document(notice(action, 7, reason={"en": "a", "km": "ខ"}, others_continue=False))
        read = read_suspension(written)
        assert read == notice(action, 7, reason={"en": "a", "km": "ខ"}, others_continue=False, digest=written.digest())
        assert not read.by_authority


def test_another_type_is_refused() -> None:
    """A void is not read as a notice."""
    with refused("wire.wrong_type", "document.payloadType"):
        read_suspension(document(notice(), kind=DocumentType.VOID))


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("serial", 0, "wire.bad_value"),
        ("serial", 1.5, "wire.bad_type"),
        ("action", "pause", "wire.bad_value"),
        ("time", "2026-11-23", "wire.bad_time"),
        ("party", "Cambodia", "wire.bad_value"),
        ("agreement", "A B", "wire.bad_value"),
        ("network", "", "wire.bad_value"),
        ("reason", {}, "wire.bad_value"),
        ("reason", {"en": "x" * 4097}, "wire.bad_value"),
        ("reason", {str(n): "x" for n in range(9)}, "wire.bad_value"),
        ("others_continue", "yes", "wire.bad_type"),
        ("others_continue", ABSENT, "wire.missing"),
    ],
)
def test_malformed_members_are_refused(member: str, value: Any, code: str) -> None:  # noqa: ANN401 - any JSON
    """A member of another form is refused at its place."""
    with refused(code, f"suspension.{member}"):
        read_suspension(document(builders.edited(encode_suspension(notice()), member, to=value)))


def test_unknown_member_is_refused() -> None:
    """A notice with a member that nobody knows is refused."""
    with refused("wire.unknown_member", "suspension"):
        read_suspension(document(builders.edited(encode_suspension(notice()), "until", to="2027-01-01T00:00:00Z")))


# -- who may sign ----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.SUSPEND, Action.LEAVE])
def test_node_key_stops_an_agreement(action: Action) -> None:
    """The node's envelope key alone suspends and leaves."""
    assert not verify_suspension(document(notice(action)), NODE.card).by_authority


@pytest.mark.parametrize("action", list(Action))
def test_authority_signs_every_notice(action: Action) -> None:
    """As many keys of the authority as its threshold sign any notice, whoever else signed it."""
    signed = document(notice(action), NODE.authority[0], NODE.authority[2])
    assert verify_suspension(signed, NODE.card).by_authority
    assert verify_suspension(document(notice(action), NODE.envelope, *NODE.authority[:2]), NODE.card).by_authority


def test_node_key_does_not_resume() -> None:
    """A resumption by the node's key, or by too few keys of the authority, is refused."""
    for signers in ((NODE.envelope,), (NODE.authority[0],), (NODE.envelope, NODE.authority[0])):
        with refused("key.threshold", "authority of kh-fp1"):
            verify_suspension(document(notice(Action.RESUME), *signers), NODE.card)


def test_other_keys_stop_nothing() -> None:
    """Too few keys of the authority, the bundle key and another node's key are no signature of the party."""
    for signer in (NODE.authority[0], NODE.bundle, builders.testonly_node(TH).envelope):
        with refused("key.threshold", "authority of kh-fp1"):
            verify_suspension(document(notice(), signer), NODE.card)


def test_forged_signature_is_refused() -> None:
    """A signature that does not verify under the key that it names is refused, and so is one beside another."""
    for wrong in (
        replace(document(notice()), payload=encode_suspension(notice(serial=2))),
        document(notice(), NODE.envelope, NODE.authority[0]),
    ):
        with refused("key.bad_signature", "document.signatures"):
            verify_suspension(wrong, NODE.card)


def test_node_key_counts_within_its_dates() -> None:
    """A notice dated before the key was valid, or after, is refused."""
    held = next(key for key in NODE.card.keys if key.key.id == NODE.envelope.public.id)
    verify_suspension(document(notice(time=held.valid_from)), NODE.card)
    for time in (held.valid_from - SECOND, held.valid_until):
        with refused("key.expired", "card of kh-fp1"):
            verify_suspension(document(notice(time=time)), NODE.card)


def test_notice_of_another_network_or_node_is_refused() -> None:
    """A notice counts for the network and node of the card alone."""
    with refused("key.wrong_network", "suspension.network"):
        verify_suspension(document(notice(network="training-other")), NODE.card)
    with refused("agreement.not_party", "suspension.party"):
        verify_suspension(document(notice(party=TH)), NODE.card)


def test_notice_from_the_future_is_refused() -> None:
    """A notice is taken up to fifteen minutes ahead of the clock."""
    check_date(notice(time=NOW + MAX_AHEAD), NOW)
    with refused("agreement.notice_early", "suspension.time"):
        check_date(notice(time=NOW + MAX_AHEAD + SECOND), NOW)


# -- which one counts ------------------------------------------------------------------------------


def test_higher_serial_counts() -> None:
    """The first notice counts, then only one with a higher serial; the same one again is not newer."""
    first, second = notice(Action.SUSPEND, 1), notice(Action.RESUME, 2)
    assert first.is_newer(None)
    assert second.is_newer(first)
    assert not first.is_newer(second)
    assert not first.is_newer(first)


def test_leaving_is_final() -> None:
    """A leave counts whatever its serial is, and nothing but a leave follows it."""
    leave = notice(Action.LEAVE, 1)
    for action in (Action.RESUME, Action.SUSPEND):
        assert leave.is_newer(notice(action, 9, others_continue=False))
        assert not notice(action, 10, others_continue=False).is_newer(leave)


def test_of_two_leaves_the_same_one_counts_everywhere() -> None:
    """A party that left twice, in other words, left as its higher serial says, whichever of the two came first."""
    alone, for_all = notice(Action.LEAVE, 1), notice(Action.LEAVE, 2, others_continue=False)
    assert for_all.is_newer(alone)
    assert not alone.is_newer(for_all)
    assert newest([alone, for_all]) == newest([for_all, alone]) == for_all


def test_more_restrictive_counts_of_one_serial() -> None:
    """Of two notices with one serial the suspension counts, and of two suspensions the one that stops everybody."""
    suspend, resume = notice(Action.SUSPEND), notice(Action.RESUME)
    assert suspend.is_newer(resume)
    assert not resume.is_newer(suspend)
    for all_stop in (notice(others_continue=False, digest=Digest("0" * 64)),):
        assert all_stop.is_newer(suspend)
        assert not suspend.is_newer(all_stop)


NOTICES = st.lists(
    st.builds(notice, st.sampled_from(Action), st.integers(1, 3), others_continue=st.booleans()), max_size=4
)


def newest(seen: Sequence[Suspension]) -> Suspension | None:
    """What somebody holds who saw the notices in this order."""
    held: Suspension | None = None
    for item in seen:
        if item.is_newer(held):
            held = item
    return held


@given(NOTICES)
def test_order_of_arrival_makes_no_difference(notices: list[Suspension]) -> None:
    """Whoever saw the same notices of a party, in whatever order, holds the same one."""
    ends = set(map(repr, map(newest, permutations(notices))))
    assert len(ends) == 1


# -- the standing ----------------------------------------------------------------------------------


def test_agreement_serves_without_notices_and_after_resuming() -> None:
    """Without a notice, or with resumptions alone, an agreement serves."""
    assert standing([], KH, TH) == SERVES
    assert standing([notice(Action.RESUME, 2, others_continue=False)], KH, TH).serves


@pytest.mark.parametrize(("action", "state"), [(Action.SUSPEND, State.SUSPENDED), (Action.LEAVE, State.LEFT)])
@pytest.mark.parametrize("pair", [(KH, TH), (TH, KH)])
def test_either_party_stops_it(action: Action, state: State, pair: tuple[NodeId, NodeId]) -> None:
    """A notice of either node stops the agreement between them, and says by whom, since when and why."""
    stopped = standing([notice(action)], *pair)
    assert stopped == Standing(state, KH, NOW, WHY)
    assert not stopped.serves


def test_others_go_on_unless_the_notice_says_otherwise() -> None:
    """A third party's suspension stops two others exactly where it says that they do not continue."""
    assert standing([notice(party=LA)], KH, TH).serves
    assert standing([notice(party=LA, others_continue=False)], KH, TH) == Standing(State.SUSPENDED, LA, NOW, WHY)
    assert standing([notice(Action.LEAVE, party=LA, others_continue=False)], KH, TH).state is State.LEFT


def test_first_reason_is_named() -> None:
    """Of several notices a leave is named first, then the earliest."""
    early, late = notice(time=NOW - DAY), notice(party=TH)
    assert standing([late, early], KH, TH) == Standing(State.SUSPENDED, KH, NOW - DAY, WHY)
    left = notice(Action.LEAVE, party=TH, reason={"en": "Over"})
    assert standing([early, left], KH, TH) == Standing(State.LEFT, TH, NOW, {"en": "Over"})


def test_no_notice_beats_a_refusal_to_believe() -> None:
    """Reading alone never sets who signed: only verification does."""
    signed = document(notice(Action.RESUME), *NODE.authority)
    assert read_suspension(signed).by_authority is False
    with pytest.raises(PeerError):
        verify_suspension(replace(signed, signatures=signed.signatures[:1]), NODE.card)
