"""``exchange.adapters.system``: the machine's clock and random numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from exchange.adapters.system import SystemClock


def test_now_is_utc() -> None:
    """The clock tells the time of this machine, aware, in UTC."""
    now = SystemClock().now()
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


def test_random_bytes_differ() -> None:
    """Random bytes have the length asked for and do not repeat."""
    clock = SystemClock()
    drawn = {clock.random(16) for _ in range(1000)}
    assert len(drawn) == 1000
    assert {len(item) for item in drawn} == {16}
