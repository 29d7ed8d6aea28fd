"""What goes wrong between two nodes: a clear code and remedy, the agreed exit code, and nothing is lost.

Length: one list, the issue's own, in its order.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.adapters import resources
from exchange.cli import demo_nodes
from exchange.cli import demo_story as story
from exchange.cli.demo_nodes import FREE_SPACE_BYTES
from exchange.cli.provision import utc_now
from exchange.core import wire
from exchange.core.answers import Outcome, verify_answers
from exchange.core.audit import Event
from exchange.core.envelope import encode_batch, parse_envelope
from exchange.core.errors import CODES, LocalError, PeerError
from exchange.node.records import outgoing_from_row
from tests.integration import nodes as harness

if TYPE_CHECKING:
    from exchange.cli.demo_nodes import TrainingNode
    from exchange.core.wire import JsonObject

pytestmark = pytest.mark.slow

DRAFT: Final = story.information_request(story.case_of("TH", 1), "Invented.")
MIDNIGHT: Final = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), time(), tzinfo=UTC)
# Where a node's clock was set ahead, its log is dated ahead of whoever reads it now.
DATES: Final = frozenset({"audit.signed_ahead"})


# -- what the tests stand on -----------------------------------------------------------------------


async def outbox(node: TrainingNode) -> dict[str, tuple[str, str | None]]:
    """Status and code of every message sent, by id."""
    return {item["id"]: (item["status"], item["code"]) for item in await node.call("outbox", {"limit": 1000})}


async def until_code(node: TrainingNode, ident: str, code: str) -> None:
    """Wait until a message that waits is told with a code."""

    async def told() -> bool:
        return (await outbox(node))[ident][1] == code

    await harness.until(told, f"{ident} waits with {code}")


async def until_delivered(node: TrainingNode, *idents: str, status: str = "accepted") -> None:
    """Wait until messages have arrived."""

    async def delivered() -> bool:
        sent = await outbox(node)
        return all(sent[ident][0] == status for ident in idents)

    await harness.until(delivered, f"{idents} are {status}")


async def queue(node: TrainingNode, to: str, draft: JsonObject = DRAFT, **more: Any) -> str:  # noqa: ANN401 - arguments of ``send``
    """Send without waiting; the message's id."""
    ident: str = (await node.call("send", {"draft": draft, "to": [to], **more}))["id"]
    return ident


def exchange(node: TrainingNode, *args: str) -> tuple[int, dict[str, Any]]:
    """Run a command at a node as an officer would; its exit code and document."""
    command = [sys.executable, "-m", "exchange", "--json", "--home", str(node.path), *args]
    done = subprocess.run(command, capture_output=True, timeout=harness.PATIENCE_SECONDS, check=False)
    assert b"Traceback" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, told


@pytest.fixture
def faketime() -> dict[str, str]:
    """The environment of a process whose clock is another, without the offset itself."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is absent; on Debian: apt-get install libfaketime")
    # Not measured: under libfaketime a measured process is now and then a hundred times slower, which ended tests.
    unmeasured = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}
    return {"LD_PRELOAD": str(found[0]), "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", **unmeasured}


def clock(faketime: dict[str, str], moment: datetime) -> dict[str, str]:
    """The environment of a process that believes that it is ``moment`` now."""
    return {**faketime, "FAKETIME": f"{(moment - utc_now()).total_seconds():+.0f}"}


async def start_at(node: TrainingNode, environment: dict[str, str]) -> None:
    """Start a node whose clock is another. Two of 300 starts under libfaketime took a minute, none without it did."""
    try:
        await node.start(environment)
    except LocalError:
        await node.start(environment)


# -- clocks ----------------------------------------------------------------------------------------


async def test_clock_two_hours_off(tmp_path: Path, faketime: dict[str, str]) -> None:
    """A node whose clock is two hours off is told so, in both directions, and once it is right everything arrives."""
    async with harness.made(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        await cambodia.start()
        await start_at(thailand, clock(faketime, utc_now() + timedelta(hours=2)))
        there, back = await queue(thailand, "KH"), await queue(cambodia, "TH")
        await until_code(thailand, there, "request.stale")
        await until_code(cambodia, back, "request.stale")
        assert "clocks" in CODES["request.stale"].remedy
        await thailand.stop()
        await thailand.start()
        await until_delivered(thailand, there)
        await until_delivered(cambodia, back)
        logs = await harness.checked(nodes)
        assert [leaf.event for leaf in logs["TH"].entries].count(Event.CLOCK_STEP) == 1


async def test_message_from_the_future_waits(tmp_path: Path, faketime: dict[str, str]) -> None:
    """A message that was sealed two hours in the future waits with its code until the receiver's clock is there."""
    later = utc_now() + timedelta(hours=2)
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        assert (await harness.send(thailand, "KH", DRAFT))["status"] == "accepted"
        await thailand.stop()
        await start_at(thailand, clock(faketime, later))
        ident = await queue(thailand, "KH")
        await until_code(thailand, ident, "envelope.not_yet_valid")
        await cambodia.stop()
        await start_at(cambodia, clock(faketime, later))
        await until_delivered(thailand, ident)
        await harness.checked(nodes, DATES)


# -- agreements ------------------------------------------------------------------------------------


async def test_agreement_expired_at_midnight(tmp_path: Path) -> None:
    """After the midnight at which an agreement ended, sending is refused with its code and leaves an entry."""
    today = datetime.combine(utc_now().date(), time(), tzinfo=UTC)
    ended = {"valid_from": timedelta(days=-30), "valid_until": wire.encode_time(today)}
    group = ("TH", "KH")
    async with harness.made(
        tmp_path, agreements={group: lambda made: harness.agreement(made, group, **ended)}
    ) as nodes:
        thailand = nodes["TH"]
        await thailand.start()
        draft = tmp_path / "draft.json"
        draft.write_bytes(wire.encode_json(DRAFT))
        code, told = await asyncio.to_thread(exchange, thailand, "send", str(draft), "--to", "KH")
        assert (code, told["status"], told["error"]["code"]) == (1, "refused", "agreement.not_in_force")
        assert wire.encode_time(today) in told["error"]["where"]
        assert told["error"]["remedy"] == "renew the agreement"
        logs = await harness.checked({"TH": thailand})
        refused = [leaf for leaf in logs["TH"].entries if leaf.event is Event.REFUSED]
        assert [(leaf.code, leaf.agreement) for leaf in refused] == [("agreement.not_in_force", "kh-th-2026/1")]


async def test_message_from_before_midnight_arrives(tmp_path: Path, faketime: dict[str, str]) -> None:
    """What was sealed before the agreement ended is accepted after it; what is sent after it is refused."""
    before, after = MIDNIGHT - timedelta(minutes=30), MIDNIGHT + timedelta(minutes=30)
    ends = {"valid_until": wire.encode_time(MIDNIGHT)}
    group = ("TH", "KH")
    async with harness.made(tmp_path, agreements={group: lambda made: harness.agreement(made, group, **ends)}) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        for node in nodes.values():
            await start_at(node, clock(faketime, before))
        assert (await harness.send(thailand, "KH", DRAFT))["status"] == "accepted"
        await cambodia.stop()
        ident = await queue(thailand, "KH")
        await thailand.stop()
        for node in nodes.values():
            await start_at(node, clock(faketime, after))
        await until_delivered(thailand, ident)
        refused = await harness.send(thailand, "KH", DRAFT)
        assert (refused["allowed"], refused["code"]) == (False, "agreement.not_in_force")
        await harness.checked(nodes, DATES)


# -- peers -----------------------------------------------------------------------------------------


async def test_unknown_peer(tmp_path: Path) -> None:
    """A node whose card is not here can neither be sent to nor be received from; both are told with their codes."""
    nodes = await demo_nodes.make_nodes(tmp_path, ("TH", "KH", "VN"))
    stranger = nodes.pop("VN")
    try:
        group: tuple[str, ...] = ("TH", "KH")
        await demo_nodes.exchange_documents(nodes.values(), {group: harness.agreement(nodes, group)})
        await demo_nodes.start_nodes(nodes.values())
        draft = tmp_path / "draft.json"
        draft.write_bytes(wire.encode_json(DRAFT))
        code, told = await asyncio.to_thread(exchange, nodes["TH"], "send", str(draft), "--to", "VN")
        assert (code, told["error"]["code"]) == (1, "card.unknown")
        assert told["error"]["remedy"]
        sent = await harness.send(nodes["TH"], "KH", DRAFT)
        core = stored_core(nodes["TH"], "KH", sent["id"])
        forged = await harness.forge(stranger, replace(core, sender=stranger.id), b"{}")
        answer = await harness.post_envelope(nodes["KH"], forged.document, forged.body)
        assert answer == {"answers": [], "deferred": [], "bare": [{"index": 0, "code": "envelope.unknown_sender"}]}
        assert len(harness.rows(nodes["KH"], "all_incoming")) == 1
        await harness.checked(nodes)
    finally:
        await demo_nodes.end_nodes([*nodes.values(), stranger])


def stored_core(sender: TrainingNode, to: str, ident: str) -> Any:  # noqa: ANN401 - a Core
    """The core of a message that a node sent."""
    row = outgoing_from_row(harness.rows(sender, "outgoing", story.node_of(to), json.dumps([ident]))[0])
    ((_, document, body, _),) = harness.rows(sender, "envelope", row.record.digest)
    return parse_envelope(document, body).core


async def test_blocked_peer(tmp_path: Path) -> None:
    """What a blocked peer sends waits at the peer and is told as blocked; when the block ends it arrives."""
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        assert (await harness.send(thailand, "KH", DRAFT))["status"] == "accepted"
        await cambodia.call("block", {"node": "TH", "blocked": True})
        ident = await queue(thailand, "KH")
        await until_code(thailand, ident, "envelope.blocked")
        assert len(harness.rows(cambodia, "all_incoming")) == 1
        refused = await harness.send(cambodia, "TH", DRAFT)
        assert (refused["allowed"], refused["code"]) == (False, "envelope.blocked")
        await cambodia.call("block", {"node": "TH", "blocked": False})
        await until_delivered(thailand, ident)
        await harness.checked(nodes)


async def test_same_id_with_other_bytes(tmp_path: Path) -> None:
    """A second envelope under an id that was accepted is refused, signed; both are kept, and the first stays."""
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        sent = await harness.send(thailand, "KH", DRAFT)
        forged = await harness.forge(thailand, stored_core(thailand, "KH", sent["id"]), b'{"other": "bytes"}')
        answer = await harness.post_envelope(cambodia, forged.document, forged.body)
        assert (answer["deferred"], answer["bare"]) == ([], [])
        (signed,) = answer["answers"]
        document = wire.parse_signed_document(wire.parse_base64(signed))
        (item,) = verify_answers(document, cambodia.card, thailand.id).items
        assert (item.digest, item.outcome, item.code) == (forged.digest, Outcome.REFUSED, "envelope.equivocation")
        assert await harness.post_envelope(cambodia, forged.document, forged.body) == answer
        assert len(harness.rows(cambodia, "all_envelopes")) == 2
        shown = await cambodia.call("show", {"id": sent["id"]})
        assert shown["content"] == DRAFT["content"]
        assert '"alarm"' in cambodia.log_file.read_text()
        logs = await harness.checked(nodes)
        entries = [leaf for leaf in logs["KH"].entries if leaf.event is Event.EQUIVOCATION]
        assert [(leaf.subject, leaf.code) for leaf in entries] == [(forged.digest, "envelope.equivocation")]


# -- this machine ----------------------------------------------------------------------------------


async def test_port_is_taken(tmp_path: Path) -> None:
    """A node whose port another program has ends with its code and remedy, and starts when the port is free."""
    async with harness.made(tmp_path) as nodes:
        thailand = nodes["TH"]
        thailand.port.listen()
        done = await asyncio.to_thread(harness.run_daemon, thailand)
        assert (done.returncode, done.stdout) == (3, b"")
        assert b"node.port: " in done.stderr
        assert CODES["node.port"].remedy.encode() in done.stderr
        thailand.port.close()
        assert (await thailand.start())["ready"] is True
        await harness.checked({"TH": thailand})


async def test_second_daemon_on_one_home(tmp_path: Path) -> None:
    """A second daemon on a home that runs ends with its code before it asks for anything; the first goes on."""
    async with harness.running(tmp_path) as nodes:
        done = await asyncio.to_thread(harness.run_daemon, nodes["KH"])
        assert (done.returncode, done.stdout) == (3, b"")
        assert b"node.locked: " in done.stderr
        assert (await harness.send(nodes["TH"], "KH", DRAFT))["status"] == "accepted"
        await harness.checked(nodes)


async def test_stopped_node_is_told(tmp_path: Path) -> None:
    """A call to a node that was killed is told as such, and what it had acknowledged is there when it is back."""
    async with harness.running(tmp_path) as nodes:
        thailand = nodes["TH"]
        ident = await queue(thailand, "KH")
        thailand.cut()
        with pytest.raises(LocalError) as caught:
            await thailand.call("outbox", {"limit": 1})
        assert caught.value.code == "node.not_running"
        await thailand.kill()
        await thailand.start()
        await until_delivered(thailand, ident)
        await harness.checked(nodes)


async def test_full_disk(tmp_path: Path) -> None:
    """A full node puts off what peers send, or stops where it must write; with room again all arrives, once."""
    with harness.small_disk(tmp_path / "KH"):
        async with harness.made(tmp_path) as nodes:
            thailand, cambodia = nodes["TH"], nodes["KH"]
            log = tmp_path / "kh.log"  # as the system's journal, on another disk
            cambodia.log_file.symlink_to(log)
            await demo_nodes.start_nodes(nodes.values())
            idents = [(await harness.send(thailand, "KH", DRAFT))["id"]]
            process = cambodia.process
            assert process is not None
            filler = await asyncio.to_thread(harness.fill, cambodia.path)
            idents.append(await queue(thailand, "KH"))

            async def noticed() -> bool:
                return process.returncode is not None or (await outbox(thailand))[idents[1]][1] == "relay.disk"

            await harness.until(noticed, "the node is full")
            assert (await outbox(thailand))[idents[1]][0] in {"queued", "sent"}
            if process.returncode is not None:
                assert process.returncode == 3
                assert '"code": "node.disk"' in log.read_text()
                assert CODES["node.disk"].remedy in log.read_text()
            await cambodia.kill()
            filler.unlink()
            await cambodia.start()
            await until_delivered(thailand, *idents)
            received = [row[1] for row in harness.rows(cambodia, "all_incoming")]
            assert sorted(received) == sorted(idents)
            await harness.checked(nodes)


async def test_evidence_waits_for_room(tmp_path: Path) -> None:
    """Evidence for which the receiver has no room waits at its sender with a code, and arrives when there is room."""
    with harness.small_disk(tmp_path / "KH"):
        async with harness.running(tmp_path) as nodes:
            thailand, cambodia = nodes["TH"], nodes["KH"]
            data = story.evidence_file("TH", "KH")
            attached = [story.attachment("TH", await thailand.stage(data))]
            draft = story.case_referral("TH", "KH", story.case_of("TH", 1))
            ident = (await harness.send(thailand, "KH", draft, attachments=attached))["id"]

            async def told() -> bool:
                (peer,) = (await thailand.call("health", {}))["peers_state"]
                return bool(peer["trouble"] == "relay.disk")

            await harness.until(told, "the peer has no room")
            with pytest.raises(PeerError) as caught:
                await cambodia.evidence(ident, 1)
            assert caught.value.code == "blob.incomplete"
            await cambodia.stop()
            config = cambodia.new.home.config
            config.write_text(config.read_text().replace(f"= {FREE_SPACE_BYTES}", "= 0"))
            await cambodia.start()
            await until_delivered(thailand, ident, status="complete")
            assert await cambodia.evidence(ident, 1) == data
            await harness.checked(nodes)


# -- bytes of strangers ----------------------------------------------------------------------------

DEEP: Final = b"[" * 400 + b"]" * 400
LARGE: Final = b'"' + b"x" * 10_000_000 + b'"'
DOUBLE: Final = b'{"payload": 1, "payload": 2}'


async def test_strange_bytes(tmp_path: Path) -> None:
    """What is too large, too deep or double is refused with its code before anything is kept, and the node goes on."""
    envelopes, documents = (resources.ENVELOPES, resources.BATCH_TYPE), (resources.DOCUMENTS, resources.JSON_TYPE)
    async with harness.running(tmp_path) as nodes:
        cambodia = nodes["KH"]
        assert (await harness.send(nodes["TH"], "KH", DRAFT))["status"] == "accepted"
        await cambodia.call("show", {"id": (await cambodia.call("inbox", {"limit": 1}))[0]["id"]})
        size = (await cambodia.call("status", {}))["log_size"]
        for (path, content_type), body, status, code in (
            (envelopes, encode_batch([(b"{}", LARGE)]), 413, "wire.too_large"),
            (documents, LARGE, 413, "wire.too_large"),
            (documents, DEEP, 400, "wire.too_deep"),
            (documents, DOUBLE, 400, "wire.duplicate_key"),
            (documents, b"\xff\xfe", 400, "wire.not_utf8"),
            (envelopes, encode_batch([(DEEP, b"x")]), 200, "wire.too_deep"),
            (envelopes, encode_batch([(DOUBLE, b"x")]), 200, "wire.duplicate_key"),
            (envelopes, b"\0", 400, "wire.bad_frame"),
        ):
            got, told = await harness.post(cambodia, path, body, content_type)
            assert (got, told.get("code") or told["bare"][0]["code"]) == (status, code)
        assert (await cambodia.call("status", {}))["log_size"] == size
        assert (await harness.send(nodes["TH"], "KH", DRAFT))["status"] == "accepted"
        await harness.checked(nodes)


async def test_strange_drafts(tmp_path: Path) -> None:
    """An officer's file that is too large, too deep or double is refused with code and remedy, and nothing is kept."""
    async with harness.made(tmp_path) as nodes:
        draft = tmp_path / "draft.json"
        for text, code in ((DEEP, "wire.too_deep"), (LARGE, "wire.too_large"), (DOUBLE, "wire.duplicate_key")):
            draft.write_bytes(text)
            done, told = await asyncio.to_thread(exchange, nodes["TH"], "send", str(draft), "--to", "KH")
            assert (done, told["error"]["code"]) == (1, code)
            assert told["error"]["remedy"] == CODES[code].remedy
        assert harness.rows(nodes["TH"], "all_outgoing") == []
