"""Response clocks: what asks, what answers, when an answer is due, and how late it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.core.clocks import GRACE, SILENT, Clock, ClockState, answers, asks, start_of
from exchange.core.duties import SENT_BY
from tests.core.builders import NOW

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
ORDER = list(ClockState)


@pytest.mark.parametrize(
    ("kind", "in_reply_to", "asking", "answering"),
    [
        ("information-request", None, True, False),
        ("case-referral", None, True, False),
        ("information-response", "1" * 32, False, True),
        ("victim", "1" * 32, False, True),
        ("information-request", "1" * 32, True, True),
        ("acknowledgement", "1" * 32, False, False),
        ("acknowledgement", None, False, False),
        *((kind, reply, False, False) for kind in sorted(SILENT) for reply in (None, "1" * 32)),
    ],
)
def test_kind_and_reference_say_what_asks_and_what_answers(
    kind: str, in_reply_to: str | None, *, asking: bool, answering: bool
) -> None:
    """A reply answers and asks nothing back unless it is a question; what only tells does neither."""
    assert (asks(kind, in_reply_to), answers(kind, in_reply_to)) == (asking, answering)


def test_every_duty_is_silent() -> None:
    """No duty asks for an answer or is one; of other kinds only the acknowledgement neither asks nor answers."""
    assert {"acknowledgement", *SENT_BY} == SILENT


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (-HOUR, "waiting"),
        (0 * HOUR, "waiting"),
        (4 * HOUR - SECOND, "waiting"),
        (4 * HOUR, "reminder"),
        (6 * HOUR - SECOND, "reminder"),
        (6 * HOUR, "last_reminder"),
        (8 * HOUR - SECOND, "last_reminder"),
        (8 * HOUR, "due"),
        (8 * HOUR + GRACE - SECOND, "due"),
        (8 * HOUR + GRACE, "overdue"),
        (16 * HOUR - SECOND, "overdue"),
        (16 * HOUR, "escalated"),
        (9999 * HOUR, "escalated"),
    ],
)
def test_eight_hours_run_through_every_state(run: timedelta, state: str) -> None:
    """Eight hours remind at four and six, are due at eight, overdue after the grace, and escalated at sixteen."""
    clock = Clock(NOW, 8)
    assert clock.due == NOW + 8 * HOUR
    assert clock.state(NOW + run) == ClockState(state)


@pytest.mark.parametrize(("after", "late"), [(8 * HOUR, False), (8 * HOUR + GRACE - SECOND, False), (9 * HOUR, True)])
def test_answer_ends_the_clock(after: timedelta, *, late: bool) -> None:
    """An answered clock stays answered whatever the hour, and tells whether the answer came late."""
    clock = Clock(NOW, 8, NOW + after)
    assert {clock.state(NOW + hours * HOUR) for hours in (0, 8, 99)} == {ClockState.ANSWERED}
    assert clock.was_late is late
    assert Clock(NOW, 8).was_late is False


@pytest.mark.parametrize(
    ("ahead", "counts"), [(-HOUR, -HOUR), (0 * HOUR, 0 * HOUR), (GRACE, GRACE), (GRACE + SECOND, 0 * HOUR)]
)
def test_an_acceptance_dated_ahead_counts_from_when_it_came(ahead: timedelta, counts: timedelta) -> None:
    """The signed time counts as far as two clocks may differ; beyond, the moment at which it came does."""
    assert start_of(NOW + ahead, NOW) == NOW + counts


def test_a_clock_beyond_the_end_of_the_calendar_is_due_at_its_end() -> None:
    """A clock that starts in the last second there is runs like any other."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    clock = Clock(last, 8, last)
    assert (clock.due, clock.was_late, Clock(last, 8).state(NOW)) == (last, False, ClockState.WAITING)
    assert Clock(last - 8 * HOUR, 8).due == Clock(last - 8 * HOUR + SECOND, 8).due == last


@given(st.integers(1, 9_000), st.integers(0, 10**8), st.integers(0, 10**8))
def test_clock_never_runs_backwards(hours: int, earlier: int, more: int) -> None:
    """A later moment never gives an earlier state, and no hour is late before it is due."""
    clock = Clock(NOW, hours)
    first, then = NOW + timedelta(seconds=earlier), NOW + timedelta(seconds=earlier + more)
    assert ORDER.index(clock.state(first)) <= ORDER.index(clock.state(then))
    late = clock.state(then) in {ClockState.DUE, ClockState.OVERDUE, ClockState.ESCALATED}
    assert late is (then >= clock.due)
