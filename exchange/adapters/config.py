"""The operator's file ``config.toml``.

Rules:
1. Every table and key is known here; anything else is refused, so that a misspelt limit is not silently without effect.
2. Only what an operator decides is in it. Keys, peers and agreements are signed documents in the store.
3. No secret is in it: ``passphrase_file`` names a file.
4. A refusal names file, line, key and what would be right; never the value.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from exchange.adapters.home import write_file
from exchange.core.errors import LocalError
from exchange.core.wire import NETWORK_ID, NODE_ID, NetworkId, NodeId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIB: Final = 1_073_741_824
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8443
DEFAULT_MAX_EVIDENCE_BYTES: Final = 4 * GIB
DEFAULT_FREE_SPACE_BYTES: Final = 2 * GIB
DEFAULT_MAX_PEER_BYTES: Final = 100 * GIB
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
MAX_CONFIG_BYTES: Final = 65_536
MAX_BYTES: Final = 2**50
_TABLES: Final = ("node", "listen", "public", "secrets", "limits", "log")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_URL: Final = re.compile(r"https://[A-Za-z0-9.:\[\]-]{1,200}")  # as in a card (protocol 4.1): no path, no user
_SYNTAX_LINE: Final = re.compile(r"at line (\d+)")


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator decided; sizes in bytes."""

    node: NodeId
    country: str
    agency: str
    network: NetworkId
    url: str
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    passphrase_file: Path | None = None
    max_evidence_bytes: int = DEFAULT_MAX_EVIDENCE_BYTES
    free_space_bytes: int = DEFAULT_FREE_SPACE_BYTES
    max_peer_bytes: int = DEFAULT_MAX_PEER_BYTES
    log_level: str = "info"
    log_json: bool = True


# -- writing ---------------------------------------------------------------------------------------

_TEMPLATE: Final = """\
# One node of the Focalpoint Exchange. Start the node again after a change.
# A key that is left out has the value that is shown here as its default.

[node]
# The node's name in its network: country code, a hyphen, letters or digits. It is in the signed card: never change it.
id = {id}
# ISO 3166-1, two capital letters.
country = {country}
agency = {agency}
# A name that begins with "training-" marks every output as training.
network = {network}

[listen]
# Where this machine waits for other nodes. Default: "127.0.0.1" and 8443; port 0 takes a free one.
host = {host}
port = {port}

[public]
# Where other nodes find it, as the card says: https, host, port; no path.
url = {url}

[secrets]
# A file with the passphrase, readable by the node alone, so that the node can start without a person.
# Relative names begin at the home. Default: none; the passphrase is asked for.
{passphrase_file}

[limits]
# The largest single evidence file. Default: 4 GiB.
max_evidence_bytes = {max_evidence_bytes}
# The disk is never filled below this; evidence waits at its sender meanwhile. Default: 2 GiB.
free_space_bytes = {free_space_bytes}
# All evidence of one peer that may lie here. Default: 100 GiB.
max_peer_bytes = {max_peer_bytes}

[log]
# "debug", "info", "warning" or "error". No level shows content. Default: "info".
level = {level}
# true: one JSON object a line, for machines. false: for people at a terminal. Default: true.
json = {json}
"""


def encode_config(config: Config) -> bytes:
    """``config.toml`` with comments; the tested inverse of ``parse_config``."""
    path = config.passphrase_file
    return _TEMPLATE.format(
        id=_text(config.node),
        country=_text(config.country),
        agency=_text(config.agency),
        network=_text(config.network),
        host=_text(config.host),
        port=config.port,
        url=_text(config.url),
        passphrase_file='# passphrase_file = "passphrase"' if path is None else f"passphrase_file = {_text(str(path))}",
        max_evidence_bytes=config.max_evidence_bytes,
        free_space_bytes=config.free_space_bytes,
        max_peer_bytes=config.max_peer_bytes,
        level=_text(config.log_level),
        json=str(config.log_json).lower(),
    ).encode()


def write_config(path: Path, config: Config) -> None:
    """Write ``config.toml`` for a new home. Raises ``LocalError`` node.disk."""
    write_file(path, encode_config(config))


def _text(value: str) -> str:
    # A JSON text is a TOML basic string, save that TOML also wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


# -- reading ---------------------------------------------------------------------------------------


def load_config(path: Path) -> Config:
    """Read ``config.toml``. A relative ``passphrase_file`` begins at its folder. Raises ``LocalError`` node.config."""
    try:
        data = path.read_bytes()
    except OSError:
        raise LocalError("node.config", f"{path.name}: cannot be read") from None
    return parse_config(data, path)


def parse_config(data: bytes, path: Path) -> Config:
    """Read the bytes of ``config.toml``; ``path`` is where they came from. Raises ``LocalError`` node.config."""
    if len(data) > MAX_CONFIG_BYTES:
        raise LocalError("node.config", f"{path.name}: larger than {MAX_CONFIG_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise LocalError("node.config", f"{path.name}: not UTF-8") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = _SYNTAX_LINE.search(str(error))
        place = f" line {line[1]}" if line else ""
        raise LocalError("node.config", f"{path.name}{place}: not TOML") from None
    except RecursionError:
        raise LocalError("node.config", f"{path.name}: not TOML") from None
    return _Reader(path.name, text, tables).config(path.parent)


class _Reader:
    """Takes key by key out of the tables; what is left at the end is unknown."""

    def __init__(self, name: str, text: str, tables: dict[str, Any]) -> None:
        self._name = name
        self._lines = text.splitlines()
        self._tables = tables

    def config(self, folder: Path) -> Config:
        found = Config(
            node=NodeId(self._match("node", "id", NODE_ID, "two letters, a hyphen, 1 to 16 letters or digits")),
            country=self._match("node", "country", _COUNTRY, "two capital letters"),
            agency=self._take("node", "agency", None, _is_name, "a text of 1 to 256 characters"),
            network=NetworkId(self._match("node", "network", NETWORK_ID, "1 to 32 small letters, digits, hyphens")),
            url=self._match("public", "url", _URL, "https://host or https://host:port"),
            host=self._take("listen", "host", DEFAULT_HOST, _is_name, "an address of this machine"),
            port=self._take("listen", "port", DEFAULT_PORT, _is_port, "a whole number from 0 to 65535"),
            passphrase_file=self._passphrase_file(folder),
            max_evidence_bytes=self._size("max_evidence_bytes", DEFAULT_MAX_EVIDENCE_BYTES),
            free_space_bytes=self._size("free_space_bytes", DEFAULT_FREE_SPACE_BYTES),
            max_peer_bytes=self._size("max_peer_bytes", DEFAULT_MAX_PEER_BYTES),
            log_level=self._take("log", "level", "info", LOG_LEVELS.__contains__, f"one of {', '.join(LOG_LEVELS)}"),
            log_json=self._take("log", "json", True, _is_flag, "true or false"),  # noqa: FBT003 - the default
        )
        if not found.node.startswith(f"{found.country.lower()}-"):
            raise self._refuse("node", "id", "it begins with the country and a hyphen")
        for table, keys in self._tables.items():
            if table not in _TABLES:
                raise self._refuse("", table, "no such table here")
            for key in keys:
                raise self._refuse(table, key, "no such key here")
        return found

    def _passphrase_file(self, folder: Path) -> Path | None:
        value: str = self._take("secrets", "passphrase_file", "", _is_path, "the name of a file")
        return folder / value if value else None

    def _match(self, table: str, key: str, pattern: re.Pattern[str], right: str) -> str:
        def fits(value: object) -> bool:
            return isinstance(value, str) and pattern.fullmatch(value) is not None

        return cast("str", self._take(table, key, None, fits, right))

    def _size(self, key: str, default: int) -> int:
        return cast("int", self._take("limits", key, default, _is_size, f"a whole number of bytes, 0 to {MAX_BYTES}"))

    def _take(self, table: str, key: str, default: object, fits: Callable[[Any], bool], right: str) -> Any:  # noqa: ANN401 - ``fits`` says what it is
        keys = self._tables.setdefault(table, {})
        if not isinstance(keys, dict):
            raise self._refuse("", table, "a table, written as its name in brackets")
        value = keys.pop(key, default)
        if value is None:
            raise self._refuse(table, key, f"missing; it is {right}")
        if not fits(value):
            raise self._refuse(table, key, right)
        return value

    def _refuse(self, table: str, key: str, right: str) -> LocalError:
        line = self._line(table, key)
        place = f"{self._name} line {line}" if line else self._name
        name = f"[{table}] {key}" if table else key
        return LocalError("node.config", f"{place}, {name}: {right}")

    def _line(self, table: str, key: str) -> int | None:
        """The line of a key, or of a table (as a key of no table), where it is written in the usual way."""
        inside = ""
        for number, line in enumerate(self._lines, 1):
            header = re.match(r"\s*\[\s*\"?([A-Za-z0-9_-]+)\"?\s*\]", line)
            if header:
                inside = header[1]
                if not table and inside == key:
                    return number
            elif inside == table and re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", line):
                return number
        return None


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable()  # noqa: PLR2004 - as the text says


def _is_port(value: object) -> bool:
    return type(value) is int and 0 <= value <= 65_535  # noqa: PLR2004 - TCP's largest


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_BYTES


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 4096 and value.isprintable()  # noqa: PLR2004 - PATH_MAX
