"""Records of delivery for the tests of ``core.relay``: messages, numbers and digests that are told apart by a digit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core.delivery import Incoming, Outgoing, State, Status, Window
from exchange.core.wire import Digest, MessageId
from tests.core.builders import DAY, NOW, TH

if TYPE_CHECKING:
    from collections.abc import Iterable

THEN = NOW - DAY
M = [MessageId(f"{n:032x}") for n in range(10)]
D = [Digest(f"{n:064x}") for n in range(10)]
VOID = Digest("f" * 64)
WINDOW = Window(TH)


def outgoing(status: Status, **changes: object) -> Outgoing:
    """Message 1, sealed once under number 1 as digest 1, unless said otherwise."""
    sealed = Outgoing(TH, M[1], status, THEN, THEN, attempt=1, seq=1, digest=D[1], expires=NOW + DAY)
    return sealed._replace(**changes)  # type: ignore[arg-type]


def unsealed(**changes: object) -> Outgoing:
    return outgoing(Status.QUEUED, **{"attempt": 0, "seq": 0, "digest": None, "expires": None, **changes})


def incoming(status: Status, number: int = 1, **changes: object) -> Incoming:
    """Message ``number`` under its number and digest."""
    return Incoming(TH, M[number], 1, number, D[number], status, THEN)._replace(**changes)  # type: ignore[arg-type]


def held(number: int, *absent: int) -> Incoming:
    return incoming(Status.HELD, number, waits_for=tuple(M[n] for n in absent))


def consumed(*numbers: int) -> Window:
    window = WINDOW
    for seq in numbers:
        window = window.consume(seq)
    return window


def sending(record: Outgoing | None, window: Window = WINDOW) -> State:
    return State(window, outgoing=record)


def receiving(record: Incoming | None, window: Window = WINDOW, waiting: Iterable[Incoming] = ()) -> State:
    return State(window, incoming=record, held=tuple(waiting))
