"""``exchange demo``: six focal points on this machine play a referral that crosses a border.

Six real node processes with homes, keys and TLS of their own (``demo_nodes``), as a marked training network; who sends
what to whom is in ``demo_scenes``.

Rules:
1. What does not hold is said, and the exit code is 1; what holds is told so that an officer understands it.
2. Logs are exported and verified after the nodes have ended, under the keys of their cards (``demo_records``).
3. Without ``--keep`` nothing is left; processes are ended in every case.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.text import Text

from exchange.cli import demo_agreements, demo_nodes, output
from exchange.cli.demo_nodes import NETWORK, TrainingNode
from exchange.cli.demo_people import COUNTRIES
from exchange.cli.demo_records import export_log, logs_agree, look_up, pairs
from exchange.cli.demo_route import Route
from exchange.cli.demo_scenes import Outcome, Story
from exchange.cli.settings import common, settings
from exchange.core.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEFAULT_COUNTRIES: Final = ("TH", "KH", "LA", "MM", "CN", "VN")
NUMBERS: Final = ("No", "One", "Two", "Three", "Four", "Five", "Six")
KIND_NAMES: Final = {
    "case-referral": "case referral",
    "information-request": "question",
    "information-response": "answer",
    "onward-decision": "onward decision",
    "onward-request": "onward request",
    "suspect": "suspect notice",
    "victim": "victim notice",
}


# -- telling ---------------------------------------------------------------------------------------


class Teller:
    """Tells the story while it happens, or, for programs, keeps silent; what takes time is told on standard error."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._console = Console(width=output.width(), highlight=False, soft_wrap=False)
        self._aside = Console(stderr=True, width=output.width(), highlight=False)
        self._steps = 0

    def step(self, title: str, *details: str) -> None:
        """A numbered step and what there is to know of it."""
        if self._silent:
            return
        self._steps += 1
        self._print(f"{self._steps:2}. ", title, "bold")
        for detail in details:
            self._print("    ", detail, "")

    def _print(self, before: str, text: str, style: str) -> None:
        """A text whose further lines begin below its first."""
        lines = Text(output.clean(text), style=style).wrap(self._console, self._console.width - len(before))
        for number, line in enumerate(lines):
            self._console.print(Text(before if number == 0 else " " * len(before)).append_text(line))

    def text(self, text: str = "") -> None:
        """A line between steps."""
        if not self._silent:
            self._console.print(Text(output.clean(text)))

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Say what is being waited for, with a sign of life where somebody looks."""
        if self._aside.is_terminal:
            with self._aside.status(what):
                yield
        else:
            output.note(f"... {what}")
            yield


# -- the whole -------------------------------------------------------------------------------------


async def play(
    folder: Path,
    countries: Sequence[str],
    teller: Teller,
    endpoint: Callable[[str, int], str] | None = None,
    watch: Callable[[dict[str, TrainingNode]], None] | None = None,
) -> Outcome:
    """Make the nodes in ``folder/<country>``, play the story, end them, check their logs.

    ``endpoint`` and ``watch`` are for whoever wants to look on: addresses for the cards, and a call when the story is
    over and the nodes still run. Raises what making and starting nodes raises.
    """
    begun = time.monotonic()
    outcome = Outcome({country: folder / country for country in countries})
    nodes: dict[str, TrainingNode] = {}
    try:
        with teller.busy(f"homes, keys and signed cards for {' '.join(countries)}"):
            nodes = await demo_nodes.make_nodes(folder, countries, endpoint)
            plan = demo_agreements.plan(countries)
            signed = {
                group: demo_nodes.sign_agreement(
                    [nodes[country] for country in group],
                    ident,
                    write=demo_agreements.writer_of(group, countries),
                )
                for group, ident in plan.items()
            }
            await demo_nodes.exchange_documents(nodes.values(), signed)
        with teller.busy(f"{len(nodes)} node processes"):
            await demo_nodes.start_nodes(nodes.values())
        teller.step(
            f"{NUMBERS[len(nodes)]} focal points are there: {', '.join(COUNTRIES[c].name for c in countries)}.",
            "Each has a home, keys and a process of its own, and a card that its authority signed.",
            f"Agreements, each signed by all its parties: {', '.join(plan.values())}.",
        )
        scenes = Story(nodes, teller.step, outcome)
        referral = await scenes.refer(*countries[:2])
        if referral is not None:
            await scenes.answer(referral)
        await Route(scenes, plan, tuple(countries[:2])).play(countries)
        if watch is not None:
            watch(nodes)
        with teller.busy("nodes end, logs are exported and verified"):
            for country, code in zip(nodes, await demo_nodes.end_nodes(nodes.values()), strict=True):
                outcome.hold(code == 0, f"the node of {country} ended with {code}")
            await _check(nodes, outcome)
    finally:
        await _end(nodes)
    outcome.seconds = time.monotonic() - begun
    return outcome


async def _end(nodes: dict[str, TrainingNode]) -> None:
    """End what still runs, in order; at once where somebody asks a second time."""
    ending = asyncio.create_task(demo_nodes.end_nodes(nodes.values()))
    try:
        await asyncio.shield(ending)
    except asyncio.CancelledError:
        for node in nodes.values():
            node.cut()
        await ending
        raise


async def _check(nodes: dict[str, TrainingNode], outcome: Outcome) -> None:
    """After the nodes have ended: what became of every message, and whether the logs hold and agree."""
    for message in outcome.messages:
        found = look_up(nodes[message.sender], nodes[message.to], message.id)
        message.status, message.receipt = found.status, found.receipt
        outcome.hold(message.receipt, f"the receipt of {message.id} is gone")
    with tempfile.TemporaryDirectory(prefix="exchange-demo-logs-") as exports:
        for country, node in nodes.items():
            log = outcome.logs[country] = await export_log(node, Path(exports) / country)
            outcome.hold(log.report.ok, f"the audit log of {country} does not verify")
            outcome.hold(log.review.total == 0, f"the store of {country} does not agree with its log")
    for one, other in pairs(nodes.values()):
        agree = logs_agree(one, other, outcome.logs)
        outcome.hold(agree, f"the logs of {one.country} and {other.country} do not agree")


def _tell_end(teller: Teller, outcome: Outcome, kept: Path | None) -> None:
    """The two tables and the last word."""
    teller.text()
    output.table(
        ("from", "to", "what", "agreement or code", "clause", "status", "receipt"),
        [
            (
                message.sender,
                message.to,
                KIND_NAMES.get(message.kind, message.kind),
                message.agreement,
                message.clause,
                message.status,
                "verified" if message.receipt else "NONE",
            )
            for message in outcome.messages
        ]
        + [
            (item.sender, item.to, KIND_NAMES.get(item.kind, item.kind), item.code, item.clause or "", "refused", "")
            for item in outcome.refusals
        ],
    )
    teller.text()
    facts: Any = outcome.to_json()["nodes"]
    output.table(
        ("node", "sent", "received", "log entries", "root of the log", "log"),
        [
            (
                country,
                str(node["messages_sent"]),
                str(node["messages_received"]),
                str(node["audit"]["size"]),
                f"{node['audit']['root'][:16]}...",
                "verified" if node["audit"]["verified"] else "DOES NOT VERIFY",
            )
            for country, node in facts.items()
        ],
    )
    teller.text()
    for problem in outcome.problems:
        teller.text(f"DOES NOT HOLD: {problem}.")
    if not outcome.problems:
        teller.text("Everything held. Of every message both logs keep the same fingerprint, and neither its content.")
    if kept is not None:
        first = next(iter(outcome.homes))
        teller.text(f"Homes kept in {kept}; try: exchange --home {kept / first} outbox")
    teller.text(f"TRAINING network {NETWORK}: nothing here is real. {outcome.seconds:.1f} s.")


async def _run(countries: Sequence[str], keep: Path | None, teller: Teller) -> Outcome:
    """Play in ``keep`` or in a folder that is removed; Ctrl-C, SIGTERM and SIGHUP end it, processes included."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with suppress(NotImplementedError, RuntimeError):  # not in the main thread
            if task is not None:
                loop.add_signal_handler(number, task.cancel)
    place = nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory(prefix="exchange-demo-")
    with place as folder:
        return await play(Path(folder), countries, teller)


def _countries(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    countries = tuple(name.strip().upper() for name in value.split(","))
    known = ", ".join(COUNTRIES)
    if len(countries) < 2 or len(set(countries)) < len(countries) or not set(countries) <= set(COUNTRIES):  # noqa: PLR2004
        message = f"two or more different ones of {known}; the first refers a case to the second"
        raise click.BadParameter(message)
    return countries


def _prepare(keep: Path, countries: Sequence[str]) -> None:
    """Refuse before anything is made. Raises ``LocalError`` input.exists, node.disk."""
    if keep.exists() and not keep.is_dir():
        raise LocalError("input.exists", f"--keep: {keep.name} is no folder")
    for country in countries:
        home = keep / country
        if home.exists() and (not home.is_dir() or any(home.iterdir())):
            raise LocalError("input.exists", country)
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        raise LocalError("node.disk", keep.name) from None


@click.command()
@common
@click.option(
    "--countries",
    default=",".join(DEFAULT_COUNTRIES),
    show_default=True,
    callback=_countries,
    help="Who takes part; the first refers a case to the second.",
)
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Leave the homes in DIR/<country>.")
def demo(*, countries: tuple[str, ...], keep: Path | None) -> int:
    """Six nodes on this machine play a referral that crosses a border. Every person and case is invented."""
    said = settings()
    said.network = NETWORK
    kept = None if keep is None else keep.absolute()
    if kept is not None:
        _prepare(kept, countries)
    if not said.as_json:
        output.banner(said)
    teller = Teller(silent=said.as_json)
    try:
        outcome = asyncio.run(_run(countries, kept, teller))
    except asyncio.CancelledError:
        raise click.Abort from None
    if said.as_json:
        output.emit_json(said, outcome.to_json())
    else:
        _tell_end(teller, outcome, kept)
    return 0 if not outcome.problems else 1
