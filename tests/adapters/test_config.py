"""``exchange.adapters.config``: config.toml, strictly."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.adapters.config import (
    LOG_LEVELS,
    MAX_BYTES,
    Config,
    encode_config,
    load_config,
    parse_config,
    write_config,
)
from exchange.core.errors import LocalError
from exchange.core.wire import NetworkId, NodeId
from tests.places import ROOT

PATH: Final = Path("/srv/kh/config.toml")
KH: Final = Config(NodeId("kh-fp1"), "KH", "NCCT", NetworkId("training-mekong"), "https://kh.example:8443")
SHORTEST: Final = b"""\
[node]
id = "kh-fp1"
country = "KH"
agency = "NCCT"
network = "training-mekong"
[public]
url = "https://kh.example:8443"
"""


def refusal(data: bytes) -> str:
    with pytest.raises(LocalError) as caught:
        parse_config(data, PATH)
    assert caught.value.code == "node.config"
    return caught.value.where


def test_defaults_fill_what_is_left_out() -> None:
    """A file with the five keys that have no default is complete, and the rest is as documented."""
    assert parse_config(SHORTEST, PATH) == KH
    text = encode_config(KH).decode()
    assert [KH.host, KH.port, KH.log_level, KH.log_json] == ["127.0.0.1", 8443, "info", True]
    assert [KH.max_evidence_bytes, KH.free_space_bytes, KH.max_peer_bytes] == [4 << 30, 2 << 30, 100 << 30]
    for said in ('Default: "127.0.0.1" and 8443', "4 GiB", "2 GiB", "100 GiB", 'Default: "info"', "Default: true"):
        assert said in text


@given(
    agency=st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs")), min_size=1, max_size=256).filter(
        str.isprintable
    ),
    port=st.integers(0, 65_535),
    passphrase_file=st.sampled_from([None, PATH.parent / "passphrase", Path("/run/credentials/node/passphrase")]),
    size=st.integers(0, MAX_BYTES),
    level=st.sampled_from(LOG_LEVELS),
    as_json=st.booleans(),
)
def test_what_is_written_is_read(
    agency: str,
    port: int,
    passphrase_file: Path | None,
    size: int,
    level: str,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Any configuration that is written reads back as the same one."""
    config = Config(
        *(NodeId("kh-fp1"), "KH", agency, NetworkId("training-mekong"), "https://[::1]:8443", "::", port),
        *(passphrase_file, size, size, size, level, as_json),
    )
    assert parse_config(encode_config(config), PATH) == config


def test_a_written_file_is_loaded(tmp_path: Path) -> None:
    """The file that init writes is loaded, and a relative passphrase file begins at its folder."""
    path = tmp_path / "config.toml"
    write_config(path, KH)
    assert load_config(path) == KH
    path.write_bytes(SHORTEST + b'[secrets]\npassphrase_file = "pass"\n')
    assert load_config(path).passphrase_file == tmp_path / "pass"


def test_the_example_is_read() -> None:
    """The example in deploy/ parses and explains every key of the configuration."""
    path = ROOT / "deploy" / "exchange.example.toml"
    config = load_config(path)
    assert config.network.startswith("training-")
    assert path.read_bytes() == encode_config(config)
    keys = set(re.findall(r"^#? ?([a-z_]+) = ", path.read_text(encoding="utf-8"), re.MULTILINE))
    renamed = {"node": "id", "log_level": "level", "log_json": "json"}
    assert keys == {renamed.get(field.name, field.name) for field in fields(Config)}


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"\xff", "config.toml: not UTF-8"),
        (b"[node]\nid = kh\n", "config.toml line 2: not TOML"),
        (b"[node", "config.toml: not TOML"),
        (b"a = " + b"[" * 5000, "config.toml: not TOML"),
        (b"#" * 65_537, "config.toml: larger than 65536 bytes"),
        (b"", "config.toml, [node] id: missing; it is two letters, a hyphen, 1 to 16 letters or digits"),
        (SHORTEST.replace(b"KH", b"Kh"), "config.toml line 3, [node] country: two capital letters"),
        (SHORTEST.replace(b"KH", b"TH"), "config.toml line 2, [node] id: it begins with the country and a hyphen"),
        (SHORTEST.replace(b'"NCCT"', b'""'), "config.toml line 4, [node] agency: a text of 1 to 256 characters"),
        (SHORTEST.replace(b'"NCCT"', b"7"), "config.toml line 4, [node] agency: a text of 1 to 256 characters"),
        (SHORTEST.replace(b":8443", b"/a"), "config.toml line 7, [public] url: https://host or https://host:port"),
        (SHORTEST + b"[listen]\nport = 70000\n", "config.toml line 9, [listen] port: a whole number from 0 to 65535"),
        (SHORTEST + b"[listen]\nport = true\n", "config.toml line 9, [listen] port: a whole number from 0 to 65535"),
        (SHORTEST + b"listen = 1\n", "config.toml line 8, [public] listen: no such key here"),
        (b"listen = 1\n" + SHORTEST, "config.toml line 1, listen: a table, written as its name in brackets"),
        (SHORTEST + b"[log]\nlevel = 'loud'\n", "config.toml line 9, [log] level: one of debug, info, warning, error"),
        (SHORTEST + b"[log]\njson = 1\n", "config.toml line 9, [log] json: true or false"),
        (SHORTEST + b"[log]\n# json = 1\ncolour = 1\n", "config.toml line 10, [log] colour: no such key here"),
        (SHORTEST + b"[peers]\n", "config.toml line 8, peers: no such table here"),
        (b"peers = []\n" + SHORTEST, "config.toml line 1, peers: no such table here"),
        (SHORTEST + b"log.level = 'loud'\n", "config.toml, [public] log: no such key here"),
        (
            SHORTEST + b"[limits]\nfree_space_bytes = -1\n",
            f"config.toml line 9, [limits] free_space_bytes: a whole number of bytes, 0 to {MAX_BYTES}",
        ),
        (
            SHORTEST + b"[secrets]\npassphrase_file = 1\n",
            "config.toml line 9, [secrets] passphrase_file: the name of a file",
        ),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_at_its_line(data: bytes, where: str) -> None:
    """A file that is wrong is refused with its name, the line where there is one, the key, and what would be right."""
    assert refusal(data) == where


def test_a_value_is_never_repeated() -> None:
    """The refusal of a value does not repeat it: it may be a passphrase in the wrong place."""
    secret = b"correct horse battery"
    for data in (SHORTEST.replace(b"KH", secret), SHORTEST + b"[limits]\nmax_peer_bytes = '" + secret + b"'\n"):
        assert secret.decode() not in refusal(data)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that cannot be read is told by its name."""
    with pytest.raises(LocalError) as caught:
        load_config(tmp_path / "config.toml")
    assert (caught.value.code, caught.value.where) == ("node.config", "config.toml: cannot be read")
