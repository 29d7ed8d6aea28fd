"""Retention: whole days from acceptance, and clocks that are not believed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from exchange.core.retention import Anchor, confirms, is_late_start, keep_until
from tests.core.builders import DAY, NOW


def test_days_count_from_acceptance() -> None:
    """A message of one day is over a day after it was accepted, to the second."""
    assert keep_until(NOW, 1) == NOW + DAY
    assert keep_until(NOW, 36_500) == NOW + 36_500 * DAY


@pytest.mark.parametrize(
    ("wall", "steady", "leapt"),
    [
        (timedelta(hours=1), 0.0, False),
        (timedelta(hours=1, seconds=1), 0.0, True),
        (timedelta(hours=9), 8 * 3600.0, False),
        (timedelta(hours=9, seconds=1), 8 * 3600.0, True),
        (-DAY, 60.0, False),
    ],
)
def test_a_clock_that_outruns_the_steady_one_by_an_hour_has_leapt(
    wall: timedelta,
    steady: float,
    leapt: bool,  # noqa: FBT001
) -> None:
    """More than an hour is a leap; a clock that is put back destroys nothing too early."""
    assert Anchor(NOW, 100.0).leapt(NOW + wall, 100.0 + steady) is leapt


def test_a_start_more_than_a_week_after_the_last_entry_is_late() -> None:
    """Seven days are not late, a second more is; a node without an entry has no past to compare with."""
    assert not is_late_start(None, NOW)
    assert not is_late_start(NOW - 7 * DAY, NOW)
    assert is_late_start(NOW - 7 * DAY - timedelta(seconds=1), NOW)


@pytest.mark.parametrize(("told", "agrees"), [(0, True), (3600, True), (-3600, True), (3601, False), (-3601, False)])
def test_a_peer_confirms_a_time_within_an_hour(told: int, agrees: bool) -> None:  # noqa: FBT001
    """A stored answer that comes again is old and confirms nothing."""
    assert confirms(NOW + timedelta(seconds=told), NOW) is agrees
