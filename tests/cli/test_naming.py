"""``--from``: the node whose message is meant, with each command about one message that was received."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli import homes

if TYPE_CHECKING:
    from tests.cli.homes import Caller, Pair

IDENT = "0" * 32


@pytest.mark.parametrize(
    "words",
    [
        ("show", IDENT),
        ("evidence", "get", IDENT, "1", "--out", "OUT"),
        ("reply", IDENT, homes.REFERRAL),
        ("hold", "add", IDENT, "--court", "c", "--reference", "r", "--until", "2099-01-01"),
        ("hold", "release", IDENT),
        ("hold", "list", IDENT),
        ("onward", "request", IDENT, "--to", "KH", "--purpose", "prosecution", "--reason", "r"),
        ("onward", "decide", IDENT, "--refuse"),
        ("forward", IDENT, "--to", "KH"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_named_sender_reaches_the_node(call: Caller, pair: Pair, words: tuple[str, ...]) -> None:
    """A sender that nobody knows is refused as that; with one that is known, or none, the id is looked for."""
    told = [str(pair.folder / "out.bin") if word == "OUT" else word for word in words]
    home = pair.home("TH")
    assert call(*told, "--from", "VN", "--home", home).refused("card.unknown")
    assert call(*told, "--from", "KH", "--home", home).refused("input.unknown_id")
    assert call(*told, "--home", home).refused("input.unknown_id")
