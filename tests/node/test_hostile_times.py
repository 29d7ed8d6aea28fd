"""A peer that writes days and times as no calendar and no clock has them: it is refused, and the node goes on."""

from __future__ import annotations

from typing import Any, cast

import pytest

from exchange.core.errors import PeerError
from exchange.node import planning
from tests.node.pair import Pair, node_of, until
from tests.node.test_duties import delivered, duty, send
from tests.simulation.loop import run_virtually


@pytest.mark.parametrize(
    ("kind", "member", "value"),
    [
        ("hold-notice", "until", "2027-02-29"),
        ("hold-notice", "until", "0000-01-01"),
        ("deletion-receipt", "deleted_at", "2027-02-31T00:00:00Z"),
    ],
)
def test_a_day_that_does_not_exist_stops_no_node(
    kind: str, member: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer whose program does not look sends it all the same: it is refused for good, and the node goes on."""
    monkeypatch.setattr(planning, "check_calendar", lambda *_: None)

    async def main() -> None:
        pair = Pair()
        hostile, node = (await pair.start())[::-1]
        about = await delivered(pair)
        row = pair.row(about)
        assert row.record.digest is not None
        statement = await node.reader.statement(row.record.digest, row.case_id)
        written = cast("Any", duty(kind, about))
        if kind == "deletion-receipt":
            written["content"] |= {"envelope": row.record.digest, "root": statement.root}
        written["content"][member] = value
        ident, code = await send(hostile, pair.sender.id, written)
        assert code is None
        query = "SELECT status, code FROM outgoing WHERE id = ?"
        found = pair.receiver.connection.execute
        await until(lambda: found(query, (ident,)).fetchone()[0] not in {"queued", "sent"})
        assert found(query, (ident,)).fetchone() == ("refused", "schema.invalid")
        assert pair.sender.connection.execute("SELECT count(*) FROM copies").fetchone() == (0,)
        await delivered(pair)

    run_virtually(main)


def test_nobody_sends_a_day_that_does_not_exist() -> None:
    """The sender's own node refuses it before anything is queued."""

    async def main() -> None:
        pair = Pair()
        await pair.start()
        written = cast("Any", duty("hold-notice", await delivered(pair)))
        written["content"]["until"] = "2027-02-29"
        with pytest.raises(PeerError, match=r"schema\.invalid"):
            await send(node_of(pair.receiver), pair.sender.id, written)

    run_virtually(main)
