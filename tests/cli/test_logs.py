"""The daemon's log: known events and fields, and nothing that could be a case."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from exchange.cli import logs, wiring
from exchange.core.delivery import Status
from exchange.core.errors import IntegrityError, LocalError
from exchange.core.wire import NodeId
from tests.cli import homes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was written."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_only_known_events_and_fields_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    """A field that is not in the list, a value that is no id, and an event that nobody knows are left out."""
    logs.setup_logs("info", as_json=True)
    log = structlog.get_logger("node")
    log.info("alarm", peer="kh-fp1", message="0" * 32, name="ប្រឌិត", status="a sentence about a case", count=3)
    log.info("victim_seen", peer="kh-fp1")
    log.error("failed", code="node.disk")
    alarm, failed = lines(capsys)
    assert {name: alarm[name] for name in alarm if name != "timestamp"} == {
        "level": "info", "event": "alarm", "peer": "kh-fp1", "message": "0" * 32, "count": 3,
    }  # fmt: skip
    assert (failed["code"], failed["remedy"]) == ("node.disk", "free space, then start the node")


def test_end_of_an_agreement_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """That an agreement ends soon is written with its name and the other party."""
    logs.setup_logs("warning", as_json=True)
    wiring._tell_log("agreement_ends_in_30_days", NodeId("kh-fp1"), "kh-th/2", None)  # noqa: SLF001 - what the node calls
    (line,) = lines(capsys)
    assert {name: line[name] for name in line if name != "timestamp"} == {
        "level": "warning", "event": "agreement_ends_in_30_days", "peer": "kh-fp1", "agreement": "kh-th/2",
    }  # fmt: skip


def test_level_is_kept_and_people_can_read_it(capsys: pytest.CaptureFixture[str]) -> None:
    """What is below the level is not written, and the form for people is one line too."""
    logs.setup_logs("warning", as_json=False)
    structlog.get_logger("node").info("started", node="th-fp1")
    structlog.get_logger("node").warning("alarm", peer="kh-fp1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "alarm" in line
    assert "kh-fp1" in line


def test_other_libraries_are_told_by_name_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a library's warning only the library's name and the level are written."""
    logs.setup_logs("info", as_json=True)
    logging.getLogger("some.library").warning("bytes of a stranger: %r", b"secret")
    (line,) = lines(capsys)
    assert (line["event"], line["library"], line["level"]) == ("library", "some.library", "warning")
    assert "secret" not in str(line)


def test_fault_that_no_task_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    """A fault that reaches the loop is told by its code or class, never by its text."""
    logs.setup_logs("info", as_json=True)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        logs.log_loop_faults(loop)
        loop.call_exception_handler({"message": "a name", "exception": ValueError("a name")})
        loop.call_exception_handler({"message": "a name", "exception": LocalError("node.disk", "x")})

    homes.run(work())
    assert [line["fault"] for line in lines(capsys)] == ["ValueError", "node.disk"]


def test_news_for_the_operator(capsys: pytest.CaptureFixture[str]) -> None:
    """Alarms are warnings; the way of each message is told where the level is debug."""
    logs.setup_logs("debug", as_json=True)
    wiring._tell_log("alarm", NodeId("kh-fp1"), "0" * 32, None)  # noqa: SLF001 - what the queues call
    wiring._tell_log("status", NodeId("kh-fp1"), "0" * 32, Status.ACCEPTED)  # noqa: SLF001
    found = [(line["level"], line["event"], line.get("status")) for line in lines(capsys)]
    assert found == [("warning", "alarm", None), ("debug", "status", "accepted")]


class Ending:
    """A node whose work ends with a fault."""

    def __init__(self, fault: BaseException) -> None:
        self._fault = fault

    async def wait(self) -> None:
        raise self._fault


@pytest.mark.parametrize("fault", [LocalError("node.disk"), IntegrityError("store.corrupt")], ids=["disk", "corrupt"])
def test_fault_of_the_node_ends_the_daemon(capsys: pytest.CaptureFixture[str], fault: Exception) -> None:
    """A failed write and a damaged record end the daemon with their own error, which the program tells."""
    logs.setup_logs("info", as_json=True)
    node: Any = Ending(fault)
    with pytest.raises(type(fault)):
        homes.run(_until(node))
    assert lines(capsys)[-1]["event"] == "failed"


def test_unexpected_fault_of_the_node_ends_the_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    """A fault that nobody expected is local trouble, told by its class."""
    logs.setup_logs("info", as_json=True)
    node: Any = Ending(RuntimeError("a name from a case"))
    assert homes.run(_until(node)) == 3
    told = capsys.readouterr().err
    assert "RuntimeError" in told
    assert "a name" not in told


async def _until(node: Any) -> int:  # noqa: ANN401 - stands for a node
    return await wiring._until_stopped(node, asyncio.Event())  # noqa: SLF001 - the daemon's heart
