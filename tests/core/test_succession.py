"""Versions of one agreement: none twice, none skipped, each after the one before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exchange.core import wire
from exchange.core.succession import check_not_over, check_succession, days_left, warning_of
from exchange.core.wire import AgreementId, Digest
from tests.core import rules
from tests.core.builders import NOW, refused

if TYPE_CHECKING:
    from exchange.core.agreements import Agreement

SECOND = timedelta(seconds=1)
FIRST = rules.agreement()


def version(number: int, before: Agreement, **changes: Any) -> Agreement:  # noqa: ANN401 - members
    """A version that follows another one, by a second."""
    made = rules.agreement(
        version=number,
        supersedes=before.digest,
        valid_from=wire.encode_time(before.valid_from + SECOND),
    )
    return replace(made, **changes)


TWO = version(2, FIRST)


def test_versions_in_order_are_taken() -> None:
    """The first version, its successor, and what is held already are taken, whatever else is held."""
    other = replace(FIRST, id=AgreementId("another"), digest=Digest("9" * 64))
    check_succession(FIRST, [])
    check_succession(TWO, [other, FIRST])
    check_succession(version(3, TWO), [FIRST, TWO, other])
    for held in (FIRST, TWO):
        check_succession(held, [FIRST, TWO])


@pytest.mark.parametrize("held", [FIRST, TWO])
def test_other_bytes_of_one_version_are_refused(held: Agreement) -> None:
    """The same id and version with another digest is a conflict."""
    with refused("agreement.conflict", f"kh-th/{held.version}"):
        check_succession(replace(held, digest=Digest("1" * 64)), [FIRST, TWO])


def test_version_that_skips_is_refused() -> None:
    """A version whose predecessor is not held, is of another id, or has another number than one less, is refused."""
    stranger = replace(FIRST, id=AgreementId("another"))
    for wrong, held in (
        (TWO, []),
        (version(3, TWO), [FIRST]),
        (TWO, [stranger]),
    ):
        with refused("agreement.predecessor", f"kh-th/{wrong.version - 1}"):
            check_succession(wrong, held)
    with refused("agreement.predecessor", "kh-th/2"):
        check_succession(version(3, FIRST), [FIRST])


@pytest.mark.parametrize("earlier", [timedelta(0), SECOND])
def test_version_that_does_not_begin_later_is_refused(earlier: timedelta) -> None:
    """A version that begins with the one before it, or earlier, is refused."""
    with refused("agreement.overlap", "agreement.valid_from"):
        check_succession(version(2, FIRST, valid_from=FIRST.valid_from - earlier), [FIRST])


def test_what_has_ended_is_refused() -> None:
    """An agreement is over from its end on."""
    check_not_over(FIRST, FIRST.valid_until - SECOND)
    for now in (FIRST.valid_until, FIRST.valid_until + SECOND):
        with refused("agreement.over", "agreement.valid_until"):
            check_not_over(FIRST, now)
    assert FIRST.valid_until > NOW


@pytest.mark.parametrize(
    ("left", "warning", "whole"),
    [
        (timedelta(days=91), None, 91),
        (timedelta(days=90, seconds=1), None, 90),
        (timedelta(days=90), 90, 90),
        (timedelta(days=30, seconds=1), 90, 30),
        (timedelta(days=30), 30, 30),
        (timedelta(days=7), 7, 7),
        (SECOND, 7, 0),
        (timedelta(0), None, 0),
        (-SECOND, None, -1),
    ],
)
def test_end_is_warned_of(left: timedelta, warning: int | None, whole: int) -> None:
    """The narrowest warning that fits is given from that day on, and none once it is over."""
    now = FIRST.valid_until - left
    assert (warning_of(FIRST, now), days_left(FIRST, now)) == (warning, whole)
