"""The numbers of a pair against the plainest model of them: a set."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exchange.core.answers import MAX_MISSING
from exchange.core.delivery import DELIVERED, OPEN, Status, Window
from tests.core.builders import TH

EMPTY = Window(TH)
NUMBERS = st.lists(st.integers(1, 30), max_size=40)


def filled(numbers: list[int]) -> Window:
    window = EMPTY
    for seq in numbers:
        window = window.consume(seq)
    return window


@given(NUMBERS)
@example([])
@example([1, 2, 3])
@example([3, 2, 1])
@example([5, 3, 4, 1, 9, 2])
def test_window_is_a_set(numbers: list[int]) -> None:
    """A window knows exactly the numbers consumed, whatever their order and however often they came."""
    window, model = filled(numbers), set(numbers)
    assert [window.has(seq) for seq in range(1, 40)] == [seq in model for seq in range(1, 40)]
    first_gap = next(seq for seq in range(1, 40) if seq not in model)
    assert window.through == first_gap - 1
    for seq in range(1, 40):
        assert window.has_gap_below(seq) == any(lower not in model for lower in range(1, seq))
    for limit in (0, 1, 3, MAX_MISSING):
        gaps = [seq for seq in range(1, max(model, default=0)) if seq not in model]
        assert list(window.missing(limit)) == gaps[:limit]


@given(NUMBERS)
def test_window_has_one_form(numbers: list[int]) -> None:
    """Equal sets of numbers make equal windows: ranges in order, closed, apart, and beyond the first gap."""
    window = filled(numbers)
    assert window == filled(sorted(set(numbers)))
    after = window.through
    for low, high in window.above:
        assert after + 1 < low <= high
        after = high


@given(NUMBERS, st.integers(1, 30))
def test_window_keeps_what_we_send_apart(numbers: list[int], next_seq: int) -> None:
    """What is received does not move the number of what is sent next."""
    window = EMPTY._replace(next_seq=next_seq)
    for seq in numbers:
        window = window.consume(seq)
    assert (window.peer, window.next_seq) == (TH, next_seq)


def test_window_of_far_numbers() -> None:
    """A number at the end of what JSON can carry costs one range, and only the first gaps are listed."""
    window = EMPTY.consume(2**53 - 1)
    assert window.above == ((2**53 - 1, 2**53 - 1),)
    assert window.missing() == tuple(range(1, MAX_MISSING + 1))
    assert window.consume(3).missing(4) == (1, 2, 4, 5)
    assert window.has_gap_below(2**53 - 1)
    assert not window.has_gap_below(1)


def test_records_are_frozen() -> None:
    """A record does not change; a step makes a new one."""
    with pytest.raises(AttributeError):
        EMPTY.through = 1  # type: ignore[misc]
    assert EMPTY.consume(1) is not EMPTY
    assert EMPTY.consume(1).consume(1) == EMPTY.consume(1)


def test_a_message_is_open_or_delivered_or_neither() -> None:
    """No status is both open and delivered, and the delivered ones are in the order in which they are reached."""
    assert OPEN.isdisjoint(DELIVERED)
    assert DELIVERED == (Status.ACCEPTED, Status.COMPLETE, Status.OPENED, Status.ANSWERED)
    assert set(Status) - OPEN - set(DELIVERED) == {Status.HELD, Status.REFUSED, Status.EXPIRED, Status.RECALLED}
