"""Histories of whole nodes: each seed draws one, and at its end every sentence of ``invariants`` must be true.

To run one seed alone: ``make test-some ARGS="tests/simulation -k 'seed-123]'"``. For a seed that is in no list:
``EXCHANGE_SEED=123 make test-some ARGS="tests/simulation -k seed-123"``. A seed that ever failed is added to
kept_seeds.txt, with what it found, and always runs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.places import ROOT
from tests.simulation.history import run_seed
from tests.simulation.invariants import check
from tests.simulation.loop import StuckError, run_virtually

if TYPE_CHECKING:
    from collections import Counter

KEPT_FILE: Final = Path(__file__).with_name("kept_seeds.txt")
SHORT: Final = range(8)
LONG: Final = range(1_000, 1_600)
TWICE: Final = (1, 3, 5)  # with and without a misbehaving node, slow and fast clocks


def kept_seeds() -> list[int]:
    """Return the seeds that once found something."""
    lines = KEPT_FILE.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def ordinary_seeds() -> list[int]:
    """Return the seeds that run among the ordinary tests: some, those kept, and the one asked for."""
    asked = [int(seed) for seed in os.environ.get("EXCHANGE_SEED", "").split()]
    return list(dict.fromkeys([*SHORT, *kept_seeds(), *asked]))


def name_of(seed: int) -> str:
    """Return a seed as a test id."""
    return f"seed-{seed}"


def breaches_of(seed: int) -> str:
    """Return what is wrong with a history, and how to run it alone."""
    breaches = check(run_seed(seed))
    alone = f"EXCHANGE_SEED={seed} make test-some ARGS=\"tests/simulation -k 'seed-{seed}]'\""
    return "\n".join([*breaches, "", f"alone: {alone}"]) if breaches else ""


@pytest.mark.parametrize("seed", ordinary_seeds(), ids=name_of)
def test_history_keeps_its_promises(seed: int) -> None:
    """Whatever is lost, doubled, late, killed or blocked, every sentence about the end of a history is true."""
    assert not breaches_of(seed)


@pytest.mark.long_simulation
@pytest.mark.parametrize("seed", LONG, ids=name_of)
def test_many_histories_keep_their_promises(seed: int) -> None:
    """Every sentence is true at the end of each of many histories."""
    assert not breaches_of(seed)


def test_enough_seeds_run() -> None:
    """At least five hundred seeds are run where everything is tested."""
    assert len(LONG) >= 500
    assert not set(LONG) & set(SHORT)


@pytest.mark.parametrize("seed", TWICE, ids=name_of)
def test_one_seed_is_one_history(seed: int) -> None:
    """The same seed gives the same messages, statuses and commits in the same order."""
    assert run_seed(seed).digest() == run_seed(seed).digest()


@pytest.mark.slow
def test_a_history_does_not_depend_on_its_process() -> None:
    """A seed gives the same history in a process that orders its sets otherwise, so that a failure can be repeated."""
    program = f"from tests.simulation.history import run_seed\nprint(*(run_seed(seed).digest() for seed in {TWICE}))"
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.slow
def test_histories_meet_what_they_are_made_for() -> None:
    """A handful of histories has seen every end of a message, every fault of a process and every repeat."""
    seen: Counter[str] = sum((run_seed(seed).counts() for seed in range(60)), start=run_seed(60).counts())
    expected = {
        "accepted", "answered", "complete", "refused", "expired",
        "held", "sealed again", "void_sent", "void_refused", "equivocation", "clock_step", "prekey_destroyed",
        "killed", "misbehaving", "speeds",
        "refused envelope.reference", "refused envelope.seq", "refused envelope.expired",
        "refused agreement.not_in_force", "refused agreement.suspended",
        "agreement_suspended", "agreement_left", "agreement_resumed",
    }  # fmt: skip
    assert {name for name in expected if not seen[name]} == set()


# -- the loop itself -------------------------------------------------------------------------------


def test_time_is_virtual() -> None:
    """A day of sleeping passes at once, and timers fire in the order of their times."""
    order: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(name)

    async def main() -> float:
        await asyncio.gather(sleep("late", 86_400), sleep("early", 60))
        return asyncio.get_running_loop().time()

    assert run_virtually(main) == 86_400
    assert order == ["early", "late"]


def test_a_history_that_waits_for_nothing_is_told() -> None:
    """A loop on which nothing can happen any more ends with an error instead of waiting."""

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError, match="nothing can happen"):
        run_virtually(main)


def test_a_history_that_turns_in_place_is_told() -> None:
    """A loop whose time does not go on ends with an error."""

    async def main() -> None:
        for _ in iter(int, 1):  # for ever
            await asyncio.sleep(0)

    with pytest.raises(StuckError, match="time stands still"):
        run_virtually(main)
