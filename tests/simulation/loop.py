"""An event loop whose time is virtual: it jumps to the next timer when nothing is ready.

Rules:
1. No thread, no socket, no real sleeping: what runs next follows from what ran before, and from nothing else.
2. A loop on which nothing can happen any more says so, instead of waiting for ever; so does one that turns round and
   round without its time going on.
3. Tasks belong to who started them: a task is handed to the owner that is current where it is made, so that a crash
   can end everything that one process was doing, and nothing else.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

T = TypeVar("T")
MAX_TURNS: Final = 200_000  # of the loop without its time going on


class Owner(Protocol):
    """Whoever tasks belong to."""

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Take a new task."""


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class StuckError(Exception):
    """The history cannot go on."""


class _Jump:
    """Stands where a loop asks the operating system for events: there are none, so time jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            message = f"nothing can happen after {self._loop.time():.3f} s"
            raise StuckError(message)
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > MAX_TURNS:
            message = f"time stands still at {self._loop.time():.3f} s"
            raise StuckError(message)
        self._loop.virtual_time += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """A deterministic asyncio loop."""

    def __init__(self) -> None:
        super().__init__()
        self.virtual_time = 0.0
        self._selector = _Jump(self)
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Seconds since the history began."""
        return self.virtual_time

    def _process_events(self, event_list: list[Any]) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """No other thread ever wakes this loop."""


def _make_task(
    loop: asyncio.AbstractEventLoop,
    coro: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    *,
    context: Context | None = None,
) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, context=context)
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.adopt(task)
    return task


def run_virtually(main: Callable[[], Awaitable[T]]) -> T:
    """Run a history on a loop of its own; whatever it left running is cancelled."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        try:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True)) if left else None
        finally:
            loop.close()
