"""Officers' personal keys on this machine: made, found by a name, unlocked, and used to show who asks.

Implements docs/protocol.md sections 5.5 (what an approval signs) and 12 (K7), the officer's side.

Rules:
1. A personal key is a file of its own under a passphrase of its own (Argon2id). The node never has either: the key is
   opened in the command that needs it, and goes with it.
2. Names are known in this home alone, in ``officers/names.json``. No command sends one anywhere.
3. Each operation is signed anew, with its arguments: a signature that somebody kept is worth nothing.
"""

from __future__ import annotations

import os
import secrets as os_secrets
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import click

from exchange.adapters.home import write_file
from exchange.adapters.keyring import lock_secrets, unlock_secrets
from exchange.cli.provision import random_bytes, utc_now
from exchange.cli.settings import MIN_TYPED_CHARS, Settings, read_passphrase_file
from exchange.core import wire
from exchange.core.approvals import Approval, encode_approval
from exchange.core.errors import LocalError, PeerError
from exchange.core.keys import Alg, PublicKey, encode_public_key, parse_public_key, public_key
from exchange.core.signatures import Ed25519Secret
from exchange.core.wire import Digest, DocumentType, KeyId, NetworkId, Signature, UnverifiedDocument
from exchange.node.roles import encode_act, pseudonym

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from exchange.adapters.home import Home
    from exchange.cli.session import Desk
    from exchange.core.wire import JsonObject, JsonValue

OFFICER_VARIABLE: Final = "EXCHANGE_OFFICER_PASSPHRASE_FILE"
FOLDER: Final = "officers"
NAMES: Final = "names.json"
MAX_NAME_CHARS: Final = 100
MAX_KEY_BYTES: Final = 16_384
MIN_ID_CHARS: Final = 8  # of a key id that stands for the whole


@dataclass(frozen=True, slots=True)
class Personal:
    """An officer's key, unlocked."""

    public: PublicKey
    secret: Ed25519Secret

    def sign(self, payload_type: str, payload: bytes) -> UnverifiedDocument:
        """A document under this officer's one signature."""
        signature = Signature(self.public.id, self.secret.sign(wire.pae(payload_type, payload)))
        return UnverifiedDocument(payload_type, payload, (signature,))

    def approve(self, network: str, root: str, role: str, days: int) -> str:
        """An approval of a statement, as the text that travels in it."""
        now = utc_now()
        given = Approval(NetworkId(network), Digest(root), self.public.id, role, now, now + timedelta(days=days))
        return wire.encode_signed_document(self.sign(DocumentType.APPROVAL, encode_approval(given))).decode()


# -- files -----------------------------------------------------------------------------------------


def new_personal_key(passphrase: bytes, random: Callable[[int], bytes] = random_bytes) -> tuple[PublicKey, bytes]:
    """A fresh key, and the file that holds it: the public half readable, the secret half under the passphrase."""
    seed = random(32)
    public = public_key(Alg.ED25519, Ed25519Secret(seed).public)
    locked = wire.parse_json(lock_secrets({"ed25519": seed}, passphrase, random), max_bytes=MAX_KEY_BYTES)
    return public, wire.encode_json({**encode_public_key(public), "secret": locked})


def _read(path: Path) -> wire.Fields:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError:
        raise LocalError("input.not_found", path.name) from None
    return wire.Fields(wire.parse_json(data, max_bytes=MAX_KEY_BYTES), path.name)


def read_public(path: Path) -> PublicKey:
    """The public half of a key file; needs no passphrase. Raises ``LocalError`` input.not_found, node.key."""
    try:
        return parse_public_key(_read(path), frozenset({Alg.ED25519}))
    except PeerError:
        raise LocalError("node.key", path.name) from None


def unlock_personal(path: Path, passphrase: bytes) -> Personal:
    """The key in a file. Raises ``LocalError`` input.not_found, input.passphrase, node.key."""
    public = read_public(path)
    try:
        box = wire.encode_json(cast("JsonObject", _read(path).any("secret")))
    except PeerError:
        raise LocalError("node.key", path.name) from None
    seed = unlock_secrets(box, passphrase, path.name).get("ed25519", b"")
    try:
        secret = Ed25519Secret(seed)
    except ValueError:
        raise LocalError("node.key", path.name) from None
    if secret.public != public.raw:
        raise LocalError("node.key", path.name)
    return Personal(public, secret)


def folder_of(home: Home) -> Path:
    """Where this home keeps names, and the key files of officers who work at this machine."""
    folder = home.path / FOLDER
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        raise LocalError("node.disk", FOLDER) from None
    return folder


# -- names -----------------------------------------------------------------------------------------


def load_names(home: Home) -> dict[str, str]:
    """Names by key id, as this home knows them. Raises ``LocalError`` node.key where the file is damaged."""
    path = home.path / FOLDER / NAMES
    if not path.exists():
        return {}
    try:
        value = wire.parse_json(path.read_bytes(), max_bytes=wire.MAX_DOCUMENT_BYTES)
    except (OSError, PeerError):
        raise LocalError("node.key", NAMES) from None
    return {str(ident): str(name) for ident, name in value.items()} if isinstance(value, dict) else {}


def save_name(home: Home, ident: str, name: str) -> None:
    """Remember a name. Raises ``LocalError`` input.exists where it is another key's already."""
    names = load_names(home)
    if any(other == name and held != ident for held, other in names.items()):
        raise LocalError("input.exists", "the name")
    write_file(folder_of(home) / NAMES, wire.encode_json({**names, ident: name}))


def called(names: dict[str, str], shown: JsonValue) -> str:
    """An officer for people of this home: the name, where it is known, and the beginning of the key id."""
    text = str(shown)
    name = next((name for ident, name in names.items() if ident.startswith(text)), None)
    return text[:16] if name is None else f"{name} ({text[:16]})"


def find_id(home: Home, who: str) -> str | None:
    """The key id of a name, or of the beginning of an id, where exactly one fits."""
    names = load_names(home)
    found = [ident for ident, name in names.items() if name == who]
    if not found and len(who) >= MIN_ID_CHARS:
        found = [ident for ident in names if ident.startswith(who)]
    return found[0] if len(found) == 1 else None


def find_key(home: Home, who: str) -> Path:
    """The key file of an officer: by name or key id in this home, or the file itself. Raises input.officer."""
    ident = find_id(home, who)
    if ident is not None and (inside := home.path / FOLDER / f"{ident[:32]}.json").is_file():
        return inside
    if Path(who).is_file():
        return Path(who)
    raise LocalError("input.officer", FOLDER)


# -- passphrases -----------------------------------------------------------------------------------


def read_officer_passphrase(said: Settings, *, new: bool = False) -> bytes:
    """The officer's own: from ``--officer-passphrase-file``, the variable, or a person. Raises input.no_passphrase."""
    named = said.officer_passphrase_file or os.environ.get(OFFICER_VARIABLE)
    if named:
        return read_passphrase_file("officer", Path(named))
    if not sys.stdin.isatty():
        raise LocalError("input.no_passphrase", "officer")
    while True:
        prompt = f"New personal passphrase, at least {MIN_TYPED_CHARS} characters" if new else "Personal passphrase"
        typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=new, err=True)
        if not new or len(typed) >= MIN_TYPED_CHARS:
            return typed.encode()
        click.echo("That is too short.", err=True)


def personal_of(said: Settings, home: Home) -> Personal | None:
    """Who acts, unlocked once a command; None where nobody was named."""
    if said.officer is None:
        return None
    if said.personal is None:
        path = find_key(home, said.officer)
        read_public(path)  # nobody types a passphrase for what is no key
        said.personal = unlock_personal(path, read_officer_passphrase(said))
    return said.personal


# -- the desk, as an officer -----------------------------------------------------------------------


class SigningDesk:
    """``session.Desk`` whose every operation is signed by an officer."""

    def __init__(self, inner: Desk, personal: Personal, network: str, node: str) -> None:
        self._inner = inner
        self._personal = personal
        self._network = network
        self._node = node

    def _sign(self, operation: str, args: JsonObject) -> str:
        payload = encode_act(
            network=self._network,
            node=self._node,
            officer=self._personal.public.id,
            operation=operation,
            args=args,
            time=utc_now(),
            nonce=os_secrets.token_hex(16),
        )
        return wire.encode_base64(wire.encode_signed_document(self._personal.sign(DocumentType.ACT, payload)))

    async def call(self, op: str, args: JsonObject) -> JsonValue:
        """Run one operation as the officer."""
        return await self._inner.call(op, {**args, "as": self._sign(op, args)})

    async def stage(self, chunks: AsyncIterator[bytes], signed: str | None = None) -> JsonObject:
        """Hand in a file, as the officer."""
        return await self._inner.stage(chunks, signed or self._sign("stage", {}))

    async def evidence(
        self, message: str, index: int, signed: str | None = None, sender: str | None = None
    ) -> tuple[JsonObject, AsyncIterator[bytes]]:
        """An attachment, as the officer."""
        asked: JsonObject = {"id": message, "index": index, **({} if sender is None else {"from": sender})}
        return await self._inner.evidence(message, index, signed or self._sign("evidence", asked), sender)


def is_same(personal: Personal, shown: JsonValue) -> bool:
    """Whether a pseudonym is this officer's."""
    return shown == pseudonym(KeyId(personal.public.id))
