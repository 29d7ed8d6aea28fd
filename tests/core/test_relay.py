"""What is asked of the delivery state machine before an event; its rows and its histories have files of their own."""

from __future__ import annotations

import pytest

from exchange.core.delivery import (
    DELIVERED,
    Defer,
    Status,
    Voided,
    Window,
)
from exchange.core.errors import CODES, Fault
from exchange.core.relay import (
    MAX_HELD,
    MAX_RANGES,
    RESEAL,
    TRANSIENT,
    find_repeat,
    handle,
    is_overfull,
    next_attempt,
)
from tests.core.builders import NOW, refused
from tests.core.delivery_records import VOID, WINDOW, D, M, held, incoming, receiving, sending, unsealed

# -- questions -------------------------------------------------------------------------------------


def test_next_attempt() -> None:
    """The next sealing takes the next attempt of the message and the next number of the pair."""
    assert next_attempt(sending(None, WINDOW._replace(next_seq=5))) == (1, 5)
    assert next_attempt(sending(unsealed(), WINDOW._replace(next_seq=5))) == (1, 5)
    assert next_attempt(sending(unsealed(attempt=3), WINDOW._replace(next_seq=9))) == (4, 9)


def test_a_new_envelope_is_no_repeat() -> None:
    """An envelope whose attempt is new, after refused ones, is new."""
    assert find_repeat([], 1, D[1]) is None
    assert find_repeat([incoming(Status.REFUSED)], 2, D[2]) is None


@pytest.mark.parametrize("status", [Status.REFUSED, Status.HELD, *DELIVERED])
def test_a_repeat_is_found(status: Status) -> None:
    """The same attempt with the same bytes is answered by what is stored, whatever became of it."""
    first, second = incoming(Status.REFUSED), incoming(status, 2, id=M[1], attempt=2)
    assert find_repeat([first, second], 2, D[2]) is second
    assert find_repeat([second, first], 1, D[1]) is first


@pytest.mark.parametrize("status", [Status.REFUSED, Status.HELD, *DELIVERED])
def test_equivocation(status: Status) -> None:
    """The same attempt with other bytes is equivocation, also where another attempt was accepted."""
    for prior in ([incoming(status)], [incoming(Status.ACCEPTED, 2, id=M[1], attempt=2), incoming(status)]):
        with refused("envelope.equivocation", "R6"):
            find_repeat(prior, 1, D[3])


@pytest.mark.parametrize("status", [Status.HELD, *DELIVERED])
def test_an_accepted_message_stays_accepted(status: Status) -> None:
    """Another attempt of a message that was accepted, or is held, is answered by that one."""
    first = incoming(status)
    assert find_repeat([first], 2, D[2]) is first
    assert find_repeat([incoming(Status.REFUSED, 5, attempt=5), first], 2, D[2]) is first


def gaps(count: int) -> Window:
    """A window with ``count`` ranges beyond the first gap."""
    return WINDOW._replace(above=tuple((2 * n + 3, 2 * n + 3) for n in range(count)))


def test_a_peer_keeps_a_bounded_number_of_gaps_open() -> None:
    """With the most gaps open, only the number that closes the first one, or one that is closed already, is taken."""
    full, room = receiving(None, gaps(MAX_RANGES)), receiving(None, gaps(MAX_RANGES - 1))
    assert not is_overfull(full, 1)
    assert not is_overfull(full, 3)
    assert is_overfull(full, 2)
    assert is_overfull(full, 2 * MAX_RANGES + 5)
    assert not is_overfull(room, 2 * MAX_RANGES + 5)
    assert handle(full, Voided(2, VOID, NOW)) == (full, (Defer(VOID, "relay.quota"),))
    assert handle(full, Voided(1, VOID, NOW))[0] == receiving(None, gaps(MAX_RANGES).consume(1))


def test_a_peer_has_a_bounded_number_of_messages_wait() -> None:
    """With the most messages waiting, only the number that closes the first gap is taken."""
    waiting = [held(2, 9)._replace(seq=seq) for seq in range(2, MAX_HELD + 2)]
    assert is_overfull(receiving(None, waiting=waiting), MAX_HELD + 2)
    assert not is_overfull(receiving(None, waiting=waiting), 1)
    assert not is_overfull(receiving(None, waiting=waiting[1:]), MAX_HELD + 2)


def test_codes() -> None:
    """Codes that are retried or sealed again are the peer's faults, and none is both."""
    assert TRANSIENT.isdisjoint(RESEAL)
    assert all(CODES[code].fault is Fault.PEER for code in TRANSIENT | RESEAL)
