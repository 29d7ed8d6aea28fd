"""Naughty strings, as a public list has them, in every free text field: through sealing, storing, screens and logs."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from exchange.cli import demo_story as story
from exchange.cli import main, output
from exchange.cli.wiring import schema_book
from exchange.core.errors import PeerError
from exchange.core.wire import SchemaId
from tests.integration import filling
from tests.integration import nodes as harness

if TYPE_CHECKING:
    from pathlib import Path

    from exchange.core.wire import JsonObject

pytestmark = pytest.mark.slow

NAUGHTY: Final = "naughty-strings/blns.json"


async def test_naughty_strings_everywhere(
    tmp_path: Path, conformance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each naughty string, in every free text field of a referral, arrives as it is and harms no screen and no log."""
    schema: Any = schema_book().schema(SchemaId("case-referral/v1"))
    naughty = [text for text in json.loads((conformance / NAUGHTY).read_bytes()) if text]
    assert len(naughty) == 514
    async with harness.running(tmp_path) as nodes:
        thailand, cambodia = nodes["TH"], nodes["KH"]
        for text in naughty:
            content, filled = filling.referral(schema, text)
            assert filled == filling.free_fields(schema) or len(text) > 20
            sent = await harness.send(thailand, "KH", draft_of(content, text))
            assert sent.get("status") == "accepted", text
            shown = await cambodia.call("show", {"id": sent["id"]})
            assert shown["content"] == content
            assert (shown["header"]["case"], shown["header"]["legal_basis"]) == (text[:80], note(text))
            said = await asyncio.to_thread(main.main, ["--home", str(cambodia.path), "show", sent["id"]])
            screen = capsys.readouterr().out
            assert (said, output.clean(screen)) == (0, screen), text
        content, _ = filling.referral(schema, "")
        with pytest.raises(PeerError) as caught:
            await harness.send(thailand, "KH", draft_of(content, "empty"))
        assert caught.value.code == "schema.invalid"
        await harness.checked(nodes)
    logs = [line for node in nodes.values() for line in node.log_file.read_text().splitlines()]
    assert {json.loads(line)["event"] for line in logs if line.startswith("{")} <= {"started", "stopping"}
    assert {line for line in logs if not line.startswith("{")} == {
        "TRAINING network training-mekong: nothing here is real."
    }


def note(text: str) -> JsonObject:
    return {"text": text, "lang": "en"}


def draft_of(content: JsonObject, text: str) -> JsonObject:
    """A draft whose header holds the text too, where a header takes one."""
    return {**story.case_referral("TH", "KH", text[:80]), "content": content, "legal_basis": note(text)}
