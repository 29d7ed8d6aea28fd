"""Approvals: each is one listed person's signature over one statement, and never the proposer's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from exchange.core import wire
from exchange.core.agreements import Approvals
from exchange.core.approvals import (
    MAX_APPROVAL_BYTES,
    count_approvals,
    encode_approval,
    read_approval,
    verify_approval,
    verify_approvals,
)
from exchange.core.envelope import MAX_CLOCK_SKEW
from exchange.core.errors import PeerError
from exchange.core.officers import Role, read_officers
from exchange.core.wire import Digest, NetworkId
from tests.core import builders
from tests.core.builders import DAY, NETWORK, NOW, refused

NODE = builders.testonly_node()
LIST = read_officers(builders.officers_document(NODE))
ROOT = builders.sample_statement().root
PROPOSED = builders.approval("sok", ROOT, "proposer")
BY_OFFICER = builders.approval("dara", ROOT)
BY_SUPERVISOR = builders.approval("vanna", ROOT, "supervisor")


def test_an_approval_is_read_as_it_was_written() -> None:
    """Every member comes back, and the digest is that of the document."""
    document, approval = read_approval(BY_OFFICER)
    assert encode_approval(approval) == document.payload
    assert (approval.network, approval.root, approval.role) == (NETWORK, ROOT, "officer")
    assert approval.officer == builders.testonly_officer("dara").public.id
    assert approval.digest == document.digest()


@pytest.mark.parametrize("role", ["operator", "auditor", "minister", ""])
def test_an_approval_is_given_in_a_role_that_approves(role: str) -> None:
    """Operators and auditors have no say in what leaves."""
    with refused("wire.bad_value", "approval.role"):
        read_approval(builders.approval("dara", ROOT, role))


def test_an_approval_says_nothing_else() -> None:
    """A member that is not known is refused, and so is a text that is too long."""
    document, _ = read_approval(BY_OFFICER)
    more = wire.encode_json({**json.loads(document.payload), "note": "gladly"})
    with refused("wire.unknown_member", "approval"):
        read_approval(wire.encode_signed_document(replace(document, payload=more)).decode())
    with refused("wire.too_large", f"{MAX_APPROVAL_BYTES + 1} bytes, at most {MAX_APPROVAL_BYTES}"):
        read_approval(BY_OFFICER.ljust(MAX_APPROVAL_BYTES + 1))


def test_the_people_of_a_statement_are_counted() -> None:
    """Approvers count, supervisors among them; the proposer counts for nothing."""
    assert verify_approvals((PROPOSED,), LIST, ROOT, NOW) == Approvals(0, 0)
    assert verify_approvals((PROPOSED, BY_OFFICER), LIST, ROOT, NOW) == Approvals(1, 0)
    assert verify_approvals((BY_SUPERVISOR, PROPOSED, BY_OFFICER), LIST, ROOT, NOW) == Approvals(2, 1)


def test_a_supervisor_may_approve_as_an_officer() -> None:
    """Who holds both roles signs in one, and counts as that."""
    text = builders.approval("vanna", ROOT, "officer")
    assert verify_approvals((PROPOSED, text), LIST, ROOT, NOW) == Approvals(1, 0)


def test_a_supervisor_may_propose() -> None:
    """Who may approve may propose."""
    listed = read_officers(builders.officers_document(NODE, builders.listed("vanna", Role.SUPERVISOR)))
    assert verify_approval(builders.approval("vanna", ROOT, "proposer"), listed, ROOT, NOW).role == "proposer"


def test_a_list_and_approvals_come_together() -> None:
    """None without the other; neither is as good as no approval."""
    assert verify_approvals((), None, ROOT, NOW) == Approvals(0, 0)
    with refused("envelope.approval", "R16 core.officers"):
        verify_approvals((PROPOSED,), None, ROOT, NOW)
    with refused("envelope.approval", "R16 approval.proposer"):
        verify_approvals((), LIST, ROOT, NOW)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("approval", "R16 wire.not_json"),
        (builders.approval("bopha", ROOT), "R16 approval.officer"),
        (
            builders.approval("vanna", ROOT, officer=builders.testonly_officer("dara").public.id),
            "R16 key.bad_signature",
        ),
        (builders.approval("dara", ROOT, time=NOW - 40 * DAY), "R16 approval.officer"),
        (builders.approval("dara", ROOT, network=NetworkId("mekong")), "R16 approval.network"),
        (builders.approval("dara", Digest("0" * 64)), "R16 approval.root"),
        (builders.approval("dara", ROOT, "supervisor"), "R16 approval.role"),
        (builders.approval("admin", ROOT), "R16 approval.role"),
        (builders.approval("admin", ROOT, "proposer"), "R16 approval.role"),
        (builders.approval("dara", ROOT, until=NOW), "R16 approval.time"),
        (builders.approval("dara", ROOT, time=NOW + 2 * MAX_CLOCK_SKEW), "R16 approval.time"),
    ],
)
def test_an_approval_that_is_not_one_is_refused(text: str, where: str) -> None:
    """No document, not listed, not signed by its officer, another network, root or role, too late or too early."""
    with refused("envelope.approval", where):
        verify_approvals((PROPOSED, text), LIST, ROOT, NOW)


def test_an_approval_holds_until_it_ends() -> None:
    """The moment before its end it counts, and a clock a little behind does no harm."""
    assert verify_approval(BY_OFFICER, LIST, ROOT, NOW + 7 * DAY - DAY / 86_400).role == "officer"
    assert verify_approval(BY_OFFICER, LIST, ROOT, NOW - MAX_CLOCK_SKEW).role == "officer"


def test_who_is_an_officer_no_more_does_not_count() -> None:
    """An officer must be valid when they sign and when the message is made: no list need take them off first."""
    until = NOW + DAY
    leaving = replace(builders.listed("dara", Role.OFFICER), valid_until=until)
    listed = read_officers(builders.officers_document(NODE, leaving))
    assert verify_approval(BY_OFFICER, listed, ROOT, until - DAY / 86_400).role == "officer"
    with refused("envelope.approval", "R16 approval.officer"):
        verify_approval(BY_OFFICER, listed, ROOT, until)


def test_two_signatures_are_no_approval() -> None:
    """A second signature beside the officer's own says something that nobody knows."""
    document, _ = read_approval(BY_OFFICER)
    two = replace(document, signatures=document.signatures * 2)
    with refused("envelope.approval", "R16 key.bad_signature"):
        verify_approval(wire.encode_signed_document(two).decode(), LIST, ROOT, NOW)


def test_a_changed_byte_says_nothing_else() -> None:
    """Whatever byte of an approval is changed, it is refused or says what it said: the key's hint decides nothing."""
    said = verify_approval(BY_OFFICER, LIST, ROOT, NOW)
    codes: set[str] = set()
    taken = 0
    for at in range(len(BY_OFFICER)):
        changed = BY_OFFICER[:at] + chr(ord(BY_OFFICER[at]) ^ 1) + BY_OFFICER[at + 1 :]
        try:
            found = verify_approval(changed, LIST, ROOT, NOW)
        except PeerError as error:
            codes.add(error.code)
            continue
        assert found == said
        taken += 1
    assert codes == {"envelope.approval"}
    assert taken <= 64  # the digits of the hint


def test_a_person_counts_once() -> None:
    """Not twice as approver, and not as proposer and approver."""
    given = verify_approval(BY_OFFICER, LIST, ROOT, NOW)
    with refused("envelope.approval", "R16 an officer signed twice"):
        count_approvals([verify_approval(PROPOSED, LIST, ROOT, NOW), given, given])
    with refused("envelope.approval", "R16 an officer signed twice"):
        verify_approvals((PROPOSED, builders.approval("sok", ROOT)), LIST, ROOT, NOW)


def test_a_statement_has_one_proposer() -> None:
    """Without one nobody can tell who is another person; two are one too many."""
    with refused("envelope.approval", "R16 approval.proposer"):
        verify_approvals((BY_OFFICER,), LIST, ROOT, NOW)
    with refused("envelope.approval", "R16 approval.proposer"):
        verify_approvals((PROPOSED, builders.approval("dara", ROOT, "proposer")), LIST, ROOT, NOW)


def test_approvals_hold_for_every_variant() -> None:
    """What is withheld from a recipient leaves the root, and so every approval, as it was."""
    whole = builders.sample_statement({"a": 1}, {"b": 2})
    text = builders.approval("dara", whole.root)
    assert verify_approval(text, LIST, whole.withhold(2, "4.2").root, NOW).root == whole.root
